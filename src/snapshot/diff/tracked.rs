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
use crate::snapshot::listing::{Listed, Listing, Mark, Tracked, join};

/// With fewer directories, starting threads would take longer than looking into them.
const MIN_PARALLEL: usize = 16;

impl Differ<'_> {
    /// All changes; what the root looks like now is noted.
    pub(super) fn since(&self, tracked: &Tracked, top: Directory) -> Result<Vec<Change>, Error> {
        let (mut level, mut changes, mut after) = (vec![top], Vec::new(), HashMap::new());
        while !level.is_empty() {
            let found = each(&level, MIN_PARALLEL, |dir| self.tracked_directory(tracked, dir))?;
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

    fn tracked_directory(&self, tracked: &Tracked, dir: &Directory) -> Result<(Found, Arc<Listed>), Error> {
        if let Some(before) = tracked.before.same_directory(&dir.path, dir.mark)
            && let Some(done) = self.same_names(dir, before)?
        {
            return Ok(done);
        }
        let path = dir.path.clone();
        let mut found = self.directory(&Directory { lower: self.lower(&path), path, mark: dir.mark })?;
        let entries = std::mem::take(&mut found.noted);
        Ok((found, Arc::new(Listed { mark: dir.mark, entries })))
    }

    /// Looks at the names that are known; `None` if one of them is something else than it was.
    fn same_names(
        &self,
        dir: &Directory,
        before: &Arc<Listed>,
    ) -> Result<Option<(Found, Arc<Listed>)>, Error> {
        let path = Path::new(OsStr::from_bytes(&dir.path));
        let on_disk = self.job.root.join(path);
        let place = self.root.open_at(path, OFlags::PATH | OFlags::DIRECTORY, 0, Symlinks::Refuse);
        let folder = Folder::from(place.map_err(Error::io("open", &on_disk))?);
        let (mut found, mut now) = (Found::default(), None);
        for (at, noted) in before.entries.iter().enumerate() {
            let name = &*noted.name;
            let Ok(stat) = folder.stat(name) else { return Ok(None) };
            if is_directory(&stat) != noted.is_directory {
                return Ok(None);
            }
            let mark = Mark::of(&stat);
            if mark == noted.mark && !noted.is_directory {
                continue;
            }
            let path = join(&dir.path, name.as_bytes());
            if mark == noted.mark {
                // Whether the parent has it is asked where it matters.
                found.directories.push(Directory { path, lower: Lower::Visible, mark });
                continue;
            }
            let seen = OnDisk { dir: &on_disk, folder: &folder, name, stat };
            self.name(path, &seen, self.lower(&dir.path), &mut found)?;
            now.get_or_insert_with(|| before.entries.clone())[at].mark = mark;
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
