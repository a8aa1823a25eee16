// SPDX-License-Identifier: MIT OR GPL-2.0

//! A buffer that the devices of these nodes share, by the library:
//! `choose /dev/video0 /dev/dri/card0`.

use dmaheap::{Error, Request, System};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let system = System::new();
    let devices: Result<Vec<_>, Error> = std::env::args_os()
        .skip(1)
        .map(|node| system.device(node))
        .collect();
    let choice = system.choose(&devices?)?;
    for objection in choice.objections() {
        eprintln!("{objection}");
    }
    let heap = choice.best()?;
    let request = Request::new(8 << 20).name("frame");
    let mut frame = heap.open()?.alloc(&request)?.map()?;

    let mut access = frame.write()?;
    access.copy_from(0, b"written in a bracket")?;
    access.end()?;
    println!("{} bytes of {}", frame.buffer().size(), heap.node.display());
    // Hand the descriptor to both devices: VIDIOC_QBUF, DRM_IOCTL_PRIME_FD_TO_HANDLE.
    Ok(())
}
