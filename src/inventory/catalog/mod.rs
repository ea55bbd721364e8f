//! Who reads what: one file for each kind of database, manifest or program.
//!
//! A cataloger is given whole files and gives what they say, nothing else: it opens nothing, knows no layers, and joins nothing that
//! stands in two files (that is `inventory::merge`'s work). Whatever the bytes are it comes to an end, within the bounds that stand
//! with each, and never panics; what it cannot read it says.

mod apk;
mod cargo;
mod composer;
mod dotnet;
mod dpkg;
mod elf;
mod gem;
mod golang;
mod java;
mod npm;
mod python;
mod release;
mod rpm;

use serde::{Deserialize, Serialize};

use super::package::{Package, Release};

pub(super) use elf::{MAGIC as ELF, read_parts};

/// The largest text that is read.
const TEXT_LIMIT: u64 = 64 << 20;
/// The largest program, archive or database that is read.
pub(super) const FILE_LIMIT: u64 = 384 << 20;
/// As many packages as one file may tell of; the largest distributions have a tenth of that.
const PACKAGE_LIMIT: usize = 200_000;

/// What one file of a layer says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tells {
    /// Of packages.
    Packages(Vec<Package>),
    /// Which files belong to the package that it stands beside: from the root of the image, a line each.
    Files(String),
    /// Under which licences that is.
    Licences(Vec<String>),
    /// Where that was got: the qualifier `vcs_url`.
    Origin(String),
    /// Of the distribution.
    Release(Release),
}

/// A regular file of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// Its path from the root.
    pub(super) path: &'a str,
    /// Its size.
    pub(super) size: u64,
    /// Its permissions.
    pub(super) mode: u32,
}

impl<'a> Candidate<'a> {
    fn name(&self) -> &'a str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// Reads one kind of file.
pub(super) trait Cataloger: Sync {
    /// Whether this is such a file, by its path.
    fn wants(&self, file: &Candidate<'_>) -> bool;

    /// What such a file begins with, if only the contents tell; then [`Cataloger::wants`] says whether it is worth a look.
    fn magic(&self) -> Option<&'static [u8]> {
        None
    }

    /// Its bound.
    fn limit(&self) -> u64 {
        TEXT_LIMIT
    }

    /// What it says.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String>;
}

/// All of them, in the order in which they are asked.
pub(super) const CATALOGERS: [&dyn Cataloger; 18] = [
    &release::OsRelease,
    &dpkg::Status,
    &dpkg::Listing,
    &dpkg::Copyright,
    &apk::Installed,
    &rpm::Sqlite,
    &rpm::Ndb,
    &rpm::Bdb,
    &python::Metadata,
    &python::Record,
    &python::DirectUrl,
    &npm::PackageJson,
    &java::Archive,
    &gem::Gemspec,
    &composer::Installed,
    &dotnet::Deps,
    &golang::Program,
    &cargo::Program,
];

/// The catalogers that read a file, as far as its path tells.
pub(super) fn of_file(file: Candidate<'_>) -> impl Iterator<Item = &'static dyn Cataloger> {
    CATALOGERS.into_iter().filter(move |cataloger| cataloger.wants(&file))
}

/// What the file at `path` with these bytes says, whoever reads it: for fuzzing.
pub fn read_all(path: &str, bytes: &[u8]) -> Vec<Tells> {
    let file = Candidate { path, size: bytes.len() as u64, mode: 0o755 };
    let readers = of_file(file).filter(|reader| reader.magic().is_none_or(|magic| bytes.starts_with(magic)));
    readers.flat_map(|reader| reader.read(path, bytes).unwrap_or_default()).collect()
}

/// Whether `path` is `end`, or ends with it below some folder.
fn ends_with(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// The folder of a path; empty at the root.
fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `folder/name`, the two cleaned of `.`, `..` and doubled slashes; nothing of it is above the root.
pub(super) fn join(folder: &str, name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let start = if name.starts_with('/') { "" } else { folder };
    for part in start.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Packages as what a file tells, if there are any.
fn packages(packages: Vec<Package>) -> Vec<Tells> {
    if packages.is_empty() { Vec::new() } else { vec![Tells::Packages(packages)] }
}

#[cfg(test)]
mod tests;
