//! dpkg's database: `status`, or a file for each package in `status.d` (distroless); lists of files; Debian's copyright files.

use std::collections::BTreeSet;

use super::{Candidate, Cataloger, PACKAGE_LIMIT, Tells, ends_with, folder, packages};
use crate::inventory::package::{Kind, Package};

/// The packages that are installed.
pub(super) struct Status;

/// Whether the path is of a file directly in `…/lib/dpkg/NAME`.
fn lies_in(path: &str, name: &str) -> bool {
    ends_with(folder(path), name)
}

impl Cataloger for Status {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        let in_parts = lies_in(file.path, "lib/dpkg/status.d") && !file.path.ends_with(".md5sums");
        ends_with(file.path, "lib/dpkg/status") || ends_with(file.path, "lib/opkg/status") || in_parts
    }

    fn read(&self, _: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        let text = String::from_utf8_lossy(bytes);
        let mut found = Vec::new();
        let mut paragraph = Paragraph::default();
        let mut field = "";
        for line in text.lines().chain([""]) {
            if line.is_empty() {
                found.extend(std::mem::take(&mut paragraph).package());
                if found.len() > PACKAGE_LIMIT {
                    return Err(format!("it lists more than {PACKAGE_LIMIT} packages"));
                }
                continue;
            }
            if line.starts_with([' ', '\t']) {
                // Of the fields that go over several lines none is needed but a short list of configuration files.
                if field == "Conffiles"
                    && let Some(path) = line.split_whitespace().next()
                {
                    paragraph.conffiles.push(path);
                }
                continue;
            }
            let Some((key, value)) = line.split_once(':') else { continue };
            (field, _) = (key, ());
            let value = value.trim();
            match key {
                "Package" => paragraph.name = value,
                "Status" => paragraph.status = value,
                "Version" => paragraph.version = value,
                "Architecture" => paragraph.arch = value,
                "Source" => paragraph.source = value,
                "Maintainer" => paragraph.maintainer = value,
                "License" => paragraph.licence = value,
                _ => {}
            }
        }
        Ok(packages(found))
    }
}

#[derive(Default)]
struct Paragraph<'t> {
    name: &'t str,
    status: &'t str,
    version: &'t str,
    arch: &'t str,
    source: &'t str,
    maintainer: &'t str,
    licence: &'t str,
    conffiles: Vec<&'t str>,
}

impl Paragraph<'_> {
    /// What was removed and left its configuration behind is no package.
    fn package(self) -> Option<Package> {
        if self.name.is_empty() || self.status.contains("deinstall") {
            return None;
        }
        let mut package = Package::new(Kind::Deb, self.name, self.version);
        package.qualify("arch", self.arch);
        // `NAME (VERSION)`, where the source has another version.
        let upstream = match self.source.split_once(" (") {
            Some((name, version)) => format!("{name}@{}", version.trim_end_matches(')')),
            None => self.source.to_owned(),
        };
        package.qualify("upstream", &upstream);
        self.maintainer.clone_into(&mut package.supplier);
        if !self.licence.is_empty() {
            package.licences.push(self.licence.to_owned());
        }
        for path in self.conffiles {
            package.own(path.trim_start_matches('/'));
        }
        Some(package)
    }
}

/// Which files a package brought: `info/NAME.list`, and `status.d/NAME.md5sums`.
pub(super) struct Listing;

impl Cataloger for Listing {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        (lies_in(file.path, "lib/dpkg/info") && file.path.ends_with(".list"))
            || (lies_in(file.path, "lib/dpkg/status.d") && file.path.ends_with(".md5sums"))
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        let text = String::from_utf8_lossy(bytes);
        let mut files = String::with_capacity(text.len());
        for line in text.lines() {
            // `SUM  PATH` in the one, `/PATH` in the other.
            let file = match path.ends_with(".md5sums") {
                true => line.split_once(' ').map_or("", |(_, path)| path.trim_start()),
                false => line,
            };
            let file = file.trim_start_matches("./").trim_start_matches('/');
            if !file.is_empty() && file != "." {
                files.push_str(file);
                files.push('\n');
            }
        }
        Ok(vec![Tells::Files(files)])
    }
}

/// `usr/share/doc/NAME/copyright`, where it is machine-readable.
pub(super) struct Copyright;

impl Cataloger for Copyright {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        file.name() == "copyright" && ends_with(folder(folder(file.path)), "usr/share/doc")
    }

    fn limit(&self) -> u64 {
        4 << 20
    }

    fn read(&self, _: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        const COMMON: &str = "/usr/share/common-licenses/";
        let text = String::from_utf8_lossy(bytes);
        let mut found = BTreeSet::new();
        for line in text.lines() {
            if let Some(licence) = line.strip_prefix("License: ") {
                found.extend(single(licence.split_whitespace().next().unwrap_or("")));
            }
            if let Some((_, rest)) = line.split_once(COMMON) {
                let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
                found.extend(single(&rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())]));
            }
        }
        Ok(vec![Tells::Licences(found.into_iter().map(str::to_owned).collect())])
    }
}

/// A licence's name without the full stop of its sentence.
fn single(licence: &str) -> Option<&str> {
    let licence = licence.strip_suffix('.').unwrap_or(licence);
    (!licence.is_empty() && !licence.eq_ignore_ascii_case("none")).then_some(licence)
}
