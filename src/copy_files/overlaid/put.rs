//! What was put so far, by path.
//!
//! The entries of the layer to come stand in one array and are found through a table of their numbers: with a map from
//! paths to entries, 200,000 files would be in memory twice while the map becomes the list.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::layer::entry::Entry;
use crate::oci::Seconds;

/// See the module.
#[derive(Default)]
pub(super) struct Put {
    entries: Vec<Entry>,
    /// One for each entry.
    marks: Vec<Mark>,
    places: HashTable<u32>,
    hasher: RandomState,
    path_bytes: u64,
    /// All paths in order, once somebody asked what is below one: few steps ever do.
    ordered: Option<BTreeSet<Vec<u8>>>,
}

/// What a step knows of an entry beside the entry itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Of a directory: nothing of the parent is in it.
    pub(super) is_fresh: bool,
    /// Whether the entry has a time of its own; else it gets the step's.
    pub(super) is_timed: bool,
    /// Whether it was taken away again.
    pub(super) is_gone: bool,
}

impl Put {
    /// What was put at `path`.
    pub(super) fn get(&self, path: &[u8]) -> Option<(&Entry, Mark)> {
        let place = self.place(path)?;
        Some((&self.entries[place], self.marks[place]))
    }

    /// What was put at `path`, to be changed; its path must stay.
    pub(super) fn get_mut(&mut self, path: &[u8]) -> Option<(&mut Entry, &mut Mark)> {
        let place = self.place(path)?;
        Some((&mut self.entries[place], &mut self.marks[place]))
    }

    /// Whether a directory was put at `path` in which nothing of the parent is.
    pub(super) fn is_fresh(&self, path: &[u8]) -> bool {
        self.get(path).is_some_and(|(_, mark)| mark.is_fresh)
    }

    /// Everything, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Entry, Mark)> {
        let both = self.entries.iter().zip(self.marks.iter().copied());
        both.filter(|(_, mark)| !mark.is_gone)
    }

    /// How many entries are in memory, those that were taken away again included, and the bytes of their paths.
    pub(super) fn held(&self) -> (u64, u64) {
        (self.entries.len() as u64, self.path_bytes)
    }

    /// Puts an entry in place of what was at its path.
    pub(super) fn insert(&mut self, entry: Entry, mark: Mark) {
        if let Some(place) = self.place(&entry.path) {
            (self.entries[place], self.marks[place]) = (entry, mark);
            return;
        }
        self.path_bytes += entry.path.len() as u64;
        if let Some(ordered) = &mut self.ordered {
            ordered.insert(entry.path.clone());
        }
        let Self { entries, marks, places, hasher, .. } = self;
        let hash = hasher.hash_one(entry.path.as_slice());
        entries.push(entry);
        marks.push(mark);
        let rehash = |place: &u32| hasher.hash_one(entries[*place as usize].path.as_slice());
        places.insert_unique(hash, entries.len() as u32 - 1, rehash);
    }

    /// Takes away what was put at `path`.
    pub(super) fn remove(&mut self, path: &[u8]) {
        let Self { entries, marks, places, hasher, ordered, .. } = self;
        let is_it = |place: &u32| entries[*place as usize].path == path;
        if let Ok(found) = places.find_entry(hasher.hash_one(path), is_it) {
            let (place, _) = found.remove();
            marks[place as usize].is_gone = true;
            if let Some(ordered) = ordered {
                ordered.remove(path);
            }
        }
    }

    /// The paths of what was put below the directory `at`, at any depth. Only the first call looks at everything.
    pub(super) fn below(&mut self, at: &[u8]) -> Vec<Vec<u8>> {
        let Self { entries, marks, ordered, .. } = self;
        let there = entries.iter().zip(marks).filter(|(_, mark)| !mark.is_gone);
        let ordered = ordered.get_or_insert_with(|| there.map(|(entry, _)| entry.path.clone()).collect());
        let prefix = [at, b"/"].concat();
        ordered.range(prefix.clone()..).take_while(|path| path.starts_with(&prefix)).cloned().collect()
    }

    /// The entries; those without a time get `time`.
    pub(super) fn finish(self, time: Seconds) -> Vec<Entry> {
        let Self { mut entries, marks, .. } = self;
        let mut marks = marks.into_iter();
        entries.retain_mut(|entry| match marks.next() {
            Some(Mark { is_gone: false, is_timed, .. }) => {
                entry.mtime = if is_timed { entry.mtime } else { time };
                true
            }
            Some(_) | None => false,
        });
        entries
    }

    fn place(&self, path: &[u8]) -> Option<usize> {
        let is_it = |place: &u32| self.entries[*place as usize].path == path;
        self.places.find(self.hasher.hash_one(path), is_it).map(|place| *place as usize)
    }
}
