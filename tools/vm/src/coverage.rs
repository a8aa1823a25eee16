// SPDX-License-Identifier: GPL-2.0

//! Finds the code of our module that tests can reach. The module records which of it
//! has run: see `tools/testing/coverage/coverage.c`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    arch::Arch,
    kernel::Kernel,
    module::{checkout, module},
    toolchain,
};

/// The function that each basic block calls.
const HOOK: &str = "__sanitizer_cov_trace_pc";

/// A line of the module's source, by its file below the checkout.
pub type Line = (String, u32);

/// The basic blocks of a module that was built with coverage. Blocks that cannot run
/// are left out. The key is the number that the module reports for a block, the value
/// is the block's source line.
pub fn blocks(kernel: &Kernel) -> Result<BTreeMap<i64, Line>> {
    let module = module(kernel)?;
    let functions = functions(&module)?;
    let hook = functions.iter().find(|function| function.name == HOOK);
    let hook = hook
        .context("the module was built without coverage: build it with COVERAGE=1")?
        .start;
    let relocations = relocations(&module)?;

    // If a function is inlined into all of its callers, nothing refers to the function itself.
    let used: BTreeSet<&str> = relocations.iter().map(|at| at.symbol.as_str()).collect();
    let unused: Vec<&Function> = functions
        .iter()
        .filter(|function| function.global && !used.contains(function.name.as_str()))
        .collect();
    let runs = |address| !unused.iter().any(|function| function.holds(address));

    // Some blocks only panic. They are the compiler's checks of arithmetic, which must not fail.
    let text: Vec<&Relocation> = relocations.iter().filter(|at| at.text).collect();
    let calls: Vec<i64> = text
        .iter()
        .enumerate()
        .filter(|(_, at)| at.call && at.symbol == HOOK && runs(at.address))
        .filter(|(i, _)| {
            let mut block = text[i + 1..].iter().take_while(|at| at.symbol != HOOK);
            !block.any(|at| at.symbol.contains("9panicking"))
        })
        .map(|(_, at)| at.address)
        .collect();
    let lines = lines(kernel.arch, &module, &calls)?;
    // The hook sees its return address, which is four bytes after the relocation. On x86_64 the
    // relocation is that of the call's operand.
    let blocks = calls.iter().zip(lines);
    Ok(blocks
        .filter_map(|(call, line)| Some((call + 4 - hook, line?)))
        .collect())
}

/// A function of the module's text.
struct Function {
    name: String,
    start: i64,
    size: i64,
    /// Whether other objects can refer to it.
    global: bool,
}

impl Function {
    fn holds(&self, address: i64) -> bool {
        (self.start..self.start + self.size).contains(&address)
    }
}

fn functions(module: &Path) -> Result<Vec<Function>> {
    let symbols = toolchain::output(Command::new("readelf").arg("-sW").arg(module))?;
    let words = symbols
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .filter_map(|words| match words[..] {
            [_, start, size, "FUNC", binding, _, section, name] if section != "UND" => {
                Some((start, size, binding, name))
            }
            _ => None,
        })
        .map(|(start, size, binding, name)| {
            Ok(Function {
                name: name.to_owned(),
                start: number(start)?,
                size: size
                    .parse()
                    .with_context(|| format!("readelf printed {size}, which is no size"))?,
                global: binding == "GLOBAL",
            })
        })
        .collect()
}

/// A place in the module that refers to a symbol.
struct Relocation {
    address: i64,
    symbol: String,
    /// Whether it is part of the text, and whether it is a call.
    text: bool,
    call: bool,
}

/// All relocations. Those of the text are sorted by address.
fn relocations(module: &Path) -> Result<Vec<Relocation>> {
    let mut relocations = Vec::new();
    let mut text = false;
    for line in toolchain::output(Command::new("readelf").arg("-rW").arg(module))?.lines() {
        if line.starts_with("Relocation section") {
            text = line.contains("'.rela.text'");
        }
        let [address, _, kind, _, symbol, ..] = line.split_whitespace().collect::<Vec<_>>()[..]
        else {
            continue;
        };
        if kind.starts_with("R_") {
            relocations.push(Relocation {
                address: number(address)?,
                symbol: symbol.to_owned(),
                text,
                call: kind.ends_with("_PLT32") || kind.ends_with("_CALL26"),
            });
        }
    }
    relocations.sort_by_key(|at| at.address);
    Ok(relocations)
}

fn number(hexadecimal: &str) -> Result<i64> {
    i64::from_str_radix(hexadecimal, 16)
        .with_context(|| format!("readelf printed {hexadecimal}, which is no number"))
}

/// The source line of each address of the text. If functions were inlined there, it is
/// the innermost line of our own source.
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

/// Parses a line of addr2line's output. Returns nothing for source that is not ours.
fn ours(line: &str) -> Option<Line> {
    let (file, line) = line
        .split_once(" (")
        .map_or(line, |(line, _)| line)
        .rsplit_once(':')?;
    let file = Path::new(file).strip_prefix(checkout()).ok()?;
    Some((file.display().to_string(), line.parse().ok()?))
}
