//! Files of an image that belong to no package.

use std::collections::{HashMap, HashSet};

use super::catalog::join;
use super::merge::State;
use crate::layer::view::{Kind, RootView};

/// A file that no package brought.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unowned {
    /// The layer that it is in.
    pub layer: usize,
    /// Its path from the root.
    pub path: String,
    /// Its size in bytes; 0 for what is no file.
    pub size: u64,
}

/// Where package managers keep their own files: these are of no package, and brought by none.
const DATABASES: [&str; 5] =
    ["var/lib/dpkg", "lib/apk", "usr/lib/apk", "var/lib/rpm", "usr/lib/sysimage/rpm"];

/// Files and symlinks of no package, by layer and path.
pub fn unowned(view: &RootView, state: &State<'_>) -> Vec<Unowned> {
    let owned = Owned::of(view, state);
    let mut found = Vec::new();
    for entry in view.walk(b"") {
        let size = match entry.node.kind {
            Kind::File { size, .. } => size,
            Kind::Symlink(_) => 0,
            Kind::Directory | Kind::Fifo | Kind::CharDevice { .. } | Kind::BlockDevice { .. } => continue,
        };
        let Some(layer) = entry.layer.filter(|_| !owned.has(entry.path)) else { continue };
        found.push(Unowned { layer, path: String::from_utf8_lossy(entry.path).into_owned(), size });
    }
    found.sort();
    found
}

struct Owned {
    files: HashSet<Vec<u8>>,
    folders: HashSet<Vec<u8>>,
}

impl Owned {
    fn of(view: &RootView, state: &State<'_>) -> Self {
        let mut owned = Self { files: HashSet::new(), folders: HashSet::new() };
        owned.folders.extend(DATABASES.iter().map(|folder| folder.as_bytes().to_vec()));
        // `/lib` is a link to `/usr/lib` today, and Debian's lists still say `/lib`.
        let mut real: HashMap<&str, String> = HashMap::new();
        for component in &state.components {
            owned.folders.extend(component.package.folder.iter().map(|folder| folder.as_bytes().to_vec()));
            for path in component.files.iter().flat_map(|files| files.lines()) {
                let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                let folder = real.entry(folder).or_insert_with(|| {
                    let found = view.resolve(folder.as_bytes(), true).ok();
                    found.map_or_else(
                        || folder.to_owned(),
                        |f| String::from_utf8_lossy(&f.path()).into_owned(),
                    )
                });
                owned.files.insert(join(folder, name).into_bytes());
            }
        }
        owned
    }

    fn has(&self, path: &[u8]) -> bool {
        if self.files.contains(path) {
            return true;
        }
        let mut folder = parent(path);
        while let Some(inside) = folder {
            if self.folders.contains(inside) {
                return true;
            }
            folder = parent(inside);
        }
        self.is_compiled(path)
    }

    /// `DIR/__pycache__/NAME.cpython-311.pyc` is made of `DIR/NAME.py`, by whoever.
    fn is_compiled(&self, path: &[u8]) -> bool {
        let source = || {
            let path = std::str::from_utf8(path).ok()?;
            let (folder, name) = path.strip_suffix(".pyc")?.split_once("__pycache__/")?;
            Some(format!("{folder}{}.py", name.split_once('.')?.0))
        };
        source().is_some_and(|source| self.files.contains(source.as_bytes()))
    }
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|byte| *byte == b'/').map(|slash| &path[..slash])
}
