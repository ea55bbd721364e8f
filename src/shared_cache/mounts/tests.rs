//! Folders that are saved, restored and saved again.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::manifest::{Kind, Manifest};
use super::note::{self, Note};
use super::scan::scan;
use super::*;
use crate::layer::unpack::Owners;
use crate::rootfs::Root;

struct Mount {
    dir: tempfile::TempDir,
    count: usize,
}

impl Mount {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        ["m", "blobs"].iter().for_each(|name| fs::create_dir(dir.path().join(name)).unwrap());
        Self { dir, count: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("m").join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Saves after the snapshot that the note is about; moves the blobs to those that there are.
    fn save(&mut self, parent: Parent) -> Outcome {
        self.count += 1;
        let out = self.dir.path().join(format!("out{}", self.count));
        fs::create_dir(&out).unwrap();
        let job = Save {
            mount: self.dir.path().join("m"),
            owners: Owners::Apply,
            parent,
            out: out.clone(),
            limit: MOUNT_LIMIT,
        };
        let outcome = save(&job).unwrap();
        for blob in fs::read_dir(out).unwrap() {
            let blob = blob.unwrap();
            fs::rename(blob.path(), self.dir.path().join("blobs").join(blob.file_name())).unwrap();
        }
        outcome
    }

    fn restore(&self, manifest: Digest, name: &str) -> PathBuf {
        let fresh = self.dir.path().join(name);
        let blobs = self.dir.path().join("blobs");
        let job =
            Restore { blobs, manifest, fresh: fresh.clone(), owners: Owners::Apply, limit: MOUNT_LIMIT };
        restore(&job, &note_path(&fresh)).unwrap();
        fresh
    }

    fn manifest(&self, digest: Digest) -> Manifest {
        Manifest::parse(&fs::read(self.dir.path().join("blobs").join(digest.hex())).unwrap()).unwrap()
    }
}

fn snapshot(outcome: Outcome) -> (Digest, Vec<PackRef>, Vec<PackRef>) {
    let Outcome::Snapshot { manifest, packs, fresh, .. } = outcome else { panic!("{outcome:?}") };
    (manifest.0, packs, fresh)
}

/// Bytes that cannot be compressed much, the same for the same seed.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

#[test]
fn what_is_restored_is_what_was_saved() {
    let mut mount = Mount::new();
    fs::create_dir(mount.path("z")).unwrap();
    mount.write("z/first", &noise(1, 3000));
    // The other name sorts before it, and is met in another directory.
    fs::hard_link(mount.path("z/first"), mount.path("a")).unwrap();
    fs::hard_link(mount.path("z/first"), mount.path("z/z")).unwrap();
    mount.write("large", &noise(2, 40 << 20));
    mount.write("empty", b"");
    mount.write("small", b"small");
    mount.write("z.c", b"between");
    symlink("../../nowhere", mount.path("link")).unwrap();
    fs::set_permissions(mount.path("small"), fs::Permissions::from_mode(0o4755)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_007, 123_456_789);
    for name in ["small", "z"] {
        File::open(mount.path(name)).unwrap().set_modified(time).unwrap();
    }
    fs::set_permissions(mount.path("z"), fs::Permissions::from_mode(0o555)).unwrap();
    let (digest, packs, fresh) = snapshot(mount.save(Parent::None));
    // Three pieces, and a pack of what is smaller.
    assert_eq!((packs.len(), fresh.len()), (4, 4));
    assert!(packs.iter().all(|pack| fresh.contains(pack)));
    assert!(packs.iter().all(|pack| pack.raw <= 16 << 20));
    let restored = mount.restore(digest, "restored");
    for name in ["z", "z/first", "a", "z/z", "large", "empty", "small", "z.c", "link", ""] {
        let meta = |path: PathBuf| {
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            let links = if meta.is_file() { meta.nlink() } else { 0 };
            (meta.mode(), meta.uid(), meta.mtime(), meta.mtime_nsec(), links, content)
        };
        assert!(meta(mount.path(name)) == meta(restored.join(name)), "{name}");
    }
    assert_eq!(fs::read_link(restored.join("link")).unwrap(), Path::new("../../nowhere"));
    fs::set_permissions(mount.path("z"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(restored.join("z"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_is_known_is_not_read_again() {
    let mut mount = Mount::new();
    (0..20).for_each(|number| mount.write(&number.to_string(), &noise(number, 1000)));
    let (digest, ..) = snapshot(mount.save(Parent::None));
    let (folder, manifest) = (mount.dir.path().join("m"), mount.manifest(digest));
    let root = Root::open(&folder).unwrap();
    let unread = || {
        let found = scan(&root, Owners::Apply, &Note::read(&note_path(&folder))).unwrap();
        found.iter().filter(|found| !found.is_read).count()
    };
    // What changed in the last moments may have changed again, so of some or all this is not believed; how many depends on how
    // long it took to get here.
    let seen: Vec<_> =
        scan(&root, Owners::Apply, &Note::default()).unwrap().iter().map(|found| found.seen).collect();
    Note::write(&note_path(&folder), (&digest, &manifest), &seen, note::now() + 60_000).unwrap();
    assert_eq!((unread(), noted_manifest(&folder)), (0, Some(digest)));
    mount.write("7", &noise(70, 1000));
    mount.write("new", b"new");
    assert_eq!(unread(), 2);
    let (digest, packs, fresh) = snapshot(mount.save(Parent::Noted));
    assert_eq!((packs.len(), fresh.len(), fresh[0].raw), (2, 1, 1000));
    assert_eq!(fs::read(mount.restore(digest, "restored").join("7")).unwrap(), noise(70, 1000));
    drop_note(&folder);
    assert_eq!(unread(), 21);
}

#[test]
fn only_what_is_worth_it_is_saved() {
    let mut mount = Mount::new();
    assert!(matches!(mount.save(Parent::None), Outcome::Empty));
    (0..20).for_each(|number| mount.write(&number.to_string(), &noise(number, 10_000)));
    snapshot(mount.save(Parent::None));
    assert!(matches!(mount.save(Parent::Noted), Outcome::Unchanged));
    mount.write("0", &noise(100, 100));
    assert!(matches!(mount.save(Parent::Noted), Outcome::Unchanged));
    mount.write("1", &noise(101, 10_000));
    snapshot(mount.save(Parent::Noted));
    fs::remove_file(mount.path("1")).unwrap();
    let (digest, packs, fresh) = snapshot(mount.save(Parent::Noted));
    assert_eq!((packs.len(), fresh.len()), (1, 0), "its pack is not needed any more");
    assert!(!mount.restore(digest, "restored").join("1").exists());
}

#[test]
fn packs_that_are_mostly_dead_or_many_are_made_anew() {
    let mut mount = Mount::new();
    (0..10).for_each(|number| mount.write(&number.to_string(), &noise(number, 10_000)));
    let (_, first, _) = snapshot(mount.save(Parent::None));
    (0..6).for_each(|number| fs::remove_file(mount.path(&number.to_string())).unwrap());
    let (digest, packs, fresh) = snapshot(mount.save(Parent::Noted));
    assert_eq!((packs.len(), fresh.len(), fresh[0].raw), (1, 1, 40_000));
    assert_ne!(first, packs);
    let kept = mount.manifest(digest);
    assert_eq!(kept.entries.iter().filter(|entry| matches!(entry.kind, Kind::Packed(..))).count(), 4);
    let mut most = 0;
    for number in 100..120 {
        mount.write(&number.to_string(), &noise(number, 10_000));
        most = most.max(snapshot(mount.save(Parent::Noted)).1.len());
    }
    assert!(most <= 10, "{most}");
}
