//! Sizes as people write and read them.

/// A size in bytes as docker's go-units reads it: a number, maybe with a fraction, and a unit of powers of
/// 1024: `b`, `k`, `kb`, `kib` up to `p`; case does not matter. `None` when it is something else, or more than there is.
pub fn parse(text: &str) -> Option<u64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')? + 1;
    let (number, unit) = text.split_at(end);
    let (number, unit) = match number.strip_suffix(' ') {
        Some(number) => (number, unit),
        None if number.contains(' ') => return None,
        None => (number, unit),
    };
    let number: f64 = number.parse().ok().filter(|number: &f64| *number >= 0.0)?;
    let unit = unit.to_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        _ => {
            let (letter, rest) = unit.split_at_checked(1)?;
            let letter = "kmgtp".find(letter).filter(|_| matches!(rest, "" | "b" | "ib"))?;
            letter as i32 + 1
        }
    };
    let bytes = number * 1024f64.powi(power);
    (bytes < 2f64.powi(63)).then_some(bytes as u64)
}

/// A number of bytes for people, in powers of 1000 as registries count: `512 B`, `48.3 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_as_docker_does() {
        for (text, expected) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("1.5k", Some(1536)),
            ("1K", Some(1024)),
            ("1kb", Some(1024)),
            ("1KiB", Some(1024)),
            ("10 mb", Some(10 << 20)),
            ("128M", Some(128 << 20)),
            ("1g", Some(1 << 30)),
            ("2 GiB", Some(2 << 30)),
            ("2t", Some(2 << 40)),
            ("1p", Some(1 << 50)),
            ("7b", Some(7)),
            (".5", Some(0)),
            ("", None),
            ("k", None),
            ("-1", None),
            ("1ki", None),
            ("1ib", None),
            ("1bb", None),
            ("1iib", None),
            ("1e", None),
            ("1 0", None),
            ("1  k", None),
            ("inf", None),
            ("99999999999g", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(48_250_000), "48.2 MB");
        assert_eq!(bytes(999_999), "1.0 MB");
    }
}
