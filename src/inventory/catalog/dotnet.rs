//! .NET: `NAME.deps.json`, which lists the libraries that a program was published with.
//!
//! A library counts when the list has files for it at run time, or for something that it needs: others were for the compiler alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Candidate, Cataloger, PACKAGE_LIMIT, Tells, folder, join, packages};
use crate::inventory::package::{Kind, Package};

/// The libraries of a program.
pub(super) struct Deps;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    targets: BTreeMap<String, BTreeMap<String, Target>>,
    #[serde(default)]
    libraries: BTreeMap<String, Library>,
}

#[derive(Deserialize)]
struct Library {
    #[serde(rename = "type", default)]
    kind: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Target {
    dependencies: BTreeMap<String, String>,
    runtime: Map<String, Value>,
    resources: Map<String, Value>,
    native: Map<String, Value>,
    runtime_targets: Map<String, Value>,
}

impl Target {
    fn files(&self) -> impl Iterator<Item = &str> {
        let all = [&self.runtime, &self.resources, &self.native, &self.runtime_targets];
        all.into_iter().flat_map(Map::keys).map(String::as_str)
    }
}

impl Cataloger for Deps {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        file.path.ends_with(".deps.json")
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.libraries.len() > PACKAGE_LIMIT {
            return Err(format!("it lists more than {PACKAGE_LIMIT} libraries"));
        }
        let needed = at_run_time(&file);
        let stem = path.rsplit('/').next().unwrap_or("").trim_end_matches(".deps.json");
        let mut found = Vec::new();
        for (library, Library { kind }) in &file.libraries {
            let Some((name, version)) = library.split_once('/').filter(|(name, _)| !name.is_empty()) else {
                continue;
            };
            let is_own = kind == "project" && name == stem;
            if !is_own && (kind == "project" || !needed.contains(library.as_str())) {
                continue;
            }
            let mut package = Package::new(Kind::Dotnet, name, version);
            package.own(path);
            for asset in
                file.targets.values().filter_map(|target| target.get(library)).flat_map(Target::files)
            {
                // Published files lie beside the program, or below `runtimes`.
                let place = if asset.starts_with("runtimes/") {
                    asset
                } else {
                    asset.rsplit('/').next().unwrap_or(asset)
                };
                package.own(&join(folder(path), place));
            }
            found.push(package);
        }
        Ok(packages(found))
    }
}

/// Libraries with files at run time, and those that need such.
fn at_run_time(file: &File) -> BTreeSet<&str> {
    let mut parents: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut open: Vec<&str> = Vec::new();
    for (library, target) in file.targets.values().flatten() {
        if target.files().next().is_some() {
            open.push(library);
        }
        for (name, version) in &target.dependencies {
            parents.entry(format!("{name}/{version}")).or_default().push(library);
        }
    }
    let mut needed = BTreeSet::new();
    while let Some(library) = open.pop() {
        if needed.insert(library) {
            open.extend(parents.get(library).into_iter().flatten());
        }
    }
    needed
}
