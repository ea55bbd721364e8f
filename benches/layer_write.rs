//! Times writing one directory tree as a layer: `cargo bench --bench layer_write -- DIR [RUNS]`.
//!
//! To compare: `time tar -C DIR -cf - . | gzip -1 | sha256sum`, or with `pigz -1`.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rbuild::layer::entry::{Content, DiskFile, Entry, EntryKind};
use rbuild::layer::{Compression, WriteOptions, write};
use rbuild::rootfs::Root;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let Some(dir) = args.next() else { return };
    let runs = args.next().and_then(|runs| runs.parse().ok()).unwrap_or(3);
    let root = Root::open(Path::new(&dir)).expect("the directory can be opened");
    let entries = scan(&root);
    let mut err = std::io::stderr();
    for compression in [Compression::default(), Compression::Zstd { level: 1 }, Compression::None] {
        for _ in 0..runs {
            let entries = entries.clone();
            let start = Instant::now();
            let done = write(entries, &WriteOptions { compression }, &mut std::io::sink()).expect("written");
            let ms = start.elapsed().as_secs_f64() * 1e3;
            let (raw, size) = (done.uncompressed_size, done.size);
            let _ = writeln!(err, "{compression:?}: {ms:.3} ms, {raw} bytes to {size}, {:?}", done.digest);
        }
    }
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
            EntryKind::File(Content::Disk(DiskFile {
                root: Arc::clone(root.fd()),
                path: path.to_owned(),
                size: meta.len(),
                inode: meta.ino(),
                device: meta.dev(),
                mtime: (meta.mtime(), meta.mtime_nsec() as u32),
                ctime: (meta.ctime(), meta.ctime_nsec() as u32),
                digest: None,
            }))
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
