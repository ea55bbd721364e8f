//! Archives in, a listing of the tree out; and what hostile archives may not do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Note, OpaqueMark, Owners, UnpackError, UnpackOptions, Unpacked, unpack};
use crate::layer::archive::Limits;
use crate::layer::sample::{lines, tar, view};
use crate::layer::view::{RootView, ViewEntry};
use crate::oci::{DiffId, Digest};
use crate::rootfs::{OWNER_ATTRIBUTE, Root};

/// Options that work for root, in a user namespace of one id, and without privileges.
fn options() -> UnpackOptions {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let is_whole = map.split_whitespace().nth(2).is_some_and(|len| len.parse::<u64>().unwrap() > 10_000);
    let owners =
        if is_whole && rustix::process::geteuid().is_root() { Owners::Apply } else { Owners::Record };
    UnpackOptions { owners, opaque: OpaqueMark::User, limits: Limits::default() }
}

fn no_lower(_: &ViewEntry<'_>) -> io::Result<File> {
    Err(io::ErrorKind::NotFound.into())
}

fn unpack_bytes(bytes: &[u8], dest: &Path, below: &RootView) -> Result<Unpacked, UnpackError> {
    unpack(bytes, &Root::open(dest).unwrap(), below, &options(), &mut no_lower)
}

/// One line for each file: `d usr 755`, `f etc/passwd 644 text`, `whiteout x`; opaque directories end in `opaque`.
fn listing(dest: &Path) -> String {
    let mut out = String::new();
    for entry in walkdir::WalkDir::new(dest).min_depth(1).sort_by_file_name() {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(dest).unwrap().display().to_string();
        let meta = entry.path().symlink_metadata().unwrap();
        let mode = meta.mode() & 0o7777;
        let kind = meta.file_type();
        let line = if kind.is_dir() {
            let mut value = [0; 8];
            let opaque = rustix::fs::lgetxattr(entry.path(), "user.overlay.opaque", &mut value).is_ok();
            format!("d {path} {mode:o}{}", if opaque { " opaque" } else { "" })
        } else if kind.is_symlink() {
            format!("l {path} {}", std::fs::read_link(entry.path()).unwrap().display())
        } else if kind.is_char_device() && meta.rdev() == 0 {
            format!("whiteout {path}")
        } else if kind.is_file() {
            format!("f {path} {mode:o} {}", std::fs::read_to_string(entry.path()).unwrap())
        } else {
            format!("? {path} {mode:o}")
        };
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[track_caller]
fn check(below: &[&str], layer: &str, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let below = view(below);
    let bytes = tar(layer);
    let unpacked = unpack_bytes(&bytes, dir.path(), &below).unwrap();
    assert_eq!(listing(dir.path()), lines(expected), "{layer}");
    assert_eq!(unpacked.diff_id, DiffId(Digest::of(&bytes)));
    let read = crate::layer::index::Index::read(bytes.as_slice(), Limits::default()).unwrap();
    assert_eq!(*unpacked.index, read.index);
}

#[test]
fn every_kind_of_file() {
    check(
        &[],
        "d d 1777\nf d/f text\nl d/l ../x\nh d/h d/f\np p\nd ro 0555\nf ro/f 1",
        "d d 1777
         f d/f 644 text
         f d/h 644 text
         l d/l ../x
         ? p 644
         d ro 555
         f ro/f 644 1",
    );
}

#[test]
fn later_entries_replace_earlier_ones() {
    check(&[], "f a 1\nf a 22", "f a 644 22");
    check(&[], "d a\nf a/b 1\nd a/c\nf a/c/d 1\nf a 333", "f a 644 333");
    check(&[], "d a\nf a/b 1\nl a x", "l a x");
    check(&[], "f a 1\nd a 0711\nf a/b 1", "d a 711\nf a/b 644 1");
    check(&[], "l a b\nd b\nd a\nf a/f 1", "d a 755\nf a/f 644 1\nd b 755");
    check(&[], "f a 1\nh b a\nf a 22", "f a 644 22\nf b 644 1");
}

#[test]
fn whiteouts_appear_where_they_hide_something() {
    check(
        &["d d 0700\nf d/a 1\nf x 1\nd o 0711\nf o/f 1"],
        "f d/.wh.a \nf d/.wh.none \nf .wh.x \nf o/.wh..wh..opq \nf o/.wh.f \nf o/g 1",
        "d d 700
         whiteout d/a
         d o 711 opaque
         f o/g 644 1
         whiteout x",
    );
    check(&["d d 0700\nf d/a 1"], "f .wh.d \nd d 0711\nf d/b 1", "d d 711 opaque\nf d/b 644 1");
    check(
        &["d d\nf d/a 1\nf x 1\nd e"],
        "f .wh..wh..opq \nd d\nf y 1",
        "d d 755 opaque\nwhiteout e\nwhiteout x\nf y 644 1",
    );
}

#[test]
fn parents_look_as_they_do_below() {
    check(
        &["d tmp 1777\nd tmp/a 0700"],
        "f tmp/a/b/f 1",
        "d tmp 1777\nd tmp/a 700\nd tmp/a/b 755\nf tmp/a/b/f 644 1",
    );
}

#[test]
fn entries_land_where_lower_symlinks_lead() {
    let below = ["d usr\nd usr/lib 0711\nf usr/lib/old 1\nl lib usr/lib\nl etc ../../../out"];
    check(
        &below,
        "f lib/new 1\nf lib/.wh.old \nf etc/f 1",
        "d out 755
         f out/f 644 1
         d usr 755
         d usr/lib 711
         f usr/lib/new 644 1
         whiteout usr/lib/old",
    );
    check(&below, "d lib\nf lib/new 1", "d lib 755\nf lib/new 644 1");
}

#[test]
fn directories_behind_lower_symlinks_count() {
    let unpack = |entries: u64| {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { entries, ..Limits::default() };
        let (below, dest) = (view(&["l s a/b/c/d/e/f"]), Root::open(dir.path()).unwrap());
        let options = UnpackOptions { limits, ..options() };
        let unpacked = unpack(tar("f s/x 1").as_slice(), &dest, &below, &options, &mut no_lower);
        unpacked.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(unpack(6), Ok(()));
    assert_eq!(unpack(5), Err("the archive has more than 5 entries".to_owned()));
}

#[test]
fn hard_links_into_lower_layers_become_copies() {
    let dir = tempfile::tempdir().unwrap();
    let below = view(&["d a\nf a/f old"]);
    let lower = dir.path().join("lower");
    std::fs::write(&lower, "old").unwrap();
    let dest = dir.path().join("dest");
    std::fs::create_dir(&dest).unwrap();
    let mut asked = Vec::new();
    let mut open_lower = |entry: &ViewEntry<'_>| {
        asked.push((entry.layer, entry.path.to_vec()));
        File::open(&lower)
    };
    let bytes = tar("h b a/f\nh c b");
    unpack(bytes.as_slice(), &Root::open(&dest).unwrap(), &below, &options(), &mut open_lower).unwrap();
    assert_eq!(listing(&dest), "f b 644 old\nf c 644 old\n");
    assert_eq!(asked, [(Some(0), b"a/f".to_vec())]);
    let inode = |name: &str| dest.join(name).metadata().unwrap().ino();
    assert_eq!(inode("b"), inode("c"));
}

#[test]
fn times_are_set_also_on_directories_that_changed_later() {
    let dir = tempfile::tempdir().unwrap();
    unpack_bytes(&tar("d d\nf d/f 1\nl d/l x"), dir.path(), &RootView::default()).unwrap();
    for name in ["d", "d/f", "d/l"] {
        assert_eq!(dir.path().join(name).symlink_metadata().unwrap().mtime(), 1000, "{name}");
    }
}

#[test]
fn attributes_and_owners_are_kept() {
    let mut builder = tar::Builder::new(Vec::new());
    let capability: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let records =
        [("SCHILY.xattr.user.note", b"a\nb".as_slice()), ("SCHILY.xattr.security.capability", capability)];
    builder.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_path("f").unwrap();
    header.set_mode(0o4755);
    header.set_uid(1234);
    header.set_gid(4321);
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, io::empty()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let bytes = builder.into_inner().unwrap();
    let unpacked = unpack_bytes(&bytes, dir.path(), &RootView::default()).unwrap();
    let file = dir.path().join("f");
    let meta = file.metadata().unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o4755);
    let mut value = [0; 64];
    let mut xattr =
        |name: &str| rustix::fs::getxattr(&file, name, &mut value).map(|len| value[..len].to_vec());
    if unpacked
        .notes
        .iter()
        .all(|note| !matches!(note, Note::Xattr { name, .. } if name.starts_with(b"user.")))
    {
        assert_eq!(xattr("user.note").unwrap(), b"a\nb");
    }
    if options().owners == Owners::Apply {
        assert_eq!((meta.uid(), meta.gid()), (1234, 4321));
        assert_eq!(xattr("security.capability").unwrap(), capability);
    }
}

#[test]
fn with_one_id_owners_are_written_down() {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("SCHILY.xattr.user.rbuild.owner", b"7:7".as_slice())]).unwrap();
    for (path, uid, kind) in [
        ("forged", 0, tar::EntryType::Regular),
        ("owned", 33, tar::EntryType::Regular),
        ("folder", 34, tar::EntryType::Directory),
        ("null", 0, tar::EntryType::Char),
        ("alias", 0, tar::EntryType::Link),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_entry_type(kind);
        header.set_mode(0o640);
        header.set_uid(uid);
        header.set_gid(5);
        header.set_size(0);
        if kind == tar::EntryType::Link {
            header.set_link_name("null").unwrap();
        }
        if kind == tar::EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let dest = Root::open(dir.path()).unwrap();
    let options = UnpackOptions { owners: Owners::Record, ..options() };
    let bytes = builder.into_inner().unwrap();
    // Root's own test run could make the device: what it cannot make is what this is about.
    let unpacked =
        unpack(io::Cursor::new(bytes), &dest, &RootView::default(), &options, &mut no_lower).unwrap();
    let record = |name: &str| {
        let mut value = [0; 64];
        let length = rustix::fs::getxattr(dir.path().join(name), OWNER_ATTRIBUTE, &mut value).unwrap_or(0);
        String::from_utf8_lossy(&value[..length]).into_owned()
    };
    assert_eq!(unpacked.notes, []);
    assert_eq!([record("forged"), record("owned"), record("folder")], ["0:5", "33:5", "34:5"]);
    assert_eq!(dir.path().join("owned").metadata().unwrap().uid(), rustix::process::geteuid().as_raw());
    if !rustix::process::geteuid().is_root() {
        assert_eq!([record("null"), record("alias")], ["0:5:c:1:3"; 2]);
    }
}

/// Archives that try to write outside. Whatever becomes of them, nothing outside changes.
#[test]
fn nothing_is_ever_written_outside() {
    let long = format!("d {}\n", "d/".repeat(45));
    for layer in [
        "f ../escaped 1",
        "f /escaped 1",
        "f a/../../../escaped 1",
        "l out ..\nf out/escaped 1",
        "l out ../..\nl deeper out\nf deeper/escaped 1",
        "l out /\nf out/escaped 1",
        "l f ../victim\nf f 1",
        "h f ../victim\nf f 1",
        "h f /victim",
        "d d\nl d/l ../../victim\nh h d/l\nf h 1",
        "l d ..\nd d\nf d/escaped 1",
        "d d\nf d/x 1\nl d ..\nf d/escaped 1",
        "l out ..\nf out/.wh.victim ",
        "l out ..\nf out/.wh..wh..opq ",
        "f .wh... ",
        "f .wh.. ",
        "f ..",
        "f .",
        "l . ..",
        "d ..",
        "l a a\nf a/b 1",
        "c c 0 0",
        "f a 1\nf a/b 1",
        "d a\nh b a",
        "h a a",
        &long,
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("victim"), "untouched").unwrap();
        let dest = dir.path().join("dest");
        std::fs::create_dir(&dest).unwrap();
        for below in [RootView::default(), view(&["l out ../..\nd d\nl f ../victim\nl a b\nl b a"])] {
            let outcome = unpack_bytes(&tar(layer), &dest, &below);
            let outside: Vec<_> =
                std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(outside.len(), 2, "{layer}: {outside:?} {outcome:?}");
            assert_eq!(std::fs::read_to_string(dir.path().join("victim")).unwrap(), "untouched", "{layer}");
            assert!(!Path::new("/escaped").exists(), "{layer}");
        }
    }
}

#[test]
fn deep_trees_need_no_more_file_descriptors_than_flat_ones() {
    let layer = format!("f {}f 1\nf d gone", "d/".repeat(2000));
    check(&[], &layer, "f d 644 gone");
}

#[test]
fn errors_name_the_entry() {
    let dir = tempfile::tempdir().unwrap();
    let error = unpack_bytes(&tar("f ok 1\nh broken nothing"), dir.path(), &RootView::default()).unwrap_err();
    let text = error.to_string();
    assert_eq!(
        text,
        "archive entry `broken` (byte 1024): it is a hard link to `nothing`, which does not exist"
    );
}

#[test]
fn the_view_and_the_tree_agree() {
    // What the view shows of one layer alone is what its tree holds.
    let layer = "d a\nf a/b 1\nl s a\nf s/c 1\nh h s/b\nf x/y/z 1\nf a 1\nd x 0700";
    let dir = tempfile::tempdir().unwrap();
    let unpacked = unpack_bytes(&tar(layer), dir.path(), &RootView::default()).unwrap();
    let of_view: Vec<String> =
        unpacked.view.walk(b"").map(|entry| String::from_utf8_lossy(entry.path).into_owned()).collect();
    let mut of_tree: Vec<String> = walkdir::WalkDir::new(dir.path())
        .min_depth(1)
        .into_iter()
        .map(|entry| entry.unwrap().path().strip_prefix(dir.path()).unwrap().display().to_string())
        .collect();
    of_tree.sort();
    assert_eq!(of_view, of_tree);
}

/// What overlayfs shows of the directories `merged`, uppermost first: the rules of the kernel's documentation,
/// in a few lines.
fn overlay(merged: &[PathBuf], dir: &Path, out: &mut Vec<String>) {
    let mut found: BTreeMap<OsString, Vec<PathBuf>> = BTreeMap::new();
    for host in merged {
        for entry in std::fs::read_dir(host).unwrap() {
            let name = entry.unwrap().file_name();
            found.entry(name.clone()).or_default().push(host.join(name));
        }
    }
    for (name, hosts) in found {
        let meta = hosts[0].symlink_metadata().unwrap();
        // In a directory that only one layer has, nothing is hidden.
        if merged.len() > 1 && meta.file_type().is_char_device() && meta.rdev() == 0 {
            continue;
        }
        let path = dir.join(name);
        let mode = if meta.is_symlink() { 0o644 } else { meta.mode() & 0o7777 };
        let what = match std::fs::read_link(&hosts[0]) {
            Ok(target) => format!("-> {}", target.display()),
            Err(_) if meta.is_dir() => "/".to_owned(),
            Err(_) => std::fs::read_to_string(&hosts[0]).unwrap(),
        };
        out.push(format!("{} {mode:o} {what}", path.display()));
        if meta.is_dir() {
            let is_dir = |host: &&PathBuf| host.symlink_metadata().unwrap().is_dir();
            let is_opaque =
                |host: &PathBuf| rustix::fs::lgetxattr(host, "user.overlay.opaque", &mut [0; 8]).is_ok();
            let mut dirs: Vec<PathBuf> = hosts.iter().take_while(is_dir).cloned().collect();
            dirs.truncate(dirs.iter().position(is_opaque).map_or(dirs.len(), |at| at + 1));
            overlay(&dirs, &path, out);
        }
    }
}

/// What a view has, written as [`overlay`] writes it; contents are looked up in the layers' tars.
fn listing_of_view(view: &RootView, tars: &[Vec<u8>]) -> Vec<String> {
    use crate::layer::view::Kind;
    let describe = |entry: ViewEntry<'_>| {
        let what = match entry.node.kind {
            Kind::File { size, offset } => {
                let content = &tars[entry.layer.unwrap()][offset as usize..][..size as usize];
                String::from_utf8(content.to_vec()).unwrap()
            }
            Kind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
            _ => "/".to_owned(),
        };
        format!("{} {:o} {what}", String::from_utf8_lossy(entry.path), entry.node.mode)
    };
    view.walk(b"").map(describe).collect()
}

/// Unpacks layers over each other and compares what overlayfs would show with what the view says.
fn check_stack(layers: &[String]) {
    let dir = tempfile::tempdir().unwrap();
    let (mut view, mut trees, mut tars) = (RootView::default(), Vec::new(), Vec::new());
    for (number, layer) in layers.iter().enumerate() {
        let dest = dir.path().join(number.to_string());
        std::fs::create_dir(&dest).unwrap();
        let bytes = tar(layer);
        let mut open_lower = |entry: &ViewEntry<'_>| -> io::Result<File> {
            let tree: &PathBuf = &trees[entry.layer.unwrap()];
            File::open(tree.join(String::from_utf8_lossy(entry.path).as_ref()))
        };
        let root = Root::open(&dest).unwrap();
        let Ok(unpacked) = unpack(bytes.as_slice(), &root, &view, &options(), &mut open_lower) else {
            return;
        };
        view = unpacked.view;
        trees.push(dest);
        tars.push(bytes);
    }
    let mut of_trees = Vec::new();
    let merged: Vec<PathBuf> = trees.iter().rev().cloned().collect();
    overlay(&merged, Path::new(""), &mut of_trees);
    of_trees.sort();
    let mut of_view = listing_of_view(&view, &tars);
    of_view.sort();
    assert_eq!(of_view, of_trees, "{layers:#?}");
}

mod stacks {
    use super::check_stack;
    use proptest::prelude::*;

    /// One entry over few names, so that entries meet.
    fn line() -> impl Strategy<Value = String> {
        let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "a-b"]), 1..4)
            .prop_map(|p| p.join("/"));
        let path = path.boxed();
        prop_oneof![
            4 => (path.clone(), 0..8u32).prop_map(|(path, mode)| format!("d {path} 70{mode}")),
            4 => (path.clone(), "[a-z]{1,3}").prop_map(|(path, text)| format!("f {path} {text}")),
            1 => (path.clone(), path.clone()).prop_map(|(path, target)| format!("l {path} /{target}")),
            1 => (path.clone(), path.clone()).prop_map(|(path, target)| format!("h {path} {target}")),
            2 => path.clone().prop_map(|path| match path.rsplit_once('/') {
                Some((parent, name)) => format!("f {parent}/.wh.{name} "),
                None => format!("f .wh.{path} "),
            }),
            1 => path.prop_map(|path| format!("f {path}/.wh..wh..opq ")),
        ]
    }

    /// Layers as tools write them, parents first.
    fn layer() -> impl Strategy<Value = String> {
        prop::collection::vec(line(), 0..8).prop_map(|mut lines| {
            lines.sort_by(|a, b| a[2..].split(' ').next().cmp(&b[2..].split(' ').next()));
            lines.join("\n")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn views_and_overlays_agree(layers in prop::collection::vec(layer(), 1..4)) {
            check_stack(&layers);
        }
    }
}
