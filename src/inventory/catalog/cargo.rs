//! Rust programs that `cargo auditable` built: the section `.dep-v0` has the crates, as JSON compressed with zlib.

use std::io::Read as _;

use serde::Deserialize;

use super::elf::{Elf, MAGIC, may_be_program};
use super::{Candidate, Cataloger, FILE_LIMIT, PACKAGE_LIMIT, Tells, packages};
use crate::inventory::package::{Kind, Package};

/// A program of Rust.
pub(super) struct Program;

/// The section that tells of it.
pub(super) const SECTION: [&str; 1] = [".dep-v0"];
/// The longest list that is read.
const LIST_LIMIT: u64 = 16 << 20;

#[derive(Deserialize)]
struct List {
    packages: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    version: String,
    /// `runtime` when absent; the other is `build`.
    kind: Option<String>,
}

impl Cataloger for Program {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        may_be_program(file)
    }

    fn magic(&self) -> Option<&'static [u8]> {
        Some(MAGIC)
    }

    fn limit(&self) -> u64 {
        FILE_LIMIT
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        let Some(section) = Elf::open(bytes).and_then(|elf| elf.section(SECTION[0])) else {
            return Ok(Vec::new());
        };
        let mut json = Vec::new();
        let mut decoder = flate2::read::ZlibDecoder::new(section).take(LIST_LIMIT + 1);
        decoder.read_to_end(&mut json).map_err(|error| format!("its list of crates: {error}"))?;
        if json.len() as u64 > LIST_LIMIT {
            return Err(format!("its list of crates is longer than {LIST_LIMIT} bytes"));
        }
        let list: List =
            serde_json::from_slice(&json).map_err(|error| format!("its list of crates: {error}"))?;
        if list.packages.len() > PACKAGE_LIMIT {
            return Err(format!("it lists more than {PACKAGE_LIMIT} crates"));
        }
        let is_in_it = |entry: &Entry| {
            !entry.name.is_empty() && entry.kind.as_deref().is_none_or(|kind| kind == "runtime")
        };
        let runtime = list.packages.into_iter().filter(is_in_it);
        let package = |entry: Entry| {
            let mut package = Package::new(Kind::RustCrate, entry.name, entry.version);
            package.own(path);
            package
        };
        Ok(packages(runtime.map(package).collect()))
    }
}
