// SPDX-License-Identifier: GPL-2.0

//! What of our module's code there is to be reached by tests. How the module
//! tells what has been is in `tools/testing/coverage/coverage.c`.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{
    arch::Arch,
    kernel::Kernel,
    module::{checkout, module},
    toolchain,
};

/// What each basic block calls.
const HOOK: &str = "__sanitizer_cov_trace_pc";

/// A line of the module's source, by its file below the checkout.
pub type Line = (String, u32);

/// The basic blocks of a module that was built with coverage: the line that
/// each stands for, by the number that the module tells for it.
pub fn blocks(kernel: &Kernel) -> Result<BTreeMap<i64, Line>> {
    let module = module(kernel)?;
    let symbols = toolchain::output(Command::new("readelf").arg("-sW").arg(&module))?;
    let hook = symbols.lines().find(|line| line.ends_with(HOOK));
    let hook = hook.and_then(|line| line.split_whitespace().nth(1));
    let hook = number(hook.context("the module tells no coverage")?)?;

    let relocations = toolchain::output(Command::new("readelf").arg("-rW").arg(&module))?;
    let mut calls = Vec::new();
    let mut text = false;
    for line in relocations.lines() {
        if line.starts_with("Relocation section") {
            text = line.contains("'.rela.text'");
        }
        let call = line.contains("_PLT32 ") || line.contains("_CALL26 ");
        if text && call && line.contains(HOOK) {
            calls.push(number(line.split_whitespace().next().unwrap_or_default())?);
        }
    }
    let lines = lines(kernel.arch, &module, &calls)?;
    // The hook sees where it returns to: four bytes on, on x86_64 from the call's operand.
    let blocks = calls.iter().zip(lines);
    Ok(blocks
        .filter_map(|(call, line)| Some((call + 4 - hook, line?)))
        .collect())
}

fn number(hexadecimal: &str) -> Result<i64> {
    i64::from_str_radix(hexadecimal, 16).with_context(|| format!("readelf said {hexadecimal}"))
}

/// Where the source is of each address of the text: the innermost of the lines
/// that are ours.
fn lines(arch: Arch, module: &Path, addresses: &[i64]) -> Result<Vec<Option<Line>>> {
    let mut addr2line = Command::new(arch.cc().replace("gcc", "addr2line"));
    addr2line
        .args(["-a", "-i", "-j", ".text", "-e"])
        .arg(module);
    addr2line.args(addresses.iter().map(|address| format!("{address:#x}")));
    let mut lines = Vec::new();
    for line in toolchain::output(&mut addr2line)?.lines() {
        if line.starts_with("0x") {
            lines.push(None);
        } else if let Some(last @ None) = lines.last_mut() {
            *last = ours(line);
        }
    }
    Ok(lines)
}

/// A line as addr2line tells it, if it is in our source.
fn ours(line: &str) -> Option<Line> {
    let (file, line) = line
        .split_once(" (")
        .map_or(line, |(line, _)| line)
        .rsplit_once(':')?;
    let file = Path::new(file).strip_prefix(checkout()).ok()?;
    Some((file.display().to_string(), line.parse().ok()?))
}
