//! Segments of an earlier layer are taken over, and files are what their digests say.

use super::*;
use crate::layer::contents::Segmented;

pub(super) fn remembering(
    entries: &[Entry],
    compression: Compression,
    earlier: Option<&Remembered>,
) -> (Written, Vec<u8>) {
    let mut blob = Vec::new();
    let options = WriteOptions { compression };
    let written = write_remembering(entries.to_vec(), &options, (earlier, None), &mut blob).unwrap();
    assert_eq!(written.digest, Digest::of(&blob));
    (written, blob)
}

pub(super) fn as_file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn a_layer_with_remembered_segments_has_the_bytes_of_a_full_write() {
    let dir = tempfile::tempdir().unwrap();
    let before = several_segments(dir.path());
    let mut after = before.clone();
    let changed = after.iter_mut().find(|entry| entry.path == b"many/300").unwrap();
    changed.kind = EntryKind::File(Content::Bytes(b"something else".as_slice().into()));
    after.push(file("many/0000-new", b"new"));
    after.retain(|entry| entry.path != b"many/77");
    for compression in
        [Compression::Gzip { level: 1 }, Compression::Gzip { level: 5 }, Compression::Zstd { level: 3 }]
    {
        let (first, blob) = remembering(&before, compression, None);
        assert!(blob == written(before.clone(), compression).1);
        let segments = Segments::from_bytes(&first.segments.to_bytes()).unwrap();
        assert_eq!(segments.diff_id(), Some(first.diff_id));
        let earlier = Remembered::new(as_file(&blob), &segments);
        let full = written(after.clone(), compression).1;
        assert!(remembering(&after, compression, Some(&earlier)).1 == full);
        // A blob that is damaged or cut off costs time, and spoils nothing.
        let spoiled = Remembered::new(as_file(&vec![0; blob.len()]), &segments);
        assert!(remembering(&after, compression, Some(&spoiled)).1 == full);
        let cut = Remembered::new(as_file(&blob[..blob.len() / 2]), &segments);
        assert!(remembering(&after, compression, Some(&cut)).1 == full);
        // Nor does another form take anything.
        for other in [Compression::Gzip { level: 6 }, Compression::Estargz { level: 1 }] {
            assert!(remembering(&after, other, Some(&earlier)).1 == written(after.clone(), other).1);
        }
    }
}

/// The file at `path` below `root`, with its digest.
fn digested(root: &Root, path: &str) -> Entry {
    let digest = Some(*blake3::hash(&fs::read(root.path().join(path)).unwrap()).as_bytes());
    entry(path, EntryKind::File(Content::Disk(DiskFile { digest, ..disk_file(root, path) }.into())))
}

#[test]
fn what_did_not_change_is_not_read_again() {
    for (changed, compression) in [
        (110, Compression::Gzip { level: 1 }),
        (40, Compression::Gzip { level: 1 }),
        (110, Compression::Gzip { level: 6 }),
        (40, Compression::Zstd { level: 3 }),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let names: Vec<String> = (0..120).map(|at| format!("f{at:03}")).collect();
        for (at, name) in names.iter().enumerate() {
            fs::write(dir.path().join(name), vec![at as u8; 100_000]).unwrap();
        }
        let before: Vec<Entry> = names.iter().map(|name| digested(&root, name)).collect();
        let (first, blob) = remembering(&before, compression, None);
        let earlier = Remembered::new(as_file(&blob), &first.segments);

        fs::write(dir.path().join(&names[changed]), vec![0xff; 100_000]).unwrap();
        let mut after = before.clone();
        after[changed] = digested(&root, &names[changed]);
        let (full, full_blob) = remembering(&after, compression, None);
        // The proof: what is gone from the disk cannot be read. A segment has some ten of these files.
        let is_far = |at: usize| at.abs_diff(changed) > 15;
        let far = names.iter().enumerate().filter(|(at, _)| is_far(*at));
        far.for_each(|(_, name)| fs::remove_file(dir.path().join(name)).unwrap());
        let (second, second_blob) = remembering(&after, compression, Some(&earlier));
        assert_eq!((second.diff_id, second.digest), (full.diff_id, full.digest));
        assert!(second_blob == full_blob);
        assert_eq!(second.segments, full.segments);
    }
}

#[test]
fn a_file_that_does_not_have_its_digest_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    fs::write(dir.path().join("f"), b"this").unwrap();
    let digest = Some(*blake3::hash(b"that").as_bytes());
    let file = DiskFile { digest, ..disk_file(&root, "f") };
    let entry = entry("f", EntryKind::File(Content::Disk(file.into())));
    let result = write(vec![entry], &WriteOptions::default(), &mut Vec::new());
    assert!(matches!(result, Err(WriteError::Unlike { .. })), "{result:?}");
}

/// Also one that is in several segments, whose pieces threads read in any order.
#[test]
fn a_large_file_that_does_not_have_its_digest_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let bytes: Vec<u8> = (0..3_500_000_u32).map(|at| (at.wrapping_mul(7919) >> 5) as u8).collect();
    fs::write(dir.path().join("f"), &bytes).unwrap();
    let compressions = [
        Compression::None,
        Compression::Gzip { level: 1 },
        Compression::Zstd { level: 1 },
        Compression::Estargz { level: 1 },
    ];
    for compression in compressions {
        let write_as = |digest| {
            let file = DiskFile { digest: Some(digest), ..disk_file(&root, "f") };
            let file = entry("f", EntryKind::File(Content::Disk(file.into())));
            let others = (0..20).map(|at| self::file(format!("a{at}"), &[at; 100_000]));
            write(others.chain([file]).collect(), &WriteOptions { compression }, &mut Vec::new())
        };
        write_as(*blake3::hash(&bytes).as_bytes()).unwrap();
        for at in [0, 1 << 20, 3_499_999] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            let result = write_as(*blake3::hash(&other).as_bytes());
            assert!(
                matches!(result, Err(WriteError::Unlike { .. })),
                "{compression:?}, byte {at}: {result:?}"
            );
        }
    }
}

/// What is known of segments is enough to read them alone.
#[test]
fn segments_are_read_alone() {
    let dir = tempfile::tempdir().unwrap();
    let entries = several_segments(dir.path());
    let (written, blob) = remembering(&entries, Compression::Gzip { level: 1 }, None);
    let mut raw = Vec::new();
    flate2::read::MultiGzDecoder::new(blob.as_slice()).read_to_end(&mut raw).unwrap();
    let layer = Segmented::new(as_file(&blob), &written.segments).unwrap();
    let mut reader = layer.reader();
    let end = raw.len() - 3;
    for (offset, len) in [(0, 10), (end, 3), (raw.len() / 2, 100), (5, raw.len() - 5), (7, 0)] {
        let mut into = vec![0; len];
        reader.read(offset as u64, &mut into).unwrap();
        assert!(into == raw[offset..offset + len], "{offset} {len}");
    }
    assert!(reader.read(end as u64, &mut [0; 4]).is_err());
    let mut damaged = blob.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let layer = Segmented::new(as_file(&damaged), &written.segments).unwrap();
    assert!(layer.reader().read(0, &mut vec![0; raw.len()]).is_err());
    let (written, blob) = remembering(&entries, Compression::Zstd { level: 3 }, None);
    assert!(Segmented::new(as_file(&blob), &written.segments).is_none(), "of gzip only");
}
