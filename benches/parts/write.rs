//! Writing a layer: headers, reading, compressing, and both digests. 10,000 files of 6 kB, 67 MB as a tar, take 0.5 s
//! as gzip and as zstd, and 0.14 s uncompressed.
//!
//! To compare: `time tar -C DIR -cf - . | gzip -1 | sha256sum`, or with `pigz -1`, and `--dir DIR` here.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use rbuild::layer::entry::{Content, DiskFile, Entry, EntryKind};
use rbuild::layer::{Compression, WriteOptions, Written, write};
use rbuild::rootfs::Root;

use super::{Setting, Work, tree};

/// What rbuild writes unless told otherwise.
pub(crate) const GZIP: Compression = Compression::Gzip { level: 1 };
/// `compression-level=6`, as `gzip` has it without an option.
pub(crate) const GZIP_6: Compression = Compression::Gzip { level: 6 };
/// `compression=zstd` at its fastest usual level.
pub(crate) const ZSTD: Compression = Compression::Zstd { level: 1 };
/// `compression=estargz`
pub(crate) const ESTARGZ: Compression = Compression::Estargz { level: 1 };
/// The bare tar.
pub(crate) const NONE: Compression = Compression::None;

/// A folder on disk; its entries are at hand, its contents are not.
pub(crate) fn tree(setting: &Setting, compression: Compression) -> Work {
    let dir = setting.given.clone().unwrap_or_else(|| {
        tree::make(&setting.scratch, 10_000);
        setting.scratch.clone()
    });
    let entries = scan(&Root::open(&dir).expect("the folder can be opened"));
    writing(entries, compression)
}

/// So many files in memory.
pub(crate) fn memory(files: usize, compression: Compression) -> Work {
    writing(tree::entries(files), compression)
}

/// So many empty files: the order, the headers and the digests alone.
pub(crate) fn headers(files: usize) -> Work {
    writing(tree::empty(files), NONE)
}

/// A layer of so many files, and its blob.
pub(crate) fn blob(files: usize, compression: Compression) -> (Written, Vec<u8>) {
    blob_of(tree::entries(files), compression)
}

/// A layer of these entries, and its blob.
pub(crate) fn blob_of(entries: Vec<Entry>, compression: Compression) -> (Written, Vec<u8>) {
    let mut blob = Vec::new();
    let written = write(entries, &WriteOptions { compression }, &mut blob).expect("written");
    (written, blob)
}

fn writing(entries: Vec<Entry>, compression: Compression) -> Work {
    Box::new(move || {
        write(entries.clone(), &WriteOptions { compression }, &mut std::io::sink()).expect("written");
    })
}

fn scan(root: &Root) -> Vec<Entry> {
    let mut entries = Vec::new();
    for found in walkdir::WalkDir::new(root.path()).min_depth(1) {
        let found = found.expect("readable");
        let meta = found.metadata().expect("readable");
        let path = found.path().strip_prefix(root.path()).expect("below the root");
        let kind = if meta.is_dir() {
            EntryKind::Directory
        } else if meta.is_file() {
            let file = DiskFile {
                root: Arc::clone(root.fd()),
                path: path.to_owned(),
                size: meta.len(),
                inode: meta.ino(),
                device: meta.dev(),
                mtime: (meta.mtime(), meta.mtime_nsec() as u32),
                ctime: (meta.ctime(), meta.ctime_nsec() as u32),
                digest: None,
            };
            EntryKind::File(Content::Disk(file.into()))
        } else {
            continue;
        };
        entries.push(Entry {
            path: path.as_os_str().as_bytes().to_vec(),
            kind,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: meta.mtime(),
            xattrs: BTreeMap::new(),
        });
    }
    entries
}
