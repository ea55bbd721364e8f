//! Fetches the bytes of files out of compressed layers.
//!
//! A blob cannot be read from the middle, so everything wanted of one is gathered in a single pass that
//! stops after the last byte wanted. Of a layer that was written here it is known where it can be cut: see [`Segmented`].

mod segmented;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::archive::decompress;
use super::entry::Content;
use super::view::{Kind, ResolveError, RootView};

pub use segmented::{Reader, Segmented};

/// Up to this many bytes in all, contents are kept in memory.
const IN_MEMORY_LIMIT: u64 = 1 << 20;

/// Opens the blob of a layer, compressed as it is, by the layer's number in the [`RootView`].
pub type OpenBlob<'o> = dyn Fn(usize) -> io::Result<Box<dyn Read>> + 'o;

/// Opens the tar of a layer, as it is within its blob.
pub type OpenTar<'o> = dyn Fn(usize) -> io::Result<Box<dyn Read>> + 'o;

/// A range of a layer's uncompressed tar: what [`Kind::File`] and [`super::view::ViewEntry::layer`] say of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    /// The layer's number.
    pub layer: usize,
    /// The first byte.
    pub offset: u64,
    /// The number of bytes.
    pub len: u64,
}

/// Why contents cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// A layer's blob cannot be opened, read or decompressed, or is shorter than its index says.
    #[error("cannot read layer {layer}: {source}")]
    Layer {
        /// The layer's number, counted from the lowest, 0.
        layer: usize,
        /// What went wrong.
        source: io::Error,
    },
    /// The scratch file cannot be made or written.
    #[error("cannot write the scratch file: {0}")]
    Scratch(#[source] io::Error),
    /// A file that should be small is not.
    #[error("`/{path}` has {size} bytes, more than {limit}")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// The path leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
}

/// Reads some small files, such as `/etc/passwd` and `/etc/group`, streaming each layer at most once. Symlinks
/// are followed inside the root. What does not exist, or is no regular file, gives `None`.
pub fn read_small_files(
    view: &RootView,
    paths: &[&[u8]],
    limit: u64,
    open: &OpenBlob<'_>,
) -> Result<Vec<Option<Vec<u8>>>, ContentsError> {
    let found = paths.iter().map(|path| locate(view, path, limit)).collect::<Result<Vec<_>, _>>()?;
    let wanted: Vec<Wanted> = found.iter().copied().flatten().collect();
    let mut bytes = gather_in_memory(&wanted, open)?.into_iter();
    Ok(found.iter().map(|found| found.and_then(|_| bytes.next())).collect())
}

/// [`read_small_files`] for one file.
pub fn read_small_file(
    view: &RootView,
    path: &[u8],
    limit: u64,
    open: &OpenBlob<'_>,
) -> Result<Option<Vec<u8>>, ContentsError> {
    Ok(read_small_files(view, &[path], limit, open)?.pop().flatten())
}

fn locate(view: &RootView, path: &[u8], limit: u64) -> Result<Option<Wanted>, ContentsError> {
    let resolved = view.resolve(path, true)?;
    if !resolved.exists() {
        return Ok(None);
    }
    let entry = view.entry(&resolved.existing);
    let Some((layer, Kind::File { size, offset })) = entry.and_then(|e| Some((e.layer?, e.node.kind))) else {
        return Ok(None);
    };
    if size > limit {
        let path = String::from_utf8_lossy(&resolved.existing).into_owned();
        return Err(ContentsError::TooLarge { path, size, limit });
    }
    Ok(Some(Wanted { layer, offset, len: size }))
}

/// Fetches ranges of layers, in the order asked for. Each blob is streamed once, to the last byte wanted of it.
/// Small totals come as [`Content::Bytes`]; else everything goes into the file that `scratch` makes, which must
/// be empty and open for reading and writing, and comes as [`Content::Slice`]s of it.
pub fn spool(
    wanted: &[Wanted],
    open: &OpenBlob<'_>,
    scratch: impl FnOnce() -> io::Result<File>,
) -> Result<Vec<Content>, ContentsError> {
    let ranges = sorted(wanted);
    let total: u64 = ranges.iter().fold(0, |sum, range| sum.saturating_add(range.len));
    if total < IN_MEMORY_LIMIT {
        let bytes = gather_in_memory(wanted, open)?;
        return Ok(bytes.into_iter().map(|bytes| Content::Bytes(bytes.into())).collect());
    }
    let file = scratch().map_err(ContentsError::Scratch)?;
    let mut starts = Vec::with_capacity(ranges.len());
    let mut end = 0;
    gather(&ranges, &unpacked(open), |range, piece| {
        if range == starts.len() {
            starts.push(end);
        }
        file.write_all_at(piece, end).map_err(ContentsError::Scratch)?;
        end += piece.len() as u64;
        Ok(())
    })?;
    let file = Arc::new(file);
    let content = |wanted: &Wanted| {
        let range = ranges.binary_search(wanted).expect("`ranges` holds every wanted range");
        Content::Slice { file: file.clone(), offset: starts[range], len: wanted.len }
    };
    Ok(wanted.iter().map(content).collect())
}

/// Whether files hold what ranges of layers hold. Each blob is streamed once, to the last byte wanted of it.
pub fn are_equal(files: &[(Wanted, File)], open: &OpenBlob<'_>) -> Result<Vec<bool>, ContentsError> {
    let ranges = sorted(&files.iter().map(|(wanted, _)| *wanted).collect::<Vec<_>>());
    let mut of_range = vec![Vec::new(); ranges.len()];
    for (at, (wanted, _)) in files.iter().enumerate() {
        of_range[ranges.binary_search(wanted).expect("`ranges` holds every wanted range")].push(at);
    }
    let mut equal = vec![true; files.len()];
    let mut done = vec![0; ranges.len()];
    let mut buffer = Vec::new();
    gather(&ranges, &unpacked(open), |range, piece| {
        buffer.resize(piece.len(), 0);
        for at in &of_range[range] {
            let read = files[*at].1.read_exact_at(&mut buffer, done[range]);
            equal[*at] &= read.is_ok() && buffer == piece;
        }
        done[range] += piece.len() as u64;
        Ok(())
    })?;
    Ok(equal)
}

/// Streams ranges of layers, which must be sorted and each there once: calls `sink` with the number of each range and its bytes, piece by
/// piece, in order, at least once for each. Each tar is streamed once, to the last byte wanted of it.
pub fn stream(
    ranges: &[Wanted],
    open: &OpenTar<'_>,
    sink: impl FnMut(usize, &[u8]) -> Result<(), ContentsError>,
) -> Result<(), ContentsError> {
    gather(ranges, open, sink)
}

fn gather_in_memory(wanted: &[Wanted], open: &OpenBlob<'_>) -> Result<Vec<Vec<u8>>, ContentsError> {
    let ranges = sorted(wanted);
    let mut bytes = vec![Vec::new(); ranges.len()];
    gather(&ranges, &unpacked(open), |range, piece| {
        bytes[range].extend_from_slice(piece);
        Ok(())
    })?;
    let copy = |wanted: &Wanted| {
        bytes[ranges.binary_search(wanted).expect("`ranges` holds every wanted range")].clone()
    };
    Ok(wanted.iter().map(copy).collect())
}

fn sorted(wanted: &[Wanted]) -> Vec<Wanted> {
    let mut ranges = wanted.to_vec();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

/// Opens the tars of such blobs.
fn unpacked<'o>(open: &'o OpenBlob<'o>) -> impl Fn(usize) -> io::Result<Box<dyn Read>> + 'o {
    move |layer| Ok(Box::new(decompress(open(layer)?)?))
}

/// Calls `sink` with the number of each range and its bytes, in order, at least once for each.
fn gather(
    ranges: &[Wanted],
    open: &OpenTar<'_>,
    mut sink: impl FnMut(usize, &[u8]) -> Result<(), ContentsError>,
) -> Result<(), ContentsError> {
    let mut number = 0;
    for of_layer in ranges.chunk_by(|a, b| a.layer == b.layer) {
        let layer = of_layer[0].layer;
        let fail = |source| ContentsError::Layer { layer, source };
        let mut stream = LayerStream { reader: None, position: 0, buffer: vec![0; 128 * 1024] };
        for range in of_layer {
            sink(number, &[])?;
            if range.len > 0 {
                if stream.reader.is_none() {
                    stream.reader = Some(open(layer).map_err(fail)?);
                }
                stream.skip_to(range.offset).map_err(fail)?;
                stream.read(range.len, fail, |piece| sink(number, piece))?;
            }
            number += 1;
        }
    }
    Ok(())
}

/// The uncompressed bytes of a layer, and how far they were read.
struct LayerStream<'o> {
    reader: Option<Box<dyn Read + 'o>>,
    position: u64,
    buffer: Vec<u8>,
}

impl LayerStream<'_> {
    fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        let Some(skip) = offset.checked_sub(self.position) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "files of its index overlap"));
        };
        self.read(skip, |error| error, |_| Ok(()))
    }

    fn read<E>(
        &mut self,
        len: u64,
        fail: impl Fn(io::Error) -> E,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = len;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = match &mut self.reader {
                Some(reader) => reader.read(&mut self.buffer[..want]),
                None => Ok(0),
            };
            match count {
                Ok(0) => return Err(fail(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    sink(&self.buffer[..count])?;
                    left -= count as u64;
                    self.position += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
