//! Ruby's gems: `specifications/NAME-VERSION.gemspec`, Ruby code of which the assignments are read that RubyGems writes.

use super::{Candidate, Cataloger, Tells, folder, join, packages};
use crate::inventory::package::{Kind, Package};

/// A gem's specification.
pub(super) struct Gemspec;

impl Cataloger for Gemspec {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        file.path.ends_with(".gemspec") && folder(file.path).split('/').any(|part| part == "specifications")
    }

    fn limit(&self) -> u64 {
        1 << 20
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        let text = String::from_utf8_lossy(bytes);
        let mut package = Package::new(Kind::Gem, "", "");
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let Some((left, right)) = line.split_once('=') else { continue };
            let mut values = quoted(right);
            match left.trim().rsplit('.').next().unwrap_or("") {
                "name" if package.name.is_empty() => package.name = values.next().unwrap_or("").to_owned(),
                "version" if package.version.is_empty() => {
                    package.version = values.next().unwrap_or("").to_owned();
                }
                "license" | "licenses" if package.licences.is_empty() => {
                    package.licences = values.map(unescaped).collect();
                }
                "authors" | "author" if package.supplier.is_empty() => {
                    package.supplier = values.next().map(unescaped).unwrap_or_default();
                }
                _ => {}
            }
        }
        if package.name.is_empty() || package.version.is_empty() {
            return Ok(Vec::new());
        }
        let stem = path.rsplit('/').next().unwrap_or("").trim_end_matches(".gemspec");
        package.own(path);
        package.folder = Some(join(folder(folder(path)), &format!("gems/{stem}")));
        Ok(packages(vec![package]))
    }
}

/// A text with what Ruby's `inspect` writes for letters that are not of ASCII: `\u00E9`, `\u{1F600}`. Others stay as they are.
fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\u");
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let (hex, rest) = match part.strip_prefix('{').and_then(|part| part.split_once('}')) {
            Some(braced) => braced,
            None => part.split_at_checked(4).unwrap_or(("", part)),
        };
        match u32::from_str_radix(hex, 16).ok().and_then(char::from_u32) {
            Some(letter) => {
                out.push(letter);
                out.push_str(rest);
            }
            None => {
                out.push_str("\\u");
                out.push_str(part);
            }
        }
    }
    out
}

/// What stands in quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split(['"', '\'']).skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn letters_are_read_as_ruby_writes_them() {
        for (text, expected) in [
            ("Andr\\u00E9 Arko", "André Arko"),
            ("\\u{1F600}x", "😀x"),
            ("C:\\users", "C:\\users"),
            ("\\uD800", "\\uD800"),
            ("\\u", "\\u"),
            ("\\u{", "\\u{"),
            ("é", "é"),
        ] {
            assert_eq!(unescaped(text), expected);
        }
    }
}
