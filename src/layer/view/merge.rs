//! Puts one layer on top of a root (image-spec, "Applying Changesets").

use std::collections::BTreeSet;
use std::sync::Arc;

use super::changes::{Change, changes};
use super::{IMPLIED, ResolvedPath, RootView, Slot};
use crate::layer::archive::split;
use crate::layer::index::{Index, Kind, What};

/// The slots of `below` with `layer`, which gets the number `number`, on top.
pub(super) fn merge(below: &RootView, layer: &Index, number: u32) -> Vec<Slot> {
    let changes = changes(below, layer);
    let out = Vec::with_capacity(below.slots.len() + changes.len());
    let mut merger = Merger { below, layer, number, out, hidden: Vec::new(), implied: BTreeSet::new() };
    let mut lower = 0;
    for change in &changes {
        lower = merger.copy_below(lower, &change.path);
        lower = merger.apply(lower, change);
    }
    merger.copy_rest(lower);
    merger.finish()
}

struct Merger<'v> {
    below: &'v RootView,
    layer: &'v Index,
    number: u32,
    out: Vec<Slot>,
    /// Directories whose lower contents are gone, each a prefix of the next; with a trailing slash.
    hidden: Vec<Vec<u8>>,
    /// Directories that no entry names and no lower layer has.
    implied: BTreeSet<Vec<u8>>,
}

impl Merger<'_> {
    /// Takes over the lower slots from `at` that come before `path`; returns where the rest begins.
    fn copy_below(&mut self, at: usize, path: &[u8]) -> usize {
        let end = at + self.below.slots[at..].partition_point(|slot| self.below.path_of(slot) < path);
        self.copy_range(at, end);
        end
    }

    fn copy_rest(&mut self, at: usize) {
        self.copy_range(at, self.below.slots.len());
    }

    /// A small layer on a large root leaves long runs as they are, which are copied in one go.
    fn copy_range(&mut self, mut at: usize, end: usize) {
        while at < end && !self.hidden.is_empty() {
            self.copy(at);
            at += 1;
        }
        self.out.extend_from_slice(&self.below.slots[at..end]);
    }

    fn copy(&mut self, at: usize) {
        if !self.is_hidden(self.below.path(at)) {
            self.out.push(self.below.slots[at].clone());
        }
    }

    fn is_hidden(&mut self, path: &[u8]) -> bool {
        while let Some(prefix) = self.hidden.last() {
            if path.starts_with(prefix) {
                return true;
            }
            // Whatever begins with `prefix` comes in one run: `path` is before it, or it is over.
            if path < prefix.as_slice() {
                return self.hidden.iter().any(|prefix| path.starts_with(prefix));
            }
            self.hidden.pop();
        }
        false
    }

    /// Applies one change; `at` is the first lower slot that is not before it.
    fn apply(&mut self, at: usize, change: &Change<'_>) -> usize {
        let found = at < self.below.slots.len() && self.below.path(at) == &*change.path;
        let lower = found.then(|| self.below.at(at)).filter(|entry| !self.is_hidden(entry.path));
        let lower_is_directory = lower.is_some_and(|entry| entry.is_dir());
        let hides = match change.what {
            What::Node(node) => change.is_opaque || node.kind != Kind::Directory,
            What::Implied => change.is_opaque,
            What::LowerLink(_) | What::Whiteout => true,
        };
        if hides && (lower_is_directory || change.path.is_empty()) {
            self.hidden.push(super::prefix(&change.path));
        }
        self.place(change, lower_is_directory.then_some(at));
        if found { at + 1 } else { at }
    }

    fn place(&mut self, change: &Change<'_>, lower_directory: Option<usize>) {
        let slot = match change.what {
            What::Whiteout => return,
            What::Node(_) => Slot { layer: self.number, record: change.record, path: self.own_path(change) },
            What::Implied if change.path.is_empty() => return,
            What::Implied => match lower_directory {
                Some(at) => self.below.slots[at].clone(),
                None => Slot { layer: IMPLIED, record: 0, path: Some((*change.path).into()) },
            },
            What::LowerLink(target) => match self.linked(target) {
                Some(at) => Slot { path: Some((*change.path).into()), ..self.below.slots[at].clone() },
                // Whoever unpacks the layer says that the link leads nowhere.
                None => return,
            },
        };
        self.imply_parents(&change.path);
        self.out.push(slot);
    }

    /// Makes sure that all directories above `path` exist. They come before it in order, so they are in `out`
    /// already, or nowhere.
    fn imply_parents(&mut self, path: &[u8]) {
        let mut parent = split(path).0;
        let last = self.out.last().map(|slot| self.out_path(slot));
        if last.is_some_and(|last| split(last).0 == parent) {
            return;
        }
        while !parent.is_empty() {
            let found = self.out.binary_search_by(|slot| self.out_path(slot).cmp(parent));
            match found {
                Ok(at) if self.is_directory(&self.out[at]) => return,
                // The layer puts something below what was no directory: it becomes one.
                Ok(at) => self.out[at] = Slot { layer: IMPLIED, record: 0, path: Some(parent.into()) },
                Err(_) if !self.implied.insert(parent.to_vec()) => return,
                Err(_) => {}
            }
            parent = split(parent).0;
        }
    }

    fn out_path<'s>(&'s self, slot: &'s Slot) -> &'s [u8] {
        match &slot.path {
            Some(path) => path,
            None if slot.layer == self.number => self.layer.path(slot.record as usize),
            None => self.below.path_of(slot),
        }
    }

    fn is_directory(&self, slot: &Slot) -> bool {
        let layer = match slot.layer {
            IMPLIED => return true,
            number if number == self.number => self.layer,
            number => &self.below.layers[number as usize],
        };
        matches!(layer.record(slot.record as usize).what, What::Node(node) if node.kind == Kind::Directory)
    }

    /// All slots, the implied directories sorted in among them.
    fn finish(mut self) -> Vec<Slot> {
        if self.implied.is_empty() {
            return self.out;
        }
        let implied = std::mem::take(&mut self.implied);
        let mut all = std::mem::take(&mut self.out);
        all.extend(implied.into_iter().map(|path| Slot {
            layer: IMPLIED,
            record: 0,
            path: Some(path.into()),
        }));
        // Two sorted runs: the stable sort merges them in one pass.
        all.sort_by(|a, b| self.out_path(a).cmp(self.out_path(b)));
        all
    }

    fn own_path(&self, change: &Change<'_>) -> Option<Arc<[u8]>> {
        change.is_moved.then(|| (*change.path).into())
    }

    /// The lower slot that a hard link leads to. Symlinks on the way are followed, the last one is not.
    fn linked(&self, target: &[u8]) -> Option<usize> {
        let real = self.below.resolve(target, false).ok().filter(ResolvedPath::exists)?;
        let at = self.below.find(&real.existing)?;
        (!self.below.at(at).is_dir()).then_some(at)
    }
}
