// SPDX-License-Identifier: GPL-2.0

//! Abstractions for exporting dma-bufs.
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h)
//!
//! A type that implements [`Exporter`] is the private data of a dma-buf. Its methods are the
//! callbacks that acquire something. The callbacks that release it have no method: a value is
//! dropped instead.
//!
//! | C callback | here |
//! |---|---|
//! | `attach` | [`Exporter::attach`] |
//! | `map_dma_buf` | [`Exporter::map`], which decides how; the exporter never sees the table |
//! | `vmap`, `vunmap` | [`Exporter::vmap`], drop of the [`VMap`] |
//! | `mmap` | [`Exporter::mmap`]; the pages live as long as the dma-buf |
//! | `begin_cpu_access`, `end_cpu_access` | methods of the same name |
//! | `release` | drop of the exporter |
//!
//! # Locking
//!
//! The signatures express the dma-buf locking convention for exporters. A callback that runs with
//! the buffer's reservation lock held gets a [`Reserved`], and must not take that lock. Every
//! other callback, and every drop but that of [`VMap`], runs without the lock. All of them may
//! sleep.
//!
//! # What importers promise
//!
//! Importers are C code, or Rust code on the other side of the C API. This code relies on their
//! part of the dma-buf contract:
//!
//! - The device of an attachment stays bound to its driver, hence able to do DMA, until it is
//!   detached.
//! - A mapping is undone before its attachment goes.
//! - `vunmap` follows the last use of a `vmap`.
//! - Whoever passes a VMA to `dma_buf_mmap()` does not change its operations and private data
//!   afterwards. (`drm_gem_prime_mmap()` does, but it gets no imported object in 7.3.)

mod maintained;

use crate::{
    bindings,
    kernel::{
        compat,
        dma_buf::maintained::{
            Maintained,
            Table, //
        },
        dma_mapping::{
            Attrs,
            DmaDevice, //
        },
        mm::{
            page::Pages,
            vmalloc::VMap,
            BufferVma,
            MappedVma, //
        },
        module::Forever,
        scatterlist::MappedTable, //
    }, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::{
        Deref,
        Range, //
    },
    ptr::NonNull, //
};
use kernel::{
    dma::DataDirection,
    error::{
        from_err_ptr,
        from_result,
        to_result,
        VTABLE_DEFAULT_ERROR, //
    },
    mm::virt::VmaNew,
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        Arc,
        UniqueArc, //
    },
    types::{
        ForeignOwnable,
        NotThreadSafe,
        Opaque, //
    }, //
};

/// The private data of a dma-buf, and the callbacks on it.
///
/// `Self` is pinned, and dropped when the last reference to the dma-buf has gone and no task can
/// reach it any more.
///
/// # Examples
///
/// An exporter of memory that any device may use which does DMA.
///
/// ```
/// use kernel::{
///     bindings,
///     dma::{
///         dma_device::DmaDevice,
///         Attrs,
///         DataDirection, //
///     },
///     dma_buf::{
///         DmaBuf,
///         Exporter,
///         Mapping,
///         Ops,
///         Reserved, //
///     },
///     fs::file::flags::O_CLOEXEC,
///     mm::{
///         buffer::{
///             BufferVma,
///             MappedVma, //
///         },
///         page::{
///             Caching,
///             Effort,
///             PageBlock,
///             Pages,
///             Zone, //
///         },
///         vmalloc::VMap, //
///     },
///     page::PAGE_SIZE,
///     sync::{
///         aref::ARef,
///         Arc, //
///     }, //
/// };
/// # use kernel::module::permanent::Forever;
///
/// struct Buffer {
///     pages: Arc<Pages>,
/// }
///
/// #[vtable]
/// impl Exporter for Buffer {
///     fn ops() -> &'static Ops<Self> {
///         static OPS: Ops<Buffer> = Ops::new();
///         &OPS
///     }
///
///     fn attach(_: &DmaBuf<Self>, dev: DmaDevice<'_>) -> Result {
///         if dev.has_dma_mask() {
///             Ok(())
///         } else {
///             Err(EOPNOTSUPP)
///         }
///     }
///
///     fn map(buf: Reserved<'_, Self>, _: DmaDevice<'_>) -> Result<Mapping> {
///         Ok(Mapping {
///             pages: buf.pages.clone(),
///             attrs: Attrs::NONE,
///             maintained: true,
///         })
///     }
///
///     fn begin_cpu_access(buf: &DmaBuf<Self>, dir: DataDirection) -> Result {
///         buf.sync_for_cpu(dir, 0..buf.size())
///     }
///
///     fn end_cpu_access(buf: &DmaBuf<Self>, _: DataDirection) -> Result {
///         buf.sync_for_device(0..buf.size());
///         Ok(())
///     }
///
///     fn mmap<'a>(buf: &'a DmaBuf<Self>, vma: BufferVma<'a>) -> Result<MappedVma<'a>> {
///         vma.map_pages(&buf.pages)
///     }
///
///     fn vmap(buf: Reserved<'_, Self>) -> Result<VMap> {
///         VMap::new(buf.pages.clone())
///     }
/// }
///
/// /// Gives the current task a descriptor of a buffer. Nothing takes that back, so it comes last.
/// fn hand_out(buf: ARef<DmaBuf<Buffer>>) -> Result<c_int> {
///     DmaBuf::into_fd(buf, O_CLOEXEC)
/// }
///
/// /// The number of pages of a dma-buf that C code has, if it is one of these.
/// ///
/// /// # Safety
/// ///
/// /// There must be a reference to the dma-buf until this returns.
/// unsafe fn count_pages(buf: *const bindings::dma_buf) -> Option<usize> {
///     // SAFETY: The caller promises it.
///     let buf = unsafe { DmaBuf::<Buffer>::try_from_raw(buf) }?;
///
///     Some(buf.pages.size() / PAGE_SIZE)
/// }
///
/// # // SAFETY: What is built in is never unloaded.
/// # let forever = unsafe { Forever::new() };
/// let mut pages = Pages::new(Caching::WriteBack, None)?;
/// pages.push(PageBlock::alloc_zeroed(1, Zone::All, Effort::Reclaim, false)?, 1)?;
/// let pages = pages.into();
///
/// // `forever` is what a module that stays gets.
/// let buf = DmaBuf::export(c"one-page", PAGE_SIZE, 0, Ok(Buffer { pages }), forever)?;
/// assert_eq!(buf.size(), PAGE_SIZE);
/// buf.wait_for_devices(DataDirection::ToDevice)?;
///
/// // A program would hand in a descriptor of it.
/// assert!(DmaBuf::<Buffer>::get(-1).is_err());
/// # Ok::<(), Error>(())
/// ```
#[vtable]
pub(crate) trait Exporter: Sized + Send + Sync + 'static {
    /// The callbacks of this exporter: a named `static`, always the same, as its address tells this
    /// exporter's buffers from all others. It may be in the section `.data..ro_after_init`.
    fn ops() -> &'static Ops<Self>;

    /// Admits or refuses an importer. Its error reaches the importer unchanged.
    fn attach(buf: &DmaBuf<Self>, dev: DmaDevice<'_>) -> Result;

    /// Decides how the buffer is mapped for the importer's device, or that it is not. An error
    /// reaches the importer unchanged.
    ///
    /// An attachment may be mapped several times at once.
    fn map(buf: Reserved<'_, Self>, dev: DmaDevice<'_>) -> Result<Mapping>;

    /// Makes what devices wrote visible to the CPU, before it reads or writes in direction `dir`.
    ///
    /// Afterwards the core waits for the buffer's fences.
    fn begin_cpu_access(_buf: &DmaBuf<Self>, _dir: DataDirection) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes what the CPU wrote visible to devices.
    fn end_cpu_access(_buf: &DmaBuf<Self>, _dir: DataDirection) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Maps the buffer into user space, by [`BufferVma::map_pages`].
    fn mmap<'a>(_buf: &'a DmaBuf<Self>, _vma: BufferVma<'a>) -> Result<MappedVma<'a>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Maps the whole buffer into the kernel.
    ///
    /// Called once for any number of users at a time; the core counts them. It warns if this fails,
    /// whatever the error.
    fn vmap(_buf: Reserved<'_, Self>) -> Result<VMap> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// The callbacks of exporter `T`, as C sees them.
///
/// The compiler may merge constants that are alike, even of different types. It does not merge
/// values with interior mutability, and refuses a reference to a constant of such a type. So no
/// two of these share an address.
#[repr(transparent)]
pub(crate) struct Ops<T: Exporter>(UnsafeCell<bindings::dma_buf_ops>, PhantomData<fn(T) -> T>);

// SAFETY: The callbacks are never written.
unsafe impl<T: Exporter> Sync for Ops<T> {}

/// What a dma-buf's `priv` points to.
#[pin_data]
struct Private<T> {
    #[pin]
    exporter: T,
    /// The kernel mapping while there is one. Guarded by the reservation lock.
    vmap: UnsafeCell<Option<VMap>>,
    /// The mappings that brackets around CPU access maintain.
    #[pin]
    maintained: Maintained,
}

// SAFETY: The kernel mapping is guarded by a lock.
unsafe impl<T: Send> Send for Private<T> {}

// SAFETY: As above.
unsafe impl<T: Sync> Sync for Private<T> {}

/// A dma-buf exported by `T`. Dereferences to the exporter.
///
/// # Invariants
///
/// The dma-buf has been exported by [`DmaBuf::export`]: `ops` is some [`Ops<T>`], and `priv` is an
/// owned `Pin<KBox<Private<T>>>` until `release` takes it back.
#[repr(transparent)]
pub(crate) struct DmaBuf<T: Exporter>(Opaque<bindings::dma_buf>, PhantomData<T>);

// SAFETY: A dma-buf may be used and released by any task; `T` is `Send` and `Sync`.
unsafe impl<T: Exporter> Send for DmaBuf<T> {}

// SAFETY: As above. What is shared and changes is guarded by the reservation lock.
unsafe impl<T: Exporter> Sync for DmaBuf<T> {}

impl<T: Exporter> DmaBuf<T> {
    /// Exports `exporter` as a dma-buf of `size` bytes.
    ///
    /// `name` is shown as `exp_name`, for instance in fdinfo; `flags` are the access mode of its
    /// file, `O_RDONLY` to `O_RDWR`. May sleep.
    ///
    /// Only modules that stay can export. A dma-buf may live longer than the call that has made
    /// it, even if that fails. It holds a reference to the exporter's module, but that does not
    /// keep a module whose initialisation fails.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`] if there is no memory for it.
    /// - [`ENFILE`] if the system has too many open files.
    /// - [`ENOENT`] if the exporter's module is being unloaded.
    /// - Those of `exporter`'s initialiser.
    pub(crate) fn export(
        name: &'static CStr,
        size: usize,
        flags: u32,
        exporter: impl PinInit<T, Error>,
        _: Forever,
    ) -> Result<ARef<Self>> {
        let private = KBox::pin_init(
            try_pin_init!(Private {
                exporter <- exporter,
                vmap: UnsafeCell::new(None),
                maintained <- Maintained::new(),
            }? Error),
            GFP_KERNEL,
        )?
        .into_foreign();

        let info = bindings::dma_buf_export_info {
            exp_name: name.as_char_ptr(),
            owner: compat::this_module(),
            ops: T::ops().0.get(),
            size,
            flags: flags as c_int,
            resv: core::ptr::null_mut(),
            priv_: private,
        };

        // SAFETY: `info` is complete; what it points to lives until `release`: the name and the
        // callbacks for ever, as there is a `Forever`, the private data until `release` takes it.
        let buf = from_err_ptr(unsafe { bindings::dma_buf_export(&info) }).inspect_err(|_| {
            // SAFETY: A dma-buf that was not made will not release its private data; it is still
            // as `into_foreign()` gave it.
            drop(unsafe { Pin::<KBox<Private<T>>>::from_foreign(private) });
        })?;

        // INVARIANT: Exported just now, with the callbacks and the private data of `T`.
        // SAFETY: `dma_buf_export()` returns a reference, never NULL.
        Ok(unsafe { ARef::from_raw(NonNull::new_unchecked(buf.cast())) })
    }

    /// Takes a reference to the dma-buf behind a file descriptor of the current task. None if `T`
    /// has not exported it.
    ///
    /// # Errors
    ///
    /// - [`EBADF`] if `fd` is not open.
    /// - [`EINVAL`] if it is not a dma-buf.
    pub(crate) fn get(fd: c_int) -> Result<Option<ARef<Self>>> {
        // SAFETY: Callable in process context.
        let raw = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        // SAFETY: We own a reference until it is given up below.
        let buf = unsafe { Self::try_from_raw(raw) }.map(ARef::from);

        // SAFETY: This gives up the reference that `dma_buf_get()` has taken.
        unsafe { bindings::dma_buf_put(raw) };
        Ok(buf)
    }

    /// Gives the current task a file descriptor of the dma-buf, which takes the reference over. The
    /// flags are `O_CLOEXEC` or none.
    ///
    /// # Errors
    ///
    /// [`EMFILE`] if the task has too many open files.
    #[allow(
        dead_code,
        reason = "its user is tools/testing/modules/samples/page.rs: the core does this for heaps"
    )]
    pub(crate) fn into_fd(this: ARef<Self>, flags: u32) -> Result<c_int> {
        // SAFETY: The dma-buf is valid. If this works, the descriptor has our reference.
        let fd = unsafe { bindings::dma_buf_fd(this.0.get(), flags as c_int) };

        to_result(fd.min(0))?;
        core::mem::forget(this);
        Ok(fd)
    }

    /// Looks at a dma-buf as one of `T`, if that is what it is.
    ///
    /// # Safety
    ///
    /// `buf` must point to a dma-buf to which there is a reference throughout `'a`.
    #[inline]
    pub(crate) unsafe fn try_from_raw<'a>(buf: *const bindings::dma_buf) -> Option<&'a Self> {
        // SAFETY: The caller promises that `buf` is valid; `ops` never changes.
        let ops = unsafe { (*buf).ops };

        // Nobody but `export()` can get at the pointer that an `Ops<T>` is for C, so whatever
        // `Ops<T>` this is, the invariants hold.
        //
        // SAFETY: As above, and by the comparison the dma-buf is one of `T`.
        core::ptr::eq(ops, T::ops().0.get()).then(|| unsafe { &*buf.cast() })
    }

    /// Looks at a dma-buf of `T`.
    ///
    /// # Safety
    ///
    /// `buf` must point to a dma-buf of `T`, to which there is a reference throughout `'a`.
    #[inline]
    unsafe fn from_raw<'a>(buf: *mut bindings::dma_buf) -> &'a Self {
        // SAFETY: By this function's safety requirements.
        unsafe { &*buf.cast() }
    }

    /// The size in bytes.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        // SAFETY: The dma-buf is valid; its size never changes.
        unsafe { (*self.0.get()).size }
    }

    /// Waits for the fences of devices that write, and if the CPU is to write also of devices that
    /// read. May sleep.
    ///
    /// # Errors
    ///
    /// [`ERESTARTSYS`] if a signal comes while it waits.
    pub(crate) fn wait_for_devices(&self, dir: DataDirection) -> Result {
        // SAFETY: The dma-buf is valid, and its reservation lock is not needed.
        to_result(unsafe {
            bindings::dmacoh_dma_buf_wait_fences(self.0.get(), dir != DataDirection::FromDevice)
        })
    }

    /// Makes what devices have written to a part of the buffer, through maintained mappings,
    /// visible to the CPU, after they have finished. May sleep.
    ///
    /// The core waits for devices too, but only after the exporter's callback. Without a maintained
    /// mapping this only reads a flag.
    ///
    /// # Errors
    ///
    /// [`ERESTARTSYS`] if a signal comes while it waits.
    #[inline]
    pub(crate) fn sync_for_cpu(&self, dir: DataDirection, part: Range<usize>) -> Result {
        if self.private().maintained.is_empty() {
            return Ok(());
        }

        self.wait_for_devices(dir)?;
        self.private().maintained.sync_for_cpu(&part);
        Ok(())
    }

    /// Makes what the CPU has written to a part of the buffer visible to devices with maintained
    /// mappings. May sleep.
    #[inline]
    pub(crate) fn sync_for_device(&self, part: Range<usize>) {
        self.private().maintained.sync_for_device(&part);
    }

    #[inline]
    fn private(&self) -> Pin<&Private<T>> {
        // SAFETY: The dma-buf is valid; by the type invariants `priv` is what `into_foreign()`
        // gave, and it is only borrowed as shared until `release`.
        unsafe { Pin::<KBox<Private<T>>>::borrow((*self.0.get()).priv_) }
    }
}

impl<T: Exporter> Deref for DmaBuf<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.private().get_ref().exporter
    }
}

// SAFETY: A dma-buf lives as long as its file, whose references these are.
unsafe impl<T: Exporter> AlwaysRefCounted for DmaBuf<T> {
    #[inline]
    fn inc_ref(&self) {
        // SAFETY: `self` is proof of a reference.
        unsafe { bindings::get_file((*self.0.get()).file) };
    }

    #[inline]
    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference.
        unsafe { bindings::dma_buf_put(obj.cast().as_ptr()) };
    }
}

/// Proof that the reservation lock of a dma-buf is held by the current task.
pub(crate) struct Reserved<'a, T: Exporter>(&'a DmaBuf<T>, NotThreadSafe);

impl<T: Exporter> Deref for Reserved<'_, T> {
    type Target = DmaBuf<T>;

    #[inline]
    fn deref(&self) -> &DmaBuf<T> {
        self.0
    }
}

/// How a buffer is to be mapped for a device.
pub(crate) struct Mapping {
    /// The memory of the whole buffer. If its size differs, the importer gets [`EINVAL`].
    pub(crate) pages: Arc<Pages>,
    /// The attributes for the DMA API.
    pub(crate) attrs: Attrs,
    /// Whether [`DmaBuf::sync_for_cpu`] and [`DmaBuf::sync_for_device`] maintain this mapping
    /// until it is undone. They pass over it if the DMA API has nothing to do for it.
    pub(crate) maintained: bool,
}

/// Translates a direction that an importer asked for.
fn direction(dir: bindings::dma_data_direction) -> Result<DataDirection> {
    [
        DataDirection::Bidirectional,
        DataDirection::ToDevice,
        DataDirection::FromDevice,
    ]
    .into_iter()
    .find(|known| dir == (*known).into())
    .ok_or(EINVAL)
}

impl<T: Exporter> Ops<T> {
    /// Creates the callbacks.
    #[allow(
        clippy::new_without_default,
        reason = "a default is no constant; expect() fails where the type is not public"
    )]
    pub(crate) const fn new() -> Self {
        Self(
            UnsafeCell::new(bindings::dma_buf_ops {
                attach: Some(Self::attach_callback),
                map_dma_buf: Some(Self::map_callback),
                unmap_dma_buf: Some(Self::unmap_callback),
                release: Some(Self::release_callback),
                begin_cpu_access: if T::HAS_BEGIN_CPU_ACCESS {
                    Some(Self::begin_cpu_access_callback)
                } else {
                    None
                },
                end_cpu_access: if T::HAS_END_CPU_ACCESS {
                    Some(Self::end_cpu_access_callback)
                } else {
                    None
                },
                mmap: if T::HAS_MMAP {
                    Some(Self::mmap_callback)
                } else {
                    None
                },
                vmap: if T::HAS_VMAP {
                    Some(Self::vmap_callback)
                } else {
                    None
                },
                vunmap: if T::HAS_VMAP {
                    Some(Self::vunmap_callback)
                } else {
                    None
                },
                ..pin_init::zeroed()
            }),
            PhantomData,
        )
    }

    /// # Safety
    ///
    /// Only called by the dma-buf core, for a dma-buf of `T` and an attachment that is new.
    unsafe extern "C" fn attach_callback(
        buf: *mut bindings::dma_buf,
        attachment: *mut bindings::dma_buf_attachment,
    ) -> c_int {
        // SAFETY: The importer holds a reference to the dma-buf.
        let buf = unsafe { DmaBuf::<T>::from_raw(buf) };
        // SAFETY: The importer has given a device that it keeps bound.
        let dev = unsafe { DmaDevice::from_raw((*attachment).dev) };

        from_result(|| T::attach(buf, dev).map(|()| 0))
    }

    /// # Safety
    ///
    /// Only called by the dma-buf core with the reservation lock held, for an attachment that
    /// `attach` has admitted.
    unsafe extern "C" fn map_callback(
        attachment: *mut bindings::dma_buf_attachment,
        dir: bindings::dma_data_direction,
    ) -> *mut bindings::sg_table {
        // SAFETY: The importer does not detach meanwhile, and holds a reference to the dma-buf,
        // which an attachment never changes.
        let buf = unsafe { DmaBuf::<T>::from_raw((*attachment).dmabuf) };
        // SAFETY: An attachment never changes its device, which the importer keeps bound.
        let dev = unsafe { DmaDevice::from_raw((*attachment).dev) };

        let table = direction(dir).and_then(|dir| {
            let Mapping {
                pages,
                attrs,
                maintained,
            } = T::map(Reserved(buf, NotThreadSafe), dev)?;
            if pages.size() != buf.size() {
                return Err(EINVAL);
            }

            // From here on brackets wait. The exporter may open one, so none of its code is called.
            let private = buf.private();
            let mut change = maintained.then(|| private.get_ref().maintained.change());
            // SAFETY: Importers undo their mappings before they detach, and keep the device bound
            // until then. `direction()` gives no `None`.
            let mapped = unsafe { MappedTable::new(dev, pages, dir, attrs) }?;
            let mut table = UniqueArc::pin_init(
                try_pin_init!(Table {
                    mapped <- mapped,
                    is_maintained: false,
                }? Error),
                GFP_KERNEL,
            )?;

            change = change.and_then(|change| change.if_needed(&table.mapped));
            *table.as_mut().project().is_maintained = change.is_some();
            // If there is no room for it on the list, it is unmapped before brackets go on.
            let table: Arc<Table> = table.into();
            if let Some(change) = &mut change {
                change.add(table.clone())?;
            }
            Ok(table)
        });

        match table {
            // The `sg_table` is at offset 0; `unmap` takes the whole back.
            Ok(table) => Arc::into_raw(table).cast_mut().cast(),
            Err(err) => err.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Only called by the dma-buf core with the reservation lock held, once for each table that
    /// `map` returned.
    unsafe extern "C" fn unmap_callback(
        attachment: *mut bindings::dma_buf_attachment,
        table: *mut bindings::sg_table,
        _dir: bindings::dma_data_direction,
    ) {
        // SAFETY: `map_callback()` made it from an `Arc` of this type.
        let table = unsafe { Arc::<Table>::from_raw(table.cast()) };

        if table.is_maintained {
            // SAFETY: As in `map_callback()`.
            let buf = unsafe { DmaBuf::<T>::from_raw((*attachment).dmabuf) };
            let private = buf.private();
            let mut change = private.get_ref().maintained.change();

            change.remove(table);
        }
    }

    /// # Safety
    ///
    /// Only called by the dma-buf core, once, when there is no reference to the dma-buf any more.
    unsafe extern "C" fn release_callback(buf: *mut bindings::dma_buf) {
        // SAFETY: By the invariants of `DmaBuf`; nobody can borrow it any more.
        drop(unsafe { Pin::<KBox<Private<T>>>::from_foreign((*buf).priv_) });
    }

    /// # Safety
    ///
    /// Only called by the dma-buf core, for a dma-buf of `T`.
    unsafe extern "C" fn begin_cpu_access_callback(
        buf: *mut bindings::dma_buf,
        dir: bindings::dma_data_direction,
    ) -> c_int {
        // SAFETY: The caller of the core holds a reference to the dma-buf.
        let buf = unsafe { DmaBuf::<T>::from_raw(buf) };

        from_result(|| T::begin_cpu_access(buf, direction(dir)?).map(|()| 0))
    }

    /// # Safety
    ///
    /// Only called by the dma-buf core, for a dma-buf of `T`.
    unsafe extern "C" fn end_cpu_access_callback(
        buf: *mut bindings::dma_buf,
        dir: bindings::dma_data_direction,
    ) -> c_int {
        // SAFETY: The caller of the core holds a reference to the dma-buf.
        let buf = unsafe { DmaBuf::<T>::from_raw(buf) };

        from_result(|| T::end_cpu_access(buf, direction(dir)?).map(|()| 0))
    }

    /// # Safety
    ///
    /// Only called by the dma-buf core, for a dma-buf of `T` and a VMA that is being set up for its
    /// file.
    unsafe extern "C" fn mmap_callback(
        buf: *mut bindings::dma_buf,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: The file of the VMA is a reference to the dma-buf.
        let buf = unsafe { DmaBuf::<T>::from_raw(buf) };
        // SAFETY: The VMA is being set up until this function returns.
        let vma = unsafe { VmaNew::from_raw(vma) };
        // SAFETY: The VMA's file is that of `buf`, which nobody but `T::mmap()` can borrow from for
        // a lifetime that it does not know.
        let vma = unsafe { BufferVma::new(vma) };

        from_result(|| T::mmap(buf, vma).map(|_| 0))
    }

    /// # Safety
    ///
    /// Only called by the dma-buf core with the reservation lock held, for a dma-buf of `T` that
    /// has no kernel mapping, and with a `map` that may be written.
    unsafe extern "C" fn vmap_callback(
        buf: *mut bindings::dma_buf,
        map: *mut bindings::iosys_map,
    ) -> c_int {
        // SAFETY: The importer holds a reference to the dma-buf.
        let buf = unsafe { DmaBuf::<T>::from_raw(buf) };

        from_result(|| {
            let vmap = T::vmap(Reserved(buf, NotThreadSafe))?;
            if vmap.size() != buf.size() {
                return Err(EINVAL);
            }

            // SAFETY: `map` may be written.
            unsafe { bindings::dmacoh_iosys_map_set_vaddr(map, vmap.as_ptr()) };
            // SAFETY: The reservation lock guards the slot.
            unsafe { *buf.private().vmap.get() = Some(vmap) };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only called by the dma-buf core with the reservation lock held, after the last use of what
    /// `vmap` returned.
    unsafe extern "C" fn vunmap_callback(
        buf: *mut bindings::dma_buf,
        _map: *mut bindings::iosys_map,
    ) {
        // SAFETY: The importer holds a reference to the dma-buf.
        let buf = unsafe { DmaBuf::<T>::from_raw(buf) };

        // SAFETY: The reservation lock guards the slot.
        drop(unsafe { (*buf.private().vmap.get()).take() });
    }
}
