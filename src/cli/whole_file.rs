//! Writes a file that is either whole or as it was before.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::Failure;

/// Has `fill` write into a file beside the one that is wanted, and puts it in its place. What is no plain file (a pipe, `/dev/stdout`) is
/// written to as it is.
pub(super) fn write(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), Failure> {
    let is_other = fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    let written = match path.file_name().filter(|_| !is_other) {
        None => File::create(path).and_then(|mut file| fill(&mut file)),
        Some(name) => {
            let fresh = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
            let written = File::create_new(&fresh)
                .and_then(|mut file| fill(&mut file))
                .and_then(|()| fs::rename(&fresh, path));
            written.inspect_err(|_| drop(fs::remove_file(&fresh)))
        }
    };
    written.map_err(|error| Failure::message(format!("cannot write `{}`: {error}", path.display())))
}
