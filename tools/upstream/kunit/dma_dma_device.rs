// SPDX-License-Identifier: GPL-2.0

#[kunit_tests(rust_dma_device)]
mod tests {
    use super::*;
    use crate::{
        error::to_result,
        faux, //
    };

    fn bound(registration: &faux::Registration) -> &Device<Bound> {
        registration.as_ref().as_ref()
    }

    fn set_mask(registration: &faux::Registration, mask: u64) -> Result {
        let dev = bound(registration).as_raw();

        // SAFETY: The device is ours, and nothing has been mapped for it yet.
        to_result(unsafe {
            (*dev).dma_mask = &raw mut (*dev).coherent_dma_mask;
            bindings::dma_set_mask_and_coherent(dev, mask)
        })
    }

    #[test]
    fn a_device_without_a_mask_reaches_nothing() -> Result {
        let registration = faux::Registration::new(c"kunit_reaches_nothing", None)?;
        let dev = DmaDevice::from(bound(&registration));

        assert!(!dev.has_dma_mask());
        assert!(!dev.reaches_all());
        assert!(!dev.reaches(&(0..=0)));
        Ok(())
    }

    #[test]
    fn a_mask_limits_what_a_device_reaches() -> Result {
        let registration = faux::Registration::new(c"kunit_reaches_some", None)?;
        set_mask(&registration, u64::from(u32::MAX))?;
        let dev = DmaDevice::from(bound(&registration));
        let limit = u64::from(u32::MAX);

        assert!(dev.has_dma_mask());
        assert!(dev.reaches(&(0..=limit)));
        assert!(!dev.reaches(&(0..=limit + 1)));
        assert!(!dev.reaches(&(limit + 1..=limit + 2)));
        Ok(())
    }

    #[test]
    fn a_device_of_64_bits_reaches_all() -> Result {
        let registration = faux::Registration::new(c"kunit_reaches_all", None)?;
        set_mask(&registration, u64::MAX)?;
        let dev = DmaDevice::from(bound(&registration));

        assert!(dev.reaches_all());
        assert!(dev.reaches(&(0..=u64::MAX)));
        Ok(())
    }
}
