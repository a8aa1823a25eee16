// SPDX-License-Identifier: MIT OR GPL-2.0

//! The graph for Graphviz.

use super::drawing::{self, Graph, describe};
use std::fmt::Write as _;

/// A graph in the language DOT.
pub fn draw(graph: &Graph) -> String {
    let mut text = String::from("digraph dmaheap {\n\trankdir=LR;\n\tnode [shape=box];\n");
    for (number, group) in graph.groups.iter().enumerate() {
        let mut label = String::new();
        for kind in &group.kinds {
            let names: Vec<_> = kind.devices.iter().map(drawing::label).collect();
            label += &format!(
                "{}:\\l    {}\\l",
                escape(&kind.title),
                escape(&names.join("\n    ")).replace('\n', "\\l")
            );
        }
        line(&mut text, &format!("devices{number} [label=\"{label}\"]"));
    }
    for (number, heap) in graph.heaps.iter().enumerate() {
        let (name, like) = (escape(&heap.name), escape(&describe(heap)));
        line(
            &mut text,
            &format!("heap{number} [label=\"{name}\\n{like}\", style=rounded]"),
        );
    }
    for (from, to, place) in graph.lines() {
        let style = if place == 1 { ", penwidth=3" } else { "" };
        line(
            &mut text,
            &format!("devices{from} -> heap{to} [taillabel=\"{place}\"{style}]"),
        );
    }
    text + "}\n"
}

fn line(text: &mut String, statement: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\t{statement};");
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
