// SPDX-License-Identifier: GPL-2.0

//! The USB camera without hardware. It is a process, and ending the process unplugs it.

use crate::expect::skip;
use crate::kernel_module::modprobe;
use crate::links::{self, Links};
use crate::memory::eventually;
use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The camera, and the program that captures from it.
const CAMERA: &str = "dmabuf_coherency_camera";
const CAPTURE: &str = "capture";

/// The modules for the USB port, and the camera's driver.
const MODULES: [&str; 3] = ["dummy_hcd", "raw_gadget", "uvcvideo"];

/// Loads the modules that the camera needs, or skips the test.
pub fn need() -> Result<()> {
    for program in [CAMERA, CAPTURE] {
        let path = beside(program)?;
        if !path.exists() {
            return skip(format!(
                "there is no {}: install it beside this program",
                path.display()
            ));
        }
    }
    for module in MODULES {
        if modprobe(module, &[]).is_err() {
            return skip(format!(
                "cannot load the module {module}: does the kernel have it?"
            ));
        }
    }
    Ok(())
}

/// The path of a program in the same directory as this one.
fn beside(program: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(program))
}

/// The device behind the camera's node, if it is plugged.
fn find() -> Result<Option<PathBuf>> {
    let mut devices = links::devices_of("video4linux")?.into_iter();
    Ok(devices.find(|path| links::driver_of(path).is_ok_and(|driver| driver == "uvcvideo")))
}

/// A camera that is plugged in, and has links.
pub struct Plugged {
    process: Child,
    path: PathBuf,
}

impl Plugged {
    /// Plugs it in, and waits for its links.
    pub fn insert() -> Result<(Self, Links)> {
        let process = Command::new(beside(CAMERA)?)
            .stdout(Stdio::null())
            .spawn()
            .context(CAMERA)?;
        let mut path = None;
        eventually(|| {
            path = find()?;
            Ok(path.is_some())
        })?;
        let path = path.context("the camera is plugged, but uvcvideo has no node for it")?;
        let mut links = None;
        eventually(|| {
            // The link to the first choice is made last.
            links = Links::of(&path)?.filter(|links| links.first.is_some());
            Ok(links.is_some())
        })?;
        let links = links.context("uvcvideo has a node for the camera, but it has no links")?;
        Ok((Self { process, path }, links))
    }

    /// The device behind its node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command that captures from the camera into buffers of a heap.
    pub fn capture(&self, heap: &Path, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(beside(CAPTURE)?);
        command.args(arguments).arg("--heap").arg(heap);
        Ok(command)
    }

    /// Unplugs the camera, and waits until it and its links are gone.
    pub fn remove(mut self) -> Result<()> {
        let pid = Pid::from_child(&self.process);
        rustix::process::kill_process(pid, Signal::TERM)?;
        self.process.wait()?;
        let gone = eventually(|| Ok(find()?.is_none()))?;
        ensure!(gone, "the camera is unplugged, but still there");
        // The class removes the node first, and then our module removes the links.
        let unlinked = eventually(|| Ok(Links::of(&self.path)?.is_none()))?;
        ensure!(
            unlinked,
            "the camera is unplugged, but its links are still there"
        );
        Ok(())
    }
}
