//! apk's database, `lib/apk/db/installed`: a paragraph for each package, a letter for each field.

use super::{Candidate, Cataloger, PACKAGE_LIMIT, Tells, ends_with, join, packages};
use crate::inventory::package::{Kind, Package};

/// The packages that are installed.
pub(super) struct Installed;

impl Cataloger for Installed {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        ends_with(file.path, "lib/apk/db/installed")
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        let text = String::from_utf8_lossy(bytes);
        let root = path.strip_suffix("lib/apk/db/installed").unwrap_or("");
        let root = root.strip_suffix("usr/").unwrap_or(root).trim_end_matches('/');
        let mut found = Vec::new();
        let (mut package, mut origin, mut dir) = (Package::new(Kind::Apk, "", ""), "", String::new());
        for line in text.lines().chain([""]) {
            let Some((field, value)) = line.split_once(':') else {
                let mut done = std::mem::replace(&mut package, Package::new(Kind::Apk, "", ""));
                if origin != done.name {
                    done.qualify("upstream", origin);
                }
                (origin, dir) = ("", String::new());
                if !done.name.is_empty() {
                    found.push(done);
                }
                if found.len() > PACKAGE_LIMIT {
                    return Err(format!("it lists more than {PACKAGE_LIMIT} packages"));
                }
                continue;
            };
            match field {
                "P" => value.clone_into(&mut package.name),
                "V" => value.clone_into(&mut package.version),
                "A" => package.qualify("arch", value),
                "L" => package.licences = licences(value),
                "m" => value.clone_into(&mut package.supplier),
                "o" => origin = value,
                "F" => dir = join(root, value),
                "R" => package.own(&join(&dir, value)),
                _ => {}
            }
        }
        Ok(packages(found))
    }
}

/// One expression of SPDX; older packages have a list of words.
fn licences(value: &str) -> Vec<String> {
    match spdx::Expression::parse(value) {
        Ok(_) => vec![value.to_owned()],
        Err(_) => value.split_whitespace().map(str::to_owned).collect(),
    }
}
