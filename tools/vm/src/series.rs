// SPDX-License-Identifier: GPL-2.0

//! The kernel series that the module is for.

use anyhow::Result;

use crate::{
    debian::{Apt, KERNEL_SUITES, Kind, Mirror},
    source::numbers,
};

/// The content of tools/series.
const LIST: &str = include_str!("../../series");

/// All series, the newest first.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    LIST.lines().filter(|line| !line.starts_with('#'))
}

/// The newest series.
pub(crate) fn newest() -> &'static str {
    all().next().unwrap_or_default()
}

/// All series but the newest.
pub fn older() -> impl Iterator<Item = &'static str> {
    all().skip(1)
}

/// The series of a version such as `7.3.4+deb13` or `7.3-rc7`, if the module is for it.
pub(crate) fn of(version: &str) -> Option<&'static str> {
    all().find(|series| {
        version
            .strip_prefix(series)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// A table of the series that Debian's suites have, and whether the module is for them.
pub fn table() -> Result<String> {
    let mut table = format!("{:<18} {:<8} {:<24} MODULE\n", "SUITE", "SERIES", "VERSION");
    let mirror = Mirror::of_machine()?;
    for suite in &KERNEL_SUITES {
        let apt = Apt::suite(&mirror, suite, Kind::Packages)?;
        let start = "linux-source-";
        let mut names = apt.names(start)?;
        names.sort_by_key(|name| numbers(name));
        for name in names {
            let series = name.trim_start_matches(start);
            let version = apt.newest(&name, "")?.unwrap_or_default();
            let fits = if all().any(|known| known == series) {
                "yes"
            } else {
                "no"
            };
            table += &format!("{suite:<18} {series:<8} {version:<24} {fits}\n");
        }
    }
    Ok(table)
}

/// A clause for messages that lists the series.
pub(crate) fn sentence() -> String {
    let all: Vec<&str> = all().collect();
    format!("it is for {}", all.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_belong_to_series() {
        assert_eq!(of("7.3.4+deb13-amd64"), Some("7.3"));
        assert_eq!(of("7.3"), Some("7.3"));
        assert_eq!(of("7.3-rc7"), Some("7.3"));
        assert_eq!(of("7.30.1"), None);
        assert_eq!(of("6.12.1"), None);
    }
}
