//! PHP's composer: `vendor/composer/installed.json`.

use serde::Deserialize;

use super::{Candidate, Cataloger, PACKAGE_LIMIT, Tells, folder, join, packages};
use crate::inventory::package::{Kind, Package};

/// What composer installed.
pub(super) struct Installed;

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    /// Since composer 2.
    Object {
        packages: Vec<Entry>,
    },
    List(Vec<Entry>),
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    license: serde_json::Value,
    #[serde(rename = "install-path")]
    install_path: Option<String>,
}

impl Cataloger for Installed {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        file.name() == "installed.json"
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        // Other programs have files of that name.
        let Ok(file) = serde_json::from_slice::<File>(bytes) else { return Ok(Vec::new()) };
        let (File::Object { packages: entries } | File::List(entries)) = file;
        if entries.len() > PACKAGE_LIMIT {
            return Err(format!("it lists more than {PACKAGE_LIMIT} packages"));
        }
        let entries = entries.into_iter().filter(|entry| !entry.name.is_empty() && !entry.version.is_empty());
        let package = |entry: Entry| {
            let mut package = Package::new(Kind::PhpComposer, entry.name.clone(), entry.version);
            package.licences = match entry.license {
                serde_json::Value::String(text) => vec![text],
                serde_json::Value::Array(all) => {
                    all.iter().filter_map(|v| v.as_str()).map(str::to_owned).collect()
                }
                _ => Vec::new(),
            };
            package.own(path);
            package.folder = Some(match entry.install_path {
                Some(place) => join(folder(path), &place),
                None => join(folder(folder(path)), &entry.name),
            });
            package
        };
        Ok(packages(entries.map(package).collect()))
    }
}
