// SPDX-License-Identifier: GPL-2.0

//! The grammar of the parameter `links`.

use crate::policy::{Mistake, Pieces, Rule, Rules};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A list of rules as anybody would write it down.
type Table = BTreeMap<String, Vec<String>>;

/// What stands behind the mark: pieces, if the rule says how many, and heaps.
fn words(rule: &Rule<'_>) -> Vec<String> {
    let pieces = rule
        .pieces
        .map(|pieces| format!("pieces/{}", pieces.name()));
    let heaps = rule.heaps().into_iter().flatten().map(Into::into);
    pieces.into_iter().chain(heaps).collect()
}

fn table(rules: &Rules<'_>) -> Table {
    rules
        .iter()
        .map(|rule| (rule.driver.into(), words(&rule)))
        .collect()
}

fn text(rules: &[(String, Vec<String>)]) -> String {
    let rules = rules
        .iter()
        .map(|(driver, heaps)| format!("{driver}={}", heaps.join(":")));
    rules.collect::<Vec<_>>().join(",")
}

#[test]
fn rules_are_read() {
    type Written<'a> = (&'a str, &'a [&'a str]);
    let cases: &[(&str, &[Written<'_>])] = &[
        ("", &[]),
        ("vivid=system", &[("vivid", &["system"])]),
        ("a=x:y:z", &[("a", &["x", "y", "z"])]),
        ("a=x,b=x", &[("a", &["x"]), ("b", &["x"])]),
        // Names are whatever stands between the marks.
        (" a = x ", &[(" a ", &[" x "])]),
        (
            "virtio-pci=system-coherent",
            &[("virtio-pci", &["system-coherent"])],
        ),
        ("\u{fc}=\u{df}", &[("\u{fc}", &["\u{df}"])]),
        ("a=x;b", &[("a", &["x;b"])]),
        // Only a whole name is the same driver or heap.
        ("a=x:xx,aa=x", &[("a", &["x", "xx"]), ("aa", &["x"])]),
        ("a=b,b=a", &[("a", &["b"]), ("b", &["a"])]),
        ("a=pieces/one", &[("a", &["pieces/one"])]),
        (
            "a=pieces/any:x:y,b=pieces",
            &[("a", &["pieces/any", "x", "y"]), ("b", &["pieces"])],
        ),
    ];
    for (text, expected) in cases {
        let rules = Rules::parse(text).unwrap_or_else(|mistake| panic!("{text:?}: {mistake}"));
        let seen: Vec<(_, Vec<_>)> = rules
            .iter()
            .map(|rule| (rule.driver, words(&rule)))
            .collect();
        let expected: Vec<(_, Vec<_>)> = expected
            .iter()
            .map(|(driver, heaps)| {
                (
                    *driver,
                    heaps.iter().map(|heap| (*heap).to_owned()).collect(),
                )
            })
            .collect();
        assert_eq!(seen, expected, "{text:?}");
        assert_eq!(rules.text(), *text);
    }
}

/// Pieces without heaps leave the order as it is.
#[test]
fn pieces_are_told_from_heaps() {
    let parse = |text| Rules::parse(text).unwrap_or_else(|mistake| panic!("{mistake}"));
    for (text, pieces, heaps) in [
        ("a=pieces/one", Some(Pieces::One), None),
        ("a=pieces/any", Some(Pieces::Any), None),
        ("a=pieces/any:x", Some(Pieces::Any), Some(vec!["x"])),
        ("a=x", None, Some(vec!["x"])),
    ] {
        let rule = parse(text).for_driver("a").unwrap();
        assert_eq!(rule.pieces, pieces, "{text}");
        assert_eq!(rule.heaps().map(Vec::from_iter), heaps, "{text}");
    }
}

#[test]
fn mistakes_are_told() {
    use Mistake::{BadPieces, EmptyName, NotARule, Repeated, RepeatedHeap};
    let cases = [
        (
            "x",
            NotARule("x"),
            "\"x\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]",
        ),
        (
            "=",
            NotARule("="),
            "\"=\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]",
        ),
        (
            "x=",
            NotARule("x="),
            "\"x=\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]",
        ),
        (
            "=x",
            NotARule("=x"),
            "\"=x\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]",
        ),
        (
            "x=y=z",
            NotARule("x=y=z"),
            "\"x=y=z\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]",
        ),
        (
            "x==",
            NotARule("x=="),
            "\"x==\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]",
        ),
        (
            "\n",
            NotARule("\n"),
            "\"\n\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]",
        ),
        (
            ",",
            NotARule(""),
            "\"\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]",
        ),
        (
            "x=y,",
            NotARule(""),
            "\"\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]",
        ),
        (
            ",x=y",
            NotARule(""),
            "\"\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]",
        ),
        (
            "x=y,,z=y",
            NotARule(""),
            "\"\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]",
        ),
        (
            "x=:",
            EmptyName("x=:"),
            "\"x=:\" has an empty name of a heap",
        ),
        (
            "x=y:",
            EmptyName("x=y:"),
            "\"x=y:\" has an empty name of a heap",
        ),
        (
            "x=:y",
            EmptyName("x=:y"),
            "\"x=:y\" has an empty name of a heap",
        ),
        (
            "x=y::z",
            EmptyName("x=y::z"),
            "\"x=y::z\" has an empty name of a heap",
        ),
        ("x=y,x=z", Repeated("x"), "there are two rules for driver x"),
        (
            "x=y,a=y,x=y",
            Repeated("x"),
            "there are two rules for driver x",
        ),
        (
            "x=y:z:y",
            RepeatedHeap("y"),
            "heap y stands twice in one rule",
        ),
        (
            "x=pieces/two",
            BadPieces("pieces/two"),
            "\"pieces/two\" is no name of a heap, and neither pieces/one nor pieces/any before them",
        ),
        (
            "x=y:pieces/any",
            BadPieces("pieces/any"),
            "\"pieces/any\" is no name of a heap, and neither pieces/one nor pieces/any before them",
        ),
        (
            "x=pieces/any:",
            EmptyName("x=pieces/any:"),
            "\"x=pieces/any:\" has an empty name of a heap",
        ),
        // The first one is told.
        (
            "x=y,z,x=y",
            NotARule("z"),
            "\"z\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]",
        ),
    ];
    for (text, expected, said) in cases {
        let mistake = Rules::parse(text).map(|rules| table(&rules)).unwrap_err();
        assert_eq!(mistake, expected, "{text:?}");
        assert_eq!(mistake.to_string(), said);
    }
}

#[test]
fn a_driver_is_found_by_its_whole_name() {
    let rules = Rules::parse("ab=x,a=y,b=z").unwrap_or_else(|mistake| panic!("{mistake}"));
    let first = |driver| rules.for_driver(driver)?.heaps()?.next();
    assert_eq!(first("a"), Some("y"));
    assert_eq!(first("ab"), Some("x"));
    for driver in ["", "abc", "ab=x", "c", "x"] {
        assert_eq!(first(driver), None, "{driver:?}");
    }
}

/// Names as drivers and heaps have them.
fn name() -> impl Strategy<Value = String> {
    "[a-z0-9_ -]{1,12}"
}

fn valid() -> impl Strategy<Value = Vec<(String, Vec<String>)>> {
    let heaps = btree_set(name(), 1..6)
        .prop_map(Vec::from_iter)
        .prop_shuffle();
    btree_map(name(), heaps, 0..8)
        .prop_map(Vec::from_iter)
        .prop_shuffle()
}

/// Texts of few different characters, so that marks are frequent and names meet again.
fn dense() -> impl Strategy<Value = String> {
    let words = [
        "a",
        "b",
        "=",
        ":",
        ",",
        " ",
        "\n",
        "/",
        "pieces/one",
        "pieces/any",
    ];
    vec(prop::sample::select(words.to_vec()), 0..40).prop_map(|words| words.concat())
}

/// Looks at a text in every way that the module does.
fn exercise(text: &str) -> Result<(), TestCaseError> {
    let rules = match Rules::parse(text) {
        Err(mistake) => {
            prop_assert!(!mistake.to_string().is_empty());
            // Nobody does this, and nothing would happen.
            let _ = Rules::checked(text)
                .for_driver("a")
                .map(|rule| words(&rule).len());
            return Ok(());
        }
        Ok(rules) => rules,
    };
    // The module keeps the text, and reads it anew for each device.
    prop_assert_eq!(rules.text(), text);
    let table = table(&rules);
    prop_assert_eq!(&self::table(&Rules::checked(rules.text())), &table);

    // A driver has one rule.
    prop_assert_eq!(rules.iter().count(), table.len());
    for rule in rules.iter() {
        let heaps = words(&rule);
        let once: BTreeSet<_> = heaps.iter().collect();
        prop_assert!(!rule.driver.is_empty() && !heaps.is_empty());
        prop_assert!(heaps.iter().all(|heap| !heap.is_empty()));
        prop_assert_eq!(once.len(), heaps.len());
        let found = rules.for_driver(rule.driver).map(|rule| rule.driver);
        prop_assert_eq!(found, Some(rule.driver));
    }
    // Nothing of what was written is lost.
    let written: Vec<_> = rules
        .iter()
        .map(|rule| {
            let heaps = words(&rule);
            format!("{}={}", rule.driver, heaps.join(":"))
        })
        .collect();
    prop_assert_eq!(written.join(","), text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        exercise(&text)?;
    }

    #[test]
    fn any_text_of_marks_and_names_is_read_or_refused(text in dense()) {
        exercise(&text)?;
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(rules in valid()) {
        let text = text(&rules);
        let seen = Rules::parse(&text).map(|rules| table(&rules));
        prop_assert_eq!(seen, Ok(Table::from_iter(rules)));
    }

    #[test]
    fn one_rule_too_many_is_refused(rules in valid(), which in any::<prop::sample::Index>()) {
        prop_assume!(!rules.is_empty());
        let again = which.get(&rules).clone();
        let text = text(&[rules, vec![again.clone()]].concat());
        let seen = Rules::parse(&text).map(|rules| table(&rules));
        prop_assert_eq!(seen, Err(Mistake::Repeated(&again.0)));
    }

    #[test]
    fn one_heap_too_many_is_refused(mut rules in valid(), which in any::<prop::sample::Index>()) {
        prop_assume!(!rules.is_empty());
        let which = which.index(rules.len());
        let heaps = &mut rules[which].1;
        let again = heaps[0].clone();
        heaps.push(again.clone());
        let text = text(&rules);
        let seen = Rules::parse(&text).map(|rules| table(&rules));
        prop_assert_eq!(seen, Err(Mistake::RepeatedHeap(&again)));
    }

    /// Of any length, up to what the kernel takes for a parameter.
    #[test]
    fn long_texts_are_read(rules in vec((name(), vec(name(), 1..20)), 0..30)) {
        exercise(&text(&rules))?;
    }
}
