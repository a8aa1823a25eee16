// SPDX-License-Identifier: GPL-2.0

//! Which public items of the series an example shows.

use std::collections::BTreeSet;

use syn::{ImplItem, Item, Visibility};

/// The public items of a file, each with whether an example of its documentation, which is compiled and
/// run, names it.
pub fn of(module: &str, text: &str) -> syn::Result<Vec<(String, bool)>> {
    let shown = shown(text);
    let mut found = Vec::new();
    for item in &syn::parse_file(text)?.items {
        let (visibility, name) = match item {
            Item::Const(item) => (&item.vis, &item.ident),
            Item::Enum(item) => (&item.vis, &item.ident),
            Item::Fn(item) => (&item.vis, &item.sig.ident),
            Item::Struct(item) => (&item.vis, &item.ident),
            Item::Trait(item) => (&item.vis, &item.ident),
            Item::Impl(item) if item.trait_.is_none() => {
                let syn::Type::Path(path) = &*item.self_ty else {
                    continue;
                };
                let Some(this) = path.path.segments.last() else {
                    continue;
                };
                for item in &item.items {
                    let ImplItem::Fn(method) = item else { continue };
                    if matches!(method.vis, Visibility::Public(_)) {
                        let (this, method) = (this.ident.to_string(), method.sig.ident.to_string());
                        let has = shown.contains(&this) && shown.contains(&method);
                        found.push((format!("{module}::{this}::{method}"), has));
                    }
                }
                continue;
            }
            _ => continue,
        };
        if matches!(visibility, Visibility::Public(_)) {
            let name = name.to_string();
            found.push((format!("{module}::{name}"), shown.contains(&name)));
        }
    }
    Ok(found)
}

/// The words in the examples of a file.
fn shown(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // The line that a block began with.
    let mut block: Option<&str> = None;
    for line in text.lines().map(str::trim_start) {
        let comment = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"));
        match (comment.map(str::trim), block) {
            (None, _) => block = None,
            (Some(line), None) if line.starts_with("```") => block = Some(line),
            (Some("```"), Some(_)) => block = None,
            (Some(line), Some("```")) if !line.starts_with("//") => {
                let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
                found.extend(words.map(str::to_owned));
            }
            _ => (),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_no_example_shows_are_told() {
        let text = "//! ```\n//! // e();\n//! A.c();\n//! ```\n\n/// b()\npub fn b() {}\n\n/// ```ignore\n\
            /// B;\n/// ```\npub struct B;\n\npub struct A;\n\nimpl A {\n    pub fn c(&self) {}\n\n    \
            pub fn e(&self) {}\n\n    fn d() {}\n}\n\nimpl B {\n    pub fn c(&self) {}\n}\n";
        let expected = [
            ("m::b", false),
            ("m::B", false),
            ("m::A", true),
            ("m::A::c", true),
            ("m::A::e", false),
            ("m::B::c", false),
        ];
        let expected = expected.map(|(name, has)| (name.to_owned(), has));
        assert_eq!(of("m", text).unwrap(), expected);
    }
}
