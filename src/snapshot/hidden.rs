//! What a tree hides of the trees below it and cannot say itself.
//!
//! On most file systems a tree has overlayfs's own marks. On overlayfs nobody can make them, so what is hidden stands in a
//! file beside the tree, each path with a NUL behind it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Error;

fn file_of(tree: &Path) -> PathBuf {
    tree.with_file_name("hidden")
}

/// Writes down what `tree` hides; no file stands for nothing.
pub(super) fn write(tree: &Path, paths: &[Vec<u8>]) -> Result<(), Error> {
    if paths.is_empty() {
        return Ok(());
    }
    let file = file_of(tree);
    let text: Vec<u8> = paths.iter().flat_map(|path| path.iter().copied().chain([0])).collect();
    fs::write(&file, text).map_err(Error::io("write", &file))
}

/// What the tree at `tree` hides of those below it although it has no mark of it: paths relative to the root. What the
/// tree itself has at such a path is seen.
pub fn hidden_by(tree: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let file = file_of(tree);
    match crate::rootfs::read_regular(&file) {
        Ok(text) => {
            let paths = text.split(|byte| *byte == 0).filter(|path| !path.is_empty());
            Ok(paths.map(<[u8]>::to_vec).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("read", &file)(error)),
    }
}
