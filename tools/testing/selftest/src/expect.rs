// SPDX-License-Identifier: GPL-2.0

//! How tests report that something is wrong, or that they cannot run.

use anyhow::{Error, Result, bail};
use rustix::io::Errno;
use std::fmt;

/// Why a test was not run. It is an error, so that `?` passes it on.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Ends a test as skipped, with the reason.
pub fn skip<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::new(Skip(reason.into())))
}

/// Fails unless the call ended with the errno that it should end with.
pub fn expect_errno<T>(call: &str, seen: Result<T, Errno>, expected: Errno) -> Result<()> {
    match seen {
        Err(errno) if errno == expected => Ok(()),
        Err(errno) => bail!("{call}: expected {}, got {}", name(expected), name(errno)),
        Ok(_) => bail!("{call}: expected {}, but it succeeded", name(expected)),
    }
}

/// Names how a call ended, as in a manual page.
pub fn outcome<T>(seen: &Result<T, Errno>) -> String {
    match seen {
        Ok(_) => "success".into(),
        Err(errno) => name(*errno),
    }
}

/// The name of an errno, or its number if these tests do not know it.
pub fn name(errno: Errno) -> String {
    let known = match errno {
        Errno::ACCESS => "EACCES",
        Errno::AGAIN => "EAGAIN",
        Errno::BADF => "EBADF",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::FAULT => "EFAULT",
        Errno::INTR => "EINTR",
        Errno::INVAL => "EINVAL",
        Errno::IO => "EIO",
        Errno::MFILE => "EMFILE",
        Errno::NODEV => "ENODEV",
        Errno::NOENT => "ENOENT",
        Errno::NOEXEC => "ENOEXEC",
        Errno::NOMEM => "ENOMEM",
        Errno::NOSYS => "ENOSYS",
        Errno::NOTTY => "ENOTTY",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::PERM => "EPERM",
        Errno::TIMEDOUT => "ETIMEDOUT",
        _ => return format!("errno {}", errno.raw_os_error()),
    };
    known.into()
}
