//! rpm's databases: sqlite (since rpm 4.16), ndb (openSUSE), and the hash of Berkeley DB (before). All three hold the same headers.

mod bdb;
mod header;
mod ndb;
mod sqlite;

use super::{Candidate, Cataloger, FILE_LIMIT, PACKAGE_LIMIT, Tells, folder, packages};
use crate::inventory::package::Package;

/// The largest header of one package.
const HEADER_LIMIT: usize = 64 << 20;

/// Takes each header out of a database.
type Sink<'s> = dyn FnMut(&[u8]) -> Result<(), String> + 's;

/// Whether the path is of a file of that name in a folder where rpm has its database.
fn is_database(file: &Candidate<'_>, name: &str) -> bool {
    const HOMES: [&str; 3] = ["var/lib/rpm", "usr/share/rpm", "usr/lib/sysimage/rpm"];
    file.name() == name && HOMES.iter().any(|home| super::ends_with(folder(file.path), home))
}

/// The packages of all headers that `walk` finds.
fn read(path: &str, walk: impl FnOnce(&mut Sink<'_>) -> Result<(), String>) -> Result<Vec<Tells>, String> {
    let home = folder(path);
    let root = ["var/lib/rpm", "usr/share/rpm", "usr/lib/sysimage/rpm"]
        .iter()
        .find_map(|end| home.strip_suffix(end))
        .unwrap_or("");
    let mut found: Vec<Package> = Vec::new();
    walk(&mut |blob| {
        found.extend(header::package(blob, root.trim_end_matches('/'))?);
        match found.len() > PACKAGE_LIMIT {
            true => Err(format!("it lists more than {PACKAGE_LIMIT} packages")),
            false => Ok(()),
        }
    })?;
    Ok(packages(found))
}

/// `rpmdb.sqlite`
pub(super) struct Sqlite;

/// `Packages.db`
pub(super) struct Ndb;

/// `Packages`
pub(super) struct Bdb;

impl Cataloger for Sqlite {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        is_database(file, "rpmdb.sqlite")
    }

    fn limit(&self) -> u64 {
        FILE_LIMIT
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        read(path, |sink| sqlite::walk(bytes, "Packages", sink))
    }
}

impl Cataloger for Ndb {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        is_database(file, "Packages.db")
    }

    fn limit(&self) -> u64 {
        FILE_LIMIT
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        read(path, |sink| ndb::walk(bytes, sink))
    }
}

impl Cataloger for Bdb {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        is_database(file, "Packages")
    }

    fn limit(&self) -> u64 {
        FILE_LIMIT
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        read(path, |sink| bdb::walk(bytes, sink))
    }
}
