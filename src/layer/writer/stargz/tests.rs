//! What a reader finds who knows the format and nothing of the writer.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use serde_json::Value;

use super::super::{WriteOptions, Written, write as write_layer};
use super::*;
use crate::layer::Compression;
use crate::layer::archive::Limits;
use crate::layer::entry::Content;
use crate::layer::index::Index;

const ESTARGZ: Compression = Compression::Estargz { level: 1 };

fn entry(path: impl Into<Vec<u8>>, kind: EntryKind) -> Entry {
    let (mode, mtime) = (0o644, 1_700_000_000);
    Entry { path: path.into(), kind, mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
}

fn file(path: impl Into<Vec<u8>>, content: &[u8]) -> Entry {
    entry(path, EntryKind::File(Content::Bytes(content.into())))
}

fn written(entries: &[Entry], compression: Compression) -> (Written, Vec<u8>) {
    let mut blob = Vec::new();
    let written = write_layer(entries.to_vec(), &WriteOptions { compression }, &mut blob).unwrap();
    assert_eq!((written.digest, written.size), (Digest::of(&blob), blob.len() as u64));
    (written, blob)
}

/// `len` bytes with as many bits of chance in each as asked for.
fn bytes(len: usize, bits: u32, mut seed: u32) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> (32 - bits)) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Every kind of entry; files whose lengths are at the borders of pieces; members that are noise.
fn every_kind() -> Vec<Entry> {
    let chunk = CHUNK_BYTES as usize;
    let mut entries = vec![
        entry("d", EntryKind::Directory),
        entry("d", EntryKind::OpaqueWhiteout),
        entry("gone", EntryKind::Whiteout),
        file("d/empty", b""),
        file("d/one", b"1"),
        file("d/piece", &bytes(chunk, 3, 1)),
        file("d/piece-and-one", &bytes(chunk + 1, 4, 2)),
        file("d/three", &bytes(2 * chunk + 12_345, 4, 3)),
        file("d/two", &bytes(2 * chunk, 2, 4)),
        file("d/noise", &bytes(chunk + 300_000, 8, 5)),
        file(format!("d/{}", "long".repeat(60)), b"with a header before its header"),
        file("d/gr\u{fc}n \"quoted\" \u{1}", b"escaped"),
        entry("hard", EntryKind::HardLink(b"d/three".to_vec())),
        entry("soft", EntryKind::Symlink("d/gr\u{fc}n".into())),
        entry("pipe", EntryKind::Fifo),
        entry("null", EntryKind::CharDevice { major: 1, minor: 3 }),
        entry("disk", EntryKind::BlockDevice { major: 8, minor: 0 }),
    ];
    entries[0].mode = 0o1777;
    let mut odd = file("odd", b"capable");
    (odd.uid, odd.gid, odd.mode, odd.mtime) = (1000, 4_000_000_000, 0o4755, -1);
    odd.xattrs.insert(b"security.capability".to_vec(), b"\x01\0\xff".to_vec());
    let mut first = file("first", b"at the beginning of time");
    first.mtime = 0;
    entries.extend([odd, first]);
    entries
        .extend((0..900).map(|index| file(format!("many/{index:03}"), &bytes(index * 31, 4, index as u32))));
    entries
}

/// What the footer, the table and the members of a blob say.
struct Opened {
    table: Value,
    table_digest: Digest,
    /// Where the member with the table begins.
    table_at: usize,
    /// Where each member begins, and the bytes in it.
    members: BTreeMap<usize, Vec<u8>>,
}

impl Opened {
    fn rows(&self) -> &[Value] {
        self.table["entries"].as_array().unwrap()
    }

    /// All decompressed bytes up to the table.
    fn tar(&self) -> Vec<u8> {
        self.members.range(..self.table_at).flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}

/// Reads a blob from its end.
fn open(blob: &[u8]) -> Opened {
    let footer = &blob[blob.len() - 51..];
    let mut decoder = flate2::read::GzDecoder::new(footer);
    assert_eq!(decoder.read_to_end(&mut Vec::new()).unwrap(), 0, "the footer is an empty member");
    let extra = decoder.header().unwrap().extra().unwrap().to_vec();
    assert_eq!((&extra[..4], &extra[20..]), (&b"SG\x16\0"[..], &b"STARGZ"[..]));
    let table_at = usize::from_str_radix(std::str::from_utf8(&extra[4..20]).unwrap(), 16).unwrap();
    let mut members = BTreeMap::new();
    let mut at = 0;
    while at < blob.len() {
        let mut decoder = flate2::bufread::GzDecoder::new(&blob[at..]);
        let mut bytes = Vec::new();
        decoder.read_to_end(&mut bytes).unwrap();
        members.insert(at, bytes);
        at = blob.len() - decoder.into_inner().len();
    }
    // The member at that place alone is a tar with one file, and before the footer there is nothing else.
    assert_eq!(members.keys().rev().take(2).copied().collect::<Vec<_>>(), [blob.len() - 51, table_at]);
    let mut archive = tar::Archive::new(&members[&table_at][..]);
    let mut files = archive.entries().unwrap();
    let mut json = Vec::new();
    let mut file = files.next().unwrap().unwrap();
    assert_eq!(&*file.path_bytes(), b"stargz.index.json");
    file.read_to_end(&mut json).unwrap();
    assert!(files.next().is_none());
    let table = serde_json::from_slice(&json).unwrap();
    Opened { table, table_digest: Digest::of(&json), table_at, members }
}

fn number(row: &Value, key: &str) -> u64 {
    row.get(key).map_or(0, |value| value.as_u64().unwrap())
}

/// A file of the table, put together from its members alone.
fn fetch(opened: &Opened, rows: &[Value], index: usize) -> Vec<u8> {
    let row = &rows[index];
    let size = number(row, "size");
    let chunks = rows[index + 1..].iter().take_while(|next| next["type"] == "chunk");
    let mut content = Vec::new();
    for chunk in std::iter::once(row).chain(chunks) {
        if size == 0 {
            continue;
        }
        assert_eq!(chunk["name"], row["name"]);
        assert_eq!(number(chunk, "chunkOffset"), content.len() as u64);
        let len = match number(chunk, "chunkSize") {
            0 => size - content.len() as u64,
            len => len,
        };
        let bytes = &opened.members[&(number(chunk, "offset") as usize)][..len as usize];
        assert_eq!(chunk["chunkDigest"], Digest::of(bytes).to_string());
        content.extend_from_slice(bytes);
    }
    assert_eq!((content.len() as u64, &row["digest"]), (size, &Digest::of(&content).to_string().into()));
    content
}

/// Compares what the table says with what the tar crate reads from the whole; gives the number of entries.
fn check_blob(written: &Written, blob: &[u8]) -> usize {
    let opened = open(blob);
    assert_eq!(opened.table["version"], 1);
    let mut rows = (0..opened.rows().len()).filter(|&index| opened.rows()[index]["type"] != "chunk");
    let tar = opened.tar();
    let mut archive = tar::Archive::new(&tar[..]);
    let mut count = 0;
    for found in archive.entries().unwrap() {
        let mut found = found.unwrap();
        let index = rows.next().unwrap();
        let row = &opened.rows()[index];
        assert_eq!(row["name"], String::from_utf8(found.path_bytes().into_owned()).unwrap());
        let link = found.link_name_bytes().map(|link| String::from_utf8(link.into_owned()).unwrap());
        assert_eq!(row.get("linkName").and_then(Value::as_str), link.as_deref());
        let header = found.header();
        let kind = match header.entry_type() {
            tar::EntryType::Regular => "reg",
            tar::EntryType::Directory => "dir",
            tar::EntryType::Symlink => "symlink",
            tar::EntryType::Link => "hardlink",
            tar::EntryType::Fifo => "fifo",
            tar::EntryType::Char => "char",
            tar::EntryType::Block => "block",
            other => panic!("{other:?}"),
        };
        assert_eq!(row["type"], kind);
        assert_eq!(number(row, "mode"), u64::from(header.mode().unwrap()));
        assert_eq!(number(row, "devMajor"), u64::from(header.device_major().unwrap().unwrap_or(0)));
        assert_eq!(number(row, "devMinor"), u64::from(header.device_minor().unwrap().unwrap_or(0)));
        if kind == "reg" {
            let mut content = Vec::new();
            found.read_to_end(&mut content).unwrap();
            assert!(content == fetch(&opened, opened.rows(), index), "{}", row["name"]);
        }
        count += 1;
    }
    assert!(rows.next().is_none());
    check_whole(written, blob, &opened, &tar);
    count
}

/// What who knows nothing of the format finds.
fn check_whole(written: &Written, blob: &[u8], opened: &Opened, tar: &[u8]) {
    let (plain, plain_tar) = self::written(&written.entries, Compression::None);
    assert!(plain_tar == tar, "before the table stands the layer as it always is");
    assert_eq!(plain.data_offsets, written.data_offsets);
    let mut whole = Vec::new();
    flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut whole).unwrap();
    assert_eq!(written.diff_id.0, Digest::of(&whole));
    assert_eq!(written.uncompressed_size, whole.len() as u64);
    let expected = [
        ("containerd.io/snapshot/stargz/toc.digest".to_owned(), opened.table_digest.to_string()),
        ("io.containers.estargz.uncompressed-size".to_owned(), whole.len().to_string()),
    ];
    assert_eq!(written.annotations, BTreeMap::from(expected));
    let read = Index::read(blob, Limits::default()).unwrap();
    assert_eq!((read.diff_id, read.uncompressed_bytes), (written.diff_id, whole.len() as u64));
    let told = Index::from_entries(&written.entries, &written.data_offsets).unwrap();
    assert!(told.to_bytes() == read.index.to_bytes());
}

#[test]
fn a_reader_of_the_table_and_one_of_the_tar_find_the_same() {
    let entries = every_kind();
    for level in [0, 9] {
        let (written, blob) = written(&entries, Compression::Estargz { level });
        assert_eq!(check_blob(&written, &blob), entries.len(), "level {level}");
    }
    let (written, blob) = written(&entries, ESTARGZ);
    assert_eq!(check_blob(&written, &blob), entries.len());
    let opened = open(&blob);
    let row = |name: &str| opened.rows().iter().find(|row| row["name"] == name).unwrap().to_string();
    assert_eq!(
        row("odd"),
        format!(
            "{{\"name\":\"odd\",\"type\":\"reg\",\"size\":7,\"modtime\":\"1969-12-31T23:59:59Z\",\"mode\":2541,\
             \"uid\":1000,\"gid\":4000000000,\"offset\":{},\"xattrs\":{{\"security.capability\":\"AQD/\"}},\
             \"digest\":\"{digest}\",\"chunkDigest\":\"{digest}\"}}",
            number(opened.rows().iter().find(|row| row["name"] == "odd").unwrap(), "offset"),
            digest = Digest::of(b"capable"),
        )
    );
    assert_eq!(row("d/"), r#"{"name":"d/","type":"dir","modtime":"2023-11-14T22:13:20Z","mode":1023}"#);
    assert!(!row("first").contains("modtime"), "1970 is told by telling nothing");
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let entries = every_kind();
    for level in [0, 1, 9] {
        let blobs = [1, 2, 8].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| written(&entries, Compression::Estargz { level }).1)
        });
        assert!(blobs[0] == blobs[1] && blobs[0] == blobs[2]);
    }
}

#[test]
fn layers_without_files_have_a_table_too() {
    let directory = || entry("d", EntryKind::Directory);
    for entries in [vec![], vec![directory()], vec![entry("gone", EntryKind::Whiteout)], vec![file("e", b"")]]
    {
        let (written, blob) = written(&entries, ESTARGZ);
        assert_eq!(check_blob(&written, &blob), entries.len());
    }
}

/// Also more rows than are compressed at a time.
#[test]
fn entries_without_content_do_not_make_one_endless_member() {
    let mut entries: Vec<Entry> =
        (0..70_000).map(|index| entry(format!("{index:05}"), EntryKind::Directory)).collect();
    entries.push(file("50000.", b"in between"));
    entries.push(file("99999", b"at the end"));
    let (written, blob) = written(&entries, ESTARGZ);
    assert_eq!(check_blob(&written, &blob), entries.len());
    let longest = open(&blob).members.range(..).rev().skip(2).map(|(_, bytes)| bytes.len()).max();
    assert!(longest < Some((1 << 20) + 2048), "{longest:?}");
}

/// A file that is read piece by piece, by whichever thread has time.
#[test]
fn a_large_file_from_a_scratch_file() {
    let content = bytes(30_000_000, 2, 7);
    let mut scratch = tempfile::tempfile().unwrap();
    scratch.write_all(b"before").unwrap();
    scratch.write_all(&content).unwrap();
    let slice = |file: File| Content::Slice { file: Arc::new(file), offset: 6, len: content.len() as u64 };
    let entries = [entry("large", EntryKind::File(slice(scratch)))];
    let (written, blob) = written(&entries, ESTARGZ);
    check_blob(&written, &blob);
    let opened = open(&blob);
    assert_eq!(opened.rows().len(), content.len().div_ceil(CHUNK_BYTES as usize));
    let offsets: BTreeSet<u64> = opened.rows().iter().map(|row| number(row, "offset")).collect();
    assert_eq!(offsets.len(), opened.rows().len());
    assert!(fetch(&opened, opened.rows(), 0) == content);
}

#[test]
fn what_the_table_cannot_hold_is_refused() {
    let mut named = file("x", b"");
    named.xattrs.insert(b"user.\xff".to_vec(), b"value".to_vec());
    let cases = [
        (file(TABLE_NAME, b"{}"), "`stargz.index.json` cannot be at the root"),
        (entry(TABLE_NAME, EntryKind::Directory), "`stargz.index.json` cannot be at the root"),
        (
            file(b"caf\xe9".to_vec(), b""),
            "`caf\u{fffd}`: an eStargz layer cannot tell names that are not UTF-8",
        ),
        (entry("link", EntryKind::Symlink(b"\xe9".to_vec())), "`link`: an eStargz layer cannot tell"),
        (named, "`x`: an eStargz layer cannot tell"),
    ];
    for (entry, expected) in cases {
        let options = WriteOptions { compression: ESTARGZ };
        let error = write_layer(vec![entry.clone()], &options, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        // Every other compression takes it.
        write_layer(vec![entry], &WriteOptions::default(), &mut Vec::new()).unwrap();
    }
    for fine in [file("d/stargz.index.json", b"{}"), entry(TABLE_NAME, EntryKind::Whiteout)] {
        let (written, blob) = written(&[fine], ESTARGZ);
        check_blob(&written, &blob);
    }
}
