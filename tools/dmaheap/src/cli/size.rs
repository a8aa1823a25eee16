// SPDX-License-Identifier: MIT OR GPL-2.0

//! Sizes as people write them.

/// Parses `4096`, `64K`, `8M`, `8MiB`, `1G`. 0 is none.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        "T" | "TIB" => 40,
        unit => {
            return Err(format!(
                "{unit} is no unit: use K, M, G or T, powers of 1024"
            ));
        }
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a size is a whole number with K, M, G or T behind it, such as 8M")?;
    match number.checked_mul(1 << shift) {
        Some(0) => Err("a buffer has at least 1 byte".into()),
        Some(size) => Ok(size),
        None => Err("that is more than 64 bits can count".into()),
    }
}

/// Three digits and a unit, rounded.
pub fn show(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(size.fract() != 0.0 && size < 100.0);
    format!("{size:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, size) in [
            ("1", 1),
            ("4096", 4096),
            ("64K", 64 << 10),
            ("8M", 8 << 20),
            ("8m", 8 << 20),
            ("8MiB", 8 << 20),
            ("2G", 2 << 30),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse(text), Ok(size), "{text}");
        }
        for text in [
            "",
            "0",
            "0K",
            "-1",
            "8X",
            "8 M",
            "1.5M",
            "M",
            "20000000T",
            "99999999999999999999",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown() {
        assert_eq!(show(0), "0 B");
        assert_eq!(show(4096), "4 KiB");
        assert_eq!(show(8 << 20), "8 MiB");
        assert_eq!(show((8 << 20) + (200 << 10)), "8.2 MiB");
    }
}
