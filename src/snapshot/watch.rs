//! In which directories of a root something happened, as the kernel tells it (inotify).
//!
//! It tells of all that goes through a name in a directory that is watched, and of what is done to files that were opened by one. It does
//! not tell of writing through a mapping, under a name that came about meanwhile in another directory, by asynchronous I/O, and, before
//! Linux 6.6, by `splice`. Who cannot exclude these has to look at everything ([`super::Tracked::unseen`]).

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::listing::join;

/// Directories of one root. Each keeps an inode in memory, some KiB, and of all that a user may watch others want some.
const MOST: usize = 16_384;

/// The part of what a user may watch that one root takes.
const SHARE: usize = 4;

/// How many directories all programs of one user may watch; in a container it is the machine's.
const LIMIT: &str = "/proc/sys/fs/inotify/max_user_watches";

/// The directories of a root, watched.
#[derive(Debug)]
pub(super) struct Watch {
    root: PathBuf,
    queue: OwnedFd,
    folders: HashMap<i32, Vec<u8>>,
    /// Since [`Self::forget`].
    happened: Happened,
}

/// Where something happened.
#[derive(Debug, Default)]
struct Happened {
    /// To these directories or to something directly in them.
    folders: HashSet<Vec<u8>>,
    /// Directories that were moved, by their paths before or afterwards.
    moved: Vec<Vec<u8>>,
    /// More than was told.
    more: bool,
}

impl Watch {
    /// Watches `folders` of `root`, in which nobody changes anything meanwhile. `None` if they are too many, or cannot be watched.
    pub(super) fn on<'f>(root: &Path, folders: impl ExactSizeIterator<Item = &'f Vec<u8>>) -> Option<Self> {
        let limit: usize = std::fs::read_to_string(LIMIT).ok()?.trim().parse().ok()?;
        if folders.len() > MOST.min(limit / SHARE) {
            return None;
        }
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let (root, happened) = (root.to_owned(), Happened::default());
        let mut watch = Self { root, queue, folders: HashMap::new(), happened };
        watch.add(folders).then_some(watch)
    }

    /// Watches these, too; tells whether it can.
    pub(super) fn add<'f>(&mut self, folders: impl Iterator<Item = &'f Vec<u8>>) -> bool {
        let flags = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW;
        for folder in folders {
            let path = self.root.join(OsStr::from_bytes(folder));
            let Ok(number) = inotify::add_watch(&self.queue, &path, flags) else { return false };
            self.folders.insert(number, folder.clone());
        }
        self.folders.len() <= MOST
    }

    /// The directories to which something happened, or to what is directly in them, since [`Self::forget`]. `None`: it may have been to any.
    /// What is at `put_back` was moved out and back.
    pub(super) fn happened(&mut self, put_back: &HashSet<PathBuf>) -> Option<&HashSet<Vec<u8>>> {
        self.read();
        let is_back = |path: &Vec<u8>| put_back.contains(Path::new(OsStr::from_bytes(path)));
        let is_told = !self.happened.more && self.happened.moved.iter().all(is_back);
        is_told.then_some(&self.happened.folders)
    }

    /// Begins anew.
    pub(super) fn forget(&mut self) {
        self.happened = Happened::default();
    }

    fn read(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => continue,
                Err(_) => {
                    self.happened.more = true;
                    return;
                }
            };
            let flags = event.events();
            if flags.contains(ReadFlags::IGNORED) {
                // It was removed, and so were all in it.
                self.folders.remove(&event.wd());
                continue;
            }
            let Some(folder) = self.folders.get(&event.wd()) else {
                // Of one that was removed meanwhile, or of so many that the rest was dropped.
                self.happened.more |= flags.contains(ReadFlags::QUEUE_OVERFLOW);
                continue;
            };
            if flags.contains(ReadFlags::ISDIR)
                && flags.intersects(ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO)
                && let Some(name) = event.file_name()
            {
                self.happened.moved.push(join(folder, name.to_bytes()));
            }
            if !self.happened.folders.contains(folder) {
                self.happened.folders.insert(folder.clone());
            }
        }
    }
}
