//! Puts the bytes of one segment together: headers, contents read in place, zeros.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use blake3::hazmat::ChainingValue;

use super::layout::{Layout, Segment};
use super::pieces::{self, Piece};
use super::{WriteError, show};
use crate::layer::entry::{Content, DiskFile, Entry, EntryKind};
use crate::layer::header;
use crate::rootfs::Root;

/// Fills `buffer` with the bytes of `segment`. Files that are whole in it are compared with their digests; of one that is
/// not it gives the piece.
pub(super) fn fill(
    entries: &[Entry],
    layout: &Layout,
    segment: Segment,
    buffer: &mut Vec<u8>,
) -> Result<Option<Piece>, WriteError> {
    // Every byte is overwritten below; what the buffer held before saves clearing it.
    buffer.resize((segment.end - segment.start) as usize, 0);
    let mut out = Cursor { free: buffer, at: segment.start };
    let mut header = Vec::new();
    // One at most: a segment ends before a file that would not be whole in it.
    let mut piece = None;
    for (index, entry) in entries.iter().enumerate().skip(segment.entry) {
        if out.at == segment.end {
            return Ok(piece);
        }
        if out.at == layout.starts[index] {
            header.clear();
            header::encode(entry, &mut header);
            out.take(header.len()).copy_from_slice(&header);
        }
        let next = layout.starts.get(index + 1).copied().unwrap_or(layout.data_end());
        let skip = out.at - layout.data_offsets[index];
        let want = header::data_len(entry).saturating_sub(skip).min(segment.end - out.at);
        if let EntryKind::File(content) = &entry.kind
            && want > 0
        {
            let value = read(entry, content, skip, out.take(want as usize))?;
            piece = piece.or(value.map(|value| Piece { entry: index, value, end: skip + want }));
        }
        let padding = next.min(segment.end) - out.at;
        out.take(padding as usize).fill(0);
    }
    out.free.fill(0);
    Ok(piece)
}

/// The part of a segment that is still to be filled.
struct Cursor<'b> {
    free: &'b mut [u8],
    /// Its place in the tar.
    at: u64,
}

impl<'b> Cursor<'b> {
    fn take(&mut self, len: usize) -> &'b mut [u8] {
        let (taken, rest) = std::mem::take(&mut self.free).split_at_mut(len);
        self.free = rest;
        self.at += len as u64;
        taken
    }
}

/// Reads `out.len()` bytes of `content` from `offset` on; what they are in the tree of its digest, if it has one and they
/// are not all of it.
fn read(
    entry: &Entry,
    content: &Content,
    offset: u64,
    out: &mut [u8],
) -> Result<Option<ChainingValue>, WriteError> {
    match content {
        Content::Bytes(bytes) => {
            let start = offset as usize;
            out.copy_from_slice(&bytes[start..start + out.len()]);
            Ok(None)
        }
        Content::Slice { file, offset: first, .. } => file
            .read_exact_at(out, first + offset)
            .map(|()| None)
            .map_err(|error| WriteError::ReadScratch { path: show(&entry.path), error }),
        Content::Disk(disk) => {
            let disk = disk.file();
            read_disk(&disk, offset, out).map_err(|failure| failure.at(entry, &disk))
        }
    }
}

enum Failure {
    Changed,
    Unlike,
    Io(io::Error),
}

impl From<io::Error> for Failure {
    /// A file that is shorter than it was, gone, or a symlink now, has changed.
    fn from(error: io::Error) -> Self {
        let is_symlink = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => Failure::Changed,
            _ if is_symlink => Failure::Changed,
            _ => Failure::Io(error),
        }
    }
}

impl Failure {
    fn at(self, entry: &Entry, disk: &DiskFile) -> WriteError {
        let (path, source_path) = (show(&entry.path), disk.path.clone());
        match self {
            Failure::Changed => WriteError::Changed { path, source_path },
            Failure::Unlike => WriteError::Unlike { source_path },
            Failure::Io(error) => WriteError::Read { path, source_path, error },
        }
    }
}

fn read_disk(disk: &DiskFile, offset: u64, out: &mut [u8]) -> Result<Option<ChainingValue>, Failure> {
    let file = Root::from_fd(Arc::clone(&disk.root), PathBuf::new()).open_file(&disk.path)?;
    check_unchanged(disk, &file)?;
    file.read_exact_at(out, offset)?;
    check_unchanged(disk, &file)?;
    let is_whole = out.len() as u64 == disk.size;
    match disk.digest {
        Some(digest) if is_whole && *blake3::hash(out).as_bytes() != digest => Err(Failure::Unlike),
        Some(_) if !is_whole => Ok(Some(pieces::value(out, offset))),
        _ => Ok(None),
    }
}

fn check_unchanged(disk: &DiskFile, file: &File) -> Result<(), Failure> {
    let now = file.metadata()?;
    let same = now.is_file()
        && now.len() == disk.size
        && (now.mtime(), now.mtime_nsec()) == (disk.mtime.0, i64::from(disk.mtime.1))
        && (now.ctime(), now.ctime_nsec()) == (disk.ctime.0, i64::from(disk.ctime.1));
    if same { Ok(()) } else { Err(Failure::Changed) }
}
