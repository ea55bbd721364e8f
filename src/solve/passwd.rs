//! The passwd and group files of a root file system.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::environment::Services;
use super::state::RootState;
use crate::layer::contents::read_small_file;
use crate::layer::view::RootView;
use crate::rootfs::{Root, Symlinks};

/// Larger account files are an error.
const LIMIT: u64 = 8 << 20;

/// Reads `path`, such as `/etc/passwd`, out of a root's layers; `None` when it is not there.
pub(super) fn read_one(services: &Services, root: &RootState, path: &str) -> io::Result<Option<Vec<u8>>> {
    let view = services.indexes.view(&root.layers).map_err(io::Error::other)?;
    let open = |layer: usize| {
        services.lookup.bring(&root.layers[layer..=layer]).map_err(io::Error::other)?;
        services.indexes.prove_one(&root.layers[layer]).map_err(io::Error::other)?;
        services.indexes.prove_blob(&root.layers[layer]).map_err(io::Error::other)?;
        let blob = services.store.open_blob(&root.layers[layer].descriptor.digest);
        blob.map(|file| Box::new(file) as _).map_err(io::Error::other)
    };
    read_small_file(&view, path.trim_start_matches('/').as_bytes(), LIMIT, &open).map_err(io::Error::other)
}

/// Reads a small file from the trees of so many `layers`, which `view` shows, the top one first and the last for all
/// that are left; the outer `None` as in [`read_in_trees`]. Begins with the tree that has the file: a build of many
/// steps would look through all earlier ones at each.
pub(super) fn read_unpacked(
    (view, layers): (&RootView, usize),
    lowers: &[PathBuf],
    path: &str,
) -> Option<Option<Vec<u8>>> {
    let plain = path.trim_start_matches('/');
    let parent = plain.rsplit_once('/').map_or("", |(parent, _)| parent);
    match view.entry(plain.as_bytes()).and_then(|entry| entry.layer) {
        Some(layer) => {
            let from_top = layers.checked_sub(layer + 1)?.min(lowers.len().checked_sub(1)?);
            read_in_trees(lowers.get(from_top..)?, path)
        }
        None if view.entry(parent.as_bytes()).is_none_or(|entry| entry.is_dir()) => Some(None),
        None => None,
    }
}

/// Reads a small file from unpacked trees, the top one first; the outer `None` when the trees do not tell it simply
/// (a symlink on the way, or a file that this user may not read): then the layers must be asked.
pub(super) fn read_in_trees(lowers: &[PathBuf], path: &str) -> Option<Option<Vec<u8>>> {
    let path = Path::new(path.trim_start_matches('/'));
    for tree in lowers {
        let root = Root::open(tree).ok()?;
        match root.open_file(path) {
            Ok(file) => return read_regular(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !hides(&root, path) => {}
            Err(_) => return None,
        }
    }
    Some(None)
}

fn read_regular(file: File) -> Option<Option<Vec<u8>>> {
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > LIMIT {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).ok()?;
    Some(Some(bytes))
}

/// Whether a tree that lacks `path` may still hide what lower ones have there: its parent is opaque or no directory.
fn hides(root: &Root, path: &Path) -> bool {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return false };
    match root.open_at(parent, OFlags::RDONLY | OFlags::DIRECTORY, 0, Symlinks::Refuse) {
        Ok(dir) => ["trusted.overlay.opaque", "user.overlay.opaque"]
            .iter()
            .any(|name| rustix::fs::fgetxattr(&dir, *name, &mut [0u8; 8][..]).is_ok()),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}
