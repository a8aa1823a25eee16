// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading the module.

use super::Test;
use crate::expect::{expect_errno, skip};
use crate::options::Options;
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

pub const TESTS: &[Test] = &[
    Test::new(
        "module.stays",
        "the module cannot be unloaded, as the kernel cannot remove heaps",
        stays,
    ),
    Test::new(
        "module.once",
        "the module cannot be loaded a second time",
        once,
    ),
    Test::new(
        "module.version",
        "the module shows its version, which is that of this program",
        version,
    ),
    Test::new(
        "module.parameters",
        "all parameters can be read, and those for loading cannot be changed later",
        parameters,
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
        "{when}: expected the module to be live, got {seen}"
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

fn version(options: &Options) -> Result<()> {
    need_module(options)?;
    let path = format!("/sys/module/{NAME}/version");
    let seen = fs::read_to_string(&path).context(path)?;
    ensure!(
        seen.trim_end() == env!("CARGO_PKG_VERSION"),
        "expected {}, got {seen}",
        env!("CARGO_PKG_VERSION")
    );
    Ok(())
}

fn parameters(options: &Options) -> Result<()> {
    need_module(options)?;
    let parameters = Path::new("/sys/module").join(NAME).join("parameters");
    let mut modes = BTreeMap::new();
    for entry in fs::read_dir(&parameters)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        modes.insert(name, entry.metadata()?.permissions().mode() & 0o777);
    }
    let expected = [
        ("accounting", 0o444),
        ("links", 0o644),
        ("pool_percent", 0o444),
    ];
    let expected = expected.map(|(name, mode)| (name.to_owned(), mode));
    ensure!(
        modes == BTreeMap::from(expected.clone()),
        "expected the files and modes {expected:?}, got {modes:?}"
    );
    let value = |name| fs::read_to_string(parameters.join(name));
    let accounting = value("accounting")?;
    let allowed = if options.charged { "Y" } else { "YN" };
    ensure!(
        accounting.len() == 2 && allowed.contains(accounting.trim_end()),
        "expected accounting to be one of {allowed}, got {accounting:?}"
    );
    let percent: u8 = value("pool_percent")?.trim_end().parse()?;
    ensure!(
        (percent > 0) == options.pooled,
        "expected the pool to keep memory: {}, but pool_percent is {percent}",
        options.pooled
    );
    for name in ["accounting", "pool_percent"] {
        let written = File::options().write(true).open(parameters.join(name));
        // Root may open the file. Then the write fails.
        let written = written.and_then(|mut file| file.write_all(b"1"));
        ensure!(written.is_err(), "expected {name} to refuse a write");
    }
    Ok(())
}
