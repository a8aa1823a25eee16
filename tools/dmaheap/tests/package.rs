// SPDX-License-Identifier: MIT OR GPL-2.0

//! What is in the package that cargo would publish.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The files below a directory, as the package has them.
fn files(top: &Path, directory: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(top.join(directory)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{directory}/{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => files(top, &name, found),
            false => drop(found.insert(name)),
        }
    }
}

#[test]
fn the_package_has_all_that_it_is_made_of() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["package", "--list", "--offline", "--allow-dirty"]);
    let output = cargo.current_dir(top).output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let listed: BTreeSet<_> = listed.lines().map(str::to_owned).collect();

    let mut needed = BTreeSet::from(["Cargo.toml", "README.md"].map(str::to_owned));
    for directory in ["examples", "man", "src"] {
        files(top, directory, &mut needed);
    }
    let missing: Vec<_> = needed.difference(&listed).collect();
    assert_eq!(missing, [""; 0]);
    // These need what else is in the source.
    let useless = |name: &&String| name.starts_with("capi/") || name.starts_with("tests/");
    assert_eq!(listed.iter().find(useless), None);
}
