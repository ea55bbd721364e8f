//! The passwd and group files of a root file system.

use std::io;

use super::state::{Environment, RootState};
use crate::layer::contents::read_small_file;

/// Larger account files are an error.
const LIMIT: u64 = 8 << 20;

/// Reads `path`, such as `/etc/passwd`, out of a root's layers; `None` when it is not there.
pub(super) fn read_one(
    environment: &Environment<'_>,
    root: &RootState,
    path: &str,
) -> io::Result<Option<Vec<u8>>> {
    let view = environment.roots.view(&root.layers).map_err(io::Error::other)?;
    let open = |layer: usize| {
        let blob = environment.store.open_blob(&root.layers[layer].descriptor.digest);
        blob.map(|file| Box::new(file) as _).map_err(io::Error::other)
    };
    read_small_file(&view, path.trim_start_matches('/').as_bytes(), LIMIT, &open).map_err(io::Error::other)
}
