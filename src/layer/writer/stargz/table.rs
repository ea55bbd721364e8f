//! The table behind the tar, and the footer behind the table.
//!
//! The table is one gzip member and may have a hundred megabytes, so it is never in memory as a whole: its length, which a
//! tar header has to tell before, is counted first, and then it is written group by group. The groups are compressed on
//! all threads; deflate streams that were flushed at a byte border may follow one another (RFC 1951, 3.2.4).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::write::DeflateEncoder;
use libdeflater::Crc;
use rayon::prelude::*;
use serde::Serialize;

use super::pack::Member;
use super::{CHUNK_BYTES, TABLE_NAME};
use crate::layer::entry::{Entry, EntryKind};
use crate::layer::header::{self, BLOCK};
use crate::layer::writer::WriteError;
use crate::oci::{Digest, Hasher, rfc3339};

/// So many rows are compressed together, about 1 MiB.
const GROUP_ROWS: usize = 4096;
/// So many groups are in memory.
const GROUPS_AT_ONCE: usize = 16;

const OPEN: &[u8] = b"{\"version\":1,\"entries\":[\n";
const CLOSE: &[u8] = b"\n]}\n";

/// Two blocks of zeros end a tar.
const TAR_END: u64 = 2 * BLOCK as u64;

/// A gzip header without name and time (RFC 1952, 2.3).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Places and digests of the pieces of files, in the order of the layer, as far as it is written.
#[derive(Default)]
pub(in crate::layer::writer) struct Chunks {
    list: Vec<(u64, Digest)>,
}

impl Chunks {
    /// Notes members that are at `at` in the blob.
    pub(in crate::layer::writer) fn push(&mut self, members: &[Member], mut at: u64) {
        for member in members {
            self.list.extend(member.chunk.map(|chunk| (at, chunk.digest)));
            at += member.packed_bytes as u64;
        }
    }
}

/// All that the table tells.
pub(in crate::layer::writer) struct Table<'a> {
    /// Of the layer.
    pub(in crate::layer::writer) entries: &'a [Entry],
    /// Of all files.
    pub(in crate::layer::writer) chunks: &'a Chunks,
    /// The digests of the files that have several pieces.
    pub(in crate::layer::writer) files: &'a [Digest],
}

/// What was written behind the tar.
#[derive(Debug, Clone, Copy)]
pub(in crate::layer::writer) struct End {
    /// Digest of the table.
    pub(in crate::layer::writer) digest: Digest,
    /// Bytes of the tar that it is in.
    pub(in crate::layer::writer) raw_bytes: u64,
}

/// Writes table and footer with `put`; they begin at `at` in the blob. What a reader decompresses from them is added to
/// `raw`.
pub(in crate::layer::writer) fn write(
    table: &Table<'_>,
    level: u8,
    at: u64,
    raw: &mut Hasher,
    put: &mut dyn FnMut(&[u8]) -> Result<(), WriteError>,
) -> Result<End, WriteError> {
    let groups = table.groups();
    let lengths: Result<Vec<u64>, WriteError> = groups.par_iter().map(|group| table.len(group)).collect();
    let json_bytes = OPEN.len() as u64 + lengths?.iter().sum::<u64>() + CLOSE.len() as u64;
    let mut member = TableMember { raw, put, json: Hasher::new(), crc: Crc::new(), raw_bytes: 0 };
    (member.put)(&GZIP_HEADER)?;
    member.add(&tar_header(json_bytes), level)?;
    member.add_json(OPEN, level)?;
    for batch in groups.chunks(GROUPS_AT_ONCE) {
        let packed: Result<Vec<_>, WriteError> =
            batch.par_iter().map(|group| table.pack(group, level)).collect();
        for (json, packed) in packed? {
            member.json.update(&json);
            member.take(&json, &packed)?;
        }
    }
    member.add_json(CLOSE, level)?;
    let padding = json_bytes.next_multiple_of(BLOCK as u64) - json_bytes + TAR_END;
    member.add(&vec![0; padding as usize], level)?;
    member.finish(at)
}

/// The gzip member with the table, while it is written.
struct TableMember<'a> {
    raw: &'a mut Hasher,
    put: &'a mut dyn FnMut(&[u8]) -> Result<(), WriteError>,
    /// Of the table alone, without the tar around it.
    json: Hasher,
    crc: Crc,
    raw_bytes: u64,
}

impl TableMember<'_> {
    fn add_json(&mut self, json: &[u8], level: u8) -> Result<(), WriteError> {
        self.json.update(json);
        self.add(json, level)
    }

    fn add(&mut self, raw: &[u8], level: u8) -> Result<(), WriteError> {
        let packed = deflate(raw, level)?;
        self.take(raw, &packed)
    }

    fn take(&mut self, raw: &[u8], packed: &[u8]) -> Result<(), WriteError> {
        self.raw.update(raw);
        self.crc.update(raw);
        self.raw_bytes += raw.len() as u64;
        (self.put)(packed)
    }

    /// Ends the stream with an empty block, and adds the footer.
    fn finish(self, at: u64) -> Result<End, WriteError> {
        (self.put)(&[3, 0])?;
        (self.put)(&self.crc.sum().to_le_bytes())?;
        // Modulo 2^32, as RFC 1952 has it.
        (self.put)(&(self.raw_bytes as u32).to_le_bytes())?;
        (self.put)(&footer(at))?;
        Ok(End { digest: self.json.finish(), raw_bytes: self.raw_bytes })
    }
}

/// An empty gzip member of 51 bytes, whose extra field tells where the table is.
fn footer(table_at: u64) -> [u8; 51] {
    let mut footer = [0; 51];
    footer[..10].copy_from_slice(&GZIP_HEADER);
    // FEXTRA: 26 bytes, a field `SG` of 22.
    footer[3] = 4;
    footer[10..16].copy_from_slice(&[26, 0, b'S', b'G', 22, 0]);
    footer[16..38].copy_from_slice(format!("{table_at:016x}STARGZ").as_bytes());
    // An empty stored block, the last one; then CRC and length, both zero.
    footer[38..43].copy_from_slice(&[1, 0, 0, 0xff, 0xff]);
    footer
}

fn tar_header(json_bytes: u64) -> [u8; BLOCK] {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..TABLE_NAME.len()].copy_from_slice(TABLE_NAME.as_bytes());
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(json_bytes);
    header.set_cksum();
    *header.as_bytes()
}

/// A deflate stream that ends at a byte, so that another one can follow. zlib's level 1 has no codes but the fixed ones,
/// which are no good for hexadecimal digits.
fn deflate(raw: &[u8], level: u8) -> Result<Vec<u8>, WriteError> {
    let level = if level == 0 { 0 } else { u32::from(level).clamp(2, 9) };
    let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(raw).and_then(|()| encoder.flush()).map_err(WriteError::Sink)?;
    Ok(std::mem::take(encoder.get_mut()))
}

/// Entries whose rows are made together.
#[derive(Default)]
struct Group {
    entries: Range<usize>,
    /// Where their pieces begin in [`Table::chunks`], and their files in [`Table::files`].
    chunk: usize,
    file: usize,
}

impl Table<'_> {
    fn groups(&self) -> Vec<Group> {
        let (mut groups, mut group) = (Vec::new(), Group::default());
        let (mut rows, mut chunk, mut file) = (0, 0, 0);
        for (index, entry) in self.entries.iter().enumerate() {
            let count = chunk_count(entry);
            rows += count.max(1);
            chunk += count;
            file += usize::from(count > 1);
            group.entries.end = index + 1;
            if rows >= GROUP_ROWS {
                groups.push(std::mem::replace(
                    &mut group,
                    Group { entries: index + 1..index + 1, chunk, file },
                ));
                rows = 0;
            }
        }
        groups.push(group);
        groups
    }

    /// The number of bytes of a group's rows.
    fn len(&self, group: &Group) -> Result<u64, WriteError> {
        let mut count = Count(0);
        self.write_rows(group, &mut count).map_err(WriteError::Sink)?;
        Ok(count.0)
    }

    /// A group's rows, plain and compressed.
    fn pack(&self, group: &Group, level: u8) -> Result<(Vec<u8>, Vec<u8>), WriteError> {
        let mut json = Vec::new();
        self.write_rows(group, &mut json).map_err(WriteError::Sink)?;
        let packed = deflate(&json, level)?;
        Ok((json, packed))
    }

    fn write_rows(&self, group: &Group, out: &mut impl Write) -> io::Result<()> {
        let mut chunks = self.chunks.list[group.chunk..].iter();
        let mut files = self.files[group.file..].iter();
        for index in group.entries.clone() {
            let entry = &self.entries[index];
            let name = text(&header::tar_name(entry));
            let mut row = Row::of(entry, &name);
            let mut separator: &[u8] = if index == 0 { b"" } else { b",\n" };
            let count = chunk_count(entry);
            if count == 0 {
                row.write(separator, out)?;
            }
            let whole = if count > 1 { files.next().copied() } else { None };
            for (number, (offset, digest)) in (0..count as u64).zip(&mut chunks) {
                row.place(number, header::data_len(entry), *offset, *digest);
                if number == 0 {
                    row.digest = Some(whole.unwrap_or(*digest));
                }
                row.write(separator, out)?;
                row = Row { name: &name, kind: "chunk", ..Row::default() };
                separator = b",\n";
            }
        }
        Ok(())
    }
}

/// The number of pieces of an entry's content.
fn chunk_count(entry: &Entry) -> usize {
    header::data_len(entry).div_ceil(CHUNK_BYTES) as usize
}

/// What is UTF-8, as [`check`](super::check) has seen.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Counts bytes.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One row, with the fields and in the order of the reference implementation. A file of several pieces has a row for each.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(rename = "modtime", skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    /// Values in base64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    /// Of the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    /// Left out for what reaches to the end of the file, unless that is a whole piece.
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<Digest>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl<'a> Row<'a> {
    /// Without what is known of its pieces.
    fn of(entry: &Entry, name: &'a str) -> Self {
        let mut row = Self {
            name,
            time: (entry.mtime != 0).then(|| rfc3339(entry.mtime)),
            mode: u64::from(entry.mode),
            uid: u64::from(entry.uid),
            gid: u64::from(entry.gid),
            ..Self::default()
        };
        let encode = |(name, value): (&Vec<u8>, &Vec<u8>)| (text(name), BASE64_STANDARD.encode(value));
        row.xattrs = entry.xattrs.iter().map(encode).collect();
        row.kind = match &entry.kind {
            EntryKind::Directory => "dir",
            EntryKind::File(_) | EntryKind::Whiteout | EntryKind::OpaqueWhiteout => {
                row.size = header::data_len(entry);
                row.digest = (row.size == 0).then(|| Digest::of(b""));
                "reg"
            }
            EntryKind::Symlink(target) => {
                row.link_name = text(target);
                "symlink"
            }
            EntryKind::HardLink(target) => {
                row.link_name = text(target);
                "hardlink"
            }
            EntryKind::Fifo => "fifo",
            EntryKind::CharDevice { major, minor } => {
                (row.dev_major, row.dev_minor) = (u64::from(*major), u64::from(*minor));
                "char"
            }
            EntryKind::BlockDevice { major, minor } => {
                (row.dev_major, row.dev_minor) = (u64::from(*major), u64::from(*minor));
                "block"
            }
        };
        row
    }

    /// Sets what is known of piece `number` of a file of `size` bytes.
    fn place(&mut self, number: u64, size: u64, offset: u64, digest: Digest) {
        self.chunk_offset = number * CHUNK_BYTES;
        self.chunk_size = if size - self.chunk_offset >= CHUNK_BYTES { CHUNK_BYTES } else { 0 };
        (self.offset, self.chunk_digest) = (offset, Some(digest));
    }

    fn write(&self, separator: &[u8], out: &mut impl Write) -> io::Result<()> {
        out.write_all(separator)?;
        Ok(serde_json::to_writer(out, self)?)
    }
}
