// SPDX-License-Identifier: GPL-2.0

//! Threads that sleep in system calls, and can be made to end.

use std::{
    io, mem,
    os::unix::thread::JoinHandleExt,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The signal that gets a thread out of a system call.
const WAKE: libc::c_int = libc::SIGUSR1;

/// The signals that ask this program to end.
const END: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// What a worker looks at to see whether it is to end.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Sleeps until a time has come; returns early, and false, if the worker
    /// is to end.
    pub fn sleep_until(&self, time: Instant) -> bool {
        while !self.asked() {
            let now = Instant::now();
            if now >= time {
                return true;
            }
            thread::park_timeout(time - now);
        }
        false
    }
}

/// A thread that ends when asked to. System calls that it sleeps in fail with
/// EINTR then.
pub struct Worker<T> {
    stop: Stop,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts a thread. It calls [`Stop::asked`] after each EINTR.
    pub fn start(work: impl FnOnce(&Stop) -> T + Send + 'static) -> Self {
        let stop = Stop::default();
        let seen = stop.clone();
        Self {
            stop,
            thread: thread::spawn(move || work(&seen)),
        }
    }

    /// Makes the thread end, and returns its result.
    pub fn stop(self) -> T {
        self.stop.0.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // One signal would not do: it could come just before the system call.
        while !self.thread.is_finished() {
            // SAFETY: A thread that has not been joined has a valid id, even
            // if it has ended.
            unsafe { libc::pthread_kill(self.thread.as_pthread_t(), WAKE) };
            thread::sleep(Duration::from_millis(1));
        }
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

extern "C" fn ignore(_: libc::c_int) {}

/// Prepares for workers, and keeps the signals that ask this program to end
/// for [`wait_for_end`]. To be called before any thread is started.
pub fn set_up_signals() -> io::Result<()> {
    let action = libc::sigaction {
        sa_sigaction: ignore as extern "C" fn(libc::c_int) as libc::sighandler_t,
        // SAFETY: A structure of integers and a pointer that may be null.
        ..unsafe { mem::zeroed() }
    };
    // SAFETY: The handler does nothing, which is safe at any time.
    if unsafe { libc::sigaction(WAKE, &action, ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: Both pointers are valid, or null as allowed.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &ends(), ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Waits for a signal that asks this program to end.
pub fn wait_for_end() {
    let mut signal = 0;
    // SAFETY: Both pointers are valid.
    while unsafe { libc::sigwait(&ends(), &mut signal) } != 0 {}
}

fn ends() -> libc::sigset_t {
    // SAFETY: A set of signals is an array of integers.
    let mut set = unsafe { mem::zeroed() };
    for signal in END {
        // SAFETY: The pointer is valid.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    set
}
