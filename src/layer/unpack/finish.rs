//! What can be done only when the whole layer is known: whiteouts, opaque marks, metadata of directories.

use std::sync::Arc;

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;

use super::stream::{Unpacker, entry_metadata};
use super::tree::{Spot, failed, open_directory, set_metadata};
use super::{Note, UnpackError};
use crate::layer::archive::split;
use crate::layer::index::{Index, Kind, What};
use crate::layer::view::{Change, RootView, ViewEntry, changes, hides_something};

/// A tree that is complete; see [`super::Unpacked`].
pub(super) struct Finished {
    pub(super) index: Arc<Index>,
    pub(super) view: RootView,
    pub(super) notes: Vec<Note>,
    pub(super) hidden: Vec<Vec<u8>>,
}

impl Unpacker<'_> {
    /// Completes the tree of a layer whose every entry has been applied.
    pub(super) fn finish(mut self, index: Arc<Index>) -> Result<Finished, UnpackError> {
        let changes = changes(self.below, &index);
        if changes.iter().any(|change| change.is_moved) {
            changes.iter().try_for_each(|change| refuse_file_as_parent(&changes, change))?;
        }
        let opaque: Vec<&[u8]> =
            changes.iter().filter(|change| change.is_opaque).map(|change| &*change.path).collect();
        for change in &changes {
            match change.what {
                What::Whiteout if hides_something(self.below, change, &opaque) => {
                    self.whiteout(&change.path)?;
                }
                What::Implied if change.path.is_empty() => self.hide_root(&changes)?,
                What::Implied => drop(self.open_parent(&change.path)?),
                // A whiteout that came after what it makes room for: that went through the lower symlink.
                What::Node(node) if node.kind == Kind::Directory && !self.made.contains(&*change.path) => {
                    return Err(failed("create", &change.path)(rustix::io::Errno::NOTDIR));
                }
                What::Whiteout | What::Node(_) | What::LowerLink(_) => {}
            }
        }
        for change in changes.iter().filter(|change| change.is_opaque && is_directory(&change.what)) {
            if self.below.entry(&change.path).is_some_and(|entry| entry.is_dir()) {
                self.mark_opaque(&change.path)?;
            }
        }
        let view = self.below.push(index.clone());
        self.set_directories(&view)?;
        Ok(Finished { index, view, notes: self.notes, hidden: self.hidden })
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let (folder, _) = split(path);
        let parent = self.open_parent(folder)?;
        let spot = Spot { parent: &parent, path };
        if spot.node(self.dest, FileType::CharacterDevice, (0, 0))? {
            return Ok(());
        }
        // Overlayfs lets nobody else make its whiteouts.
        self.hidden.push(path.to_vec());
        Ok(())
    }

    /// Overlayfs does not ask whether the root of a layer is opaque: hide what the root has one by one.
    fn hide_root(&mut self, changes: &[Change<'_>]) -> Result<(), UnpackError> {
        let below = self.below;
        for entry in below.list(b"") {
            let own = changes.binary_search_by(|change| (*change.path).cmp(entry.path)).ok();
            let is_own = own.is_some_and(|at| matches!(changes[at].what, What::Node(_) | What::LowerLink(_)));
            if self.made.contains(entry.path) {
                if entry.is_dir() {
                    self.mark_opaque(entry.path)?;
                }
            } else if !is_own {
                self.whiteout(entry.path)?;
            }
        }
        Ok(())
    }

    fn mark_opaque(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        if path.is_empty() {
            return Ok(());
        }
        drop(self.open_parent(path)?);
        let directory = open_directory(self.dest, path).map_err(failed("open", path))?;
        match rustix::fs::fsetxattr(&directory, self.options.opaque.xattr(), b"y", XattrFlags::empty()) {
            // Overlayfs of kernels before 6.7 keeps its own attributes to itself.
            Err(Errno::NOTSUP) => {
                self.hidden.push(path.to_vec());
                Ok(())
            }
            other => other.map_err(failed("mark as opaque", path)),
        }
    }

    /// Gives the directories what the merged root says of them; parents that the layer does not name look as
    /// they do below. Deepest first, so that no directory is closed to us before its contents are done.
    fn set_directories(&mut self, merged: &RootView) -> Result<(), UnpackError> {
        let root: &[u8] = b"";
        for path in std::mem::take(&mut self.made).iter().map(Vec::as_slice).rev().chain([root]) {
            let Some(entry) = merged.entry(path).filter(ViewEntry::is_dir) else { continue };
            let directory = open_directory(self.dest, path).map_err(failed("open", path))?;
            set_metadata(&directory, path, &entry_metadata(&entry), self.options.owners, &mut self.notes)?;
        }
        Ok(())
    }
}

/// Entries that pass lower symlinks may land below what another entry of the layer makes a file. Which of the
/// two stays would depend on their order; no tool writes such layers.
fn refuse_file_as_parent(changes: &[Change<'_>], change: &Change<'_>) -> Result<(), UnpackError> {
    if matches!(change.what, What::Whiteout) {
        return Ok(());
    }
    let mut parent = split(&change.path).0;
    while !parent.is_empty() {
        let own = changes.binary_search_by(|change| (*change.path).cmp(parent)).ok();
        let what = own.map(|at| &changes[at].what).filter(|what| !matches!(what, What::Whiteout));
        if what.is_some_and(|what| !is_directory(what)) {
            return Err(failed("create", &change.path)(rustix::io::Errno::NOTDIR));
        }
        parent = split(parent).0;
    }
    Ok(())
}

fn is_directory(what: &What<'_>) -> bool {
    match what {
        What::Node(node) => node.kind == Kind::Directory,
        What::Implied => true,
        What::LowerLink(_) | What::Whiteout => false,
    }
}
