//! Budgets of an image: what it may weigh, grow and waste, and whether it keeps to that.

use std::str::FromStr;

use crate::text::size::bytes;

/// What an image is to keep to. Nothing said is nothing asked.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// Bytes of its layers' blobs, each counted once, as registries count.
    pub max_size: Option<u64>,
    /// By how much these may be more than those of the image that it is compared with.
    pub max_growth: Option<Amount>,
    /// Bytes of files that are in several layers, as dive counts them; in percent, of all bytes of files in layers.
    pub max_waste: Option<Amount>,
    /// dive's efficiency, from 0 to 1.
    pub min_efficiency: Option<f64>,
}

/// So many bytes, or a part of something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// Of a hundred.
    Percent(f64),
}

impl FromStr for Amount {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().strip_suffix('%') {
            Some(number) => match number.trim().parse::<f64>() {
                Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(Amount::Percent(percent)),
                Ok(_) | Err(_) => Err("write it as 5%"),
            },
            None => size(text).map(Amount::Bytes),
        }
    }
}

/// A size as docker and dive print it: `400MB` are 400,000,000 bytes, `400MiB` 419,430,400.
///
/// # Errors
/// How to write it.
pub fn size(text: &str) -> Result<u64, &'static str> {
    const WRITE_IT: &str = "write it as 400MB, 1.5GB or 300MiB";
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| WRITE_IT)?;
    let unit = unit.trim().to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024f64.powi(2),
        "gib" => 1024f64.powi(3),
        "tib" => 1024f64.powi(4),
        _ => return Err(WRITE_IT),
    };
    let size = number * factor;
    if size < 2f64.powi(63) { Ok(size as u64) } else { Err("that is more than there is") }
}

/// A part of 1: `0.95` or `95%`.
///
/// # Errors
/// How to write it.
pub fn ratio(text: &str) -> Result<f64, &'static str> {
    let text = text.trim();
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    number.ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or("write it as 0.95 or 95%")
}

/// What was measured of an image; of several platforms the worst.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Bytes of its layers' blobs.
    pub size: u64,
    /// What it is compared with, in words, and the bytes of that.
    pub before: Option<(String, u64)>,
    /// What its files say, if that was looked into.
    pub files: Option<Files>,
}

/// What dive says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Files {
    /// Bytes of paths that several layers have.
    pub wasted: u64,
    /// Bytes of all files in layers.
    pub all: u64,
    /// From 0 to 1.
    pub efficiency: f64,
}

/// One limit, and how the image stands to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The option that sets it, without dashes.
    pub limit: &'static str,
    /// What it says.
    pub allowed: String,
    /// What is.
    pub found: String,
    /// Whether it is kept; `None` where there is nothing to tell it by.
    pub is_kept: Option<bool>,
}

impl Budget {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether files have to be looked into.
    pub fn is_about_files(&self) -> bool {
        self.max_waste.is_some() || self.min_efficiency.is_some()
    }

    /// How the image stands to each limit.
    pub fn check(&self, measured: &Measured) -> Vec<Line> {
        let Self { max_size, max_growth, max_waste, min_efficiency } = *self;
        let mut lines = Vec::new();
        let mut line = |limit, allowed, found, is_kept| {
            lines.push(Line { limit, allowed, found, is_kept });
        };
        if let Some(most) = max_size {
            line("max-size", bytes(most), bytes(measured.size), Some(measured.size <= most));
        }
        if let Some(most) = max_growth {
            let (found, is_kept) = match &measured.before {
                None => ("there is nothing to compare with".to_owned(), None),
                Some((what, before)) => {
                    let grown = measured.size.saturating_sub(*before);
                    let sign = if measured.size < *before { "-" } else { "+" };
                    let by = bytes(measured.size.abs_diff(*before));
                    let percent = part(measured.size.abs_diff(*before), *before);
                    (
                        format!("{sign}{by} ({sign}{percent:.1} %) since {what}"),
                        Some(is_within(grown, *before, most)),
                    )
                }
            };
            line("max-growth", words(most), found, is_kept);
        }
        if let Some(most) = max_waste {
            let found = measured.files.map(|Files { wasted, all, .. }| {
                (format!("{} ({:.1} %)", bytes(wasted), part(wasted, all)), is_within(wasted, all, most))
            });
            let (found, is_kept) = told(found);
            line("max-waste", words(most), found, is_kept);
        }
        if let Some(least) = min_efficiency {
            let found = measured
                .files
                .map(|files| (format!("{:.1} %", files.efficiency * 100.0), files.efficiency >= least));
            let (found, is_kept) = told(found);
            line("min-efficiency", format!("{:.1} %", least * 100.0), found, is_kept);
        }
        lines
    }
}

fn told(found: Option<(String, bool)>) -> (String, Option<bool>) {
    match found {
        Some((found, is_kept)) => (found, Some(is_kept)),
        None => ("the files of the image are not known".to_owned(), None),
    }
}

fn words(amount: Amount) -> String {
    match amount {
        Amount::Bytes(count) => bytes(count),
        Amount::Percent(percent) => format!("{percent:.1} %"),
    }
}

fn part(some: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { some as f64 * 100.0 / of as f64 }
}

fn is_within(some: u64, of: u64, most: Amount) -> bool {
    match most {
        Amount::Bytes(count) => some <= count,
        // Of nothing any growth is more than any part.
        Amount::Percent(_) if of == 0 => some == 0,
        Amount::Percent(percent) => part(some, of) <= percent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_and_dive_write_them() {
        for (text, expected) in [
            ("400MB", Some(400_000_000)),
            ("400 mb", Some(400_000_000)),
            ("1.5GB", Some(1_500_000_000)),
            ("300MiB", Some(300 << 20)),
            ("20m", Some(20_000_000)),
            ("50kB", Some(50_000)),
            ("7", Some(7)),
            ("", None),
            ("x", None),
            ("-1", None),
            ("1e3", None),
            ("1.2.3", None),
            ("9999999999TB", None),
        ] {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
        assert_eq!("5%".parse(), Ok(Amount::Percent(5.0)));
        assert_eq!("5MB".parse(), Ok(Amount::Bytes(5_000_000)));
        assert!("-5%".parse::<Amount>().is_err() && "%".parse::<Amount>().is_err());
        assert_eq!((ratio("0.95"), ratio("95%")), (Ok(0.95), Ok(0.95)));
        assert!(ratio("1.5").is_err() && ratio("nan").is_err());
    }

    fn kept(budget: Budget, measured: &Measured) -> Vec<Option<bool>> {
        budget.check(measured).into_iter().map(|line| line.is_kept).collect()
    }

    #[test]
    fn each_limit_is_held_to_what_was_measured() {
        let files = Files { wasted: 20, all: 200, efficiency: 0.9 };
        let measured =
            Measured { size: 110, before: Some(("the last build".to_owned(), 100)), files: Some(files) };
        let budget = |size, growth, waste, efficiency| Budget {
            max_size: Some(size),
            max_growth: Some(growth),
            max_waste: Some(waste),
            min_efficiency: Some(efficiency),
        };
        let exact = budget(110, Amount::Percent(10.0), Amount::Percent(10.0), 0.9);
        assert_eq!(kept(exact, &measured), [Some(true); 4]);
        let less = budget(109, Amount::Bytes(9), Amount::Bytes(19), 0.91);
        assert_eq!(kept(less, &measured), [Some(false); 4]);
        let unknown = Measured { size: 1, before: None, files: None };
        assert_eq!(kept(less, &unknown), [Some(true), None, None, None]);
        let smaller = Measured { before: Some(("x".to_owned(), 200)), ..measured };
        let line = &less.check(&smaller)[1];
        assert_eq!((line.found.as_str(), line.is_kept), ("-90 B (-45.0 %) since x", Some(true)));
        assert!(Budget::default().is_empty() && Budget::default().check(&unknown).is_empty());
    }
}
