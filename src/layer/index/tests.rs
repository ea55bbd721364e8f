//! Archives in, records out; and the file form.
#![allow(clippy::unwrap_used)]

use super::{Corrupt, Index, Kind, Record, What};
use crate::layer::archive::{Error, Limits, Problem};
use crate::layer::sample::{index, lines, tar};
use crate::oci::{DiffId, Digest};

fn describe(record: Record<'_>) -> String {
    let path = String::from_utf8_lossy(record.path);
    let what = match record.what {
        What::Node(node) => match node.kind {
            Kind::Directory => format!("d {path} {:o}", node.mode),
            Kind::File { size, .. } => {
                format!("f {path} {size}{}", if node.has_links { " linked" } else { "" })
            }
            Kind::Symlink(target) => format!("l {path} {}", String::from_utf8_lossy(target)),
            Kind::Fifo => format!("p {path}"),
            Kind::CharDevice { major, minor } => format!("c {path} {major} {minor}"),
            Kind::BlockDevice { major, minor } => format!("b {path} {major} {minor}"),
        },
        What::Implied => format!("implied {path}"),
        What::LowerLink(target) => format!("h {path} {}", String::from_utf8_lossy(target)),
        What::Whiteout => format!("gone {path}"),
    };
    let mark = if record.is_opaque && !matches!(record.what, What::Whiteout) { " opaque" } else { "" };
    format!("{what}{mark}\n")
}

#[track_caller]
fn check(input: &str, expected: &str) {
    let found: String = index(input).iter().map(describe).collect();
    assert_eq!(found, lines(expected), "{input}");
}

#[test]
fn every_kind_of_entry() {
    check(
        "d d 1777\nf d/f 12345\nl d/l ../x\nh d/h d/f\np p\nc c 1 3\nb b 8 1\nf .wh.gone \nf e/.wh..wh..opq ",
        "b b 8 1
         c c 1 3
         d d 1777
         f d/f 5 linked
         f d/h 5 linked
         l d/l ../x
         implied e opaque
         gone gone
         p p",
    );
}

#[test]
fn duplicates_apply_in_order() {
    check("f a 1\nf a 22", "f a 2");
    check("d a 0700\nf a/b 1\nd a 0711", "d a 711\nf a/b 1");
    check("d a\nf a/b 1\nf a 333", "f a 3");
    check("f a/b 1\nl a x", "l a x");
    check("f a 1\nd a\nf a/b 1", "d a 755 opaque\nf a/b 1");
    check("f a 1\nh b a\nf a 22", "f a 2\nf b 1");
}

#[test]
fn paths_pass_symlinks_of_the_same_layer() {
    check("d usr\nl lib usr\nf lib/f 1", "l lib usr\nd usr 755\nf usr/f 1");
    check("l a /x/../y\nf a/b/c 1", "l a /x/../y\nf y/b/c 1");
    check("l out /../../etc\nf out/f 1", "f etc/f 1\nl out /../../etc");
    check("d d\nl a d\nf d/f 1\nh h a/f", "l a d\nd d 755\nf d/f 1 linked\nf h 1 linked");
}

/// What is remembered of ways is forgotten when something on one of them is replaced.
#[test]
fn ways_change_with_what_they_lead_through() {
    check("l s d\nf s/f 1\nl s e\nf s/g 1", "f d/f 1\nf e/g 1\nl s e");
    check("f p/q/f 1\nl p o\nf p/q/g 1", "f o/q/g 1\nl p o");
    check("f a/f 1\nl a b\nf a/g 1\nd a\nf a/h 1", "d a 755 opaque\nf a/h 1\nf b/g 1");
    check("l s d\nf x 1\nf s/f 1\nh s x\nd s\nf s/g 1", "f d/f 1\nd s 755 opaque\nf s/g 1\nf x 1");
    assert_eq!(refused("f e/.wh..wh..opq \nf e 1\nf e/f 1"), Problem::ParentNoDirectory("e".into()));
    assert_eq!(refused("f e/f 1\nf e 1\nf e/f 1"), Problem::ParentNoDirectory("e".into()));
}

/// A short archive can stand for more directories than memory holds.
#[test]
fn directories_that_no_entry_names_count() {
    let read = |input: &str, limits: Limits| {
        let read = Index::read(tar(input).as_slice(), limits).map(|read| read.index.len());
        read.map_err(|error| error.to_string())
    };
    let (all, named) = (Limits::default(), "d a\nd a/b\nf a/b/1 x\nf a/b/2 x\nd c");
    let implied = "f a/b/1 x\nf a/b/2 x\nf a/c/3 x\nf a/b/4 x";
    assert_eq!(read(named, Limits { entries: 5, ..all }), Ok(5));
    assert_eq!(read(implied, Limits { entries: 7, ..all }), Ok(4));
    let told = read(implied, Limits { entries: 6, ..all });
    assert_eq!(told, Err("the archive has more than 6 entries".to_owned()));
    // Four names, and `a`, `a/b` and `a/c`.
    assert_eq!(read(implied, Limits { metadata_bytes: 27, ..all }), Ok(4));
    let told = read(implied, Limits { metadata_bytes: 26, ..all });
    assert_eq!(told, Err("the archive has more than 26 bytes of names and attributes".to_owned()));
}

#[test]
fn hard_links() {
    check("h b a\nh c b", "h b a\nh c a");
    check("h a a", "h a a");
    check("f a 1\nh a a", "f a 1");
    check("l s t\nh k s", "l k t\nl s t");
}

#[track_caller]
fn refused(input: &str) -> Problem {
    match Index::read(tar(input).as_slice(), Limits::default()) {
        Err(Error::Entry { problem, .. }) => problem,
        other => panic!("{input}: {other:?}"),
    }
}

#[test]
fn impossible_entries_are_refused() {
    assert_eq!(refused("f a 1\nf a/b 1"), Problem::ParentNoDirectory("a".into()));
    assert_eq!(refused("l a a\nf a/b 1"), Problem::SymlinkLoop);
    assert_eq!(refused("d a\nh b a"), Problem::LinkTarget("a".into()));
    assert_eq!(refused("c null 0 0"), Problem::ZeroDevice);
}

#[test]
fn reading_gives_the_diff_id_of_the_whole_stream() {
    let mut bytes = tar("f a 1");
    bytes.extend_from_slice(&[0; 10240]);
    let read = Index::read(bytes.as_slice(), Limits::default()).unwrap();
    assert_eq!(read.diff_id, DiffId(Digest::of(&bytes)));
    assert_eq!(read.uncompressed_bytes, bytes.len() as u64);
    let node = match read.index.record(0).what {
        What::Node(node) => node,
        other => panic!("{other:?}"),
    };
    assert_eq!((node.inode, node.mtime), (512, 1000));
}

#[test]
fn the_file_form_round_trips() {
    let index = index("d d\nf d/f 1\nh g d/f\nl l t\nh low low\nc c 1 2\nf .wh.x \nf o/.wh..wh..opq ");
    assert_eq!(Index::from_bytes(&index.to_bytes()), Ok(index));
    assert_eq!(Index::from_bytes(&Index::default().to_bytes()), Ok(Index::default()));
}

#[test]
fn damage_is_found() {
    let bytes = index("d d\nf d/f 1\nl l t").to_bytes();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(Index::from_bytes(&damaged).is_err(), "byte {at}");
        assert!(Index::from_bytes(&bytes[..at]).is_err(), "first {at}");
    }
}

#[test]
fn a_file_with_a_valid_checksum_cannot_lead_outside_of_itself() {
    let bytes = index("f a 1\nf b 1").to_bytes();
    let body = bytes.len() - 32;
    for at in 24..body {
        let mut forged = bytes[..body].to_vec();
        forged[at] = 0xff;
        forged.extend_from_slice(blake3::hash(&forged).as_bytes());
        let result: Result<Index, Corrupt> = Index::from_bytes(&forged);
        if let Ok(index) = result {
            index.iter().for_each(|record| drop(describe(record)));
        }
    }
}

/// A file with a right checksum, but not one that was stored, holds no path that leads elsewhere.
#[test]
fn forged_indexes_are_refused() {
    let bytes = index("d ab 755\nf ab/cd 1\nl ab/ef ab").to_bytes();
    let body = &bytes[..bytes.len() - 32];
    let sealed = |body: &[u8]| Index::from_bytes(&[body, blake3::hash(body).as_bytes()].concat());
    assert_eq!(sealed(body).map(|index| index.to_bytes()), Ok(bytes.clone()));
    let forged = |from: &[u8], to: &[u8]| {
        let at = body.windows(from.len()).position(|window| window == from).unwrap();
        let mut forged = body.to_vec();
        forged[at..at + to.len()].copy_from_slice(to);
        sealed(&forged).is_err()
    };
    assert!(forged(b"ab/cd", b"ab/.."));
    assert!(forged(b"ab/cd", b"ab//d"));
    assert!(forged(b"ab/cd", b"ab/c\0"));
    assert!(forged(b"ab/cd", b"/b/cd"));
    // Counts that only fit together modulo 2^64.
    let mut counts = body.to_vec();
    counts[16..24].fill(0xff);
    assert!(sealed(&counts).is_err());
}
