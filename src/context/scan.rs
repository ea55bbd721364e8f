//! Lists a context, as much of it as is asked for, in parallel.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, OnceLock};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Stat};

use super::Error;
use super::ignore::{Ignore, Verdict, judge};
use super::matcher::Inherited;
use super::path;
use super::statcache::StatCache;
use crate::rootfs::{Root, Symlinks};

/// More entries than this in one directory are looked at in parallel.
const PARALLEL_ENTRIES: usize = 1024;

/// A folder that COPY and ADD take files from.
pub struct Context {
    root: Root,
    ignore: Option<Ignore>,
    top: Node,
    cache: Option<StatCache>,
    /// Done when everything was listed, as far as it can be.
    whole: Once,
}

/// One file, directory or other entry.
#[derive(Debug)]
pub struct Node {
    name: Box<[u8]>,
    meta: Meta,
    kind: Kind,
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
    pub links: u64,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Change time: seconds and nanoseconds.
    pub ctime: (i64, u32),
}

/// What an entry is.
#[derive(Debug)]
pub enum Kind {
    /// A directory; list it with [`Context::list`].
    Directory(Directory),
    /// A regular file.
    File,
    /// A symlink and its target as it stands.
    Symlink(Box<[u8]>),
    /// A named pipe.
    Fifo,
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
}

/// A directory's entries, once they were listed, and what the ignore rules make of them.
#[derive(Debug, Default)]
pub struct Directory {
    entries: OnceLock<Vec<Node>>,
    inherited: Inherited,
}

impl Node {
    /// The last component of its path; empty for the top directory.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What `lstat` said.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What it is.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }
}

impl Context {
    /// Opens the folder; nothing in it is read yet. Digests come from `cache` where its records still hold.
    pub fn open(path: &Path, ignore: Option<Ignore>, cache: Option<StatCache>) -> Result<Self, Error> {
        let open = || -> std::io::Result<(Root, Stat)> {
            let root = Root::open(path)?;
            let stat = rustix::fs::fstat(&root)?;
            Ok((root, stat))
        };
        let (root, stat) = open().map_err(|source| Error::Open { path: path.to_owned(), source })?;
        let top =
            Node { name: Box::default(), meta: meta(&stat), kind: Kind::Directory(Directory::default()) };
        let ignore = ignore.filter(|rules| !rules.is_empty());
        Ok(Self { root, ignore, top, cache, whole: Once::new() })
    }

    /// The folder.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The folder's own entry.
    pub fn top(&self) -> &Node {
        &self.top
    }

    /// The rules that hide files, if there are any.
    pub fn ignore(&self) -> Option<&Ignore> {
        self.ignore.as_ref()
    }

    /// Writes what was digested to the stat cache; see [`StatCache::save`].
    pub fn save_digests(&self) -> std::io::Result<()> {
        self.cache.as_ref().map_or(Ok(()), StatCache::save)
    }

    pub(super) fn cache(&self) -> Option<&StatCache> {
        self.cache.as_ref()
    }

    /// The entries of `dir`, which is at `at`, sorted by name; none if it is no directory. Read from disk on the
    /// first call only.
    pub fn list<'c>(&'c self, dir: &'c Node, at: &[u8]) -> Result<&'c [Node], Error> {
        let Kind::Directory(directory) = &dir.kind else { return Ok(&[]) };
        if directory.entries.get().is_none() {
            let entries = Lister { root: &self.root, ignore: self.ignore.as_ref() }.list(directory, at)?;
            // Another thread may have been faster; its listing is the one that counts.
            let _ = directory.entries.set(entries);
        }
        Ok(directory.entries.get().map_or(&[], Vec::as_slice))
    }

    /// The entry at `path` (relative and cleaned), no symlink followed; only the directories on the way are read.
    pub fn entry(&self, path: &[u8]) -> Result<Option<&Node>, Error> {
        let mut node = &self.top;
        let mut at: Vec<u8> = Vec::new();
        for name in path::components(path) {
            let entries = self.list(node, &at)?;
            let Ok(index) = entries.binary_search_by(|entry| entry.name.as_ref().cmp(name)) else {
                return Ok(None);
            };
            node = &entries[index];
            at = path::join(&at, name);
        }
        Ok(Some(node))
    }

    /// Lists everything below `dir`, which is at `at`, on all processors, so that later walks find it in memory. What
    /// cannot be read is an error of the walk that wants it.
    pub fn load(&self, dir: &Node, at: &[u8]) {
        match at {
            b"" => self.whole.call_once(|| self.load_below(dir, at)),
            _ => self.load_below(dir, at),
        }
    }

    fn load_below(&self, dir: &Node, at: &[u8]) {
        let entries = self.list(dir, at).unwrap_or_default();
        let directories = entries.par_iter().filter(|entry| entry.is_dir());
        directories.for_each(|entry| self.load_below(entry, &path::join(at, &entry.name)));
    }

    /// Begins to list everything, and to read the cache, beside what the caller does next.
    pub fn load_ahead(self: &Arc<Self>) {
        let (files, cache) = (Arc::clone(self), Arc::clone(self));
        rayon::spawn(move || files.load(&files.top, b""));
        rayon::spawn(move || {
            cache.cache.as_ref().map(StatCache::len);
        });
    }

    /// Calls `visit` with every entry below `dir`, which is at `at`, and its path, in the order of
    /// [`path::compare`].
    pub fn walk<'c>(
        &'c self,
        dir: &'c Node,
        at: &[u8],
        visit: &mut dyn FnMut(&[u8], &'c Node),
    ) -> Result<(), Error> {
        for entry in self.list(dir, at)? {
            let path = path::join(at, &entry.name);
            visit(&path, entry);
            self.walk(entry, &path, visit)?;
        }
        Ok(())
    }
}

/// Reads directories from disk.
struct Lister<'c> {
    root: &'c Root,
    ignore: Option<&'c Ignore>,
}

impl Lister<'_> {
    fn list(&self, directory: &Directory, at: &[u8]) -> Result<Vec<Node>, Error> {
        let fd = self.open(at).map_err(|source| unreadable(at, source))?;
        let names = read_names(&fd).map_err(|errno| unreadable(at, errno.into()))?;
        let look = |name: &std::ffi::CString| self.look(&fd, at, name, &directory.inherited).transpose();
        let mut entries: Vec<Node> = if names.len() > PARALLEL_ENTRIES {
            names.par_iter().with_min_len(256).filter_map(look).collect::<Result<_, _>>()?
        } else {
            names.iter().filter_map(look).collect::<Result<_, _>>()?
        };
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn open(&self, at: &[u8]) -> std::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        self.root.open_at(as_path(at), flags, 0, Symlinks::Refuse)
    }

    /// The entry `name` of the directory `at`; `None` if it is ignored, a socket, or gone since it was listed.
    fn look(
        &self,
        dir: &OwnedFd,
        at: &[u8],
        name: &std::ffi::CStr,
        inherited: &Inherited,
    ) -> Result<Option<Node>, Error> {
        let fail = |errno: rustix::io::Errno| unreadable(&path::join(at, name.to_bytes()), errno.into());
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            other => other.map_err(fail)?,
        };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let path = if self.ignore.is_some() { path::join(at, name.to_bytes()) } else { Vec::new() };
        let (inherited, sparingly) = match judge(self.ignore, &path, file_type.is_dir(), inherited) {
            Verdict::Drop => return Ok(None),
            Verdict::Keep(inherited) => (inherited, false),
            Verdict::KeepIfUsed(inherited) => (inherited, true),
        };
        let kind = match file_type {
            FileType::Directory => Kind::Directory(Directory { entries: OnceLock::new(), inherited }),
            FileType::RegularFile => Kind::File,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(fail)?;
                Kind::Symlink(target.into_bytes().into())
            }
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => {
                Kind::CharDevice(rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
            }
            FileType::BlockDevice => {
                Kind::BlockDevice(rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
            }
            // A socket is an address of a running process, not content.
            FileType::Socket | FileType::Unknown => return Ok(None),
        };
        let node = Node { name: name.to_bytes().into(), meta: meta(&stat), kind };
        if sparingly { self.keep_if_used(node, &path) } else { Ok(Some(node)) }
    }

    /// An ignored directory is in the context only as the parent of something that an exception brings back.
    fn keep_if_used(&self, node: Node, at: &[u8]) -> Result<Option<Node>, Error> {
        let Kind::Directory(directory) = &node.kind else { return Ok(Some(node)) };
        let entries = match self.list(directory, at) {
            // What nobody may read cannot be meant by the exception, either.
            Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                return Ok(None);
            }
            other => other?,
        };
        if entries.is_empty() {
            return Ok(None);
        }
        let _ = directory.entries.set(entries);
        Ok(Some(node))
    }
}

/// The names in a directory, without `.` and `..`, in the order of the file system.
fn read_names(fd: &OwnedFd) -> rustix::io::Result<Vec<std::ffi::CString>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut reader = RawDir::new(fd, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// `stat` as a [`Meta`].
pub fn meta(stat: &Stat) -> Meta {
    Meta {
        mode: stat.st_mode & 0o7777,
        size: stat.st_size as u64,
        inode: stat.st_ino,
        device: stat.st_dev,
        links: stat.st_nlink,
        mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
        ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
    }
}

pub(super) fn unreadable(at: &[u8], source: std::io::Error) -> Error {
    let path = if at.is_empty() { PathBuf::from(".") } else { as_path(at).to_owned() };
    Error::Read { path, source }
}

/// `path` as the standard library wants it.
pub fn as_path(path: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::ignore;
    use super::*;
    use std::fs;

    /// A context with `files` (those ending in `/` are directories) under `rules`, listed.
    fn listing(files: &[&str], rules: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if file.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::write(path, file).unwrap();
            }
        }
        let ignore = ignore::parse(rules.as_bytes(), ".dockerignore").unwrap();
        let context = Context::open(dir.path(), Some(ignore), None).unwrap();
        context.load(context.top(), b"");
        let mut paths = Vec::new();
        context
            .walk(context.top(), b"", &mut |path, node| {
                paths.push(String::from_utf8_lossy(path).into_owned() + if node.is_dir() { "/" } else { "" });
            })
            .unwrap();
        paths.join(" ")
    }

    const FILES: &[&str] = &["a.txt", "b.log", "d/e/keep.log", "d/e/x.log", "d/y", "empty/", "node/z/m.js"];

    #[test]
    fn ignore_rules_apply() {
        for (rules, expected) in [
            ("", "a.txt b.log d/ d/e/ d/e/keep.log d/e/x.log d/y empty/ node/ node/z/ node/z/m.js"),
            ("*.log\nnode", "a.txt d/ d/e/ d/e/keep.log d/e/x.log d/y empty/"),
            ("**/*.log\n!d/e/keep.log", "a.txt d/ d/e/ d/e/keep.log d/y empty/ node/ node/z/ node/z/m.js"),
            ("*\n!d/e\n!a.txt", "a.txt d/ d/e/ d/e/keep.log d/e/x.log"),
            ("**\n!d/e/keep.log", "d/ d/e/ d/e/keep.log"),
            ("**\n!**/*.js", "node/ node/z/ node/z/m.js"),
            ("node/*", "a.txt b.log d/ d/e/ d/e/keep.log d/e/x.log d/y empty/ node/"),
            ("*\n!empty", "empty/"),
            ("*\n!empty/*", ""),
        ] {
            assert_eq!(listing(FILES, rules), expected, "{rules:?}");
        }
    }

    #[test]
    fn order_is_by_component() {
        assert_eq!(listing(&["a-b", "a/x", "a.c"], ""), "a/ a/x a-b a.c");
    }

    #[test]
    fn other_types_are_kept_but_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let fd = fs::File::open(dir.path()).unwrap();
        rustix::fs::mkfifoat(&fd, "pipe", rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        std::os::unix::fs::symlink("no/where", dir.path().join("link")).unwrap();
        let context = Context::open(dir.path(), None, None).unwrap();
        let entries = context.list(context.top(), b"").unwrap();
        assert_eq!(entries.len(), 2);
        assert!(matches!(&entries[0].kind, Kind::Symlink(target) if **target == *b"no/where"));
        assert!(matches!(entries[1].kind, Kind::Fifo));
    }

    #[test]
    fn only_what_is_asked_for_is_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/deep")).unwrap();
        fs::create_dir_all(dir.path().join("b/deep")).unwrap();
        let context = Context::open(dir.path(), None, None).unwrap();
        assert!(context.entry(b"a/deep").unwrap().is_some());
        let other = context.entry(b"b").unwrap().unwrap();
        let Kind::Directory(directory) = &other.kind else { panic!("b is a directory") };
        assert!(directory.entries.get().is_none());
        assert!(context.entry(b"a/none/x").unwrap().is_none());
    }

    #[test]
    fn a_missing_context_is_named() {
        let Err(error) = Context::open(Path::new("/no/such/context"), None, None) else { panic!("opened") };
        assert!(error.to_string().contains("/no/such/context"), "{error}");
    }
}
