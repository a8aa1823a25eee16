// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap alloc`

use super::Alloc;
use super::output::Output;
use super::size;
use anyhow::Result;
use dmaheap::{Error, Heap, Request, System};
use rustix::fd::{AsFd as _, AsRawFd as _};
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The command could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {}: {cause}", .command.to_string_lossy())]
pub struct CannotRun {
    command: OsString,
    cause: io::Error,
}

impl CannotRun {
    /// The exit status, as shells have it.
    pub fn status(&self) -> u8 {
        match self.cause.kind() {
            io::ErrorKind::NotFound => 127,
            _ => 126,
        }
    }
}

pub fn run(system: &System, output: &Output, alloc: &Alloc) -> Result<()> {
    let heap = heap(system, alloc)?;
    let mut request = Request::new(alloc.size);
    if let Some(name) = &alloc.name {
        request = request.name(name);
    }
    if alloc.read_only {
        request = request.read_only();
    }
    let buffer = heap.open()?.alloc(&request)?;
    let size = buffer.size();
    if output.is_json() {
        let name = alloc.name.as_deref().map(OsStr::to_string_lossy);
        output.value(json!({ "buffer": {
            "heap": heap.name, "size": size, "name": name, "read_only": alloc.read_only,
        } }))?;
    }
    let Some((program, arguments)) = alloc.command.split_first() else {
        if !output.is_json() {
            let shown = size::show(size as u64);
            output.line(&format!(
                "allocated {shown} from {}, and gave it back\n",
                heap.name
            ))?;
        }
        return Ok(());
    };
    // The command inherits it.
    fcntl_setfd(&buffer, FdFlags::empty()).map_err(io::Error::from)?;
    let cause = Command::new(program)
        .args(arguments)
        .env("DMABUF_FD", buffer.as_fd().as_raw_fd().to_string())
        .env("DMABUF_SIZE", size.to_string())
        .env("DMABUF_HEAP", &heap.name)
        .exec();
    Err(CannotRun {
        command: program.clone(),
        cause,
    }
    .into())
}

fn heap(system: &System, alloc: &Alloc) -> Result<Heap, Error> {
    if let Some(name) = &alloc.heap {
        return system.heap(name);
    }
    let devices = super::devices(system, &alloc.devices)?;
    let choice = super::choose(system, &devices, &alloc.wanted, Some(alloc.size))?;
    Ok(choice.best()?.clone())
}
