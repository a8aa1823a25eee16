// SPDX-License-Identifier: GPL-2.0

//! CPU access brackets, and the name of a buffer.

use super::Test;
use crate::bufinfo;
use crate::expect::expect_errno;
use crate::heap::{END, READ, SET_NAME, SYNC, WRITE};
use crate::ioctl;
use crate::options::Options;
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;

pub const TESTS: &[Test] = &[
    Test::new(
        "sync.brackets",
        "brackets of all directions, nested and repeated, lose nothing",
        brackets,
    ),
    Test::new(
        "sync.bad_flags",
        "brackets with unknown flags or no direction are refused",
        bad_flags,
    ),
    Test::new(
        "sync.name",
        "a buffer can be named, and is listed by that name",
        name,
    ),
];

fn brackets(options: &Options) -> Result<()> {
    let buffer = options.heap()?.alloc((4 << 20) + 4096)?;
    let mapping = buffer.map()?;
    for (round, direction) in [READ, WRITE, READ | WRITE].into_iter().enumerate() {
        let tag = round as u32;
        let start = u64::from(direction);
        let end = u64::from(direction | END);
        let call = |flags| {
            buffer
                .sync(flags)
                .with_context(|| format!("sync with flags {flags}"))
        };
        call(start)?;
        call(start).context("nested")?;
        mapping.stamp(tag);
        call(end)?;
        mapping.expect_stamped("inside the outer bracket", tag, 0)?;
        call(end)?;
        mapping.expect_stamped("outside of all brackets", tag, 0)?;
        // An end without a start is accepted, as user space may be careless.
        call(end).context("once more")?;
        mapping.expect_stamped("after an end too much", tag, 0)?;
    }
    Ok(())
}

fn bad_flags(options: &Options) -> Result<()> {
    let buffer = options.heap()?.alloc(4096)?;
    for flags in [0, u64::from(END), 8, u64::from(READ) | 1 << 63, u64::MAX] {
        expect_errno(
            &format!("sync with flags {flags:#x}"),
            buffer.sync(flags),
            Errno::INVAL,
        )?;
    }
    // SAFETY: Nothing can be read or written at address 0.
    let seen = unsafe { ioctl::at_address(&buffer, SYNC, 0) };
    expect_errno("sync with a null pointer", seen, Errno::FAULT)?;
    buffer
        .sync(READ.into())
        .context("sync with good flags after all that")?;
    Ok(buffer.sync((READ | END).into())?)
}

fn name(options: &Options) -> Result<()> {
    let buffer = options.heap()?.alloc(4096)?;
    for name in [c"frame", c"another", c"a name of thirty-one characters"] {
        buffer
            .set_name(name)
            .with_context(|| format!("naming a buffer {name:?}"))?;
        let expected = name.to_str()?;
        let seen = buffer.fdinfo("name")?;
        ensure!(
            seen == expected,
            "fdinfo: expected name {expected}, got {seen}"
        );
        let listed = bufinfo::list()?
            .into_iter()
            .find(|listed| listed.inode == buffer.inode());
        let seen = listed.context("the buffer is not in bufinfo")?.name;
        ensure!(
            seen == expected,
            "bufinfo: expected name {expected}, got {seen}"
        );
    }
    let seen = buffer.set_name(c"a name that has thirty-two bytes");
    expect_errno("a name that is too long", seen, Errno::INVAL)?;
    // SAFETY: Nothing can be read or written at address 0.
    let seen = unsafe { ioctl::at_address(&buffer, SET_NAME, 0) };
    expect_errno("a name at a null pointer", seen, Errno::FAULT)?;
    let seen = buffer.fdinfo("name")?;
    ensure!(
        seen == "a name of thirty-one characters",
        "after two refused names expected the old one, got {seen}"
    );
    Ok(())
}
