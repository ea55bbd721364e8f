//! Lists a context, as much of it as is asked for, in parallel.
//!
//! A directory that the stat cache knows, and that has not changed since, is not read: its names are those that are
//! remembered. What is at each name is asked of the disk in every build.

use std::borrow::Cow;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, OnceLock};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Stat};

use super::Error;
use super::ignore::{Ignore, Verdict, judge};
use super::listing::{Builder, Directory, Entry, Found, Listing, Meta};
use super::matcher::Inherited;
use super::path;
use super::statcache::{Folder, StatCache};
use crate::rootfs::{Root, Symlinks};

/// More entries than this in one directory are looked at in parallel.
const PARALLEL_ENTRIES: usize = 1024;

/// A folder that COPY and ADD take files from.
pub struct Context {
    root: Root,
    ignore: Option<Ignore>,
    /// Holds nothing but the folder's own entry.
    above: Arc<Listing>,
    cache: Option<StatCache>,
    /// Done when everything was listed, as far as it can be.
    whole: Once,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("root", &self.root.path()).finish_non_exhaustive()
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
        let ignore = ignore.filter(|rules| !rules.is_empty());
        Ok(Self { root, ignore, above: Listing::above(&Meta::from(&stat)), cache, whole: Once::new() })
    }

    /// The folder.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The folder's own entry.
    pub fn top(&self) -> Entry<'_> {
        self.above.entry(0)
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

    /// What is in the directory `dir`; nothing if it is none. Read from disk on the first call only.
    pub fn list<'c>(&self, dir: Entry<'c>) -> Result<&'c Arc<Listing>, Error> {
        let Some(directory) = dir.directory() else { return Ok(Listing::empty()) };
        if let Some(listing) = directory.listing.get() {
            return Ok(listing);
        }
        let lister = Lister { root: &self.root, ignore: self.ignore.as_ref(), cache: self.cache.as_ref() };
        let listing = lister.list(&directory.inherited, &dir.meta(), &dir.path())?;
        // Another thread may have been faster; its listing is the one that counts.
        Ok(directory.listing.get_or_init(|| Arc::new(listing)))
    }

    /// The entry at `path` (relative and cleaned), no symlink followed; only the directories on the way are read.
    pub fn entry(&self, path: &[u8]) -> Result<Option<Entry<'_>>, Error> {
        let mut entry = self.top();
        for name in path::components(path) {
            match self.list(entry)?.find(name) {
                Some(found) => entry = found,
                None => return Ok(None),
            }
        }
        Ok(Some(entry))
    }

    /// Whether a socket is at `path`, which is never listed.
    pub fn is_socket(&self, path: &[u8]) -> bool {
        let stat = self.root.stat(as_path(path));
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
    }

    /// Lists everything below `dir` on all processors, so that later walks find it in memory. What cannot be read is
    /// an error of the walk that wants it.
    pub fn load(&self, dir: Entry<'_>) {
        match dir.name() {
            b"" => self.whole.call_once(|| self.load_below(dir)),
            _ => self.load_below(dir),
        }
    }

    fn load_below(&self, dir: Entry<'_>) {
        let Ok(listing) = self.list(dir) else { return };
        listing.directories().into_par_iter().for_each(|entry| self.load_below(entry));
    }

    /// Begins to list everything beside what the caller does next.
    pub fn load_ahead(self: &Arc<Self>) {
        let files = Arc::clone(self);
        rayon::spawn(move || files.load(files.top()));
    }

    /// Calls `visit` with every entry below `dir` and its path, in the order of [`path::compare`].
    pub fn walk<'c>(&self, dir: Entry<'c>, visit: &mut dyn FnMut(&[u8], Entry<'c>)) -> Result<(), Error> {
        for entry in self.list(dir)?.entries() {
            visit(&entry.path(), entry);
            self.walk(entry, visit)?;
        }
        Ok(())
    }
}

/// Reads directories from disk.
struct Lister<'c> {
    root: &'c Root,
    ignore: Option<&'c Ignore>,
    cache: Option<&'c StatCache>,
}

/// One directory that is being read.
struct Reading<'r> {
    fd: &'r OwnedFd,
    path: &'r [u8],
    inherited: &'r Inherited,
    known: Option<Folder<'r>>,
}

impl Lister<'_> {
    /// What is in the directory at `path`, of which `lstat` said `own`.
    fn list(&self, inherited: &Inherited, own: &Meta, path: &[u8]) -> Result<Listing, Error> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let open = |access| self.root.open_at(as_path(path), access | flags, 0, Symlinks::Refuse);
        let known = self.cache.and_then(|cache| cache.folder(path, own, || open(OFlags::PATH).ok()));
        let remembered = known.as_ref().and_then(|known| known.names(own));
        let fail = |source| unreadable(path, source);
        // Who only looks names up need not read the directory.
        let access = if remembered.is_some() { OFlags::PATH } else { OFlags::RDONLY };
        let fd = open(access).map_err(fail)?;
        let names: Cow<'_, [u8]> = match remembered {
            Some(names) => names.into(),
            None => {
                let names = read_names(&fd).map_err(|errno| fail(errno.into()))?;
                self.cache.inspect(|cache| cache.listed(path, own, &names, &fd));
                names.into()
            }
        };
        let reading = Reading { fd: &fd, path, inherited, known };
        Ok(self.look_all(&reading, &names)?.finish(path))
    }

    fn look_all(&self, dir: &Reading<'_>, names: &[u8]) -> Result<Builder, Error> {
        let names: Vec<&CStr> =
            names.split_inclusive(|byte| *byte == 0).flat_map(CStr::from_bytes_with_nul).collect();
        if names.len() <= PARALLEL_ENTRIES {
            return self.look_some(dir, &names);
        }
        let parts = names.par_chunks(PARALLEL_ENTRIES / 4).map(|some| self.look_some(dir, some));
        let mut whole = Builder::default();
        for part in parts.collect::<Result<Vec<Builder>, Error>>()? {
            whole.append(part);
        }
        Ok(whole)
    }

    fn look_some(&self, dir: &Reading<'_>, names: &[&CStr]) -> Result<Builder, Error> {
        let mut builder =
            Builder::with_capacity(names.len(), names.iter().map(|name| name.count_bytes()).sum());
        let mut next = 0;
        for name in names {
            if let Some((meta, found)) = self.look(dir, name)? {
                let known =
                    dir.known.as_ref().and_then(|known| known.find(name.to_bytes(), &meta, &mut next));
                builder.push(name.to_bytes(), &meta, found, known);
            }
        }
        Ok(builder)
    }

    /// What is at `name`; `None` if it is ignored, a socket, or gone since the directory was read.
    fn look(&self, dir: &Reading<'_>, name: &CStr) -> Result<Option<(Meta, Found)>, Error> {
        let fail =
            |errno: rustix::io::Errno| unreadable(&path::join(dir.path, name.to_bytes()), errno.into());
        let stat = match rustix::fs::statat(dir.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            other => other.map_err(fail)?,
        };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let path = if self.ignore.is_some() { path::join(dir.path, name.to_bytes()) } else { Vec::new() };
        let (inherited, sparingly) = match judge(self.ignore, &path, file_type.is_dir(), dir.inherited) {
            Verdict::Drop => return Ok(None),
            Verdict::Keep(inherited) => (inherited, false),
            Verdict::KeepIfUsed(inherited) => (inherited, true),
        };
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let meta = Meta::from(&stat);
        let found = match file_type {
            FileType::Directory if sparingly => match self.list_if_used(inherited, &meta, &path)? {
                Some(directory) => Found::Directory(directory),
                None => return Ok(None),
            },
            FileType::Directory => Found::Directory(Directory { listing: OnceLock::new(), inherited }),
            FileType::RegularFile => Found::File,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir.fd, name, Vec::new()).map_err(fail)?;
                Found::Symlink(target.into_bytes().into())
            }
            FileType::Fifo => Found::Fifo,
            FileType::CharacterDevice => Found::CharDevice(major, minor),
            FileType::BlockDevice => Found::BlockDevice(major, minor),
            // A socket is an address of a running process, not content.
            FileType::Socket | FileType::Unknown => return Ok(None),
        };
        Ok(Some((meta, found)))
    }

    /// An ignored directory is in the context only as the parent of something that an exception brings back.
    fn list_if_used(&self, inherited: Inherited, own: &Meta, at: &[u8]) -> Result<Option<Directory>, Error> {
        let listing = match self.list(&inherited, own, at) {
            // What nobody may read cannot be meant by the exception, either.
            Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                return Ok(None);
            }
            other => other?,
        };
        let directory = |listing| Directory { listing: OnceLock::from(Arc::new(listing)), inherited };
        Ok((!listing.is_empty()).then(|| directory(listing)))
    }
}

/// The names in a directory, without `.` and `..`, sorted, a zero byte behind each.
fn read_names(fd: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut reader = RawDir::new(fd, &mut buffer);
    let (mut names, mut ends) = (Vec::new(), Vec::new());
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.extend_from_slice(name.to_bytes_with_nul());
            ends.push(names.len());
        }
    }
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let mut places: Vec<(usize, usize)> = starts.zip(ends.iter().copied()).collect();
    // The zero at the end sorts a name before those that it begins.
    places.sort_unstable_by(|a, b| names[a.0..a.1].cmp(&names[b.0..b.1]));
    Ok(places.into_iter().flat_map(|(start, end)| &names[start..end]).copied().collect())
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
    use super::super::listing::Kind;
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
        context.load(context.top());
        let mut paths = Vec::new();
        context
            .walk(context.top(), &mut |path, node| {
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
        let kinds: Vec<_> =
            context.list(context.top()).unwrap().entries().map(|entry| entry.kind()).collect();
        assert_eq!(kinds, [Kind::Symlink(b"no/where"), Kind::Fifo]);
    }

    #[test]
    fn only_what_is_asked_for_is_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/deep")).unwrap();
        fs::create_dir_all(dir.path().join("b/deep")).unwrap();
        let context = Context::open(dir.path(), None, None).unwrap();
        assert!(context.entry(b"a/deep").unwrap().is_some());
        let other = context.entry(b"b").unwrap().unwrap();
        assert!(other.directory().unwrap().listing.get().is_none());
        assert!(context.entry(b"a/none/x").unwrap().is_none());
    }

    #[test]
    fn a_missing_context_is_named() {
        let Err(error) = Context::open(Path::new("/no/such/context"), None, None) else { panic!("opened") };
        assert!(error.to_string().contains("/no/such/context"), "{error}");
    }
}
