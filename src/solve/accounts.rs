//! The passwd and group files of a root file system.

use super::state::{Environment, RootState};
use crate::layer::contents::{ContentsError, read_small_files};

/// Larger account files are cut off with an error.
const LIMIT: u64 = 8 << 20;

/// The texts of `/etc/passwd` and `/etc/group` of a root; empty where it has none.
#[derive(Debug, Default)]
pub(super) struct AccountFiles {
    pub(super) passwd: Vec<u8>,
    pub(super) group: Vec<u8>,
}

/// Reads them out of the layers' blobs.
pub(super) fn read(environment: &Environment<'_>, root: &RootState) -> Result<AccountFiles, String> {
    let view = environment.roots.view(&root.layers).map_err(|e| e.to_string())?;
    let open = |layer: usize| {
        let blob = environment.store.open_blob(&root.layers[layer].descriptor.digest);
        blob.map(|file| Box::new(file) as _).map_err(std::io::Error::other)
    };
    let files = read_small_files(&view, &[b"etc/passwd", b"etc/group"], LIMIT, &open);
    let mut files = files.map_err(|e: ContentsError| e.to_string())?.into_iter();
    let mut next = || files.next().flatten().unwrap_or_default();
    Ok(AccountFiles { passwd: next(), group: next() })
}
