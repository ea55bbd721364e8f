//! Whether an image is still what was written.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::superblock::{Note, of_head};
use super::{BLOCK_BYTES, HEAD_BYTES};
use crate::oci::{DiffId, Hasher};

/// Reads the whole image in `file`: its tar must be that of `layer`, where that is known, and its metadata those that were
/// written. That these belong to the tar and to the layers below is the writer's promise.
///
/// # Errors
/// What the system refuses; a file that is too short or no image at all is simply not whole.
pub fn is_whole(mut file: &File, layer: Option<DiffId>) -> io::Result<bool> {
    let mut head = [0; HEAD_BYTES as usize];
    file.seek(SeekFrom::Start(0))?;
    match file.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        other => other?,
    }
    let Some(note) = Note::from_head(&head) else { return Ok(false) };
    let mut tar = Hasher::new();
    let len = each_chunk(file.take(note.tar_bytes), |chunk| tar.update(chunk))?;
    if len < note.tar_bytes || layer.is_some_and(|layer| layer != DiffId(tar.finish())) {
        return Ok(false);
    }
    file.seek(SeekFrom::Start((HEAD_BYTES + note.tar_bytes).next_multiple_of(BLOCK_BYTES)))?;
    let mut metadata = blake3::Hasher::new();
    each_chunk(file, |chunk| {
        metadata.update(chunk);
    })?;
    metadata.update(of_head(&head));
    Ok(*metadata.finalize().as_bytes() == note.metadata)
}

/// Gives the number of bytes.
fn each_chunk(mut reader: impl Read, mut look: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut len = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(len),
            Ok(count) => {
                look(&buffer[..count]);
                len += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
