//! What a build would see of a folder, and which line of the ignore file decided.

use std::path::{Path, PathBuf};

use super::context::diagnose;
use crate::context::ignore::{Decision, Ignore};
use crate::context::{self, Context, path};
use crate::report::Diagnostic;

/// A folder as a context.
pub struct Listing {
    seen: Context,
    /// The folder without its ignore rules.
    everything: Context,
    ignore: Option<Ignore>,
    folder: PathBuf,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the context.
    pub path: Vec<u8>,
    /// In bytes; 0 for what is no regular file.
    pub size_bytes: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The rule that has the last word on it.
    pub decision: Option<Decision>,
}

/// What became of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// A build sees it.
    Seen,
    /// It is there, but a build does not see it.
    LeftOut,
    /// There is nothing of that name.
    Missing,
}

impl Listing {
    /// Opens a folder as a build with this Dockerfile would.
    pub fn open(folder: &Path, dockerfile: Option<&Path>) -> Result<Self, Diagnostic> {
        let dockerfile = dockerfile.map_or_else(|| super::dockerfile::usual_path(folder), Path::to_owned);
        let ignore = context::ignore::load(folder, Some(&dockerfile)).map_err(|e| diagnose(&e))?;
        let open = |ignore| Context::open(folder, ignore, None).map_err(|e| diagnose(&e));
        Ok(Self { seen: open(ignore.clone())?, everything: open(None)?, ignore, folder: folder.to_owned() })
    }

    /// The ignore file's name, if there is one.
    pub fn ignore_file(&self) -> Option<&str> {
        self.ignore.as_ref().map(Ignore::file)
    }

    /// Everything that a build sees, in no particular order.
    pub fn seen(&self) -> Result<Vec<Entry>, Diagnostic> {
        let mut entries = Vec::new();
        let top = self.seen.top();
        self.seen.load(top);
        self.seen
            .walk(top, &mut |path, found| entries.push(self.entry(path, found)))
            .map_err(|e| diagnose(&e))?;
        Ok(entries)
    }

    /// Everything that is there and that no build sees, without what is below a directory that is left out as a
    /// whole; sorted.
    pub fn left_out(&self) -> Result<Vec<Entry>, Diagnostic> {
        let mut entries = Vec::new();
        if self.ignore.is_some() {
            self.gather_left_out(self.everything.top(), &mut entries).map_err(|e| diagnose(&e))?;
        }
        Ok(entries)
    }

    fn gather_left_out(&self, dir: context::Entry<'_>, out: &mut Vec<Entry>) -> Result<(), context::Error> {
        for found in self.everything.list(dir)?.entries() {
            let path = found.path();
            if self.seen.entry(&path)?.is_none() {
                out.push(self.entry(&path, found));
            } else if found.is_dir() {
                self.gather_left_out(found, out)?;
            }
        }
        Ok(())
    }

    /// What became of `path`, relative to the context or to the current folder, and the rule that decided.
    pub fn why(&self, path: &Path) -> Result<(Fate, Option<Decision>), Diagnostic> {
        use std::os::unix::ffi::OsStrExt as _;
        let inside = path.strip_prefix(&self.folder).unwrap_or(path);
        let path = path::below_root(inside.as_os_str().as_bytes());
        let is_there = |context: &Context| context.entry(&path).map(|found| found.is_some());
        let fate = match (is_there(&self.seen), is_there(&self.everything)) {
            (Err(error), _) | (_, Err(error)) => return Err(diagnose(&error)),
            (Ok(true), _) => Fate::Seen,
            (Ok(false), Ok(true)) => Fate::LeftOut,
            (Ok(false), Ok(false)) => Fate::Missing,
        };
        Ok((fate, self.decision(&path)))
    }

    fn entry(&self, path: &[u8], found: context::Entry<'_>) -> Entry {
        Entry {
            path: path.to_vec(),
            size_bytes: if found.is_file() { found.meta().size } else { 0 },
            is_dir: found.is_dir(),
            decision: self.decision(path),
        }
    }

    fn decision(&self, path: &[u8]) -> Option<Decision> {
        self.ignore.as_ref()?.decision(path)
    }
}
