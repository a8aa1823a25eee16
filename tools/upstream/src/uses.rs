// SPDX-License-Identifier: GPL-2.0

//! The imports of a file: taken apart into paths, and put together as the kernel writes them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use anyhow::{Result, bail};
use syn::UseTree;

/// One imported path. The last segment may be `self` or `*`.
pub type Path = Vec<String>;

/// The paths of an import.
pub fn paths(tree: &UseTree) -> Result<Vec<Path>> {
    let mut found = Vec::new();
    add(tree, &[], &mut found)?;
    Ok(found)
}

fn add(tree: &UseTree, start: &[String], found: &mut Vec<Path>) -> Result<()> {
    let mut path = start.to_vec();
    match tree {
        UseTree::Path(next) => {
            path.push(next.ident.to_string());
            return add(&next.tree, &path, found);
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                add(tree, &path, found)?;
            }
            return Ok(());
        }
        UseTree::Name(name) => path.push(name.ident.to_string()),
        UseTree::Glob(_) => path.push("*".into()),
        UseTree::Rename(rename) => bail!("{} is imported by another name", rename.ident),
    }
    found.push(path);
    Ok(())
}

/// The name that a path is imported by; nothing if that is all of a module.
pub fn name(path: &Path) -> Option<&str> {
    let mut segments = path.iter().rev().map(String::as_str);
    match segments.next()? {
        "*" => None,
        "self" => segments.next(),
        name => Some(name),
    }
}

/// What is imported below a segment.
#[derive(Default)]
struct Tree(BTreeMap<Key, Tree>);

/// A segment, in the order that rustfmt has.
#[derive(PartialEq, Eq)]
struct Key(String);

impl Key {
    /// `self` and its like, then modules and functions, types, constants, and all.
    fn rank(&self) -> u8 {
        let name = &self.0;
        match name.as_str() {
            "self" => 0,
            "super" => 1,
            "crate" => 2,
            "*" => 6,
            _ if name.chars().all(|c| !c.is_lowercase()) && name.len() > 1 => 5,
            _ if name.starts_with(char::is_uppercase) => 4,
            _ => 3,
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.rank(), &self.0).cmp(&(other.rank(), &other.0))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Declarations of all paths, one for each crate.
pub fn print(paths: &[Path]) -> String {
    let mut all = Tree::default();
    for path in paths {
        let mut tree = &mut all;
        for segment in path {
            tree = tree.0.entry(Key(segment.clone())).or_default();
        }
    }
    let mut text = String::new();
    for (Key(first), tree) in &all.0 {
        text += &format!("use {first}{};\n", tree.print(0));
    }
    text
}

impl Tree {
    /// What stands behind the segment before.
    fn print(&self, depth: usize) -> String {
        let mut entries = self.0.iter();
        match (entries.next(), entries.next()) {
            (None, _) => return String::new(),
            (Some((Key(only), tree)), None) if only != "self" => {
                return format!("::{only}{}", tree.print(depth));
            }
            _ => (),
        }
        let indent = "    ".repeat(depth + 1);
        let mut text = String::from("::{\n");
        for (index, (Key(segment), tree)) in self.0.iter().enumerate() {
            // An empty comment keeps rustfmt from joining the lines.
            let end = if index + 1 == self.0.len() { " //" } else { "" };
            text += &format!("{indent}{segment}{},{end}\n", tree.print(depth + 1));
        }
        text + &"    ".repeat(depth) + "}"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> String {
        let file = syn::parse_file(text).unwrap();
        let uses = file.items.iter().map(|item| match item {
            syn::Item::Use(item) => paths(&item.tree).unwrap(),
            _ => panic!("no import"),
        });
        print(&uses.flatten().collect::<Vec<_>>())
    }

    #[test]
    fn imports_come_out_as_the_kernel_writes_them() {
        let text = "use crate::{\n    bindings,\n    page::{\n        self,\n        Page,\n        \
            PAGE_SIZE, //\n    },\n    prelude::*,\n    sync::{\n        aref::ARef,\n        Arc, //\n    }, //\n};\n\
            use core::ptr::NonNull;\n";
        let mixed = "use core::ptr::NonNull; use crate::{sync::{Arc, aref::ARef}, prelude::*, \
            page::{PAGE_SIZE, Page}, page, bindings};";
        let mixed = mixed.replace("page, bindings", "page::self, bindings");
        assert_eq!(again(&mixed.replace("page::self", "page::{self}")), text);
        assert_eq!(again(text), text);
    }

    #[test]
    fn renames_are_refused() {
        let item: syn::ItemUse = syn::parse_str("use a::b as c;").unwrap();
        assert!(paths(&item.tree).is_err());
    }
}
