// SPDX-License-Identifier: GPL-2.0

//! Builds the modules for configurations of the kernel that no guest boots. Of such a
//! kernel only the parts that modules need are built. So symbols cannot be checked, but
//! every line is compiled.

use crate::command::{done, output, unless_done};
use crate::group::Group;
use crate::kit::Kits;
use crate::results::{Case, Verdict};
use anyhow::{Result, bail};
use std::fs;
use std::path::Path;
use vm::Arch;

/// A configuration, by its differences from that of the usual test kernel.
struct Config {
    name: &'static str,
    arch: Arch,
    changes: &'static [&'static str],
}

/// A small configuration: these options are all off at once. One kernel for each option
/// would be many, and the module's code depends on each of them in a different place.
const LITTLE: &[&str] = &[
    "# CONFIG_KUNIT is not set",
    "# CONFIG_MEMCG is not set",
    "# CONFIG_CGROUP_DMEM is not set",
    "# CONFIG_CMA is not set",
    "# CONFIG_TRANSPARENT_HUGEPAGE is not set",
    "# CONFIG_USERFAULTFD is not set",
    "# CONFIG_FAULT_INJECTION is not set",
    "# CONFIG_DRM is not set",
    "# CONFIG_MEDIA_SUPPORT is not set",
];

/// The option for versions of Rust's symbols, and a header of the library that it needs.
const VERSIONS: &str = "CONFIG_GENDWARFKSYMS=y";
const DWARF: &str = "/usr/include/dwarf.h";

const CONFIGS: &[Config] = &[
    Config {
        name: "x86_64-little",
        arch: Arch::X86_64,
        changes: LITTLE,
    },
    Config {
        name: "arm64-little",
        arch: Arch::Arm64,
        changes: LITTLE,
    },
    Config {
        name: "x86_64-distribution",
        arch: Arch::X86_64,
        changes: &[
            "CONFIG_MODVERSIONS=y",
            VERSIONS,
            "CONFIG_DEBUG_INFO_DWARF5=y",
            "# CONFIG_KUNIT is not set",
        ],
    },
    Config {
        name: "arm64-16k",
        arch: Arch::Arm64,
        changes: &["CONFIG_ARM64_16K_PAGES=y"],
    },
];

pub fn groups() -> Vec<Group> {
    let about = "modules built for other configurations of the kernel, and not loaded";
    vec![Group::new("configs", about, run)]
}

fn run(kits: &Kits) -> Result<Vec<Case>> {
    let root = vm::cache_dir()?.join(format!("configs.{}", std::process::id()));
    let mut cases = Vec::new();
    for config in CONFIGS {
        let name = format!("configs.{}", config.name);
        if config.changes.contains(&VERSIONS) && !Path::new(DWARF).exists() {
            let reason = format!("there is no {DWARF}: on Debian install libdw-dev");
            cases.push(Case::new(name, Verdict::Skipped, reason));
            continue;
        }
        fs::create_dir_all(&root)?;
        let problem = config.build(kits, &root).err();
        let problem = problem.map(|error| format!("{error:#}"));
        cases.push(Case::judged(name, problem));
        fs::remove_dir_all(&root)?;
    }
    Ok(cases)
}

impl Config {
    fn build(&self, kits: &Kits, root: &Path) -> Result<()> {
        let usual = vm::kernel(self.arch, kits.kernel())?.tree;
        let (tree, mo) = (root.join("kernel"), root.join("modules"));
        let tests = "tools/testing/modules";
        fs::create_dir_all(&tree)?;
        fs::create_dir_all(mo.join(tests))?;
        let config = fs::read_to_string(usual.join(".config"))?;
        fs::write(
            tree.join(".config"),
            config + &self.changes.join("\n") + "\n",
        )?;
        let kernel = |target| -> Result<String> {
            let mut make = vm::kernel_make()?;
            make.arg("-C").arg(usual.join("source"));
            make.arg(format!("O={}", tree.display()));
            done(make.arg(format!("ARCH={}", self.arch)).arg(target))
        };
        kernel("olddefconfig")?;
        self.verify(&fs::read_to_string(tree.join(".config"))?)?;
        kernel("modules_prepare")?;
        if self.changes.contains(&VERSIONS) {
            // An empty table of versions is no valid C.
            fs::copy(usual.join("Module.symvers"), tree.join("Module.symvers"))?;
        }

        for directory in ["", tests] {
            let mut make = vm::kernel_make()?;
            make.arg("-C").arg(&tree);
            make.arg(format!("ARCH={}", self.arch));
            make.arg(format!("M={}", vm::checkout().join(directory).display()));
            make.arg(format!("MO={}", mo.join(directory).display()));
            if directory == tests {
                let symbols = mo.join("Module.symvers");
                make.arg(format!("KBUILD_EXTRA_SYMBOLS={}", symbols.display()));
            }
            // The kernel was not built, so its symbols are not known.
            let output = output(make.args(["KBUILD_MODPOST_WARN=1", "modules"]))?;
            let said = String::from_utf8_lossy(&output.stderr);
            if let Some(problem) = unless_done(&output) {
                bail!("{problem}");
            } else if said.contains("warning:") {
                bail!("expected no warning:\n{said}");
            }
        }
        if !mo.join("dmabuf_coherency.ko").exists() {
            bail!("there is no dmabuf_coherency.ko");
        }
        Ok(())
    }

    /// Fails if Kconfig has dropped some of the changes.
    fn verify(&self, config: &str) -> Result<()> {
        let lacks = |wanted: &&&str| match wanted.strip_suffix(" is not set") {
            Some(unset) => {
                let option = format!("{}=", unset.trim_start_matches("# "));
                config.lines().any(|line| line.starts_with(&option))
            }
            None => !config.lines().any(|line| line == **wanted),
        };
        let missing: Vec<_> = self.changes.iter().filter(lacks).collect();
        if !missing.is_empty() {
            bail!("Kconfig dropped {missing:?}: add the options that they depend on");
        }
        Ok(())
    }
}
