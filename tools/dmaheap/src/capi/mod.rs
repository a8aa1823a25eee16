// SPDX-License-Identifier: MIT OR GPL-2.0

//! libdmaheap, the library for C. What each function does is in `capi/dmaheap.h`.
//!
//! The caller is C, and guarantees what the header asks of it. In the signatures a reference or a
//! `Box` is a pointer to an object that a function here has made, and that nobody frees meanwhile;
//! an `Option` around it may be NULL. Threads share objects, so all are [`Sync`], nothing
//! changes them, and any thread may free them.

// Nothing here may end the program of others, as a panic does where none can be caught.
#[cfg(panic = "abort")]
compile_error!("libdmaheap has to catch panics: build it with --profile library");

mod buffer;
mod choice;
mod device;
mod heap;
mod monitor;

use crate::choice::Unfit;
use crate::error::Error;
use crate::heap::Access;
use crate::system::System;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::cell::RefCell;
use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// `DMAHEAP_UNKNOWN`
const UNKNOWN: c_int = -1;

/// `DMAHEAP_NO_NUMBER`
const NO_NUMBER: u64 = u64::MAX;

/// Where the function of C stores what it makes.
type Out<'a, T> = &'a mut MaybeUninit<Option<Box<T>>>;

/// What an object is freed by: NULL is none.
type Freed<T> = Option<Box<T>>;

/// Why a function fails.
struct Failure {
    errno: Errno,
    sentence: String,
}

impl Failure {
    fn new(errno: Errno, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { errno, sentence }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(errno(&error), error.to_string())
    }
}

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Self {
        Error::from(unfit).into()
    }
}

type Result<T> = std::result::Result<T, Failure>;

fn errno(error: &Error) -> Errno {
    match error {
        Error::NoHeaps | Error::Gone(_) | Error::NoQuery => Errno::NODEV,
        Error::NoSuchHeap { .. } | Error::NoSuchDevice(_) => Errno::NOENT,
        Error::NotADevice { .. } | Error::CannotTry { .. } => Errno::NOTTY,
        Error::Ambiguous { .. } => Errno::NOTUNIQ,
        Error::NoSuchProcess(_) => Errno::SRCH,
        Error::Denied { access, .. } => errno_of_access(access),
        Error::NoMemory { .. } => Errno::NOMEM,
        Error::ZeroSize | Error::BadName(_) | Error::OutOfBounds { .. } | Error::NotADmaBuf => {
            Errno::INVAL
        }
        Error::Io { cause, .. } => Errno::from_io_error(cause).unwrap_or(Errno::IO),
        Error::Unfit(unfit) => match unfit {
            Unfit::NoDevices => Errno::INVAL,
            Unfit::NothingKnown { .. } => Errno::NODATA,
            Unfit::NoRoom { .. } => Errno::NOMEM,
            Unfit::Denied { heap } => errno_of_access(&heap.access),
            Unfit::NoneSuits { .. }
            | Unfit::NoneFits
            | Unfit::LeftOutByRules { .. }
            | Unfit::NoneContiguous
            | Unfit::NeedsBrackets { .. } => Errno::OPNOTSUPP,
        },
    }
}

fn errno_of_access(access: &Access) -> Errno {
    match access {
        Access::NoNode => Errno::NOENT,
        _ => Errno::ACCESS,
    }
}

thread_local! {
    /// What has failed last.
    static SENTENCE: RefCell<CString> = RefCell::default();
}

/// Runs what a function does that returns a number; a failure becomes a negative errno. A panic is
/// a mistake in this library, and a failure as well: whatever it had begun to make is dropped, and
/// objects that there were before are never changed.
fn number(run: impl FnOnce() -> Result<c_int>) -> c_int {
    let failure = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(number)) => return number,
        Ok(Err(failure)) => failure,
        Err(_) => Failure::new(
            Errno::NOTRECOVERABLE,
            "a mistake in libdmaheap: what it says on standard error would help to mend it",
        ),
    };
    // A thread that is about to end may not have it any more.
    let _ = SENTENCE.try_with(|last| last.replace(c_string(failure.sentence)));
    -failure.errno.raw_os_error()
}

/// The same for a function that makes an object.
fn make<T: Send + Sync>(out: Out<'_, T>, make: impl FnOnce() -> Result<T>) -> c_int {
    let out = out.write(None);
    number(|| {
        *out = Some(Box::new(make()?));
        Ok(0)
    })
}

/// For C, up to the first NUL.
fn c_string(text: impl Into<Vec<u8>>) -> CString {
    let mut bytes = text.into();
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    CString::new(bytes).unwrap_or_default()
}

/// What C gets to see of a string that may not be there.
fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(ptr::null(), |text| text.as_ptr())
}

fn answer(known: Option<bool>) -> c_int {
    known.map_or(UNKNOWN, c_int::from)
}

/// Checks that a caller knows no more than this library.
fn check_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known == 0 {
        return Ok(());
    }
    let sentence = format!("there is no flag {:#x}", flags & !known);
    Err(Failure::new(Errno::INVAL, sentence))
}

/// # Safety
///
/// `text` must point to a string with a NUL behind it that stays as it is for `'a`.
unsafe fn os_str<'a>(text: *const c_char) -> &'a OsStr {
    // SAFETY: By the contract of this function.
    OsStr::from_bytes(unsafe { CStr::from_ptr(text) }.to_bytes())
}

fn borrow_fd(fd: &c_int) -> Result<BorrowedFd<'_>> {
    if *fd < 0 {
        return Err(Failure::new(Errno::BADF, format!("{fd} is no descriptor")));
    }
    // SAFETY: It is not -1. By the header the caller keeps it open; if it is not open, each system
    // call says so.
    Ok(unsafe { BorrowedFd::borrow_raw(*fd) })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_error() -> *const c_char {
    // The string is replaced by the next failure of this thread, and not earlier.
    let sentence = SENTENCE.try_with(|last| last.borrow().as_ptr());
    sentence.unwrap_or(c"".as_ptr())
}

/// # Safety
///
/// As [`os_str`] for `root`, if that is not NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dmaheap_system_new(root: *const c_char, out: Out<'_, System>) -> c_int {
    make(out, || {
        if root.is_null() {
            return Ok(System::new());
        }
        // SAFETY: By the contract of this function.
        Ok(System::at(unsafe { os_str(root) }))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_system_free(_: Freed<System>) {}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_system_has_module(system: &System) -> c_int {
    number(|| Ok(system.module_is_loaded().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_with_a_sentence() {
        let result = number(|| panic!("on purpose"));
        assert_eq!(result, -Errno::NOTRECOVERABLE.raw_os_error());
        let sentence = SENTENCE.with_borrow(|last| last.clone().into_string().unwrap());
        assert!(
            sentence.starts_with("a mistake in libdmaheap"),
            "{sentence}"
        );
    }
}
