// SPDX-License-Identifier: MIT OR GPL-2.0

//! The graph for browsers: groups of devices on the left, heaps on the right, lines between them.
//! All numbers are pixels. A description says the same in words.

use super::drawing::{Graph, Group, Kind, describe, label};
use dmaheap::{Device, Heap};

const MARGIN: usize = 20;
const TOP: usize = 70;
const GAP: usize = 24;

const GROUP_WIDTH: usize = 660;
const MOST_COLUMNS: usize = 4;
const PAD: usize = 12;
/// What there is for the devices of a kind, side by side.
const ROOM: usize = GROUP_WIDTH - 3 * PAD;
const LINE: usize = 18;
/// A letter of the fixed-width font.
const LETTER: usize = 8;
/// The distance of two lines that leave a group.
const PORT: usize = 14;

const HEAPS_LEFT: usize = MARGIN + GROUP_WIDTH + 280;
const HEAP_WIDTH: usize = 300;
const HEAP_HEIGHT: usize = 46;

/// Colours that people who see fewer of them can tell apart.
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a06a00", "#3a86b8",
];
const GREY: &str = "#888888";

const TITLE: &str = "Devices and the DMA heaps that suit them";

const STYLE: &str = "text{font:13px sans-serif;fill:#222}.mono{font:12px monospace}\
    .head{font-weight:bold}.small{font-size:11px;fill:#555}.title{font-size:18px}\
    .page{fill:#fff}.box{fill:#f7f8fa;stroke-width:2}.heap{fill:#fffdf3;stroke:#555}\
    path{fill:none;stroke-width:1.3;opacity:.75}path.best{stroke-width:3.5}\
    g.group:hover path{stroke-width:5;opacity:1}\
    @media(prefers-color-scheme:dark){text{fill:#ddd}.small{fill:#aaa}.page{fill:#17191d}\
    .box{fill:#22252b}.heap{fill:#2b291e;stroke:#999}path{opacity:1}}";

/// A picture in SVG.
pub fn draw(graph: &Graph) -> String {
    let tops = stack(graph.groups.iter().map(height), TOP);
    let heaps_height = graph.heaps.len() * (HEAP_HEIGHT + GAP);
    let bottom = tops.last().map_or(TOP, |top| *top);
    let heaps_top = TOP + bottom.saturating_sub(TOP + heaps_height) / 2;
    let heap_tops = stack(graph.heaps.iter().map(|_| HEAP_HEIGHT), heaps_top);

    let width = HEAPS_LEFT + HEAP_WIDTH + MARGIN;
    let height = bottom.max(heaps_top + heaps_height) + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"title words\">\n\
         <title id=\"title\">{TITLE}</title>\n<desc id=\"words\">{}</desc>\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n",
        escape(&in_words(graph))
    );
    svg += &text(MARGIN, 32, "title head", TITLE);
    let legend = "Devices in a box are linked to the same heaps, the best by the thick line; \
        numbers give the order. Point at a box to see its lines.";
    svg += &text(MARGIN, 54, "small", legend);
    for (number, group) in graph.groups.iter().enumerate() {
        let colour = match group.order {
            Some(_) => COLOURS[number % COLOURS.len()],
            None => GREY,
        };
        svg += &format!("<g class=\"group\" stroke=\"{colour}\">\n");
        svg += &draw_group(group, tops[number]);
        let lines: Vec<_> = graph.lines().filter(|(from, ..)| *from == number).collect();
        for (_, heap, place) in &lines {
            let middle = tops[number] + self::height(group) / 2;
            let from = middle + place * PORT - (lines.len() + 1) * PORT / 2;
            // Lines of different groups end side by side.
            let to = heap_tops[*heap] + (number + 1) * HEAP_HEIGHT / (graph.groups.len() + 1);
            svg += &connect(from, to, *place);
        }
        svg += "</g>\n";
    }
    for (heap, top) in graph.heaps.iter().zip(&heap_tops) {
        svg += &draw_heap(heap, *top);
    }
    svg + "</svg>\n"
}

/// Where things of these heights begin, one below the other, and where the next one would.
fn stack(heights: impl Iterator<Item = usize>, top: usize) -> Vec<usize> {
    let mut tops = vec![top];
    for height in heights {
        tops.push(tops[tops.len() - 1] + height + GAP);
    }
    tops
}

fn height(group: &Group) -> usize {
    let lines: usize = group
        .kinds
        .iter()
        .map(|kind| 1 + kind.devices.len().div_ceil(columns(kind)))
        .sum();
    let ports = group.order.as_ref().map_or(0, Vec::len) * PORT;
    ((1 + lines) * LINE + 2 * PAD).max(ports + 2 * PAD)
}

fn draw_group(group: &Group, top: usize) -> String {
    let dashes = if group.order.is_none() {
        " stroke-dasharray=\"6 4\""
    } else {
        ""
    };
    let mut svg = format!(
        "<rect class=\"box\" x=\"{MARGIN}\" y=\"{top}\" width=\"{GROUP_WIDTH}\" height=\"{}\" \
         rx=\"6\"{dashes}/>\n",
        height(group)
    );
    let left = MARGIN + PAD;
    let mut line = top + PAD + LINE - 5;
    let title = title(group);
    svg += &format!("<g stroke=\"none\">{}", text(left, line, "head", &title));
    for kind in &group.kinds {
        line += LINE;
        svg += &text(left, line, "", &kind.title);
        svg += &draw_devices(kind, left, &mut line);
    }
    svg + "</g>\n"
}

/// What a group has in common.
fn title(group: &Group) -> String {
    let count: usize = group.kinds.iter().map(|kind| kind.devices.len()).sum();
    let devices = if count == 1 { "device" } else { "devices" };
    match group.order.as_ref().map(|order| order.first()) {
        Some(Some(best)) => format!("{count} {devices}, best with {best}"),
        Some(None) => format!("{count} {devices} that no heap suits"),
        None => format!("{count} {devices} of which nothing is known"),
    }
}

/// All of it, for those who listen.
fn in_words(graph: &Graph) -> String {
    let mut text = String::new();
    for group in &graph.groups {
        text += &title(group);
        if let Some([_, others @ ..]) = group.order.as_deref() {
            let others: Vec<_> = others.iter().map(|heap| format!(", then {heap}")).collect();
            text += &others.concat();
        }
        for kind in &group.kinds {
            let devices: Vec<_> = kind.devices.iter().map(label).collect();
            text += &format!("; {}: {}", kind.title, devices.join(", "));
        }
        text += ".\n";
    }
    for heap in &graph.heaps {
        text += &format!("Heap {}: {}.\n", heap.name, describe(heap));
    }
    text
}

/// How many devices of a kind stand side by side: as many as have room for their names.
fn columns(kind: &Kind) -> usize {
    let lengths = kind
        .devices
        .iter()
        .map(|device| label(device).chars().count());
    let longest = lengths.max().unwrap_or_default();
    (ROOM / LETTER / (longest + 2)).clamp(1, MOST_COLUMNS)
}

fn draw_devices(kind: &Kind, left: usize, line: &mut usize) -> String {
    let mut svg = String::new();
    let columns = columns(kind);
    for row in kind.devices.chunks(columns) {
        *line += LINE;
        for (column, device) in row.iter().enumerate() {
            let shown = shorten(&label(device), ROOM / columns / LETTER);
            let x = left + PAD + column * (ROOM / columns);
            svg += &format!(
                "<g><title>{}</title>{}</g>\n",
                escape(&details(device)),
                text(x, *line, "mono", &shown)
            );
        }
    }
    svg
}

/// What shows when one points at a device.
fn details(device: &Device) -> String {
    let nodes: Vec<_> = device
        .nodes
        .iter()
        .map(|node| node.display().to_string())
        .collect();
    let order = match device.order.as_deref() {
        None => "nothing is known".into(),
        Some([]) => "no heap suits it".into(),
        Some(order) => order.join(" "),
    };
    let needs = match &device.constraints {
        Some(constraints) => constraints.to_string(),
        None => device.snooping.evidence.clone(),
    };
    format!(
        "{}\n{}\n{needs}\n{order}",
        device.path.display(),
        nodes.join(" "),
    )
}

fn draw_heap(heap: &Heap, top: usize) -> String {
    let left = HEAPS_LEFT + PAD;
    let shown = shorten(&heap.name, (HEAP_WIDTH - 2 * PAD) / LETTER);
    let name = text(left, top + 19, "mono head", &shown);
    let like = text(left, top + 37, "small", &describe(heap));
    format!(
        "<g><title>{}</title><rect class=\"heap\" x=\"{HEAPS_LEFT}\" y=\"{top}\" \
         width=\"{HEAP_WIDTH}\" height=\"{HEAP_HEIGHT}\" rx=\"14\"/>\n{name}{like}</g>\n",
        escape(&heap.node.display().to_string())
    )
}

/// A line from a group to a heap, with its number at the group.
fn connect(from: usize, to: usize, place: usize) -> String {
    let (left, right) = (MARGIN + GROUP_WIDTH, HEAPS_LEFT);
    let (bend_left, bend_right) = (left + 150, right - 120);
    let class = if place == 1 { "best" } else { "" };
    format!(
        "<path class=\"{class}\" d=\"M{left} {from}C{bend_left} {from} {bend_right} {to} {right} {to}\"/>\n\
         <g stroke=\"none\">{}</g>",
        text(left + 4, from - 2, "small", &place.to_string())
    )
}

fn text(x: usize, y: usize, class: &str, text: &str) -> String {
    format!(
        "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{}</text>\n",
        escape(text)
    )
}

/// What cannot be shown is in the middle: names differ at their ends.
fn shorten(name: &str, room: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= room {
        return name.into();
    }
    let half = (room - 1) / 2;
    let (start, end) = (&letters[..half], &letters[letters.len() - half..]);
    start.iter().chain(&['…']).chain(end).collect()
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}
