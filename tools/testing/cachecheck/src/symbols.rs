// SPDX-License-Identifier: GPL-2.0

//! The functions of the guest's kernel and modules.

use crate::findings::{Access, Findings, Kind, Place, Report};
use std::collections::BTreeMap;
use std::fmt;

/// Functions by their addresses.
#[derive(Debug, Default)]
pub struct Symbols(BTreeMap<u64, String>);

/// All reports of one kind about two functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// Whose access is wrong, and in which function.
    pub by: String,
    /// Whose access it does not see, or undoes, and in which function.
    pub after: String,
    /// How many lines.
    pub lines: u64,
    /// An instruction of each function, and the line that they have accessed.
    pub first: ([u64; 2], Place),
}

impl Symbols {
    /// Parses what is in `/proc/kallsyms`, and in `System.map`.
    pub fn parse(kallsyms: &str) -> Self {
        let symbol = |line: &str| {
            let (address, rest) = line.split_once(' ')?;
            let (kind, name) = rest.split_once(' ')?;
            if !matches!(kind, "t" | "T" | "w" | "W") {
                return None;
            }
            let address = u64::from_str_radix(address, 16).ok()?;
            let (name, module) = name.split_once('\t').unwrap_or((name, ""));
            let name = format!("{:#} {module}", rustc_demangle::demangle(name));
            Some((address, name.trim_end().to_owned()))
        };
        Self(kallsyms.lines().filter_map(symbol).collect())
    }

    /// The function that an address is in.
    fn name(&self, pc: u64) -> String {
        if pc >> 55 & 1 == 0 {
            return "user space".into();
        }
        match self.0.range(..=pc).next_back() {
            Some((_, name)) => name.clone(),
            None => format!("{pc:#x}"),
        }
    }

    fn describe(&self, access: &Access) -> String {
        format!("{} in {}", access.who, self.name(access.pc))
    }

    /// The reports by functions, those about most lines first.
    pub fn translate(&self, findings: &Findings) -> Vec<Finding> {
        let mut all: BTreeMap<(Kind, String, String), Finding> = BTreeMap::new();
        for Report {
            kind,
            by,
            after,
            lines,
            first,
        } in &findings.reports
        {
            let (by_name, after_name) = (self.describe(by), self.describe(after));
            let key = (*kind, by_name.clone(), after_name.clone());
            let finding = all.entry(key).or_insert_with(|| Finding {
                kind: *kind,
                by: by_name,
                after: after_name,
                lines: 0,
                first: ([by.pc, after.pc], first.clone()),
            });
            finding.lines += lines;
        }
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_by_key(|finding| std::cmp::Reverse(finding.lines));
        all
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            by,
            after,
            lines,
            first: ([by_pc, after_pc], place),
        } = self;
        writeln!(f, "{kind}, {lines} lines: {by} ({by_pc:#x})")?;
        writeln!(f, "  after {after} ({after_pc:#x})")?;
        write!(f, "  first {place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Who;

    const KALLSYMS: &str = "ffff800080010000 T memset\n\
        ffff800080010000 D not_a_function\n\
        ffff800080020000 t importer_dma_read\t[dmabuf_importer]\n\
        ffff800080030000 t _RNvCs1234_7mycrate3foo\t[other]\n";

    #[test]
    fn functions_are_found_by_what_is_in_them() {
        let symbols = Symbols::parse(KALLSYMS);
        for (pc, name) in [
            (0xffff_8000_8001_0ffc, "memset"),
            (0xffff_8000_8002_0004, "importer_dma_read [dmabuf_importer]"),
            (0xffff_8000_8003_0000, "mycrate::foo [other]"),
            (0xffff_0000_0000_0000, "0xffff000000000000"),
            (0x40_0000, "user space"),
        ] {
            assert_eq!(symbols.name(pc), name);
        }
    }

    #[test]
    fn reports_about_the_same_functions_are_one() {
        let report = |offset: u64, lines| Report {
            kind: Kind::DirtyRead,
            by: Access {
                pc: 0xffff_8000_8002_0000 + offset,
                who: Who::Device,
            },
            after: Access {
                pc: 0xffff_8000_8001_0000 + offset,
                who: Who::Cpu,
            },
            lines,
            first: Place {
                physical: 0x4000_0040,
                bytes: 0xff,
                buffer: Some(("system 3".into(), 64)),
            },
        };
        let reports = vec![report(0, 2), report(8, 5)];
        let findings = Findings {
            reports,
            ..Findings::default()
        };
        let found = Symbols::parse(KALLSYMS).translate(&findings);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "dirty read, 7 lines: a device in importer_dma_read [dmabuf_importer] (0xffff800080020000)\n  \
             after the CPU in memset (0xffff800080010000)\n  \
             first system 3 at 0x40, physical 0x40000040, bytes 0x00000000000000ff"
        );
    }
}
