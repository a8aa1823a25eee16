// SPDX-License-Identifier: GPL-2.0

//! Changes a file of `rust/kernel` into one of the kernel crate: its paths, its visibility, the names of
//! helpers. All else is taken as it stands.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Context, Result};
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Attribute, ImplItem, Item};

use crate::LICENSE;
use crate::series::{CALLS, File, IMPORTS, LEFT_OUT, PATCHES, TEST_OPTION};
use crate::uses;

/// What is left out, each with why.
fn left_out() -> impl Iterator<Item = &'static str> {
    LEFT_OUT.iter().flat_map(|(_, paths)| paths.iter().copied())
}

/// All files of the series.
pub fn files() -> impl Iterator<Item = &'static File> {
    PATCHES.iter().flat_map(|patch| patch.files)
}

/// The words of a text.
fn words(tokens: TokenStream, found: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => words(group.stream(), found),
            TokenTree::Ident(ident) => drop(found.insert(ident.to_string())),
            // Comments link to what they name.
            TokenTree::Literal(literal) => found.extend(
                literal
                    .to_string()
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .map(str::to_owned),
            ),
            TokenTree::Punct(_) => (),
        }
    }
}

/// The words of the items of a file that are no imports.
fn words_of(items: &[Item]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for item in items.iter().filter(|item| !matches!(item, Item::Use(_))) {
        words(item.to_token_stream(), &mut found);
    }
    found
}

/// The text of a file, whose lines can be taken out.
struct Lines<'a> {
    lines: Vec<Option<&'a str>>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            lines: text.lines().map(Some).collect(),
        }
    }

    fn range(span: Span) -> Range<usize> {
        span.start().line - 1..span.end().line
    }

    /// Takes out an item with the comments before it, and one of the blank lines around. The one
    /// before imports stays, as others come there.
    fn remove(&mut self, span: Span, is_import: bool) {
        let Range { mut start, mut end } = Self::range(span);
        let is_comment = |line: Option<&str>| {
            line.is_some_and(|line| line.trim_start().starts_with("//") && !line.starts_with("//!"))
        };
        while start > 0 && is_comment(self.lines[start - 1]) {
            start -= 1;
        }
        let is_blank =
            |line: Option<&Option<&str>>| matches!(line, Some(Some(line)) if line.is_empty());
        if is_blank(self.lines.get(end)) {
            end += 1;
        } else if !is_import && start > 0 && is_blank(self.lines.get(start - 1)) {
            start -= 1;
        }
        self.lines[start..end].fill(None);
    }

    fn text(&self) -> String {
        let lines = self.lines.iter().flatten();
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// The name of an item, and what it may be left out by besides: an `impl` by its types.
fn names(item: &Item) -> (Option<String>, BTreeSet<String>) {
    let mut others = BTreeSet::new();
    let name = match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Mod(item) => Some(&item.ident),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Impl(item) => {
            words(item.self_ty.to_token_stream(), &mut others);
            if let Some((_, path, _)) = &item.trait_ {
                words(path.to_token_stream(), &mut others);
            }
            None
        }
        _ => None,
    };
    (name.map(ToString::to_string), others)
}

/// The type that an `impl` is for.
fn self_type(item: &syn::ItemImpl) -> Option<String> {
    match &*item.self_ty {
        syn::Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        _ => None,
    }
}

fn is_dead_code(attribute: &Attribute) -> bool {
    attribute.path().is_ident("allow")
        && attribute
            .meta
            .to_token_stream()
            .to_string()
            .contains("dead_code")
}

/// The path of a module of ours in the kernel crate.
fn mapped(path: &[String]) -> Option<Vec<String>> {
    (1..=path.len()).rev().find_map(|len| {
        let module = path[..len].join("::");
        let file = files().find(|file| file.ours == module)?;
        let mut new: Vec<String> = file.theirs.split("::").map(str::to_owned).collect();
        new.extend_from_slice(&path[len..]);
        Some(new)
    })
}

/// Imports, as they are in the kernel crate.
fn map_import(path: &uses::Path) -> Vec<uses::Path> {
    let text = path.join("::");
    let split = |path: &str| -> uses::Path { path.split("::").map(str::to_owned).collect() };
    if let Some((_, new)) = IMPORTS.iter().find(|(old, _)| *old == text) {
        return new.iter().map(|new| split(new)).collect();
    }
    // What is within a module that has moved.
    for (old, new) in IMPORTS {
        if let (Some(rest), [new]) = (text.strip_prefix(&format!("{old}::")), new) {
            return vec![split(&format!("{new}::{rest}"))];
        }
    }
    let new = match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["crate", "kernel", ..] => mapped(&path[2..]).unwrap_or_else(|| path[2..].to_vec()),
        ["crate", ..] => path[1..].to_vec(),
        ["kernel", ..] => path[1..].to_vec(),
        _ => return vec![path.clone()],
    };
    vec![[vec!["crate".to_owned()], new].concat()]
}

/// The tree of an import, if it is not one for others.
fn import(item: &Item) -> Option<&syn::UseTree> {
    match item {
        Item::Use(item) if matches!(item.vis, syn::Visibility::Inherited) => Some(&item.tree),
        _ => None,
    }
}

/// The number of the line that the last import of a file ends with.
pub fn last_import(text: &str) -> Result<Option<usize>> {
    let file = syn::parse_file(text)?;
    let imports = file.items.iter().filter(|item| import(item).is_some());
    Ok(imports.map(|item| item.span().end().line).max())
}

/// Whether the file belongs to another of the series alone.
fn is_private(file: &File) -> bool {
    let parent = file.theirs.rsplit_once("::").map(|(parent, _)| parent);
    files().any(|other| Some(other.theirs) == parent)
}

/// Changes the text of `file`, and puts its tests behind.
pub fn convert(file: &File, text: &str, tests: Option<&str>) -> Result<String> {
    let what = || format!("rust/kernel/{}.rs", file.ours.replace("::", "/"));
    let parsed = syn::parse_file(text).with_context(what)?;
    let before = words_of(&parsed.items);
    let is_out = |name: &str| left_out().any(|path| path == format!("{}::{name}", file.ours));
    let is_method_out = |item: &syn::ItemImpl, method: &ImplItem| match (self_type(item), method) {
        (Some(this), ImplItem::Fn(method)) => is_out(&format!("{this}::{}", method.sig.ident)),
        _ => false,
    };
    let imports: Vec<uses::Path> = parsed
        .items
        .iter()
        .filter_map(import)
        .map(uses::paths)
        .collect::<Result<Vec<_>>>()?
        .concat();
    // Types and traits of others that are left out, so that nothing can be implemented for them.
    let foreign = |name: &str| {
        imports.iter().any(|path| {
            uses::name(path) == Some(name)
                && path.len() > 2
                && path[1] == "kernel"
                && left_out().any(|out| {
                    let path = path[2..].join("::");
                    path == out || path.starts_with(&format!("{out}::"))
                })
        })
    };

    let mut lines = Lines::new(text);
    let mut first_import = None;
    let mut macros = Vec::new();
    for item in &parsed.items {
        let (name, others) = names(item);
        let goes = match item {
            item if import(item).is_some() => {
                first_import.get_or_insert(Lines::range(item.span()).start);
                true
            }
            // Modules that are not in the series, or lie elsewhere there.
            Item::Mod(item) if item.content.is_none() => {
                let child = |module: &str| format!("{module}::{}", item.ident);
                !files().any(|other| {
                    other.ours == child(file.ours) && other.theirs == child(file.theirs)
                })
            }
            _ => {
                name.as_deref().is_some_and(is_out)
                    || others.iter().any(|other| is_out(other) || foreign(other))
            }
        };
        let is_empty = matches!(item, Item::Impl(item) if !item.items.is_empty()
            && item.items.iter().all(|method| is_method_out(item, method)));
        if goes || is_empty {
            lines.remove(item.span(), import(item).is_some());
            continue;
        }
        if let Item::Macro(item) = item {
            macros.push(Lines::range(item.span()));
        }
        if let Item::Impl(item) = item {
            for method in &item.items {
                if is_method_out(item, method) {
                    lines.remove(method.span(), false);
                }
                let ImplItem::Fn(method) = method else {
                    continue;
                };
                for attribute in method
                    .attrs
                    .iter()
                    .filter(|attribute| is_dead_code(attribute))
                {
                    lines.lines[Lines::range(attribute.span())].fill(None);
                }
            }
        }
    }

    // What nobody needs any more is not imported.
    let kept = syn::parse_file(&lines.text()).with_context(what)?;
    let after = words_of(&kept.items);
    let is_needed = |path: &&uses::Path| match uses::name(path) {
        Some(name) => after.contains(name) || !before.contains(name),
        None => true,
    };
    let imports: Vec<uses::Path> = imports
        .iter()
        .filter(is_needed)
        .flat_map(map_import)
        .collect();

    let mut text = String::new();
    for (number, line) in lines.lines.iter().enumerate() {
        if first_import == Some(number) {
            text += &uses::print(&imports);
            text.push('\n');
        }
        let Some(line) = line else { continue };
        let in_macro = macros.iter().any(|range| range.contains(&number));
        if in_macro && line.starts_with("macro_rules!") {
            text += "#[macro_export]\n";
        }
        text += &convert_line(file, line, in_macro);
        text.push('\n');
    }
    if let Some(tests) = tests {
        let tests = tests.trim_start_matches(LICENSE);
        text += &format!("\n#[cfg({TEST_OPTION})]\n{}", tests.trim_start());
    }
    Ok(text)
}

/// A line that is no import.
fn convert_line(file: &File, line: &str, in_macro: bool) -> String {
    let mut line = line.to_owned();
    for (old, new) in CALLS {
        line = line.replace(old, new);
    }
    line = line
        .replace("bindings::dmacoh_", "bindings::")
        .replace("bindings::DMACOH_", "bindings::")
        // In comments.
        .replace("dmacoh_", "rust_helper_");
    if !is_private(file) {
        line = line.replace("pub(crate) ", "pub ");
    }
    paths(&line, in_macro)
}

/// The paths in a line.
fn paths(line: &str, in_macro: bool) -> String {
    let comment = line.trim_start().starts_with("//");
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("kernel::") {
        let (head, tail) = rest.split_at(at);
        let tail = &tail["kernel::".len()..];
        if let Some(head) = head.strip_suffix("crate::") {
            // A path of ours, as far as it goes.
            let end = tail
                .find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                .unwrap_or(tail.len());
            let (path, after) = tail.split_at(end);
            let segments: Vec<String> = path.split("::").map(str::to_owned).collect();
            let new = mapped(&segments).unwrap_or(segments).join("::");
            let this = if in_macro { "$crate" } else { "crate" };
            out += &format!("{head}{this}::{new}");
            rest = after;
            continue;
        }
        let begins = !head.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        out += head;
        out += if begins && !comment {
            "crate::"
        } else {
            "kernel::"
        };
        rest = tail;
    }
    out + rest
}
