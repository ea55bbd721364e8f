//! The changes of a root that was changed in place, beside what it was before.
//!
//! Of a directory that looks as it did the names are known: each is looked at, and no more. One that was touched is compared with
//! the parent, name by name.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::{Change, Differ, Directory, Found, Lower, OnDisk, each};
use crate::rootfs::{Folder, Symlinks};
use crate::snapshot::Error;
use crate::snapshot::files::is_directory;
use crate::snapshot::listing::{Listed, Listing, Mark, Noted, Touched, Tracked, join};

/// With fewer directories, starting threads would take longer than looking into them.
const MIN_PARALLEL: usize = 16;

impl Differ<'_> {
    /// All changes; what the root looks like now is noted.
    pub(super) fn since(&self, tracked: &Tracked, top: Directory) -> Result<Vec<Change>, Error> {
        let touched = tracked.touched();
        let touched = touched.as_ref();
        // What is not looked at is as before.
        let mut after = touched.map(|_| tracked.before.directories().clone()).unwrap_or_default();
        let (mut level, mut changes) = (vec![top], Vec::new());
        while !level.is_empty() {
            let found = each(&level, MIN_PARALLEL, |dir| self.tracked_directory((tracked, touched), dir))?;
            if touched.is_some() {
                let pairs = level.iter().zip(&found).map(|(dir, (_, listed))| (&dir.path, listed));
                forget_removed(&mut after, pairs);
            }
            let paths = std::mem::take(&mut level).into_iter().map(|dir| dir.path);
            for (path, (found, listed)) in paths.zip(found) {
                level.extend(found.directories);
                changes.extend(found.entries);
                after.insert(path, listed);
            }
        }
        let _ = tracked.after.set(Listing::new(after));
        Ok(changes)
    }

    fn tracked_directory(
        &self,
        (tracked, touched): (&Tracked, Option<&Touched>),
        dir: &Directory,
    ) -> Result<(Found, Arc<Listed>), Error> {
        if let Some(before) = tracked.before.same_directory(&dir.path, dir.mark) {
            if touched.is_some_and(|touched| !touched.is_above(&dir.path)) {
                return Ok((Found::default(), Arc::clone(before)));
            }
            if let Some(done) = self.same_names((tracked, touched), dir, before)? {
                return Ok(done);
            }
        }
        let path = dir.path.clone();
        let mut found = self.directory(&Directory { lower: self.lower(&path), path, mark: dir.mark })?;
        let entries = std::mem::take(&mut found.noted);
        Ok((found, Arc::new(Listed { mark: dir.mark, entries })))
    }

    /// Looks at the names that are known; `None` if one of them is something else than it was.
    fn same_names(
        &self,
        (tracked, touched): (&Tracked, Option<&Touched>),
        dir: &Directory,
        before: &Arc<Listed>,
    ) -> Result<Option<(Found, Arc<Listed>)>, Error> {
        let path = Path::new(OsStr::from_bytes(&dir.path));
        let on_disk = self.job.root.join(path);
        let place = self.root.open_at(path, OFlags::PATH | OFlags::DIRECTORY, 0, Symlinks::Refuse);
        let folder = Folder::from(place.map_err(Error::io("open", &on_disk))?);
        let (mut found, mut now) = (Found::default(), None);
        let below = touched.filter(|touched| !touched.is_touched(&dir.path));
        for (at, noted) in before.entries.iter().enumerate() {
            let name = &*noted.name;
            let is_of_interest =
                |touched: &Touched| noted.is_directory && touched.is_above(&join(&dir.path, name.as_bytes()));
            if below.is_some_and(|touched| !is_of_interest(touched)) {
                continue;
            }
            let Ok(stat) = folder.stat(name) else { return Ok(None) };
            if is_directory(&stat) != noted.is_directory {
                return Ok(None);
            }
            let mark = Mark::of(&stat);
            if mark == noted.mark && !noted.is_directory && tracked.is_telling(mark) {
                continue;
            }
            let path = join(&dir.path, name.as_bytes());
            if mark == noted.mark && noted.is_directory {
                // Whether the parent has it is asked where it matters.
                found.directories.push(Directory { path, lower: Lower::Visible, mark });
                continue;
            }
            let seen = OnDisk { dir: &on_disk, folder: &folder, name, stat };
            self.name(path, &seen, self.lower(&dir.path), &mut found)?;
            now.get_or_insert_with(|| before.entries.clone())[at] = Noted::new(name, &stat);
        }
        let listed = match now {
            Some(entries) => Arc::new(Listed { mark: dir.mark, entries }),
            None => Arc::clone(before),
        };
        Ok(Some((found, listed)))
    }

    /// Whether the parent has a directory there.
    fn lower(&self, path: &[u8]) -> Lower {
        let is_there = path.is_empty() || self.parent.entry(path).is_some_and(|below| below.is_dir());
        if is_there { Lower::Visible } else { Lower::Hidden }
    }
}

/// Forgets what was in directories that are not there any more, or are others of that name; `found` are directories as they are now.
fn forget_removed<'f>(
    after: &mut HashMap<Vec<u8>, Arc<Listed>>,
    found: impl Iterator<Item = (&'f Vec<u8>, &'f Arc<Listed>)>,
) {
    let mut removed = Vec::new();
    for (path, now) in found {
        let Some(before) = after.get(path).filter(|before| !Arc::ptr_eq(before, now)) else { continue };
        for noted in before.entries.iter().filter(|noted| noted.is_directory) {
            let at = now.entries.binary_search_by(|one| one.name.as_bytes().cmp(noted.name.as_bytes()));
            if !at.is_ok_and(|at| now.entries[at].is_same_directory(noted)) {
                removed.push(join(path, noted.name.as_bytes()));
            }
        }
    }
    let is_removed = |path: &[u8]| {
        removed.iter().any(|gone| {
            path.strip_prefix(gone.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        })
    };
    if !removed.is_empty() {
        after.retain(|path, _| !is_removed(path));
    }
}
