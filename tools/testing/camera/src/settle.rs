// SPDX-License-Identifier: GPL-2.0

use std::{fs, io, path::Path};

/// Waits until the kernel has set up the USB camera behind a video node.
///
/// To be called before the first format is asked for: as of Linux 7.3, uvcvideo
/// registers its nodes before it initializes a lock that most ioctls take, and
/// kernels with lock debugging report a program that is faster.
///
/// The kernel holds the lock of the USB device meanwhile, and takes it to tell
/// the name of its product.
pub fn settle(node: &Path) -> io::Result<()> {
    let name = node.file_name().unwrap_or_default();
    let interface = Path::new("/sys/class/video4linux")
        .join(name)
        .join("device");
    match fs::read(interface.canonicalize()?.join("../product")) {
        // No USB device, or one without a name.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map(drop),
    }
}
