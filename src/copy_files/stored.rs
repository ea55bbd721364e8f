//! The bytes of files in layers that lie in the store as compressed blobs.
//!
//! A blob can only be streamed, so the digests of all its files are taken in one pass and kept beside the
//! layer's index: a table for each diff id, which never changes and can be thrown away at any time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::tree::{LayerBytes, Range};
use crate::layer::archive::decompress;
use crate::layer::contents::{Wanted, spool};
use crate::layer::entry::Content;
use crate::layer::index::{Index, Kind, What};
use crate::layer::view::RootView;
use crate::oci::DiffId;
use crate::store::supersede;

const MAGIC: &[u8; 8] = b"rbdigs\0\x01";
/// Offset and digest.
const RECORD_BYTES: usize = 8 + 32;
const BUFFER_BYTES: usize = 128 * 1024;

/// Opens the blob of a layer by its number, compressed as it is.
pub type OpenLayer = Box<dyn Fn(usize) -> io::Result<Box<dyn Read>> + Send + Sync>;
/// Makes an empty scratch file, open for reading and writing.
pub type MakeScratch = Box<dyn Fn() -> io::Result<File> + Send + Sync>;

/// See the module.
pub struct StoredLayers {
    /// Opens a layer's blob.
    pub open: OpenLayer,
    /// Makes a file for contents that are too large for memory.
    pub scratch: MakeScratch,
    /// The layers' identities, lowest first.
    pub diff_ids: Vec<DiffId>,
    /// Where tables of digests are kept.
    pub folder: PathBuf,
}

/// Digests by the offset of the data in the uncompressed tar.
type Table = BTreeMap<u64, [u8; 32]>;

impl LayerBytes for StoredLayers {
    fn digests(&self, view: &RootView, wanted: &[Range]) -> io::Result<Vec<[u8; 32]>> {
        let mut tables: BTreeMap<usize, Table> = BTreeMap::new();
        for range in wanted {
            if let Entry::Vacant(place) = tables.entry(range.layer) {
                place.insert(self.table(view, range.layer)?);
            }
        }
        let digest = |range: &Range| tables.get(&range.layer)?.get(&range.offset).copied();
        let digests = wanted.iter().map(digest).collect::<Option<Vec<_>>>();
        digests.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the index names a file that the layer lacks")
        })
    }

    fn contents(&self, wanted: &[Range]) -> io::Result<Vec<Content>> {
        let wanted: Vec<Wanted> = wanted
            .iter()
            .map(|Range { layer, offset, len }| Wanted { layer: *layer, offset: *offset, len: *len })
            .collect();
        spool(&wanted, &|layer| (self.open)(layer), || (self.scratch)()).map_err(io::Error::other)
    }
}

impl StoredLayers {
    /// The digests of all files of a layer, remembered or taken now.
    fn table(&self, view: &RootView, layer: usize) -> io::Result<Table> {
        let (Some(index), Some(diff_id)) = (view.layers().get(layer), self.diff_ids.get(layer)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let ranges = file_ranges(index);
        let file = self.folder.join(format!("{}.digests", diff_id.0.hex()));
        let remembered = crate::rootfs::read_regular(&file).ok().and_then(|bytes| decode(&bytes));
        if let Some(table) = remembered.filter(|table| ranges.keys().all(|offset| table.contains_key(offset)))
        {
            return Ok(table);
        }
        let table = digest_all(&ranges, decompress((self.open)(layer)?)?)?;
        // It can be made again, so a full disk is no reason to fail.
        let _ = save(&file, &encode(&table));
        Ok(table)
    }
}

/// Offset to length of every file's data.
fn file_ranges(index: &Index) -> BTreeMap<u64, u64> {
    let files = index.iter().filter_map(|record| match record.what {
        What::Node(node) => match node.kind {
            Kind::File { size, offset } => Some((offset, size)),
            _ => None,
        },
        What::Implied | What::LowerLink(_) | What::Whiteout => None,
    });
    files.collect()
}

fn digest_all(ranges: &BTreeMap<u64, u64>, mut tar: impl Read) -> io::Result<Table> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut position = 0;
    let mut table = Table::new();
    for (offset, len) in ranges {
        let gap = offset.checked_sub(position).ok_or(io::ErrorKind::InvalidData)?;
        read_exactly(&mut tar, gap, &mut buffer, |_| {})?;
        let mut hasher = blake3::Hasher::new();
        read_exactly(&mut tar, *len, &mut buffer, |bytes| {
            hasher.update(bytes);
        })?;
        table.insert(*offset, *hasher.finalize().as_bytes());
        position = offset + len;
    }
    Ok(table)
}

fn read_exactly(
    reader: &mut impl Read,
    mut len: u64,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    while len > 0 {
        let want = usize::try_from(len).unwrap_or(usize::MAX).min(buffer.len());
        reader.read_exact(&mut buffer[..want])?;
        each(&buffer[..want]);
        len -= want as u64;
    }
    Ok(())
}

fn encode(table: &Table) -> Vec<u8> {
    let mut body = Vec::with_capacity(table.len() * RECORD_BYTES);
    for (offset, digest) in table {
        body.extend(offset.to_le_bytes());
        body.extend(digest);
    }
    [MAGIC.as_slice(), blake3::hash(&body).as_bytes(), &body].concat()
}

fn decode(bytes: &[u8]) -> Option<Table> {
    let (checksum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
    if blake3::hash(body).as_bytes() != checksum {
        return None;
    }
    body.chunks(RECORD_BYTES)
        .map(|record| {
            let (offset, digest) = record.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*offset), digest.try_into().ok()?))
        })
        .collect()
}

fn save(file: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = file.with_extension(format!("{}.new", std::process::id()));
    let write = || {
        File::create(&temporary)?.write_all(bytes)?;
        supersede(&temporary, file)
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::layer::archive::Limits;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, OnceLock};

    static OPENED: AtomicUsize = AtomicUsize::new(0);

    fn blob() -> &'static [u8] {
        static BLOB: OnceLock<Vec<u8>> = OnceLock::new();
        BLOB.get_or_init(|| {
            let mut builder = tar::Builder::new(Vec::new());
            for (name, text) in [("a", "first"), ("b", ""), ("c", "third")] {
                let mut header = tar::Header::new_ustar();
                header.set_size(text.len() as u64);
                builder.append_data(&mut header, name, text.as_bytes()).unwrap();
            }
            builder.into_inner().unwrap()
        })
    }

    #[test]
    fn digests_are_taken_once_and_contents_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let layer = Index::read(blob(), Limits::default()).unwrap();
        let view = RootView::new(vec![Arc::new(layer.index)]);
        let stored = StoredLayers {
            open: Box::new(|_| {
                OPENED.fetch_add(1, Ordering::Relaxed);
                Ok(Box::new(blob()))
            }),
            scratch: Box::new(tempfile::tempfile),
            diff_ids: vec![layer.diff_id],
            folder: folder.path().to_owned(),
        };
        let range = |path: &str| match view.entry(path.as_bytes()).unwrap().node.kind {
            Kind::File { size, offset } => Range { layer: 0, offset, len: size },
            _ => panic!("{path} is a file"),
        };
        let wanted = [range("c"), range("a"), range("b")];
        let expected = ["third", "first", ""].map(|text| *blake3::hash(text.as_bytes()).as_bytes());
        for _ in 0..2 {
            assert_eq!(stored.digests(&view, &wanted).unwrap(), expected);
        }
        assert_eq!(OPENED.load(Ordering::Relaxed), 1);
        let contents = stored.contents(&wanted).unwrap();
        assert!(matches!(&contents[0], Content::Bytes(bytes) if **bytes == *b"third"));
        let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        std::fs::write(file, "damaged").unwrap();
        assert_eq!(stored.digests(&view, &wanted).unwrap(), expected);
    }
}
