// SPDX-License-Identifier: GPL-2.0

//! How the files of `rust/` may name each other: what is in `rust/kernel` names nothing of the
//! module, no file names another that names it, and few have `unsafe` in them. The samples of what
//! the abstractions are for name nothing else, and have no `unsafe`.

use proc_macro2::{TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};
use syn::{
    UseTree,
    visit::{self, Visit},
};

/// What only C declares. The kernel has a crate for it.
const BINDINGS: &str = "bindings";

/// What is not an abstraction and has `unsafe` all the same: C calls it, or it calls C for the
/// module alone.
const UNSAFE: [&str; 4] = [BINDINGS, "exports", "parameters", "trace"];

/// The text of each file, by the path of its module, joined by `::`.
type Files = BTreeMap<String, String>;

/// Each file, and the files that it names.
type Names = BTreeMap<String, BTreeSet<String>>;

fn read(directory: &Path, module: &str, files: &mut Files) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let module = if module.is_empty() {
            name.to_owned()
        } else {
            format!("{module}::{name}")
        };
        if path.is_dir() {
            read(&path, &module, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

fn files() -> Files {
    files_in("rust")
}

/// All files of a directory of the checkout.
fn files_in(directory: &str) -> Files {
    let mut files = Files::new();
    let checkout = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."));
    read(&checkout.join(directory), "", &mut files);
    files
}

/// All paths of a file that begin with `crate`, without that.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl Paths {
    fn of(text: &str) -> Self {
        let mut paths = Self::default();
        paths.visit_file(&syn::parse_file(text).unwrap());
        paths
    }

    fn add_tree(&mut self, tree: &UseTree, start: &[String]) {
        let mut path = start.to_vec();
        match tree {
            UseTree::Path(next) => {
                path.push(next.ident.to_string());
                self.add_tree(&next.tree, &path);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(tree, &path);
                }
            }
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.add(path);
            }
            UseTree::Rename(name) => {
                path.push(name.ident.to_string());
                self.add(path);
            }
            UseTree::Glob(_) => self.add(path),
        }
    }

    fn add(&mut self, mut path: Vec<String>) {
        // `crate` alone is a visibility.
        if path.len() > 1 && path[0] == "crate" {
            path.remove(0);
            self.0.push(path);
        }
    }
}

impl Visit<'_> for Paths {
    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.add_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let segments = path.segments.iter();
        self.add(segments.map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// The file that a path leads to: that of the innermost module in it.
fn file_of(path: &[String], files: &Files) -> Option<String> {
    (1..=path.len())
        .rev()
        .map(|len| path[..len].join("::"))
        .find(|module| files.contains_key(module))
}

fn names(files: &Files) -> Names {
    let named = |(module, text): (&String, &String)| {
        let paths = Paths::of(text).0.into_iter();
        let mut named: BTreeSet<String> = paths.filter_map(|path| file_of(&path, files)).collect();
        named.remove(module);
        (module.clone(), named)
    };
    files.iter().map(named).collect()
}

/// Takes away each file that names none of those left, until there is no such file. The rest name
/// each other in a circle, or lead there.
fn circles(mut names: Names) -> Names {
    loop {
        let free: Vec<String> = names
            .iter()
            .filter(|(_, named)| named.iter().all(|other| !names.contains_key(other)))
            .map(|(module, _)| module.clone())
            .collect();
        if free.is_empty() {
            return names;
        }
        for module in free {
            names.remove(&module);
        }
    }
}

fn has_unsafe(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => has_unsafe(group.stream()),
        TokenTree::Ident(ident) => ident == "unsafe",
        _ => false,
    })
}

#[test]
fn abstractions_name_nothing_of_the_module() {
    let files = files();
    for (module, text) in &files {
        if !module.starts_with("kernel") {
            continue;
        }
        for path in Paths::of(text).0 {
            let first = path.first().map(String::as_str);
            assert!(
                // What `module!` makes is there in any module.
                matches!(
                    first,
                    Some("kernel" | BINDINGS | "LocalModule" | "THIS_MODULE")
                ),
                "rust/{}.rs names crate::{}",
                module.replace("::", "/"),
                path.join("::")
            );
        }
    }
}

#[test]
fn no_files_name_each_other() {
    let left = circles(names(&files()));
    assert!(left.is_empty(), "a circle is among {left:#?}");
}

#[test]
fn a_circle_is_found() {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let names: Names = [
        ("a".to_owned(), set(&["b"])),
        ("b".to_owned(), set(&["a", "c"])),
        ("c".to_owned(), set(&[])),
    ]
    .into();
    assert_eq!(circles(names).into_keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn unsafe_is_in_few_files() {
    for (module, text) in files() {
        if module.starts_with("kernel") || UNSAFE.contains(&module.as_str()) {
            continue;
        }
        let tokens = text.parse().unwrap();
        let path = module.replace("::", "/");
        assert!(!has_unsafe(tokens), "rust/{path}.rs has unsafe in it");
    }
}

#[test]
fn samples_name_abstractions_only_and_are_safe() {
    let files = files_in("tools/testing/modules/samples");
    assert!(!files.is_empty());
    for (sample, text) in files {
        for path in Paths::of(&text).0 {
            let path = path.join("::");
            assert!(
                path.starts_with("kernel::"),
                "samples/{sample}.rs names crate::{path}"
            );
        }
        let tokens = text.parse().unwrap();
        assert!(!has_unsafe(tokens), "samples/{sample}.rs has unsafe in it");
    }
}
