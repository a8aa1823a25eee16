// SPDX-License-Identifier: MIT OR GPL-2.0

//! The rules by which links would say what the kernel says: for `dmaheap try --rules`.

use super::trial::Row;
use dmaheap::Reason;
use std::collections::{BTreeMap, BTreeSet};

/// What was found out about rules.
#[derive(Debug, Default, PartialEq)]
pub struct Rules {
    /// What the parameter `links` has to be; `None` if it may stay as it is.
    pub links: Option<String>,
    /// What else a person should know.
    pub sentences: Vec<String>,
}

/// A rule without its driver.
#[derive(Debug, PartialEq)]
enum Rule {
    /// None is needed.
    Needless,
    /// These, with colons between them.
    Elements(Vec<String>),
    /// There is none that says so.
    Impossible,
}

/// The rules that there are, with those of the drivers for which links and kernel differ.
pub fn that_agree(rows: &[Row], present: &str) -> Rules {
    let mut by_driver = BTreeMap::<&str, Vec<&Row>>::new();
    for row in rows {
        let driver = row.device.driver.as_deref().unwrap_or_default();
        by_driver.entry(driver).or_default().push(row);
    }
    let mut rules: Vec<_> = present
        .split(',')
        .filter_map(|rule| rule.split_once('='))
        .map(|(driver, elements)| (driver.to_owned(), elements.to_owned()))
        .collect();
    let mut found = Rules::default();
    for (driver, rows) in by_driver {
        match rule(&rows) {
            Rule::Needless => (),
            Rule::Elements(elements) => {
                rules.retain(|(of, _)| of != driver);
                rules.push((driver.into(), elements.join(":")));
                found.links = Some(String::new());
                found.sentences.push(format!(
                    "the rule for {driver} is for all of its devices: try each of them"
                ));
            }
            Rule::Impossible => found.sentences.push(format!(
                "no rule can say what the kernel says of {driver}: a rule names at least one heap, \
                 and none that refuses the device"
            )),
        }
    }
    if let Some(links) = &mut found.links {
        let rules = rules.iter();
        let rules: Vec<_> = rules
            .map(|(driver, rule)| format!("{driver}={rule}"))
            .collect();
        *links = rules.join(",");
    }
    found
}

/// The rule for a driver by what was seen of its devices.
fn rule(rows: &[&Row]) -> Rule {
    let differing = || rows.iter().filter(|row| row.agrees() == Some(false));
    if differing().next().is_none() {
        return Rule::Needless;
    }
    let names = |rows: &mut dyn Iterator<Item = &&Row>| -> BTreeSet<String> {
        rows.map(|row| row.heap.name.clone()).collect()
    };
    let refused = names(&mut differing().filter(|row| row.is_linked() == Some(true)));
    let in_pieces = names(&mut differing().filter(|row| {
        let reason = row.objection.as_ref().map(|objection| objection.reason);
        matches!(reason, Some(Reason::OnePiece | Reason::PiecesUnknown))
            && !refused.contains(&row.heap.name)
    }));
    if refused.is_empty() {
        return match in_pieces.is_empty() {
            true => Rule::Impossible,
            false => Rule::Elements(vec!["pieces/any".into()]),
        };
    }
    let is_contiguous = |row: &Row| row.heap.contiguous == Some(true);
    let mut right = rows
        .iter()
        .filter(|row| row.took() == Some(true) && row.agrees() != Some(false))
        .peekable();
    let only_one_piece = right.peek().is_some()
        && right.all(|row| is_contiguous(row))
        && !differing().any(|row| is_contiguous(row));
    if only_one_piece {
        return Rule::Elements(vec!["pieces/one".into()]);
    }
    // What all devices of the driver are linked to, in the order of the first.
    let orders = || rows.iter().filter_map(|row| row.device.order.as_ref());
    let first = orders().next().into_iter().flatten();
    let kept =
        first.filter(|heap| !refused.contains(*heap) && orders().all(|order| order.contains(heap)));
    let heaps: Vec<_> = kept.chain(&in_pieces).cloned().collect();
    // Such a name cannot stand in a rule.
    let can_be_named = |heap: &String| !heap.contains([',', ':']);
    let heaps = heaps.into_iter().filter(can_be_named);
    let pieces = (!in_pieces.is_empty()).then(|| "pieces/any".to_owned());
    let elements: Vec<_> = pieces.into_iter().chain(heaps).collect();
    match elements.len() {
        0 => Rule::Impossible,
        _ => Rule::Elements(elements),
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::tests::{device, row};
    use super::*;
    use dmaheap::{Call, Constraints, Device, Pieces};
    use rustix::io::Errno;

    const FAULT: Option<(Call, Errno)> = Some((Call::Queue, Errno::FAULT));
    const NODEV: Option<(Call, Errno)> = Some((Call::Prime, Errno::NODEV));

    fn links(rows: &[Row], present: &str) -> Option<String> {
        that_agree(rows, present).links
    }

    #[test]
    fn links_that_agree_need_no_rule() {
        let camera = device("cam", &["system"]);
        let rows = [
            row(&camera, "system", None),
            row(&camera, "other", NODEV),
            row(&camera, "another", None),
        ];
        assert_eq!(that_agree(&rows, "x=system"), Rules::default());
    }

    #[test]
    fn a_heap_that_is_refused_is_left_out() {
        let camera = device("cam", &["a", "b", "c"]);
        let rows = [row(&camera, "b", NODEV), row(&camera, "a", None)];
        assert_eq!(links(&rows, "").as_deref(), Some("cam=a:c"));
        assert_eq!(
            links(&rows, "vpu=a,cam=b,gpu=pieces/any").as_deref(),
            Some("vpu=a,gpu=pieces/any,cam=a:c")
        );
        let none = [row(&device("cam", &["a"]), "a", NODEV)];
        let found = that_agree(&none, "");
        assert_eq!(found.links, None);
        assert!(found.sentences[0].starts_with("no rule can say"));
    }

    #[test]
    fn devices_of_a_driver_share_a_rule() {
        let (one, mut two) = (device("cam", &["a", "b", "c"]), device("cam", &["c", "b"]));
        two.name = "cam.1".into();
        let rows = [row(&one, "a", NODEV), row(&two, "b", None)];
        assert_eq!(links(&rows, "").as_deref(), Some("cam=b:c"));
    }

    #[test]
    fn one_piece_is_a_rule() {
        let camera = device("cam", &["a", "a-cma", "b"]);
        let rows = [
            row(&camera, "a", FAULT),
            row(&camera, "a-cma", None),
            row(&camera, "b", FAULT),
        ];
        assert_eq!(links(&rows, "").as_deref(), Some("cam=pieces/one"));
        let rows = [row(&camera, "a", FAULT), row(&camera, "b", None)];
        assert_eq!(links(&rows, "").as_deref(), Some("cam=a-cma:b"));
    }

    /// `cam.0`, of which it was not known what it takes, and now is.
    fn with_pieces(order: &[&str], takes: Option<bool>, taken: &[&str]) -> (Device, Vec<Row>) {
        let mut camera = device("cam", order);
        camera.constraints = Some(Constraints {
            snoops: true,
            address_bits: 64,
            iommu: false,
            pieces: Pieces::Unknown,
        });
        let rows = taken.iter().map(|heap| Row {
            takes_pieces: takes,
            ..row(&camera, heap, None)
        });
        let rows = rows.collect();
        (camera, rows)
    }

    #[test]
    fn any_number_of_pieces_is_a_rule() {
        let order = ["a-cma", "b-cma"];
        let (camera, mut rows) = with_pieces(&order, Some(true), &["system", "a-cma"]);
        assert_eq!(links(&rows, "").as_deref(), Some("cam=pieces/any"));
        rows.push(row(&camera, "b-cma", NODEV));
        let expected = "cam=pieces/any:a-cma:system";
        assert_eq!(links(&rows, "").as_deref(), Some(expected));
        // In one piece by chance, or nobody knows.
        for takes in [Some(false), None] {
            let (_, rows) = with_pieces(&order, takes, &["system", "a-cma"]);
            assert_eq!(links(&rows, ""), None);
        }
    }

    /// That it works by chance is no reason to keep a link.
    #[test]
    fn luck_is_no_rule() {
        let (_, rows) = with_pieces(&["system", "a-cma"], Some(false), &["system", "a-cma"]);
        assert_eq!(links(&rows, "").as_deref(), Some("cam=pieces/one"));
    }
}
