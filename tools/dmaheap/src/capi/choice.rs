// SPDX-License-Identifier: MIT OR GPL-2.0

//! The choice, and its reasons.

use super::device::CDevice;
use super::heap::CHeap;
use super::{Freed, Out, Result, c_string, check_flags, make, number, pointer};
use crate::choice::{Objection, Reason, Requirement, Unfit};
use crate::system::System;
use std::ffi::{CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr;

const CONTIGUOUS: u32 = 1 << 0;
const WITHOUT_BRACKETS: u32 = 1 << 1;

/// A choice, with its heaps and objections as C wants them.
pub struct CChoice {
    fits: Vec<CHeap>,
    objections: Vec<CObjection>,
    /// Which of those that fit.
    best: std::result::Result<usize, Unfit>,
}

/// An objection, with its strings as C wants them.
pub struct CObjection {
    heap: CString,
    device: Option<CString>,
    reason: Reason,
    sentence: CString,
}

impl CObjection {
    fn new(objection: &Objection) -> Self {
        Self {
            heap: c_string(objection.heap.as_str()),
            device: objection.device.as_deref().map(c_string),
            reason: objection.reason,
            sentence: c_string(objection.to_string()),
        }
    }
}

/// # Safety
///
/// `devices` must point to `count` pointers to devices, if that is not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dmaheap_choice_new(
    system: &System,
    devices: *const &CDevice,
    count: usize,
    size: u64,
    flags: u32,
    out: Out<'_, CChoice>,
) -> c_int {
    make(out, || {
        let devices: &[&CDevice] = match count {
            0 => &[],
            // SAFETY: By the contract of this function.
            _ => unsafe { std::slice::from_raw_parts(devices, count) },
        };
        choose(system, devices, size, flags)
    })
}

fn choose(system: &System, devices: &[&CDevice], size: u64, flags: u32) -> Result<CChoice> {
    check_flags(flags, CONTIGUOUS | WITHOUT_BRACKETS)?;
    let requirement = Requirement {
        contiguous: flags & CONTIGUOUS != 0,
        size: (size > 0).then_some(size),
        without_brackets: flags & WITHOUT_BRACKETS != 0,
    };
    let devices: Vec<_> = devices.iter().map(|device| device.device.clone()).collect();
    let choice = system.choose_for(&devices, requirement)?;
    let fits = choice.fits().iter();
    Ok(CChoice {
        best: choice.best.clone(),
        fits: fits.map(|fit| CHeap::new(fit.heap.clone())).collect(),
        objections: choice.objections().iter().map(CObjection::new).collect(),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_choice_free(_: Freed<CChoice>) {}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_choice_best(
    choice: &CChoice,
    out: &mut MaybeUninit<*const CHeap>,
) -> c_int {
    let out = out.write(ptr::null());
    number(|| {
        let place = choice.best.clone()?;
        *out = &raw const choice.fits[place];
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_choice_fit(choice: &CChoice, index: usize) -> Option<&CHeap> {
    choice.fits.get(index)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_choice_objection(choice: &CChoice, index: usize) -> Option<&CObjection> {
    choice.objections.get(index)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_objection_heap(objection: &CObjection) -> *const c_char {
    objection.heap.as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_objection_device(objection: &CObjection) -> *const c_char {
    pointer(objection.device.as_ref())
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_objection_reason(objection: &CObjection) -> c_int {
    match objection.reason {
        Reason::NothingKnown => 1,
        Reason::DoesNotSnoop => 2,
        Reason::Snoops => 3,
        Reason::OnePiece => 4,
        Reason::PiecesUnknown => 5,
        Reason::OutOfReach => 6,
        Reason::LeftOutByRule => 7,
        Reason::NotOffered => 8,
        Reason::NotContiguous => 9,
        Reason::TooSmall => 10,
        Reason::OverLimit => 11,
        Reason::NeedsBrackets => 12,
        Reason::MayNeedBrackets => 13,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_objection_sentence(objection: &CObjection) -> *const c_char {
    objection.sentence.as_ptr()
}
