#![allow(clippy::unwrap_used)]

mod one_member;
mod remembered;
mod watched;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::layer::archive::Limits;
use crate::layer::entry::{Content, DiskFile, EntryKind};
use crate::layer::index::Index;
use crate::oci::Hasher;
use crate::rootfs::Root;

fn entry(path: impl Into<Vec<u8>>, kind: EntryKind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 1_700_000_000,
        xattrs: BTreeMap::new(),
    }
}

fn file(path: impl Into<Vec<u8>>, content: &[u8]) -> Entry {
    entry(path, EntryKind::File(Content::Bytes(content.into())))
}

fn on_disk(root: &Root, path: &str) -> Entry {
    entry(path, EntryKind::File(Content::Disk(disk_file(root, path).into())))
}

fn disk_file(root: &Root, path: &str) -> DiskFile {
    let found = fs::symlink_metadata(root.path().join(path)).unwrap();
    DiskFile {
        root: Arc::clone(root.fd()),
        path: path.into(),
        size: found.len(),
        inode: found.ino(),
        device: found.dev(),
        mtime: (found.mtime(), found.mtime_nsec() as u32),
        ctime: (found.ctime(), found.ctime_nsec() as u32),
        digest: None,
    }
}

fn written(entries: Vec<Entry>, compression: Compression) -> (Written, Vec<u8>) {
    let mut blob = Vec::new();
    let written = write(entries, &WriteOptions { compression }, &mut blob).unwrap();
    assert_eq!(written.digest, Digest::of(&blob));
    assert_eq!(written.size, blob.len() as u64);
    (written, blob)
}

/// The tar of `entries`, checked against what [`Written`] says of it.
fn tar_of(entries: Vec<Entry>) -> (Written, Vec<u8>) {
    let (written, tar) = written(entries, Compression::None);
    assert_eq!(written.diff_id.0, Digest::of(&tar));
    assert_eq!(written.uncompressed_size, tar.len() as u64);
    for (entry, offset) in written.entries.iter().zip(&written.data_offsets) {
        if let EntryKind::File(Content::Bytes(bytes)) = &entry.kind {
            let start = *offset as usize;
            assert_eq!(&tar[start..start + bytes.len()], &bytes[..]);
        }
    }
    (written, tar)
}

/// One line for each entry, read with the tar crate.
fn listing(tar: &[u8]) -> String {
    let mut out = String::new();
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut pax = BTreeMap::new();
        for record in entry.pax_extensions().unwrap().into_iter().flatten() {
            let record = record.unwrap();
            pax.insert(record.key().unwrap().to_owned(), record.value_bytes().to_vec());
        }
        let mtime = match pax.get("mtime") {
            Some(value) => String::from_utf8(value.clone()).unwrap(),
            None => entry.header().mtime().unwrap().to_string(),
        };
        let path = entry.path_bytes().escape_ascii().to_string();
        let link = entry.link_name_bytes().map(|link| format!(" -> {}", link.escape_ascii()));
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let line = format!(
            "{:?} {:o} {}:{} {mtime} {} {path}{}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.entry_size().unwrap().max(content.len() as u64),
            link.unwrap_or_default(),
        );
        out.push_str(&line);
        for (key, value) in pax.iter().filter(|(key, _)| key.starts_with("SCHILY")) {
            out.push_str(&format!(" {key}={}", value.escape_ascii()));
        }
        out.push('\n');
    }
    out
}

#[test]
fn whiteouts_come_first_and_parents_before_children() {
    let (_, tar) = tar_of(vec![
        file("d/f", b"hello"),
        entry("z", EntryKind::Whiteout),
        entry("d", EntryKind::Directory),
        file("d-e", b""),
        entry("d", EntryKind::OpaqueWhiteout),
        entry("d/old", EntryKind::Whiteout),
        entry("link", EntryKind::Symlink(b"../d/f".to_vec())),
        entry("pipe", EntryKind::Fifo),
        entry("null", EntryKind::CharDevice { major: 1, minor: 3 }),
    ]);
    assert_eq!(
        listing(&tar),
        "Regular 0 0:0 1700000000 0 d/.wh..wh..opq\n\
         Regular 0 0:0 1700000000 0 d/.wh.old\n\
         Regular 0 0:0 1700000000 0 .wh.z\n\
         Directory 644 0:0 1700000000 0 d/\n\
         Regular 644 0:0 1700000000 0 d-e\n\
         Regular 644 0:0 1700000000 5 d/f\n\
         Symlink 777 0:0 1700000000 0 link -> ../d/f\n\
         Char 644 0:0 1700000000 0 null\n\
         Fifo 644 0:0 1700000000 0 pipe\n"
    );
}

#[test]
fn the_first_name_of_a_hard_linked_file_holds_its_content() {
    let mut target = file("m", b"content");
    target.mode = 0o4755;
    target.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, 255]);
    let links = ["a", "z", "m2"].map(|path| entry(path, EntryKind::HardLink(b"m".to_vec())));
    let (_, tar) = tar_of([vec![target], links.to_vec()].concat());
    let xattr = "SCHILY.xattr.security.capability=\\x01\\x00\\xff";
    assert_eq!(
        listing(&tar),
        format!(
            "Regular 4755 0:0 1700000000 7 a {xattr}\n\
             Link 4755 0:0 1700000000 0 m -> a {xattr}\n\
             Link 4755 0:0 1700000000 0 m2 -> a {xattr}\n\
             Link 4755 0:0 1700000000 0 z -> a {xattr}\n"
        )
    );
}

#[test]
fn pax_holds_what_ustar_cannot() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let split = format!("{}/{}", "d".repeat(120), "f".repeat(90));
    let mut odd = file("old", b"x");
    (odd.mtime, odd.uid, odd.gid) = (-5, 4_000_000_000, 2_097_151);
    let mut far = file("far", b"");
    (far.mtime, far.gid) = (1 << 40, 2_097_152);
    let entries = vec![
        file(long.clone(), b"long"),
        file(split.clone(), b"split"),
        file(b"\xff\xfe".to_vec(), b"raw"),
        file("grün", b"utf8"),
        entry("far-link", EntryKind::Symlink(vec![b't'; 101])),
        odd,
        far,
    ];
    let (_, tar) = tar_of(entries);
    let target = "t".repeat(101);
    assert_eq!(
        listing(&tar),
        format!(
            "Regular 644 0:0 1700000000 5 {split}\n\
             Regular 644 0:0 1700000000 4 {long}\n\
             Regular 644 0:2097152 1099511627776 0 far\n\
             Symlink 777 0:0 1700000000 0 far-link -> {target}\n\
             Regular 644 0:0 1700000000 4 gr\\xc3\\xbcn\n\
             Regular 644 4000000000:2097151 -5 1 old\n\
             Regular 644 0:0 1700000000 3 \\xff\\xfe\n"
        )
    );
    // All but the split name need one.
    assert_eq!(tar.chunks(512).filter(|block| block.starts_with(b"PaxHeaders.0/")).count(), 6);
}

#[test]
fn refuses_what_no_layer_can_hold() {
    let link = |target: &str| entry("l", EntryKind::HardLink(target.into()));
    let mut xattr = file("x", b"");
    xattr.xattrs.insert(b"user.a=b".to_vec(), vec![]);
    let too_long = format!("`{}` is no path inside a layer", "a".repeat(256));
    let cases: Vec<(Vec<Entry>, &str)> = vec![
        (vec![file("", b"")], "`` is no path inside a layer"),
        (vec![file("/a", b"")], "`/a` is no path inside a layer"),
        (vec![file("a/../b", b"")], "`a/../b` is no path inside a layer"),
        (vec![file("a/", b"")], "`a/` is no path inside a layer"),
        (vec![file("a".repeat(256), b"")], &too_long),
        (vec![file("a\0", b"")], "`a\0` is no path inside a layer"),
        (
            vec![file("a/.wh.b", b"")],
            "`a/.wh.b`: names beginning with `.wh.` mean deleted files in a layer, so this file cannot be in one",
        ),
        (vec![file("a", b""), entry("a", EntryKind::Directory)], "`a` is in the layer twice"),
        (
            vec![file("a", b""), file("a-", b""), file("a/b/c", b"")],
            "`a/b/c` lies below `a`, which is no directory",
        ),
        (vec![link("m")], "`l` is a hard link to `m`, which is no file of the same layer"),
        (vec![link("l")], "`l` is a hard link to `l`, which is no file of the same layer"),
        (vec![xattr], "`x`: the extended attribute `user.a=b` cannot be written"),
        (vec![entry("s", EntryKind::Symlink(vec![]))], "`s`: a symlink with this target cannot be made"),
    ];
    for (entries, expected) in cases {
        let error = write(entries, &WriteOptions::default(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_directory_may_replace_what_a_whiteout_removes() {
    let (written, _) = tar_of(vec![entry("d", EntryKind::Directory), entry("d", EntryKind::Whiteout)]);
    assert_eq!(written.entries.len(), 2);
}

#[test]
fn a_file_that_changed_since_the_scan_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "before").unwrap();
    let root = Root::open(dir.path()).unwrap();
    let scanned = on_disk(&root, "f");
    let attempt = || write(vec![scanned.clone()], &WriteOptions::default(), &mut Vec::new());
    attempt().unwrap();
    for change in ["append", "replace", "symlink", "remove"] {
        let path = dir.path().join("f");
        match change {
            "append" => File::options().append(true).open(&path).unwrap().write_all(b"x").unwrap(),
            "replace" => fs::write(&path, "bef0re").unwrap(),
            "symlink" => {
                fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink("elsewhere", &path).unwrap();
            }
            _ => fs::remove_file(&path).unwrap(),
        }
        let error = attempt().unwrap_err().to_string();
        assert_eq!(error, "`f` changed while it was being copied to `f`", "{change}");
    }
}

/// A layer of several segments: small files, one of many segments, and one read from a slice.
fn several_segments(dir: &Path) -> Vec<Entry> {
    let root = Root::open(dir).unwrap();
    fs::create_dir(dir.join("many")).unwrap();
    let mut entries = vec![Entry { mode: 0o755, ..entry("many", EntryKind::Directory) }];
    let mut noise = 1_u32;
    let mut bytes = |len: usize| -> Vec<u8> {
        std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 28) as u8
        })
        .take(len)
        .collect()
    };
    for index in 0..600 {
        let path = format!("many/{index}");
        fs::write(dir.join(&path), bytes(index * 17)).unwrap();
        entries.push(on_disk(&root, &path));
    }
    fs::write(dir.join("large"), bytes(5_000_001)).unwrap();
    entries.push(on_disk(&root, "large"));
    let slice = Arc::new(File::open(dir.join("large")).unwrap());
    let content = Content::Slice { file: slice, offset: 1000, len: 2_000_000 };
    entries.push(entry("slice", EntryKind::File(content)));
    entries
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let dir = tempfile::tempdir().unwrap();
    let entries = several_segments(dir.path());
    let (plain, tar) = tar_of(entries.clone());
    let compressions = [
        Compression::None,
        Compression::Gzip { level: 0 },
        Compression::Gzip { level: 1 },
        Compression::Gzip { level: 6 },
        Compression::Zstd { level: 3 },
    ];
    for compression in compressions {
        let mut blobs = [1, 2, 8].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (written, blob) = pool.install(|| written(entries.clone(), compression));
            assert_eq!(written.diff_id, plain.diff_id);
            blob
        });
        assert!(blobs[0] == blobs[1] && blobs[0] == blobs[2]);
        assert!(unpacked(compression, &std::mem::take(&mut blobs[0])) == tar);
    }
}

fn unpacked(compression: Compression, blob: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    match compression {
        Compression::None => tar.extend_from_slice(blob),
        Compression::Gzip { .. } | Compression::Estargz { .. } => {
            flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut tar).map(drop).unwrap();
        }
        Compression::Zstd { .. } => zstd::stream::copy_decode(blob, &mut tar).unwrap(),
    }
    tar
}

#[test]
fn system_tar_and_python_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = several_segments(dir.path());
    entries.push(file(format!("many/{}", "n".repeat(200)), b"long"));
    entries.push(file("many/grün", b"utf8"));
    entries.push(entry("many/link", EntryKind::HardLink(b"large".to_vec())));
    let count = entries.len();
    let (_, blob) = written(entries, Compression::default());
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("l.tgz"), blob).unwrap();
    let run = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).current_dir(out.path()).output();
        // Not every machine has these programs; where they are missing the tar crate is the only reader.
        output.ok().filter(|output| output.status.code() != Some(127))
    };
    if let Some(output) = run("tar", &["-xzf", "l.tgz"]) {
        assert!(output.status.success(), "{output:?}");
        for path in ["large", "many/5", "many/599"] {
            assert!(fs::read(dir.path().join(path)).unwrap() == fs::read(out.path().join(path)).unwrap());
        }
        assert_eq!(fs::metadata(out.path().join("many/link")).unwrap().nlink(), 2);
        assert_eq!(fs::read(out.path().join("many/grün")).unwrap(), b"utf8");
    }
    let script = "import tarfile\nfor m in tarfile.open('l.tgz'): print(m.name)";
    if let Some(output) = run("python3", &["-c", script]) {
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout.iter().filter(|&&c| c == b'\n').count(), count);
    }
}

#[test]
fn plain_entries_give_the_index_that_reading_gives() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = several_segments(dir.path());
    let mut capable = file("many/capable", b"x");
    capable.xattrs.insert(b"security.capability".to_vec(), b"\x01\0".to_vec());
    entries.push(capable);
    entries.push(entry("many.link", EntryKind::Symlink(b"many".to_vec())));
    entries.push(entry("no/parent", EntryKind::BlockDevice { major: 8, minor: 1 }));
    check_index(entries);
}

/// The index made from what was written must be the one that reading the blob gives.
fn check_index(entries: Vec<Entry>) {
    let (written, blob) = written(entries, Compression::default());
    let read = Index::read(&blob[..], Limits::default()).unwrap();
    assert_eq!(read.diff_id, written.diff_id);
    assert_eq!(read.uncompressed_bytes, written.uncompressed_size);
    let told = Index::from_entries(&written.entries, &written.data_offsets).unwrap();
    assert!(told.to_bytes() == read.index.to_bytes());
}

#[test]
fn our_own_reader_finds_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = several_segments(dir.path());
    let mut odd = file(format!("many/{}", "n".repeat(250)), b"odd");
    (odd.uid, odd.mtime, odd.mode) = (u32::MAX - 1, -7, 0o6711);
    // With a newline, which ends a record for a reader that does not count.
    odd.xattrs.insert(b"security.capability".to_vec(), b"\x01\0\n\0=\n".to_vec());
    let mut linked = entry("a-link", EntryKind::HardLink(b"large".to_vec()));
    linked.mode = 0o600;
    entries.extend([odd, linked]);
    entries.push(entry("many", EntryKind::OpaqueWhiteout));
    entries.push(entry("d/gone", EntryKind::Whiteout));
    entries.push(entry("null", EntryKind::CharDevice { major: 1, minor: 300 }));
    entries.push(entry(b"s\xff".to_vec(), EntryKind::Symlink(vec![0xfe; 200])));
    check_index(entries);
}

#[test]
fn an_empty_layer_is_two_blocks_of_zeros() {
    let (_, tar) = tar_of(vec![]);
    assert_eq!(tar, [0; 1024]);
    // The diff id that every builder gives to a layer without entries.
    let mut hasher = Hasher::new();
    hasher.update(&tar);
    assert_eq!(hasher.finish().hex(), "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
}

#[test]
fn a_full_disk_ends_all_threads() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let error = write(several_segments(dir.path()), &WriteOptions::default(), &mut Full).unwrap_err();
    assert!(matches!(error, WriteError::Sink(_)));
}

fn any_path() -> impl Strategy<Value = Vec<u8>> {
    let component = prop::collection::vec(prop::sample::select(&b"ab-\xc3z"[..]), 1..60);
    prop::collection::vec(component, 1..6).prop_map(|components| components.join(&b'/'))
}

fn any_kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000).prop_map(|v| EntryKind::File(Content::Bytes(v.into()))),
        // No newlines: the tar crate ends a PAX record at the first one, whatever its length says.
        prop::collection::vec(11_u8.., 1..300).prop_map(EntryKind::Symlink),
        Just(EntryKind::Fifo),
        Just(EntryKind::Whiteout),
    ]
}

proptest! {
    #[test]
    fn the_tar_crate_reads_what_was_written(
        paths in prop::collection::btree_map(any_path(), (any_kind(), any::<u32>(), -9_i64..(1 << 36)), 0..12),
    ) {
        // What lies below a file is refused; that is not the point here.
        let below = |path: &[u8]| paths.keys().any(|p| {
            path.len() > p.len() && path.starts_with(p) && path[p.len()] == b'/'
        });
        let entries: Vec<Entry> = paths.iter().filter(|(path, _)| !below(path)).map(|(path, value)| {
            let mut entry = entry(path.clone(), value.0.clone());
            (entry.uid, entry.mtime) = (value.1, value.2);
            entry
        }).collect();
        check_index(entries.clone());
        let (written, tar) = tar_of(entries);
        let mut archive = tar::Archive::new(&tar[..]);
        let mut read = archive.entries().unwrap();
        for (expected, offset) in written.entries.iter().zip(&written.data_offsets) {
            let found = read.next().unwrap().unwrap();
            prop_assert_eq!(found.raw_file_position(), *offset);
            prop_assert_eq!(&*found.path_bytes(), &crate::layer::header::tar_name(expected)[..]);
            if let EntryKind::Symlink(target) = &expected.kind {
                prop_assert_eq!(&*found.link_name_bytes().unwrap(), &target[..]);
            }
        }
        prop_assert!(read.next().is_none());
    }
}
