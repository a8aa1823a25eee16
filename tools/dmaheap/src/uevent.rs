// SPDX-License-Identifier: MIT OR GPL-2.0

//! The kernel's events about devices.

use crate::error::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use std::path::PathBuf;

const READING: &str = "reading the kernel's events";

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Uevent {
    /// `add`, `remove`, `change`, `bind`, `unbind` and the like.
    pub action: String,
    /// The device's directory below `/sys`.
    pub path: PathBuf,
    /// Its class or bus.
    pub subsystem: String,
}

/// Events, as udev hears them. Anybody may listen.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// Listens from now on. Look at the links after that, and nothing is missed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], in a sandbox without netlink.
    pub fn listen() -> Result<Self> {
        let what = "listening to the kernel's events";
        let kind = SocketType::DGRAM;
        let protocol = Some(netlink::KOBJECT_UEVENT);
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, protocol)
                .map_err(Error::io(what))?;
        // Group 1 is the kernel's own. Only privileged processes can send to it.
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1)).map_err(Error::io(what))?;
        Ok(Self { socket })
    }

    /// Takes all events that are there already, and waits for none. Says whether there were any.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn drain(&self) -> Result<bool> {
        let mut any = false;
        loop {
            match rustix::net::recv(&self.socket, &mut [0; 1], RecvFlags::DONTWAIT) {
                // The rest of it is lost, and so may others be.
                Ok(_) | Err(Errno::NOBUFS) => any = true,
                Err(Errno::AGAIN) => return Ok(any),
                Err(Errno::INTR) => (),
                Err(errno) => return Err(Error::io(READING)(errno)),
            }
        }
    }

    /// Waits for the next event. `None` says that some have been lost, as they were not read in
    /// time: look at everything anew.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn wait(&self) -> Result<Option<Uevent>> {
        let mut buffer = [0; 8192];
        loop {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((len, _)) => {
                    if let Some(event) = Uevent::parse(&buffer[..len]) {
                        return Ok(Some(event));
                    }
                }
                Err(Errno::NOBUFS) => return Ok(None),
                Err(Errno::INTR) => (),
                Err(errno) => return Err(Error::io(READING)(errno)),
            }
        }
    }
}

/// Readable when there is an event.
impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Uevent {
    /// `change@/devices/...`, then `KEY=value`s, each with a NUL behind it.
    fn parse(message: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(message);
        let mut parts = text.split('\0');
        let (action, path) = parts.next()?.split_once('@')?;
        let subsystem = parts.find_map(|part| part.strip_prefix("SUBSYSTEM="))?;
        Some(Self {
            action: action.into(),
            path: PathBuf::from(format!("/sys{path}")),
            subsystem: subsystem.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read() {
        let message =
            b"change@/devices/platform/vivid.0\0ACTION=change\0SUBSYSTEM=platform\0SEQNUM=9\0";
        let expected = Uevent {
            action: "change".into(),
            path: "/sys/devices/platform/vivid.0".into(),
            subsystem: "platform".into(),
        };
        assert_eq!(Uevent::parse(message), Some(expected));
        assert_eq!(Uevent::parse(b"libudev\0nonsense"), None);
    }
}
