// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading the module.

use super::Test;
use crate::expect::{expect_errno, skip};
use crate::options::Options;
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use std::fs::{self, File};

pub const TESTS: &[Test] = &[
    Test::new(
        "module.stays",
        "the module cannot be unloaded, as heaps cannot be taken back",
        stays,
    ),
    Test::new(
        "module.once",
        "the module cannot be loaded a second time",
        once,
    ),
];

const NAME: &str = "dmabuf_coherency";

fn need_module(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    if fs::exists(format!("/sys/module/{NAME}/refcnt"))? {
        return Ok(());
    }
    skip(format!("no module {NAME} is loaded"))
}

/// The heap is there and gives zeroed memory.
fn expect_working(options: &Options, when: &str) -> Result<()> {
    let state = format!("/sys/module/{NAME}/initstate");
    let seen = fs::read_to_string(&state).context(state)?;
    ensure!(
        seen.trim() == "live",
        "{when}: expected the module to be live, it is {seen}"
    );
    let buffer = options
        .heap()?
        .alloc(1 << 20)
        .with_context(|| when.to_owned())?;
    buffer.map()?.expect_zeroed(when)
}

fn stays(options: &Options) -> Result<()> {
    need_module(options)?;
    let unload = || rustix::system::delete_module(c"dmabuf_coherency", libc::O_NONBLOCK);
    expect_errno("unloading the module", unload(), Errno::WOULDBLOCK)?;
    let buffer = options.heap()?.alloc(4096)?;
    expect_errno(
        "unloading it with a live buffer",
        unload(),
        Errno::WOULDBLOCK,
    )?;
    drop(buffer);
    expect_working(options, "after two attempts to unload it")
}

fn once(options: &Options) -> Result<()> {
    need_module(options)?;
    let Some(path) = &options.module else {
        return skip("the module's file is not known: give --module or DMABUF_COHERENCY_KO");
    };
    let file = File::open(path).with_context(|| path.display().to_string())?;
    for round in 1..=3 {
        let seen = rustix::system::finit_module(&file, c"", 0);
        expect_errno(
            &format!("loading the module again ({round})"),
            seen,
            Errno::EXIST,
        )?;
    }
    expect_working(options, "after loading it again")
}
