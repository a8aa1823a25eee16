// SPDX-License-Identifier: MIT OR GPL-2.0

//! What `--json` prints has the form that Documentation/dmaheap.rst describes: each member is
//! described, has the type that it should, and none is missing.

mod tree;

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use tree::{OTHERS, SNOOPING, Tree};

/// The members of each object and of each output, with their types.
type Form = BTreeMap<String, BTreeMap<String, String>>;

/// Reads the sections "Object NAME" and "Output of NAME".
fn documented() -> Form {
    let text = include_str!("../../../Documentation/dmaheap.rst");
    let mut form = Form::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix("Object ")
            .or(line.strip_prefix("Output of "))
        {
            section = name.into();
            assert!(
                form.insert(name.into(), BTreeMap::new()).is_none(),
                "{name} twice"
            );
        } else if let (Some(members), Some(row)) = (form.get_mut(&section), line.strip_prefix("``"))
        {
            let (name, rest) = row.split_once("``").expect(line);
            let kind = rest.split_whitespace().next().expect(line);
            members.insert(name.into(), kind.into());
        }
    }
    form
}

/// What is wrong with a value.
fn mistakes(form: &Form, at: &str, value: &Value, kind: &str) -> Vec<String> {
    if let Some(kind) = kind.strip_suffix('?') {
        return if value.is_null() {
            Vec::new()
        } else {
            mistakes(form, at, value, kind)
        };
    }
    if let Some(kind) = kind
        .strip_prefix('[')
        .and_then(|kind| kind.strip_suffix(']'))
    {
        let Some(values) = value.as_array() else {
            return vec![format!("{at}: {value} is no array")];
        };
        return values
            .iter()
            .flat_map(|value| mistakes(form, at, value, kind))
            .collect();
    }
    let right = match kind {
        "string" => value.is_string(),
        "number" => value.is_u64(),
        "fraction" => value.is_f64(),
        "boolean" => value.is_boolean(),
        _ => return members(form, at, value, kind),
    };
    if right {
        Vec::new()
    } else {
        vec![format!("{at}: {value} is no {kind}")]
    }
}

/// The same for an object.
fn members(form: &Form, at: &str, value: &Value, kind: &str) -> Vec<String> {
    let (Some(described), Some(object)) = (form.get(kind), value.as_object()) else {
        return vec![format!(
            "{at}: {value} is no {kind}, or {kind} is not described"
        )];
    };
    let unknown = object.keys().filter(|name| !described.contains_key(*name));
    let mut found: Vec<_> = unknown
        .map(|name| format!("{at}: {name} is not described"))
        .collect();
    for (name, kind) in described {
        let at = format!("{at}.{name}");
        match object.get(name) {
            Some(value) => found.extend(mistakes(form, &at, value, kind)),
            None if kind.ends_with('?') => (),
            None => found.push(format!("{at} is missing")),
        }
    }
    found
}

/// A machine on which all that can be known is known of something.
fn machine() -> Tree {
    let tree = Tree::new();
    tree.vivid(0, OTHERS);
    tree.card(2, SNOOPING);
    tree.device("platform", "", "platform/bare")
        .node("drm", "card7", (226, 7));
    tree.file(
        "sys/devices/virtual/dma_heap/system-coherent/limit",
        "4096\n",
    );
    tree.file(
        "sys/kernel/debug/dma_buf/bufinfo",
        "00004096\t00000002\t00080007\t00000001\tsystem-coherent\t00000018\tframe\n\
         \tAttached Devices:\n\tvivid.0\nTotal 1 devices attached\n",
    );
    tree.file("proc/42/comm", "cam\n");
    tree.file(
        "proc/42/maps",
        "7f00-7f10 rw-s 00000000 00:0c 18   /dmabuf:frame\n",
    );
    tree.directory("proc/42/fd");
    tree
}

/// Runs the command and reads one line, with which `watch` is done.
fn first_line(tree: &Tree, arguments: &str) -> Value {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dmaheap"))
        .arg("--json")
        .arg("--root")
        .arg(tree.path(""))
        .args(arguments.split(' '))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("its output");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let _ = child.kill();
    child.wait().expect("it ends");
    serde_json::from_str(&line).expect(arguments)
}

#[test]
fn every_output_has_the_documented_form() {
    let form = documented();
    let tree = machine();
    for arguments in [
        "list",
        "devices",
        "graph",
        "pick vivid.0 card2",
        "pick card7",
        "pick --contiguous vivid.0",
        "pick --size 1T --without-brackets vivid.0 card2",
        "try vivid.0 card2",
        "bench --size 4K vivid.0",
        "buffers",
        "buffers --pid 42",
        "buffers --totals",
        "buffers --follow",
        "watch",
    ] {
        let value = first_line(&tree, arguments);
        let output = match arguments {
            "buffers --totals" | "buffers --follow" => arguments,
            _ => arguments.split(' ').next().unwrap(),
        };
        let found = mistakes(&form, output, &value, output);
        assert!(found.is_empty(), "{arguments}: {found:#?}");
    }
    let text = include_str!("../../../Documentation/dmaheap.rst");
    let pick = first_line(
        &tree,
        "pick --contiguous --size 1T --without-brackets vivid.0 card2",
    );
    for objection in pick["objections"].as_array().expect("objections") {
        let word = format!("\n``{}``", objection["reason"].as_str().expect("a word"));
        assert!(text.contains(&word), "{objection}");
    }
    let held = first_line(&tree, "buffers");
    assert_eq!(held["buffers"][0]["holders"][0]["command"], "cam");
    assert_eq!(held["buffers"][0]["attached"][0], "vivid.0");
    assert_eq!(held["buffers"][0]["dma_coherent"], true);
    let error = first_line(&tree, "pick nonesuch");
    let names: Vec<_> = error.as_object().unwrap().keys().collect();
    assert_eq!(names, ["error", "version"]);
}

#[test]
fn a_wrong_form_is_noticed() {
    let form = documented();
    let value = serde_json::json!({ "snoops": "yes", "surprise": 1 });
    let found = mistakes(&form, "s", &value, "snooping");
    let expected = [
        "s: surprise is not described",
        "s.evidence is missing",
        "s.snoops: \"yes\" is no boolean",
    ];
    assert_eq!(found, expected);
}
