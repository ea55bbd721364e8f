//! Writers that the times of a file do not betray, against what is remembered of files.
//!
//! `testdata/attack/scribe.c` writes, at times to pages that are dirty already, which no time tells; here digests are asked for
//! by way of the stat cache and compared with the bytes.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rbuild::context::statcache::StatCache;
use rbuild::context::{Context, Entry, Error};
use tempfile::TempDir;

use crate::support::attack::{Chance, Tally, rounds};
use crate::support::mounts::Mount;
use crate::support::{is_root, tools};

const FILES: usize = 200;
/// Longer than a tick of the clock that stamps files, with what the stat cache adds to be sure.
const TICK: Duration = Duration::from_millis(80);

/// Files on one kind of file system, a stat cache, and the process that writes.
struct Place {
    name: &'static str,
    /// Before the folders: what is mounted on one of them goes first.
    mount: Option<Mount>,
    folder: TempDir,
    scribe: Child,
}

impl Place {
    fn new(program: &Path, name: &'static str, folder: TempDir, mount: Option<Mount>) -> Self {
        let within = mount.as_ref().map_or(folder.path(), Mount::path).to_owned();
        for made in [&within.join("context"), &within.join("other"), &folder.path().join("cache")] {
            fs::create_dir(made).unwrap();
        }
        let mut command = Command::new(program);
        command.arg(within.join("context")).arg(FILES.to_string()).arg(within.join("other"));
        let scribe = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        Self { name, mount, folder, scribe }
    }

    /// Every kind of file system that this machine lets us use.
    fn all(program: &Path) -> Vec<Self> {
        let in_memory = Path::new("/dev/shm");
        let disk = || tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut all = vec![Self::new(program, "disk", disk(), None)];
        if in_memory.is_dir() {
            all.push(Self::new(program, "tmpfs", tempfile::tempdir_in(in_memory).unwrap(), None));
        }
        if is_root() {
            let overlay = |folder: TempDir, more| {
                let mount = Mount::overlay(folder.path(), more);
                (folder, Some(mount))
            };
            for (name, (folder, mount)) in [
                ("overlay on disk", overlay(disk(), "")),
                ("volatile overlay on disk", overlay(disk(), ",volatile")),
                ("overlay on tmpfs", overlay(tempfile::tempdir_in(in_memory).unwrap(), "")),
            ] {
                all.push(Self::new(program, name, folder, mount));
            }
        }
        all
    }

    fn context(&self) -> PathBuf {
        self.mount.as_ref().map_or(self.folder.path(), Mount::path).join("context")
    }

    fn tell(&mut self, order: &str) {
        writeln!(self.scribe.stdin.as_mut().unwrap(), "{order}").unwrap();
    }

    fn wait(&mut self) {
        let mut answer = String::new();
        BufReader::with_capacity(1, self.scribe.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();
        assert_eq!(answer, "ok\n", "the scribe on {}", self.name);
    }

    fn order(&mut self, order: &str) {
        self.tell(order);
        self.wait();
    }

    /// Looks at every file as a build does: by name, its digest.
    fn digests(&self) -> Result<Vec<(String, [u8; 32])>, Error> {
        let cache = StatCache::open(&self.folder.path().join("cache"), &self.context(), "this boot");
        let context = Context::open(&self.context(), None, Some(cache))?;
        let mut files: Vec<Entry<'_>> = Vec::new();
        context.walk(context.top(), &mut |_, entry| files.push(entry))?;
        let digests = context.digests(files.len(), |number| files[number])?;
        context.save_digests().unwrap();
        let name = |number: usize| String::from_utf8(files[number].name().to_vec()).unwrap();
        Ok((0..files.len()).map(|number| (name(number), *digests.content(number))).collect())
    }

    /// Nobody writes now: every digest must be that of the bytes.
    fn compare(&self, when: &str, tally: &mut Tally) {
        for (name, digest) in self.digests().unwrap() {
            let bytes = fs::read(self.context().join(&name)).unwrap();
            let is_right = *blake3::hash(&bytes).as_bytes() == digest;
            tally.count(if is_right { "right" } else { "stale" });
            assert!(is_right, "{name} on {}, {when}: a stale digest", self.name);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.scribe.kill();
        let _ = self.scribe.wait();
    }
}

/// Compiles the program that writes.
fn scribe() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("scribe");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/attack/scribe.c");
    tools::run("gcc", ["-O1", "-o", program.to_str().unwrap(), source]);
    (folder, program)
}

#[test]
fn a_write_to_a_page_that_is_dirty_already_is_seen() {
    let (_folder, program) = scribe();
    let mut tally = Tally::of("unseen writes, one after the other");
    let mut places = Place::all(&program);
    for _ in 0..rounds(2, 50) {
        for place in &mut places {
            place.order("hold");
        }
        // The files come to rest, mapped as they are.
        std::thread::sleep(TICK);
        for place in &mut places {
            place.compare("mapped and dirty", &mut tally);
            place.order("write");
            place.compare("written again", &mut tally);
            place.order("write");
            place.order("drop");
            place.compare("unmapped", &mut tally);
        }
        std::thread::sleep(TICK);
        for place in &mut places {
            // Now they may be remembered.
            place.compare("at rest", &mut tally);
            place.order("hold");
            place.compare("mapped anew", &mut tally);
            place.order("write");
            place.compare("and written again", &mut tally);
        }
    }
    assert_eq!(tally.came_to("stale"), 0);
}

#[test]
fn writers_by_chance_leave_nothing_stale() {
    let (_folder, program) = scribe();
    let mut tally = Tally::of("unseen writes by chance, beside builds");
    let mut chance = Chance::of("unseen writes by chance");
    let mut places = Place::all(&program);
    for _ in 0..rounds(2, 100) {
        for place in &mut places {
            place.tell(&format!("chaos {} 200", chance.below(1 << 30)));
        }
        for _ in 0..20 {
            for place in &places {
                let is_honest =
                    !matches!(place.digests(), Err(error) if !matches!(error, Error::Changed { .. }));
                assert!(is_honest, "a file that changes is read, or said to have changed");
            }
        }
        places.iter_mut().for_each(Place::wait);
        places.iter().for_each(|place| place.compare("right after", &mut tally));
        std::thread::sleep(TICK);
        places.iter().for_each(|place| place.compare("at rest", &mut tally));
        places.iter_mut().for_each(|place| place.order("write"));
        places.iter().for_each(|place| place.compare("written again", &mut tally));
    }
    assert_eq!(tally.came_to("stale"), 0);
}
