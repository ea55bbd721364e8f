//! What is in one directory, in a few allocations.
//!
//! A context of 200,000 files is listed while a layer of 200,000 entries is written, so an entry is a record of fixed
//! size in an array and its name is a piece of one string. Nothing here reads a disk.

use std::sync::{Arc, LazyLock, OnceLock};

use rustix::fs::Stat;

use super::matcher::Inherited;
use super::path;

/// The entries of one directory, sorted by name.
#[derive(Debug, Default)]
pub struct Listing {
    /// The directory's own, relative to the context.
    path: Box<[u8]>,
    /// One after the other.
    names: Box<[u8]>,
    records: Box<[Record]>,
    /// Those of `records` that are directories, in their order.
    directories: Box<[Directory]>,
    /// Where the symlinks among `records` lead, in their order.
    targets: Box<[Box<[u8]>]>,
}

/// One entry as it is kept.
#[derive(Debug, Clone, Copy)]
struct Record {
    inode: u64,
    device: u64,
    /// Of a device its major and minor number.
    size: u64,
    mtime: i64,
    ctime: i64,
    mtime_nanoseconds: u32,
    ctime_nanoseconds: u32,
    links: u32,
    /// Where its name ends; it begins where that of the entry before ends.
    name_end: u32,
    /// The place among the directories or the targets.
    place: u32,
    /// See [`Entry::remembered`].
    remembered: u32,
    mode: u16,
    tag: Tag,
}

/// Stands for none in [`Record::remembered`].
const NOT_REMEMBERED: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Directory,
    File,
    Symlink,
    Fifo,
    CharDevice,
    BlockDevice,
}

/// A directory's entries, once they were listed, and what the ignore rules make of them.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) listing: OnceLock<Arc<Listing>>,
    pub(super) inherited: Inherited,
}

/// What `lstat` says of an entry. The host's owners never travel, so they are not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: `0o7777`.
    pub mode: u32,
    /// In bytes.
    pub size: u64,
    /// Inode number.
    pub inode: u64,
    /// `st_dev`
    pub device: u64,
    /// Number of hard links.
    pub links: u32,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Change time: seconds and nanoseconds.
    pub ctime: (i64, u32),
}

impl From<&Stat> for Meta {
    fn from(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode & 0o7777,
            size: stat.st_size as u64,
            inode: stat.st_ino,
            device: stat.st_dev,
            links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'l> {
    /// A directory; list it with [`Context::list`](super::Context::list).
    Directory,
    /// A regular file.
    File,
    /// A symlink and its target as it stands.
    Symlink(&'l [u8]),
    /// A named pipe.
    Fifo,
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
}

/// One file, directory or other entry.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'l> {
    listing: &'l Arc<Listing>,
    number: u32,
}

/// An [`Entry`] that keeps its listing.
#[derive(Debug, Clone)]
pub struct Listed {
    listing: Arc<Listing>,
    number: u32,
}

impl Listing {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the directory is empty, as far as the ignore rules let anyone see.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The directory's own path, relative to the context; empty for the context itself.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The entry with this number. Panics if there is none.
    pub fn entry(self: &Arc<Self>, number: usize) -> Entry<'_> {
        assert!(number < self.len(), "entry {number} of {}", self.len());
        Entry { listing: self, number: number as u32 }
    }

    /// The entries, sorted by name.
    pub fn entries(self: &Arc<Self>) -> impl ExactSizeIterator<Item = Entry<'_>> {
        (0..self.records.len() as u32).map(|number| Entry { listing: self, number })
    }

    /// The entry of this name.
    pub fn find(self: &Arc<Self>, name: &[u8]) -> Option<Entry<'_>> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(self.entry(middle)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The directories among the entries.
    pub(super) fn directories(self: &Arc<Self>) -> Vec<Entry<'_>> {
        self.entries().filter(Entry::is_dir).collect()
    }

    /// A listing without entries.
    pub(super) fn empty() -> &'static Arc<Self> {
        static EMPTY: LazyLock<Arc<Listing>> = LazyLock::new(Arc::default);
        &EMPTY
    }

    /// What stands above a context: its own directory, without a name.
    pub(super) fn above(meta: &Meta) -> Arc<Self> {
        let mut builder = Builder::default();
        let found = Found::Directory(Directory::default());
        builder.push(b"", meta, found, None);
        Arc::new(builder.finish(b""))
    }

    fn name(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.records[number - 1].name_end as usize };
        &self.names[start..self.records[number].name_end as usize]
    }
}

impl<'l> Entry<'l> {
    /// The last component of its path; empty for the context itself.
    pub fn name(&self) -> &'l [u8] {
        self.listing.name(self.number as usize)
    }

    /// Its path, relative to the context.
    pub fn path(&self) -> Vec<u8> {
        path::join(&self.listing.path, self.name())
    }

    /// What `lstat` said.
    pub fn meta(&self) -> Meta {
        let record = self.record();
        Meta {
            mode: u32::from(record.mode),
            size: match record.tag {
                Tag::CharDevice | Tag::BlockDevice => 0,
                Tag::Directory | Tag::File | Tag::Symlink | Tag::Fifo => record.size,
            },
            inode: record.inode,
            device: record.device,
            links: record.links,
            mtime: (record.mtime, record.mtime_nanoseconds),
            ctime: (record.ctime, record.ctime_nanoseconds),
        }
    }

    /// What it is.
    pub fn kind(&self) -> Kind<'l> {
        let record = self.record();
        let (major, minor) = ((record.size >> 32) as u32, record.size as u32);
        match record.tag {
            Tag::Directory => Kind::Directory,
            Tag::File => Kind::File,
            Tag::Symlink => Kind::Symlink(&self.listing.targets[record.place as usize]),
            Tag::Fifo => Kind::Fifo,
            Tag::CharDevice => Kind::CharDevice(major, minor),
            Tag::BlockDevice => Kind::BlockDevice(major, minor),
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.record().tag == Tag::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.record().tag == Tag::File
    }

    /// The listing that it is in, and its number there.
    pub fn place(&self) -> (&'l Arc<Listing>, u32) {
        (self.listing, self.number)
    }

    /// Itself, independent of what it was borrowed from.
    pub fn to_listed(&self) -> Listed {
        Listed { listing: Arc::clone(self.listing), number: self.number }
    }

    pub(super) fn directory(&self) -> Option<&'l Directory> {
        let record = self.record();
        (record.tag == Tag::Directory).then(|| &self.listing.directories[record.place as usize])
    }

    /// The number of its record in the stat cache, if that describes it.
    pub(super) fn remembered(&self) -> Option<usize> {
        let remembered = self.record().remembered;
        (remembered != NOT_REMEMBERED).then_some(remembered as usize)
    }

    fn record(&self) -> &'l Record {
        &self.listing.records[self.number as usize]
    }
}

impl Listed {
    /// The entry.
    pub fn entry(&self) -> Entry<'_> {
        Entry { listing: &self.listing, number: self.number }
    }
}

impl PartialEq for Listed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.listing, &other.listing) && self.number == other.number
    }
}

/// Puts a listing together, in the order of the names.
#[derive(Debug, Default)]
pub(super) struct Builder {
    names: Vec<u8>,
    records: Vec<Record>,
    directories: Vec<Directory>,
    targets: Vec<Box<[u8]>>,
}

/// What a scan found at a name.
pub(super) enum Found {
    Directory(Directory),
    File,
    Symlink(Box<[u8]>),
    Fifo,
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
}

impl Builder {
    /// A builder with room for so many entries.
    pub(super) fn with_capacity(entries: usize, name_bytes: usize) -> Self {
        Self {
            names: Vec::with_capacity(name_bytes),
            records: Vec::with_capacity(entries),
            ..Self::default()
        }
    }

    /// Adds an entry behind the others. `remembered` is the number of the stat cache's record that describes it.
    pub(super) fn push(&mut self, name: &[u8], meta: &Meta, found: Found, remembered: Option<usize>) {
        self.names.extend_from_slice(name);
        let numbers = |major: u32, minor: u32| u64::from(major) << 32 | u64::from(minor);
        let (tag, size, place) = match found {
            Found::Directory(directory) => {
                self.directories.push(directory);
                (Tag::Directory, meta.size, self.directories.len() - 1)
            }
            Found::Symlink(target) => {
                self.targets.push(target);
                (Tag::Symlink, meta.size, self.targets.len() - 1)
            }
            Found::File => (Tag::File, meta.size, 0),
            Found::Fifo => (Tag::Fifo, meta.size, 0),
            Found::CharDevice(major, minor) => (Tag::CharDevice, numbers(major, minor), 0),
            Found::BlockDevice(major, minor) => (Tag::BlockDevice, numbers(major, minor), 0),
        };
        self.records.push(Record {
            inode: meta.inode,
            device: meta.device,
            size,
            mtime: meta.mtime.0,
            ctime: meta.ctime.0,
            mtime_nanoseconds: meta.mtime.1,
            ctime_nanoseconds: meta.ctime.1,
            links: meta.links,
            name_end: self.names.len() as u32,
            place: place as u32,
            remembered: remembered.map_or(NOT_REMEMBERED, |number| number as u32),
            mode: meta.mode as u16,
            tag,
        });
    }

    /// Adds all entries of `other` behind.
    pub(super) fn append(&mut self, other: Builder) {
        let names = self.names.len() as u32;
        let (directories, targets) = (self.directories.len() as u32, self.targets.len() as u32);
        self.names.extend_from_slice(&other.names);
        self.records.extend(other.records.into_iter().map(|record| Record {
            name_end: record.name_end + names,
            place: match record.tag {
                Tag::Directory => record.place + directories,
                Tag::Symlink => record.place + targets,
                Tag::File | Tag::Fifo | Tag::CharDevice | Tag::BlockDevice => record.place,
            },
            ..record
        }));
        self.directories.extend(other.directories);
        self.targets.extend(other.targets);
    }

    /// The listing of the directory at `path`.
    pub(super) fn finish(self, path: &[u8]) -> Listing {
        Listing {
            path: path.into(),
            names: self.names.into(),
            records: self.records.into(),
            directories: self.directories.into(),
            targets: self.targets.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const META: Meta =
        Meta { mode: 0o644, size: 5, inode: 7, device: 1, links: 1, mtime: (1, 2), ctime: (3, 4) };

    #[test]
    fn what_was_put_in_is_found() {
        let mut first = Builder::default();
        first.push(b"a", &META, Found::Directory(Directory::default()), None);
        first.push(b"bb", &META, Found::Symlink((*b"to").into()), None);
        let mut second = Builder::default();
        second.push(b"c", &META, Found::Symlink((*b"there").into()), None);
        second.push(b"d", &META, Found::CharDevice(5, 1), None);
        second.push(b"e", &META, Found::Directory(Directory::default()), None);
        second.push(b"f", &META, Found::File, Some(9));
        first.append(second);
        let listing = Arc::new(first.finish(b"x/y"));
        let names: Vec<&[u8]> = listing.entries().map(|entry| entry.name()).collect();
        assert_eq!(names, [&b"a"[..], b"bb", b"c", b"d", b"e", b"f"]);
        let kind = |name: &[u8]| listing.find(name).map(|entry| entry.kind());
        assert_eq!(kind(b"bb"), Some(Kind::Symlink(b"to")));
        assert_eq!(kind(b"c"), Some(Kind::Symlink(b"there")));
        assert_eq!(kind(b"d"), Some(Kind::CharDevice(5, 1)));
        assert_eq!(kind(b"b"), None);
        let file = listing.find(b"f").unwrap();
        assert_eq!((file.path(), file.meta(), file.remembered()), (b"x/y/f".to_vec(), META, Some(9)));
        assert_eq!(listing.directories().len(), 2);
        assert!(listing.find(b"e").unwrap().directory().is_some() && file.directory().is_none());
    }

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Record>() <= 72);
    }
}
