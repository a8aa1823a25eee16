// SPDX-License-Identifier: MIT OR GPL-2.0

//! libdmaheap, as it is installed: the header, what the library exports, and that C sees the same
//! as Rust.

mod tree;

use dmaheap::{Access, Device, Heap, Pieces, Requirement, System};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use tree::{OTHERS, SNOOPING, Tree};

const HEADER: &str = include_str!("../capi/dmaheap.h");

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A directory for what tests build.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (&output.stdout, &output.stderr);
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    );
    output
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

/// The prefix below which it is installed.
fn installed() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = scratch("capi");
        let mut make = Command::new("make");
        make.arg("-C")
            .arg(source("capi"))
            .args(["uninstall", "install", "DESTDIR="])
            .arg(format!("prefix={}", prefix.display()))
            .arg(format!("libdir={}/lib", prefix.display()))
            .arg(format!("CARGO={}", env!("CARGO")))
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL");
        run(&mut make);
        prefix
    })
}

/// The flags that programs are built with, as pkg-config would say.
fn flags(wanted: &[&str]) -> Vec<String> {
    let file = installed().join("lib/pkgconfig/libdmaheap.pc");
    let mut text = fs::read_to_string(file).expect("the file for pkg-config");
    assert!(text.contains(concat!("\nVersion: ", env!("CARGO_PKG_VERSION"), "\n")));
    for (name, value) in [
        ("libdir", format!("{}/lib", installed().display())),
        ("prefix", installed().display().to_string()),
    ] {
        assert!(text.contains(&format!("{name}={value}\n")), "{text}");
        text = text.replace(&format!("${{{name}}}"), &value);
    }
    text = text.replace(
        "${includedir}",
        &format!("{}/include", installed().display()),
    );
    let line = |name: &&str| {
        let value = text.lines().find_map(|line| line.strip_prefix(*name));
        value.expect(name).split_whitespace().map(str::to_owned)
    };
    wanted.iter().flat_map(line).collect()
}

/// Builds a program in C; a warning is an error.
fn program(source: &Path, name: &str, wanted: &[&str], arguments: &[&str]) -> PathBuf {
    let program = scratch(name);
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-O2", "-pthread", "-o"])
        .args([&program, source])
        .args(arguments)
        .args(flags(wanted));
    run(&mut cc);
    program
}

/// Builds it with the shared library and with the static one.
fn programs(source: &Path, name: &str) -> [PathBuf; 2] {
    let libraries = installed().join("lib");
    let rpath = format!("-Wl,-rpath,{}", libraries.display());
    let shared = program(
        source,
        &format!("{name}-shared"),
        &["Cflags:", "Libs:"],
        &[&rpath],
    );
    let archive = libraries.join("libdmaheap.a");
    let archive = archive.to_str().unwrap();
    let wanted = ["Cflags:", "Libs.private:"];
    let archived = program(source, &format!("{name}-static"), &wanted, &[archive]);
    [shared, archived]
}

/// What is declared in the header.
fn declared() -> BTreeSet<&'static str> {
    let words = HEADER.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '(');
    let functions = words
        .filter_map(|word| word.split_once('('))
        .map(|(name, _)| name);
    let declared: BTreeSet<_> = functions
        .filter(|name| name.starts_with("dmaheap_"))
        .collect();
    assert!(declared.len() > 50, "{declared:?}");
    declared
}

#[test]
fn the_header_is_c89_and_cxx() {
    let cxx = ["c++", "clang++", "clang++-19"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())
        .expect("a compiler of C++: install g++");
    for (compiler, language, standard) in [("cc", "c", "c89"), (cxx, "c++", "c++98")] {
        let source = scratch(&format!("header-{standard}.c"));
        fs::write(&source, "#include <dmaheap.h>\n#include <dmaheap.h>\n").unwrap();
        let mut compile = Command::new(compiler);
        compile
            .args(["-x", language, &format!("-std={standard}"), "-pedantic"])
            .args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"])
            .arg(installed().join("include"))
            .arg(&source);
        run(&mut compile);
    }
}

#[test]
fn functions_are_declared_exported_and_described() {
    let shared = installed().join("lib/libdmaheap.so");
    let nm = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&shared));
    let exported: BTreeSet<_> = text(&nm)
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .filter(|name| !name.starts_with("DMAHEAP_"))
        .collect();
    let versioned: Vec<_> = declared()
        .iter()
        .map(|name| format!("{name}@@DMAHEAP_0.1"))
        .collect();
    assert_eq!(exported, versioned.iter().map(String::as_str).collect());

    let page = fs::read_to_string(installed().join("share/man/man3/libdmaheap.3")).unwrap();
    let (synopsis, description) = page.split_once(".Sh DESCRIPTION").unwrap();
    for name in declared() {
        let in_synopsis = [".Fn ", ".Fo "].map(|macro_| format!("{macro_}{name}"));
        assert!(
            in_synopsis.iter().any(|line| synopsis.contains(line)),
            "{name} is not in the synopsis"
        );
        // One sentence is about all of these.
        assert!(
            name.ends_with("_free") || description.contains(&format!("Fn {name}")),
            "{name} is not described"
        );
    }

    let elf = run(Command::new("readelf").arg("-d").arg(&shared));
    assert!(text(&elf).contains("Library soname: [libdmaheap.so.0]"));
}

/// The number of a constant in the header; that of a word of `--json` has it in its name.
fn constant(prefix: &str, word: &impl serde::Serialize) -> i64 {
    let value = serde_json::to_value(word).unwrap();
    let word = value.as_str().expect("a word").to_uppercase();
    let name = format!("#define DMAHEAP_{prefix}_{}\t", word.replace('-', "_"));
    let (_, rest) = HEADER.split_once(&name).expect(&name);
    rest.lines().next().unwrap().trim().parse().expect(&name)
}

fn answer(known: Option<bool>) -> i64 {
    known.map_or(-1, i64::from)
}

fn number(known: Option<u64>) -> String {
    known.map_or("-1".into(), |number| number.to_string())
}

fn show_heap(heap: &Heap) -> String {
    let (access, group) = match &heap.access {
        Access::Allowed => ("allowed", None),
        Access::Denied { group } => ("denied", group.as_deref()),
        Access::Forbidden => ("forbidden", None),
        Access::NoNode => ("no-node", None),
    };
    format!(
        "heap {} {} exporter={} coherent={} refuses={} mapping={} contiguous={} capacity={} \
         limit={} buffers={} bytes={} refused={} access={} group={}",
        heap.name,
        heap.node.display(),
        constant("EXPORTER", &heap.exporter),
        answer(heap.dma_coherent),
        answer(heap.refuses_snooping),
        heap.cpu_mapping
            .map_or(0, |mapping| constant("MAPPING", &mapping)),
        answer(heap.contiguous),
        number(heap.capacity),
        number(heap.limit),
        number(heap.buffers),
        number(heap.bytes),
        number(heap.refused),
        constant("ACCESS", &access),
        group.unwrap_or("none"),
    )
}

fn show_device(device: &Device) -> String {
    let constraints = device.constraints.as_ref();
    let pieces = constraints.map(|needs| needs.pieces);
    let mut line = format!(
        "device {} {} {} {} known={} snoops={} bits={} iommu={} pieces={}",
        device.name,
        device.path.display(),
        device.bus.as_deref().unwrap_or("none"),
        device.driver.as_deref().unwrap_or("none"),
        i64::from(device.order.is_some()),
        answer(device.snooping.snoops),
        constraints.map_or(-1, |needs| i64::from(needs.address_bits)),
        answer(constraints.map(|needs| needs.iommu)),
        pieces
            .filter(|pieces| *pieces != Pieces::Unknown)
            .map_or(-1, |pieces| constant("PIECES", &pieces)),
    );
    let nodes = device.nodes.iter().map(|node| node.display().to_string());
    for word in nodes.chain(device.order.iter().flatten().cloned()) {
        line += &format!(" {word}");
    }
    line
}

fn show_choice(system: &System, devices: &[Device], requirement: Requirement) -> Vec<String> {
    let choice = system.choose_for(devices, requirement).unwrap();
    let fits = choice.fits().iter();
    let mut lines: Vec<_> = fits.map(|fit| format!("fits {}", fit.heap.name)).collect();
    lines.extend(choice.objections().iter().map(|objection| {
        let (heap, device) = (&objection.heap, objection.device.as_deref());
        let number = constant("REASON", &objection.reason);
        let device = device.unwrap_or("none");
        format!("objection {heap} {device} {number} {objection}")
    }));
    lines.push(match choice.best() {
        Ok(heap) => format!("best {}", heap.name),
        Err(problem) => format!("none: {problem}"),
    });
    lines
}

/// A machine on which much can be said.
fn machine() -> Tree {
    let tree = Tree::new();
    tree.vivid(0, OTHERS);
    tree.vivid(1, OTHERS).constraints("0 32 1 one");
    tree.card(2, SNOOPING).constraints("1 64 0 unknown");
    tree.device("platform", "", "platform/bare")
        .node("drm", "card7", (226, 7));
    tree.device("platform", "far", "platform/far")
        .links("system-noncoherent")
        .constraints("0 32 0 any");
    tree.device("platform", "one", "platform/one")
        .links("default_cma_region")
        .constraints("0 64 0 one");
    tree.device("platform", "ruled", "platform/ruled")
        .links("system")
        .constraints("0 64 0 any");
    tree.file(
        "sys/module/dmabuf_coherency/parameters/links",
        "ruled=system\n",
    );
    tree.device("platform", "old", "platform/old")
        .links("system");
    tree.heap("vendor");
    tree.number("reserved", "252:0");
    tree.file(
        "sys/devices/virtual/dma_heap/system-coherent/limit",
        "4096\n",
    );
    tree
}

/// What the program has to print of it.
fn expected(system: &System, handles: &[&str]) -> Vec<String> {
    let mut expected: Vec<_> = system.heaps().unwrap().iter().map(show_heap).collect();
    expected.extend(system.devices().unwrap().iter().map(show_device));
    let devices = handles.iter().map(|handle| system.device(handle).unwrap());
    let devices: Vec<_> = devices.collect();
    for (contiguous, without_brackets) in
        [(false, false), (true, false), (false, true), (true, true)]
    {
        let requirement = Requirement {
            contiguous,
            size: Some(65 << 20),
            without_brackets,
        };
        expected.extend(show_choice(system, &devices, requirement));
    }
    expected
}

#[test]
fn c_sees_what_rust_sees() {
    let tree = machine();
    let two = ["vivid.0", "card2"];
    let all = ["vivid.0", "card2", "far", "one", "ruled", "bare", "old"];
    for handles in [&two[..], &all] {
        let expected = expected(&tree.system(), handles);
        for program in programs(&source("tests/capi.c"), "capi-test") {
            let output = run(Command::new(program).arg(tree.path("")).args(handles));
            let lines: Vec<_> = text(&output).lines().collect();
            assert_eq!(lines, expected);
        }
        if handles == all {
            let objections = expected.iter().filter_map(|line| {
                let number = line.strip_prefix("objection ")?.split(' ').nth(2)?;
                Some(number.parse::<usize>().unwrap())
            });
            let reasons: BTreeSet<_> = objections.collect();
            let declared = HEADER.matches("#define DMAHEAP_REASON_").count();
            assert!(reasons.into_iter().eq(1..=declared), "each reason occurs");
        }
    }
}

#[test]
fn the_example_says_which_heap_and_why_not_the_others() {
    let tree = machine();
    for program in programs(&source("examples/share.c"), "share") {
        let share = |handles: &[&str]| {
            let output = Command::new(&program)
                .arg(tree.path(""))
                .args(handles)
                .output()
                .unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            let problem = String::from_utf8(output.stderr).unwrap();
            (output.status.code(), said, problem)
        };
        let (status, said, problem) = share(&["vivid.0", "card2"]);
        let node = tree.path("dev/dma_heap/system-noncoherent");
        assert!(
            said.ends_with(&format!("the best is {}\n", node.display())),
            "{said}"
        );
        let objection = "system-coherent: vivid.0 does not snoop the CPU caches\n";
        assert!(said.contains(objection), "{said}");
        // A file has no memory to give.
        assert_eq!(status, Some(1));
        assert!(
            problem.contains("allocating from the heap system-noncoherent"),
            "{problem}"
        );

        let (status, _, problem) = share(&["vivid.0", "nonesuch"]);
        assert_eq!(status, Some(1));
        assert!(
            problem.starts_with("there is no device nonesuch"),
            "{problem}"
        );
    }
}

#[test]
fn the_example_of_the_readme_is_compiled() {
    let page = include_str!("../README.md");
    let (_, block) = page.split_once("```rust\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    // The same lines are in the documentation of the library, which is compiled.
    let library = include_str!("../src/lib.rs");
    for line in block.lines().filter(|line| !line.is_empty()) {
        assert!(library.contains(&format!("//! {line}\n")), "{line}");
    }
}
