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
                    package.licences = values.map(str::to_owned).collect();
                }
                "authors" | "author" if package.supplier.is_empty() => {
                    package.supplier = values.next().unwrap_or("").to_owned();
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

/// What stands in quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split(['"', '\'']).skip(1).step_by(2)
}
