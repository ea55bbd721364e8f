//! Counts how many files a layer adds, changes and removes.

use super::archive::split;
use super::entry::{Entry, EntryKind};
use super::view::RootView;
use crate::report::FileCounts;

/// What `entries` change of the root `below`. Paths are taken as they stand: where one passes a symlink of `below`, its files count
/// as added. Directories do not count, but for those that are gone.
pub fn count(entries: &[Entry], below: &RootView) -> FileCounts {
    let mut counts = FileCounts::default();
    let mut missing = Missing { below, folder: None };
    for entry in entries {
        match &entry.kind {
            EntryKind::Directory | EntryKind::OpaqueWhiteout => {}
            EntryKind::Whiteout => counts.removed += 1,
            EntryKind::File(_)
            | EntryKind::Symlink(_)
            | EntryKind::HardLink(_)
            | EntryKind::Fifo
            | EntryKind::CharDevice { .. }
            | EntryKind::BlockDevice { .. } => match missing.has(&entry.path) {
                true => counts.changed += 1,
                false => counts.added += 1,
            },
        }
    }
    counts
}

/// Looks paths up, with a folder that is known not to be there: a new folder with very many files is asked for once.
struct Missing<'a> {
    below: &'a RootView,
    folder: Option<&'a [u8]>,
}

impl<'a> Missing<'a> {
    fn has(&mut self, path: &'a [u8]) -> bool {
        if self.below.is_empty() || self.folder.is_some_and(|folder| is_in(path, folder)) {
            return false;
        }
        if self.below.entry(path).is_some() {
            return true;
        }
        let mut folder = split(path).0;
        while !folder.is_empty() && self.below.entry(folder).is_none() {
            self.folder = Some(folder);
            folder = split(folder).0;
        }
        false
    }
}

fn is_in(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::layer::entry::Content;
    use crate::layer::index::Index;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        let xattrs = BTreeMap::new();
        Entry { path: path.as_bytes().to_vec(), kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs }
    }

    fn file(path: &str) -> Entry {
        entry(path, EntryKind::File(Content::Bytes(Arc::from(&b""[..]))))
    }

    fn root(entries: &[Entry]) -> RootView {
        RootView::default().push(Arc::new(Index::from_entries(entries, &vec![0; entries.len()]).unwrap()))
    }

    #[test]
    fn files_are_new_changed_or_gone() {
        let dir = |path| entry(path, EntryKind::Directory);
        let below = root(&[dir("etc"), file("etc/passwd"), file("etc/shadow")]);
        let layer = [
            dir("app"),
            dir("app/src"),
            file("app/src/a"),
            file("app/src/b"),
            dir("etc"),
            entry("etc/gone", EntryKind::OpaqueWhiteout),
            file("etc/passwd"),
            entry("etc/shadow", EntryKind::Whiteout),
            entry("etc/x", EntryKind::Symlink(b"passwd".to_vec())),
            file("apps"),
        ];
        assert_eq!(count(&layer, &below), FileCounts { added: 4, changed: 1, removed: 1 });
        assert_eq!(count(&layer, &RootView::default()), FileCounts { added: 5, changed: 0, removed: 1 });
    }
}
