//! Python distributions as they are installed: `*.dist-info` of wheels, `*.egg-info` of what came before.

use super::{Candidate, Cataloger, Tells, folder, join, packages};
use crate::inventory::package::{Kind, Package};

/// `METADATA` and `PKG-INFO`, or an egg's single file.
pub(super) struct Metadata;

/// Whether the folder is a distribution's; the upper case is what some old wheels have.
fn is_info(folder: &str, kinds: &[&str]) -> bool {
    kinds.iter().any(|kind| folder.ends_with(kind))
}

const WHEELS: [&str; 2] = ["dist-info", "DIST-INFO"];
const EGGS: [&str; 2] = ["egg-info", "EGG-INFO"];

impl Cataloger for Metadata {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        let inside = folder(file.path);
        match file.name() {
            "METADATA" => is_info(inside, &WHEELS),
            "PKG-INFO" => is_info(inside, &EGGS),
            name => name.ends_with(".egg-info"),
        }
    }

    fn limit(&self) -> u64 {
        16 << 20
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        let text = String::from_utf8_lossy(bytes);
        let mut package = Package::new(Kind::Python, "", "");
        let (mut licence, mut expression) = ("", "");
        for line in text.lines() {
            // Headers end where the description begins (PEP 566).
            if line.is_empty() {
                break;
            }
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key.to_ascii_lowercase().as_str() {
                "name" if package.name.is_empty() => value.clone_into(&mut package.name),
                "version" if package.version.is_empty() => value.clone_into(&mut package.version),
                "license" => licence = value,
                "license-expression" => expression = value,
                "author" => value.clone_into(&mut package.supplier),
                _ => {}
            }
        }
        // Python itself is no package of it, though Debian's 2.7 says so.
        if package.name.is_empty() || package.name == "Python" {
            return Ok(Vec::new());
        }
        package.name = normalised(&package.name);
        let licence = if expression.is_empty() { licence } else { expression };
        if !licence.is_empty() && licence != "UNKNOWN" {
            package.licences.push(licence.to_owned());
        }
        // What the distribution wrote of itself; its other files are in a list beside it.
        match path.ends_with(".egg-info") {
            true => package.own(path),
            false => package.folder = Some(folder(path).to_owned()),
        }
        Ok(packages(vec![package]))
    }
}

/// PEP 503: lower case, and one dash for each run of `-`, `_` and `.`.
fn normalised(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// `RECORD` of a wheel, `installed-files.txt` of an egg.
pub(super) struct Record;

impl Cataloger for Record {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        match file.name() {
            "RECORD" => is_info(folder(file.path), &WHEELS),
            "installed-files.txt" => is_info(folder(file.path), &EGGS),
            _ => false,
        }
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        let text = String::from_utf8_lossy(bytes);
        let is_csv = path.ends_with("/RECORD");
        let base = if is_csv { folder(folder(path)) } else { folder(path) };
        let mut files = String::with_capacity(text.len());
        for line in text.lines() {
            let file = match line.strip_prefix('"') {
                // A name with commas is in quotes.
                Some(rest) if is_csv => rest.split('"').next().unwrap_or(""),
                _ if is_csv => line.split(',').next().unwrap_or(""),
                _ => line,
            };
            if !file.is_empty() {
                files.push_str(&join(base, file));
                files.push('\n');
            }
        }
        Ok(vec![Tells::Files(files)])
    }
}

/// `direct_url.json`: from which repository it was installed (PEP 610).
pub(super) struct DirectUrl;

impl Cataloger for DirectUrl {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        file.name() == "direct_url.json" && is_info(folder(file.path), &[WHEELS, EGGS].concat())
    }

    fn limit(&self) -> u64 {
        1 << 20
    }

    fn read(&self, _: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        #[derive(serde::Deserialize)]
        struct Direct {
            url: String,
            vcs_info: Option<Vcs>,
        }
        #[derive(serde::Deserialize)]
        struct Vcs {
            vcs: String,
            #[serde(default)]
            commit_id: String,
        }
        let direct: Direct = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let Some(Vcs { vcs, commit_id }) = direct.vcs_info else { return Ok(Vec::new()) };
        let url = crate::text::url::without_passwords(&direct.url).into_owned();
        Ok(vec![Tells::Origin(format!("{vcs}+{url}@{commit_id}"))])
    }
}
