//! Archives in, a mounted image out, compared with the tree that the unpacker makes of the same archive.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::{HEAD_BYTES, PackError, Unfit, is_whole, pack};
use crate::layer::archive::Limits;
use crate::layer::sample::{tar, view};
use crate::layer::unpack::{OpaqueMark, Owners, UnpackOptions, unpack};
use crate::layer::view::{RootView, ViewEntry};
use crate::oci::{DiffId, Digest};
use crate::rootfs::Root;

fn packed(bytes: &[u8], path: &Path, below: &RootView) -> Result<(), PackError> {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    let packed = pack(bytes, &file, below, Limits::default())?;
    assert_eq!(packed.diff_id, DiffId(Digest::of(bytes)));
    let image = fs::read(path).unwrap();
    assert_eq!(&image[HEAD_BYTES as usize..][..bytes.len()], bytes, "the tar is in it");
    Ok(())
}

/// Mounted nowhere: gone with the value. `None`, with a reason, where this process may not.
fn mount(image: &Path) -> Option<OwnedFd> {
    let mount = || {
        let context = rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&context, "source", image)?;
        rustix::mount::fsconfig_create(&context)?;
        let flags = MountAttrFlags::MOUNT_ATTR_RDONLY;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    };
    match mount() {
        Ok(mount) => Some(mount),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "skipped in CI: images cannot be mounted: {error}");
            eprintln!("SKIPPED: images cannot be mounted: {error}");
            None
        }
    }
}

/// Everything that can be told of the files below `root`, a line each. Names of one file share a number.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut inodes = HashMap::new();
    let mut out = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.unwrap();
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let meta = path.symlink_metadata().unwrap();
        if meta.file_type().is_char_device() && meta.rdev() == 0 {
            out.insert(name, "whiteout".to_owned());
            continue;
        }
        let first = inodes.entry(meta.ino()).or_insert_with(|| name.clone()).clone();
        let size = if meta.is_dir() { 0 } else { meta.size() };
        let (mode, uid, gid, links) = (meta.mode(), meta.uid(), meta.gid(), meta.nlink());
        let (seconds, nanoseconds, rdev) = (meta.mtime(), meta.mtime_nsec(), meta.rdev());
        let content = match () {
            () if meta.is_file() => Digest::of(&fs::read(path).unwrap()).to_string(),
            () if meta.is_symlink() => format!("{:?}", fs::read_link(path).unwrap()),
            () => String::new(),
        };
        let xattrs = xattrs(path);
        let line = format!(
            "{mode:o} {uid}:{gid} {size} x{links} {seconds}.{nanoseconds} {rdev} {first:?} {content} {xattrs:?}"
        );
        out.insert(name, line);
    }
    out
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let len = rustix::fs::llistxattr(path, &mut names).unwrap();
    let names = names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 << 10];
        let len = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value[..len].to_vec()
    };
    names.map(|name| (String::from_utf8_lossy(name).into_owned(), value(name))).collect()
}

fn no_lower(_: &ViewEntry<'_>) -> io::Result<File> {
    Err(io::ErrorKind::NotFound.into())
}

/// Packs and unpacks `bytes` on `below` and compares the two.
#[track_caller]
fn check(bytes: &[u8], below: &RootView) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    packed(bytes, &image, below).unwrap();
    check_with_fsck(&image);
    let Some(mount) = mount(&image) else { return };
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let options =
        UnpackOptions { owners: Owners::Apply, opaque: OpaqueMark::Trusted, limits: Limits::default() };
    unpack(bytes, &Root::open(&tree).unwrap(), below, &options, &mut no_lower).unwrap();
    let mounted = PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd()));
    let (expected, found) = (listing(&tree), listing(&mounted));
    for (path, line) in &expected {
        assert_eq!(found.get(path), Some(line), "{}", path.display());
    }
    assert_eq!(found.len(), expected.len(), "{:?}", found.keys());
    // Names that are asked for without being listed are found by another way.
    for path in expected.keys().take(20_000) {
        assert!(mounted.join(path).symlink_metadata().is_ok(), "{}", path.display());
    }
    assert!(mounted.join("none").symlink_metadata().is_err());
}

/// Has `fsck.erofs` look at the image, where it is one that knows blocks of 512 bytes (1.6 and later).
fn check_with_fsck(image: &Path) {
    let Ok(version) = std::process::Command::new("fsck.erofs").arg("-V").output() else { return };
    let version =
        String::from_utf8_lossy(&version.stdout).into_owned() + &String::from_utf8_lossy(&version.stderr);
    if version.contains("erofs 1.5") {
        eprintln!("fsck.erofs 1.5 knows no blocks of 512 bytes");
        return;
    }
    let checked = std::process::Command::new("fsck.erofs").arg(image).output().unwrap();
    let said =
        String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
}

/// An archive made by hand: name, type, size of the content.
struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(&mut self, name: &[u8], kind: tar::EntryType, content: &[u8], link: &[u8]) {
        let records = [("path", name), ("linkpath", link)];
        let records = records.into_iter().filter(|(_, value)| value.len() > 100);
        self.0.append_pax_extensions(records).unwrap();
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        old.linkname[..link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        header.set_mode(0o640);
        header.set_uid(1234);
        header.set_gid(70_000);
        header.set_mtime(1_700_000_000);
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
    }

    fn file(&mut self, name: impl AsRef<[u8]>, content: &[u8]) {
        self.add(name.as_ref(), tar::EntryType::Regular, content, b"");
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

#[test]
fn every_kind_of_file() {
    check(
        &tar("d d 1777\nf d/f text\nl d/l ../x\nh d/h d/f\np p\nd ro 0555\nf ro/f 1\nf e \nc null 1 3\n\
              b disk 259 300000\nh also null\nh l2 d/l\nf .-x 1\nf ... 2\nd empty"),
        &RootView::default(),
    );
    check(&tar(""), &RootView::default());
}

#[test]
fn whiteouts_and_opaque_directories() {
    let below = view(&["d d 0700\nf d/a 1\nf x 1\nd o 0711\nf o/f 1\nd tmp 1777\nd tmp/a 0700"]);
    for layer in [
        "f d/.wh.a \nf d/.wh.none \nf .wh.x \nf o/.wh..wh..opq \nf o/.wh.f \nf o/g 1",
        "f .wh.d \nd d 0711\nf d/b 1",
        "f o/.wh..wh..opq ",
        "f tmp/a/b/f 1",
        "f d/f 1\nf d 22\nf new/a/b 1\nf new/c 2",
    ] {
        check(&tar(layer), &below);
    }
}

#[test]
fn names_of_all_lengths_and_bytes() {
    let mut archive = Archive::new();
    for len in [1, 99, 100, 101, 254, 255] {
        archive.file(vec![b'n'; len], b"x");
    }
    archive.file(b"not-\xff\xfe-utf8\n", b"y");
    archive.file([&b"d/".repeat(700)[..], b"deep"].concat(), b"z");
    let links: Vec<usize> = vec![1, 59, 60, 447, 448, 449, 511, 512, 513, 1024, 4095];
    for len in links {
        archive.add(format!("link{len}").as_bytes(), tar::EntryType::Symlink, b"", &vec![b't'; len]);
    }
    check(&archive.finish(), &RootView::default());
}

#[test]
fn directories_of_many_blocks() {
    let mut archive = Archive::new();
    for number in 0..20_000 {
        archive.file(format!("many/entry-{:05}", (number * 7919) % 20_000), b"");
    }
    for number in 0..300 {
        archive.file([&vec![b'l'; 250][..], format!("{number:05}").as_bytes()].concat(), b"1");
    }
    check(&archive.finish(), &RootView::default());
}

#[test]
fn contents_of_all_sizes() {
    let mut archive = Archive::new();
    for size in [0, 1, 511, 512, 513, 4095, 4096, 4097, 100_000, 3 << 20] {
        let content: Vec<u8> =
            (0..size).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        archive.file(format!("file{size}"), &content);
    }
    archive.file("zeros", &vec![0; 1 << 20]);
    check(&archive.finish(), &RootView::default());
}

#[test]
fn attributes_and_capabilities() {
    let mut archive = Archive::new();
    let capability: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let many: Vec<(String, Vec<u8>)> =
        (0..40).map(|at| (format!("SCHILY.xattr.user.note{at}"), vec![b'v'; at * 2])).collect();
    for name in ["a", "b", "dir/c"] {
        let records = many.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let records = records.chain([("SCHILY.xattr.security.capability", capability)]);
        archive.0.append_pax_extensions(records).unwrap();
        archive.file(name, b"content");
    }
    archive.0.append_pax_extensions([("SCHILY.xattr.user.note", &b"a\nb"[..])]).unwrap();
    archive.add(b"dir", tar::EntryType::Directory, b"", b"");
    archive.file("after", b"1");
    check(&archive.finish(), &RootView::default());
}

#[test]
fn what_metadata_cannot_tell_is_left_to_trees() {
    let below = view(&["d a\nf a/f old\nl lib usr/lib\nd usr\nd usr/lib"]);
    let dir = tempfile::tempdir().unwrap();
    let layers = [
        ("h b a/f", Unfit::LowerLink),
        ("f lib/new 1", Unfit::MovedBelow),
        ("f .wh..wh..opq ", Unfit::OpaqueRoot),
    ];
    for (number, (layer, expected)) in layers.into_iter().enumerate() {
        let error = packed(&tar(layer), &dir.path().join(number.to_string()), &below).unwrap_err();
        assert!(matches!(&error, PackError::Unfit(unfit) if *unfit == expected), "{layer}: {error}");
    }
}

#[test]
fn equal_layers_give_equal_images() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = tar("d d\nf d/f text\nl d/l ../x\nh d/h d/f");
    for name in ["a", "b"] {
        packed(&bytes, &dir.path().join(name), &RootView::default()).unwrap();
    }
    assert!(fs::read(dir.path().join("a")).unwrap() == fs::read(dir.path().join("b")).unwrap());
}

#[test]
fn every_changed_byte_that_counts_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let bytes = tar("d d\nf d/f text");
    packed(&bytes, &path, &RootView::default()).unwrap();
    let image = fs::read(&path).unwrap();
    let holds = |bytes: &[u8], layer: &[u8]| {
        fs::write(&path, bytes).unwrap();
        is_whole(&File::open(&path).unwrap(), Some(DiffId(Digest::of(layer)))).unwrap()
    };
    assert!(holds(&image, &bytes) && !holds(&image, b"another"));
    for at in [0, 8, 16, 1024, 1060, HEAD_BYTES as usize, image.len() / 2, image.len() - 1] {
        let mut changed = image.clone();
        changed[at] ^= 1;
        assert!(!holds(&changed, &bytes), "{at}");
    }
    assert!(!holds(&image[..image.len() - 512], &bytes) && !holds(b"short", &bytes) && !holds(b"", &bytes));
}

#[test]
fn a_full_disk_is_told_as_one() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let error = pack(&tar("f f text")[..], &full, &RootView::default(), Limits::default()).unwrap_err();
    assert!(matches!(error, PackError::Write(_)), "{error}");
}
