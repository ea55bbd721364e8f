//! Writes a file that is either whole or as it was before.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::Failure;

/// Has `fill` write into a file beside the one that is wanted, and puts it in its place; where that is a link, in the place of what it
/// leads to. What is no plain file (a pipe, `/dev/stdout`, a link to nothing) is written to as it is.
pub(super) fn write(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), Failure> {
    let is_other = fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    let meant = if path.is_symlink() { fs::canonicalize(path).ok() } else { Some(path.to_owned()) };
    let meant = meant.filter(|meant| !is_other && meant.file_name().is_some());
    let written = match &meant {
        None => File::create(path).and_then(|mut file| fill(&mut file)),
        Some(path) => {
            let fresh = path.with_file_name(format!(".rbuild-{}", crate::store::unique()));
            let written = File::create_new(&fresh)
                .and_then(|mut file| fill(&mut file))
                .and_then(|()| fs::rename(&fresh, path));
            written.inspect_err(|_| drop(fs::remove_file(&fresh)))
        }
    };
    written.map_err(|error| Failure::message(format!("cannot write `{}`: {error}", path.display())))
}
