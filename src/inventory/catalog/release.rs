//! `os-release`: which distribution it is.

use super::{Candidate, Cataloger, Tells, ends_with};
use crate::inventory::package::Release;

/// `etc/os-release` and `usr/lib/os-release`.
pub(super) struct OsRelease;

impl Cataloger for OsRelease {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        ends_with(file.path, "etc/os-release") || ends_with(file.path, "usr/lib/os-release")
    }

    fn limit(&self) -> u64 {
        64 << 10
    }

    fn read(&self, _: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        let text = String::from_utf8_lossy(bytes);
        let mut release = Release::default();
        for (key, value) in text.lines().filter_map(|line| line.trim().split_once('=')) {
            let value = unquoted(value);
            match key {
                "ID" => release.id = value,
                "ID_LIKE" => release.like = value.split_whitespace().map(str::to_owned).collect(),
                "VERSION_ID" => release.version = value,
                "BUILD_ID" => release.build = value,
                "PRETTY_NAME" => release.pretty = value,
                _ => {}
            }
        }
        Ok(vec![Tells::Release(release)])
    }
}

/// A value as a shell reads it (os-release(5)).
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = quote.and_then(|quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value);
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}
