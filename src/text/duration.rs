//! Durations: as Go reads and prints them (`300ms`, `1h15m30.918s`, `-1.5h`), as people give an age (`7d`), and as they read
//! how long something took (`2m05s`).

use std::time::Duration;

/// Nanoseconds of what Go's `time.ParseDuration` takes; `None` when the text is none or does not fit.
pub fn parse_go(text: &str) -> Option<i64> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut rest = rest;
    let mut total: u64 = 0;
    loop {
        let (nanoseconds, tail) = component(rest)?;
        total = total.checked_add(nanoseconds).filter(|total| *total <= 1 << 63)?;
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    if negative { 0i64.checked_sub_unsigned(total) } else { i64::try_from(total).ok() }
}

/// One number with its unit, and what follows.
fn component(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_length = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let unit = unit(&rest[..unit_length])?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let nanoseconds = whole.checked_mul(unit)?.checked_add(fraction_of(fraction, unit))?;
    Some((nanoseconds, &rest[unit_length..]))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The part of `unit` that `0.digits` is, cut to whole nanoseconds.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    // Eighteen digits are more than any unit can show, and fit.
    let digits = &digits[..digits.len().min(18)];
    let numerator: u128 = digits.parse().unwrap_or(0);
    let denominator = 10u128.pow(digits.len() as u32);
    (numerator * u128::from(unit) / denominator) as u64
}

fn unit(text: &str) -> Option<u64> {
    Some(match text {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Go's `time.Duration.String`: `1m30s`, `500ms`, `1.5s`.
pub fn print_go(nanoseconds: i64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let digits = unit.to_string().len() - 1;
        let text = format!("{}.{:0digits$}", value / unit, value % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{total}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", fraction(total, 1_000)),
        1_000_000..SECOND => format!("{sign}{}ms", fraction(total, 1_000_000)),
        _ => {
            let (minutes, rest) = (total / (60 * SECOND), total % (60 * SECOND));
            let seconds = fraction(rest, SECOND);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// Seconds of `90s`, `10m`, `24h`, `1h30m`, `7d` or `2w`; `None` when the text is none.
pub fn parse_age(text: &str) -> Option<i64> {
    let mut sum: i64 = 0;
    let mut digits = String::new();
    for c in text.chars() {
        let unit = match c {
            '0'..='9' if digits.len() < 10 => {
                digits.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            _ => return None,
        };
        sum = sum.checked_add(digits.parse::<i64>().ok()? * unit)?;
        digits.clear();
    }
    (!text.is_empty() && digits.is_empty()).then_some(sum)
}

/// A duration for people: `0.34s`, `12.3s`, `2m05s`.
pub fn seconds(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match seconds {
        s if s < 10.0 => format!("{s:.2}s"),
        s if s < 60.0 => format!("{s:.1}s"),
        _ => format!("{}m{:02}s", took.as_secs() / 60, took.as_secs() % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_as_go_does() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("5s", Some(5_000_000_000)),
            ("+5s", Some(5_000_000_000)),
            ("-1.5h", Some(-5_400_000_000_000)),
            ("1h15m30.918s", Some(4_530_918_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("300ms", Some(300_000_000)),
            ("1µs", Some(1_000)),
            ("1μs", Some(1_000)),
            ("2us3ns", Some(2_003)),
            ("0.9999999999999999999999s", Some(999_999_999)),
            ("9223372036854775807ns", Some(i64::MAX)),
            ("-9223372036854775808ns", Some(i64::MIN)),
            ("9223372036854775808ns", None),
            ("99999999999999999999h", None),
            ("3000000h", None),
            ("", None),
            ("-", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("5x", None),
            ("5 s", None),
            ("1s2", None),
            ("--1s", None),
        ] {
            assert_eq!(parse_go(text), expected, "{text}");
        }
    }

    #[test]
    fn prints_durations_as_go_does() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (3_000_000_000, "3s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (-3_661_000_000_000, "-1h1m1s"),
        ] {
            assert_eq!(print_go(nanoseconds), text);
        }
    }

    #[test]
    fn reads_ages() {
        for (text, seconds) in [("90s", 90), ("1h30m", 5400), ("7d", 604_800), ("2w", 1_209_600), ("0s", 0)] {
            assert_eq!(parse_age(text), Some(seconds));
        }
        for text in ["", "5", "h", "1y", "-1h", "1h 2m", "99999999999h"] {
            assert_eq!(parse_age(text), None, "{text}");
        }
    }

    #[test]
    fn times_read_well() {
        assert_eq!(seconds(Duration::from_millis(340)), "0.34s");
        assert_eq!(seconds(Duration::from_secs(125)), "2m05s");
    }
}
