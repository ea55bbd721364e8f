//! What is remembered, and when it is believed.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::context::listing::Entry;
use crate::context::scan::Context;
use crate::rootfs;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};

const BOOT: &str = "this one";

struct Fixture {
    context: tempfile::TempDir,
    folder: tempfile::TempDir,
    /// What the file system proves, whichever the temporary folder is on.
    ground: Ground,
    /// How much later than now builds begin.
    later: Duration,
}

impl Fixture {
    fn new(files: &[&str]) -> Self {
        let (context, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let fixture = Self { context, folder, ground: Ground::DISK, later: Duration::ZERO };
        for file in files {
            fixture.write(file, file);
        }
        fixture
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.context.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn open(&self, boot: &str) -> StatCache {
        let cache = StatCache::open(self.folder.path(), self.context.path(), boot);
        let device = rustix::fs::stat(self.context.path()).unwrap().st_dev;
        let opened = cache.opened + self.later;
        StatCache { home: Some((device, self.ground)), opened, ..cache }
    }

    fn settle(&self) {
        std::thread::sleep(GRANULARITY * 2);
    }

    /// Digests everything; says how many records were there and which digests were found.
    fn build(&self) -> (usize, Vec<[u8; 32]>) {
        let cache = self.open(BOOT);
        let records = cache.len();
        let context = Context::open(self.context.path(), None, Some(cache)).unwrap();
        let mut files: Vec<Entry<'_>> = Vec::new();
        let mut visit = |_: &[u8], entry| files.push(entry);
        context.walk(context.top(), &mut visit).unwrap();
        files.retain(Entry::is_file);
        let digests = context.digests(files.len(), |number| files[number]).unwrap();
        context.save_digests().unwrap();
        (records, (0..files.len()).map(|number| *digests.content(number)).collect())
    }

    fn cache_file(&self) -> PathBuf {
        fs::read_dir(self.folder.path()).unwrap().next().unwrap().unwrap().path()
    }
}

fn digest(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

#[test]
fn remembers_and_notices_changes() {
    let fixture = Fixture::new(&["a", "b/c", "b-d"]);
    fixture.settle();
    let expected = vec![digest("a"), digest("b/c"), digest("b-d")];
    assert_eq!(fixture.build(), (0, expected.clone()));
    assert_eq!(fixture.build(), (3, expected));
    // Same size, and the old modification time forged: the change time betrays it.
    let time = fs::metadata(fixture.context.path().join("a")).unwrap().modified().unwrap();
    fixture.write("a", "x");
    File::options().write(true).open(fixture.context.path().join("a")).unwrap().set_modified(time).unwrap();
    fixture.write("b/new", "new");
    let expected = vec![digest("x"), digest("b/c"), digest("new"), digest("b-d")];
    assert_eq!(fixture.build(), (3, expected.clone()));
    assert_eq!(fixture.build().1, expected);
}

#[test]
fn a_file_changed_just_now_is_not_remembered() {
    let fixture = Fixture::new(&["a"]);
    let meta = |mtime, ctime| Meta { mode: 0, size: 0, inode: 0, device: 0, links: 1, mtime, ctime };
    let now = UNIX_EPOCH + Duration::from_secs(1000);
    for (mtime, ctime, expected) in [
        ((999, 900_000_000), (999, 900_000_000), true),
        ((1, 0), (999, 990_000_000), false),
        ((1, 0), (1001, 1), false),
        ((1001, 1), (1, 1), false),
        ((1, 0), (999, 0), false),
        ((1, 0), (997, 0), true),
    ] {
        assert_eq!(is_at_rest(&meta(mtime, ctime), now), expected, "{mtime:?} {ctime:?}");
    }
    fixture.settle();
    fixture.build();
    assert_eq!(fixture.build().0, 1);
}

#[test]
fn a_file_that_somebody_can_write_to_is_not_remembered() {
    let fixture = Fixture::new(&["a", "b"]);
    let writer = File::options().append(true).open(fixture.path("b")).unwrap();
    fixture.settle();
    let expected = vec![digest("a"), digest("b")];
    assert_eq!(fixture.build(), (0, expected.clone()));
    assert_eq!(fixture.build(), (1, expected.clone()));
    drop(writer);
    assert_eq!(fixture.build(), (1, expected.clone()));
    assert_eq!(fixture.build(), (2, expected));
}

/// Holds a file mapped, and writes another letter to its first byte at each line of its input.
const MAPPER: &str = "
import mmap, sys
file = open(sys.argv[1], 'r+b')
pages = mmap.mmap(file.fileno(), 0)
file.close()
for number, line in enumerate(sys.stdin):
    pages[0] = 65 + number
    print('ok', flush=True)
";

#[test]
fn what_was_written_back_is_remembered_and_the_next_write_seen() {
    let mut fixture = Fixture::new(&["a"]);
    let mut command = std::process::Command::new("python3");
    command.args(["-c", MAPPER]).arg(fixture.path("a"));
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut mapper = command.spawn().unwrap();
    let mut answers = BufReader::new(mapper.stdout.take().unwrap());
    let mut write = || {
        mapper.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "ok\n");
    };
    // Not so on tmpfs.
    let can_write_back = rootfs::writers::write_back(&File::open(fixture.path("a")).unwrap());
    fixture.later = WRITTEN_BACK_AFTER * 2;
    for (ground, before, after) in [(Ground::DISK, "A", "B"), (Ground::OVERLAY, "C", "D")] {
        fixture.ground = ground;
        write();
        fixture.settle();
        assert_eq!(fixture.build().1, [digest(before)]);
        assert_eq!(fixture.build().0, usize::from(can_write_back));
        fixture.settle();
        write();
        assert_eq!(fixture.build().1, [digest(after)]);
    }
    drop(mapper.stdin.take());
    mapper.wait().unwrap();
}

#[test]
fn another_mount_in_its_place_is_another_file_system() {
    let mut fixture = Fixture::new(&["a", "b/c", "d/e"]);
    fixture.settle();
    let remembered = |fixture: &Fixture| {
        let context = Context::open(fixture.context.path(), None, Some(fixture.open(BOOT))).unwrap();
        let found = |path: &&str| context.entry(path.as_bytes()).unwrap().unwrap().remembered().is_some();
        ["a", "b/c", "d/e"].into_iter().filter(found).collect::<Vec<_>>()
    };
    fixture.build();
    assert_eq!(remembered(&fixture), ["a", "b/c", "d/e"]);
    assert_eq!(fixture.names("b", BOOT).as_deref(), Some("c"));
    fixture.ground.mount += 1;
    assert_eq!(remembered(&fixture), [""; 0]);
    assert_eq!(fixture.names("b", BOOT), None);
    // What this build does not look at is not vouched for by the mount that it learns other files by.
    let context = Context::open(fixture.context.path(), None, Some(fixture.open(BOOT))).unwrap();
    context.digest(context.entry(b"b/c").unwrap().unwrap()).unwrap();
    context.save_digests().unwrap();
    assert_eq!(remembered(&fixture), ["b/c"]);
    assert_eq!(fixture.names("d", BOOT), None);
}

#[test]
fn another_boot_forgets_everything() {
    let fixture = Fixture::new(&["a", "b/c"]);
    fixture.settle();
    fixture.build();
    assert_eq!(fixture.open("another").len(), 0);
    assert_eq!(fixture.open(BOOT).len(), 2);
}

#[test]
fn digests_are_kept_only_where_every_write_is_stamped() {
    let mut fixture = Fixture::new(&["a", "b/c"]);
    fixture.settle();
    // A lease proves nothing there, and the file is too young to wait for the disk.
    fixture.ground = Ground::OVERLAY;
    fixture.build();
    assert_eq!((fixture.open(BOOT).len(), fixture.names("b", BOOT)), (0, None));
    fixture.ground = Ground::MEMORY;
    fixture.build();
    assert_eq!((fixture.open(BOOT).len(), fixture.names("b", BOOT).as_deref()), (0, Some("c")));
}

#[test]
fn a_damaged_cache_is_not_used() {
    let fixture = Fixture::new(&["a", "b"]);
    fixture.settle();
    fixture.build();
    let file = fixture.cache_file();
    let good = fs::read(&file).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bad in [flipped, good[..good.len() - 1].to_vec(), good[..20].to_vec(), Vec::new(), vec![0; 4096]] {
        fs::write(&file, bad).unwrap();
        assert_eq!(fixture.build(), (0, vec![digest("a"), digest("b")]));
        assert_eq!(fixture.build().0, 2);
    }
}

#[test]
fn records_of_files_not_looked_at_stay() {
    let fixture = Fixture::new(&["a", "b", "c"]);
    fixture.settle();
    fixture.build();
    fixture.write("b", "new b");
    fixture.settle();
    let cache = fixture.open(BOOT);
    let context = Context::open(fixture.context.path(), None, Some(cache)).unwrap();
    context.digest(context.entry(b"b").unwrap().unwrap()).unwrap();
    context.save_digests().unwrap();
    assert_eq!(fixture.build(), (3, vec![digest("a"), digest("new b"), digest("c")]));
}

impl Fixture {
    /// The names that are believed to be in the directory at `at`.
    fn names(&self, at: &str, boot: &str) -> Option<String> {
        let cache = self.open(boot);
        let stat = rustix::fs::stat(self.context.path().join(at)).unwrap();
        let own = Meta::from(&stat);
        let folder = cache.folder(at.as_bytes(), &own, || File::open(self.context.path().join(at)).ok())?;
        let names = folder.names(&own)?;
        Some(String::from_utf8_lossy(names).replace('\0', " ").trim_end().to_owned())
    }

    /// Everything that a build sees, as paths.
    fn seen(&self, rules: &str) -> String {
        let cache = self.open(BOOT);
        let ignore = super::super::ignore::parse(rules.as_bytes(), "rules").unwrap();
        let context = Context::open(self.context.path(), Some(ignore), Some(cache)).unwrap();
        let mut paths = Vec::new();
        context
            .walk(context.top(), &mut |path, _| paths.push(String::from_utf8_lossy(path).into_owned()))
            .unwrap();
        context.save_digests().unwrap();
        paths.join(" ")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.context.path().join(name)
    }
}

#[test]
fn names_are_believed_while_their_directory_is_the_same() {
    let fixture = Fixture::new(&["a", "b/c", "b/d"]);
    fixture.settle();
    assert_eq!(fixture.names("b", BOOT), None);
    assert_eq!(fixture.seen(""), "a b b/c b/d");
    assert_eq!(fixture.names("", BOOT).as_deref(), Some("a b"));
    assert_eq!(fixture.names("b", BOOT).as_deref(), Some("c d"));
    // A crash in between may have kept a name and lost the directory's time.
    assert_eq!(fixture.names("b", "another"), None);
    // What is in a file is no matter of its directory.
    fixture.write("b/c", "other");
    assert_eq!(fixture.names("b", BOOT).as_deref(), Some("c d"));
    assert_eq!(fixture.seen(""), "a b b/c b/d");
    assert_eq!(fixture.build().1, [digest("a"), digest("other"), digest("b/d")]);
}

type Deed = fn(&Fixture);

#[test]
fn names_that_come_go_or_change_are_seen() {
    let deeds: [(Deed, &str); 7] = [
        (|f| f.write("b/e", "new"), "a b b/c b/d b/e"),
        (|f| fs::remove_file(f.path("b/c")).unwrap(), "a b b/d"),
        (|f| fs::rename(f.path("b/c"), f.path("b/x")).unwrap(), "a b b/d b/x"),
        (|f| fs::rename(f.path("a"), f.path("b/c")).unwrap(), "b b/c b/d"),
        (|f| fs::hard_link(f.path("a"), f.path("b/x")).unwrap(), "a b b/c b/d b/x"),
        (
            |f| {
                fs::remove_dir_all(f.path("b")).unwrap();
                f.write("b/y", "y");
            },
            "a b b/y",
        ),
        (
            |f| {
                // The change time betrays that the modification time was set back.
                let time = fs::metadata(f.path("b")).unwrap().modified().unwrap();
                f.write("b/z", "z");
                File::open(f.path("b")).unwrap().set_modified(time).unwrap();
            },
            "a b b/c b/d b/z",
        ),
    ];
    for (deed, expected) in deeds {
        let fixture = Fixture::new(&["a", "b/c", "b/d"]);
        fixture.settle();
        fixture.build();
        assert!(fixture.names("b", BOOT).is_some());
        deed(&fixture);
        // At once, when the directory is not at rest, and later, when it is remembered again, and from there.
        assert_eq!(fixture.seen(""), expected);
        fixture.settle();
        assert_eq!(fixture.seen(""), expected);
        assert!(fixture.names("b", BOOT).is_some());
        assert_eq!(fixture.seen(""), expected);
    }
}

#[test]
fn names_in_a_directory_changed_just_now_are_not_remembered() {
    let fixture = Fixture::new(&["a", "b/c"]);
    fixture.settle();
    fixture.write("b/d", "d");
    assert_eq!(fixture.seen(""), "a b b/c b/d");
    assert_eq!(fixture.names("b", BOOT), None);
    assert_eq!(fixture.names("", BOOT).as_deref(), Some("a b"));
}

#[test]
fn what_one_build_ignores_another_sees() {
    let fixture = Fixture::new(&["a", "b/c", "b/d"]);
    fixture.settle();
    assert_eq!(fixture.seen("a\nb/c"), "b b/d");
    assert_eq!(fixture.names("b", BOOT).as_deref(), Some("c d"));
    assert_eq!(fixture.seen(""), "a b b/c b/d");
}

#[test]
fn records_of_removed_files_go() {
    let fixture = Fixture::new(&["a", "b/c", "b/d"]);
    fixture.settle();
    fixture.build();
    fs::remove_file(fixture.path("b/c")).unwrap();
    fixture.settle();
    fixture.build();
    assert_eq!(fixture.build(), (2, vec![digest("a"), digest("b/d")]));
}
