//! A gzip layer is one member, however many segments it has: what readers find that look at no second one.

use std::process::Command;

use super::remembered::{as_file, remembering};
use super::*;
use crate::layer::writer::layout::MAX_SEGMENT;

const LEVELS: std::ops::RangeInclusive<u8> = 0..=12;

/// What a reader of one member makes of `blob`, which must be all of it.
fn read_as_one(blob: &[u8]) -> Vec<u8> {
    let mut decoder = flate2::bufread::GzDecoder::new(blob);
    let mut tar = Vec::new();
    decoder.read_to_end(&mut tar).unwrap();
    assert!(decoder.into_inner().is_empty(), "something behind the first member");
    tar
}

#[test]
fn a_reader_of_one_member_finds_all_segments() {
    let dir = tempfile::tempdir().unwrap();
    let entries = several_segments(dir.path());
    let (_, tar) = tar_of(entries.clone());
    assert!(layout::plan(&entries).segments.len() > 10);
    for level in LEVELS {
        let (written, blob) = written(entries.clone(), Compression::Gzip { level });
        assert!(read_as_one(&blob) == tar, "level {level}");
        // Another way to write it would have the same identity.
        assert_eq!(written.diff_id.0, Digest::of(&tar));
    }
}

/// Segments of one byte less, as many and one more than fit; and what libdeflate has no blocks for.
#[test]
fn sizes_around_the_borders_of_segments() {
    let noise = {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..3 * MAX_SEGMENT).map(|_| next()).collect::<Vec<u8>>()
    };
    let text: Vec<u8> = (0..3 * MAX_SEGMENT).map(|at| b"layers of an image\n"[(at % 19) as usize]).collect();
    let borders = [MAX_SEGMENT, MAX_SEGMENT - 512, MAX_SEGMENT - 1024, 2 * MAX_SEGMENT];
    let sizes = borders.iter().flat_map(|border| [border - 1, *border, border + 1, border + 512]);
    for size in sizes.chain([0, 1, 511, 512, 513, 65_535, 65_536]) {
        for content in [&noise, &text] {
            let entries = vec![file("a", &content[..size as usize]), file("b", b"behind")];
            let (_, tar) = tar_of(entries.clone());
            for level in [0, 1, 2, 6] {
                let (_, blob) = written(entries.clone(), Compression::Gzip { level });
                assert!(read_as_one(&blob) == tar, "{size} bytes, level {level}");
            }
        }
    }
}

/// Python's reader of streams ends with the first member, and says nothing.
#[test]
fn readers_of_streams_find_every_entry() {
    let dir = tempfile::tempdir().unwrap();
    let entries = several_segments(dir.path());
    let (_, tar) = tar_of(entries.clone());
    for level in [1, 6] {
        let (_, blob) = written(entries.clone(), Compression::Gzip { level });
        let path = dir.path().join("layer.gz");
        fs::write(&path, blob).unwrap();
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).arg(&path).output().unwrap();
            assert!(output.status.success(), "{program} {args:?}: {output:?}");
            output.stdout
        };
        let script = "import sys, tarfile; print(len(list(tarfile.open(sys.argv[1], 'r|gz'))))";
        assert_eq!(run("python3", &["-c", script]), format!("{}\n", entries.len()).into_bytes());
        run("gzip", &["-t"]);
        assert!(run("gzip", &["-dc"]) == tar);
        // It knows the size from the trailer of the last member, which was a part of the layer.
        let listed = String::from_utf8(run("gzip", &["-lq"])).unwrap();
        assert_eq!(listed.split_whitespace().nth(1), Some(tar.len().to_string().as_str()), "{listed}");
    }
}

/// What a layer takes from an earlier one: most, and all but the end.
#[test]
fn segments_that_are_used_again_are_in_the_one_member() {
    let dir = tempfile::tempdir().unwrap();
    let before = several_segments(dir.path());
    for level in [0, 1, 6] {
        let compression = Compression::Gzip { level };
        let (first, blob) = remembering(&before, compression, None);
        let earlier = Remembered::new(as_file(&blob), &first.segments);
        for changed in ["many/0", "slice"] {
            let mut after = before.clone();
            let at = after.iter().position(|entry| entry.path == changed.as_bytes()).unwrap();
            after[at].kind = EntryKind::File(Content::Bytes(b"something else".as_slice().into()));
            let (again, blob) = remembering(&after, compression, Some(&earlier));
            let (full, tar) = tar_of(after);
            assert_eq!(again.diff_id, full.diff_id);
            assert!(read_as_one(&blob) == tar, "{changed}, level {level}");
        }
        // All of it.
        assert!(remembering(&before, compression, Some(&earlier)).1 == blob);
    }
}

/// As layers were written before: a member for each of some pieces.
#[test]
fn a_layer_of_many_members_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (written, tar) = tar_of(several_segments(dir.path()));
    let member = |raw: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(raw).unwrap();
        gzip.finish().unwrap()
    };
    let blob: Vec<u8> = tar.chunks(700_001).flat_map(member).collect();
    let read = Index::read(&blob[..], Limits::default()).unwrap();
    assert_eq!((read.diff_id, read.uncompressed_bytes), (written.diff_id, tar.len() as u64));
    let told = Index::from_entries(&written.entries, &written.data_offsets).unwrap();
    assert!(told.to_bytes() == read.index.to_bytes());
}
