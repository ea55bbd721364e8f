//! Archives of Java: what `META-INF/MANIFEST.MF`, `pom.properties` and the file's name say, and the archives within.
//!
//! The rules, of which says the name and which the group, are syft's, so that the package URLs are. Not here: its table of groups for
//! 1,900 names, `pom.xml`, and asking Maven's registry.

mod manifest;
mod name;
mod zip;

use std::collections::BTreeSet;

use super::{Candidate, Cataloger, FILE_LIMIT, PACKAGE_LIMIT, Tells, packages};
use crate::inventory::package::{Kind, Package};
use manifest::Manifest;
use name::FileName;
use zip::{Budget, Zip};

/// An archive of classes, or of such archives.
pub(super) struct Archive;

/// What such files are called.
const EXTENSIONS: [&str; 13] =
    ["jar", "war", "ear", "par", "sar", "nar", "jpi", "hpi", "kar", "far", "lpkg", "rar", "zap"];
/// Archives within archives are opened so deep.
const DEPTH: u32 = 8;
/// What may be inflated of one file, with all that is in it.
const INFLATED_LIMIT: u64 = 1 << 30;
/// A manifest or the properties of a project.
const TEXT: u64 = 4 << 20;

fn is_archive(path: &str) -> bool {
    path.rsplit('/').next().unwrap_or(path).rsplit_once('.').is_some_and(|(_, end)| EXTENSIONS.contains(&end))
}

impl Cataloger for Archive {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        is_archive(file.path)
    }

    fn magic(&self) -> Option<&'static [u8]> {
        // Debian's have a shell's header at times, but then no manifest either.
        Some(b"PK")
    }

    fn limit(&self) -> u64 {
        FILE_LIMIT
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        let mut found = Vec::new();
        let mut budget = Budget(INFLATED_LIMIT);
        let outcome = archive(path, bytes, &mut budget, 0, &mut found);
        // One that is in it twice is one package.
        let mut seen = BTreeSet::new();
        found.retain(|package: &Package| seen.insert(package.purl(None)));
        found.iter_mut().for_each(|package| package.own(path));
        // What was read before a fault is told; a fault alone is the fault.
        if found.is_empty() {
            outcome?;
        }
        Ok(packages(found))
    }
}

/// `groupId`, `artifactId` and `version` of a project.
#[derive(Clone)]
struct Project {
    group: String,
    artifact: String,
    version: String,
}

fn archive(
    path: &str,
    bytes: &[u8],
    budget: &mut Budget,
    depth: u32,
    found: &mut Vec<Package>,
) -> Result<(), String> {
    let zip = Zip::open(bytes)?;
    let file = FileName::of(path);
    let manifest =
        zip.entries.iter().find(|entry| entry.name.trim_start_matches('/') == "META-INF/MANIFEST.MF");
    let manifest =
        manifest.and_then(|entry| zip.text(entry, TEXT, budget)).map(|text| Manifest::parse(&text));
    // An agent of New Relic's, which is called as what it looks into.
    let manifest = manifest.filter(|manifest| manifest.main("Weave-Classes").is_none());
    if let Some(manifest) = &manifest {
        let mut properties: Vec<_> =
            zip.entries.iter().filter(|entry| entry.name.ends_with("pom.properties")).collect();
        properties.sort_by(|a, b| a.name.cmp(&b.name));
        let projects: Vec<Project> =
            properties.into_iter().filter_map(|entry| project(&zip.text(entry, TEXT, budget)?)).collect();
        found.extend(main_and_parts(path, &file, manifest, projects));
    }
    if found.len() > PACKAGE_LIMIT {
        return Err(format!("it holds more than {PACKAGE_LIMIT} packages"));
    }
    for entry in zip.entries.iter().filter(|entry| is_archive(&entry.name)) {
        if depth == DEPTH {
            return Err(format!("archives are within each other more than {DEPTH} deep"));
        }
        let inner = zip.read(entry, FILE_LIMIT, budget)?;
        // One that is no archive says nothing of the others.
        let _ = archive(&entry.name, &inner, budget, depth + 1, found);
        if budget.is_spent() {
            return Err(format!("its archives are larger than {INFLATED_LIMIT} bytes"));
        }
    }
    Ok(())
}

fn project(text: &str) -> Option<Project> {
    let mut project = Project { group: String::new(), artifact: String::new(), version: String::new() };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (key, value) = line.split_once(['=', ':'])?;
        let place = match key.trim() {
            "groupId" => &mut project.group,
            "artifactId" => &mut project.artifact,
            "version" => &mut project.version,
            _ => continue,
        };
        value.trim().clone_into(place);
    }
    (!project.artifact.is_empty() && !project.version.is_empty()).then_some(project)
}

/// The package that the archive is, and those of which it has the properties: they were put into it.
fn main_and_parts(path: &str, file: &FileName, manifest: &Manifest, projects: Vec<Project>) -> Vec<Package> {
    let names: BTreeSet<&str> = projects.iter().map(|project| project.artifact.as_str()).collect();
    let own = projects.iter().find(|project| is_called(&project.artifact, &file.name, &names)).cloned();
    let (mut name, mut version) = match own {
        Some(project) => (project.artifact, project.version),
        None => (manifest.select_name(file), manifest.select_version(file)),
    };
    let mut group = manifest.group();
    let mut parts = Vec::new();
    let mut is_own_found = false;
    for project in projects {
        let its_group = group_of(&project);
        // A fork of the same name but another group is taken for the archive, too, as syft does.
        if name == project.artifact {
            (name, version) = (project.artifact, project.version);
            if !is_own_found {
                (group, is_own_found) = (its_group, true);
            }
            continue;
        }
        parts.push(package(path, project.artifact, project.version, its_group));
    }
    if name.is_empty() {
        return parts;
    }
    let mut main = package(path, name, version, group);
    main.licences = manifest.licences();
    parts.insert(0, main);
    parts
}

fn package(path: &str, name: String, version: String, group: Option<String>) -> Package {
    let namespace = group.unwrap_or_else(|| name.clone());
    let is_plugin = [".jpi", ".hpi"].iter().any(|end| path.ends_with(end))
        || namespace.contains("io.jenkins.plugins")
        || namespace.contains("org.jenkins-ci.plugins");
    let kind = if is_plugin { Kind::JenkinsPlugin } else { Kind::JavaArchive };
    let mut package = Package::new(kind, name, version);
    package.namespace = namespace;
    package
}

/// The group, or the artifact where somebody put the group there.
fn group_of(project: &Project) -> Option<String> {
    let group = if project.group.is_empty() { &project.artifact } else { &project.group };
    let is_one = !project.group.is_empty() || project.artifact.contains('.');
    is_one.then(|| manifest::bare(group).to_owned())
}

/// Whether a project is what a file is called after.
fn is_called(artifact: &str, file: &str, names: &BTreeSet<&str>) -> bool {
    if artifact.is_empty() || file.is_empty() {
        return false;
    }
    if names.contains(file) {
        return artifact == file;
    }
    artifact.starts_with(file) || file.ends_with(artifact)
}
