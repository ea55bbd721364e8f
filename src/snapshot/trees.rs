//! The unpacked layers: one directory tree for each layer of a chain, to be stacked by overlayfs.
//!
//! ```text
//! ROOT/rbuild/trees/<kind>/<chain id>/fs     the tree; a file to mount in the kind `erofs`
//! ROOT/rbuild/trees/<kind>/<chain id>/hidden what the tree hides and cannot say, on overlayfs
//! ROOT/rbuild/trees/<kind>/<chain id>/boot   the boot that made it
//! ROOT/rbuild/trees/<kind>/<chain id>/size   what all this takes up on disk
//! ```
//!
//! Of many trees the lowest are merged: such a tree is what the whole chain shows, with no mark of what is deleted in
//! it, and lies in a folder of its own kind. Its files are other names of those in the trees that it was made of.
//!
//! A tree belongs to its whole chain: what the layer does not say (a parent's mode, a hard link's content)
//! comes from the layers below. Trees are published by rename and not synced, so one of an earlier boot may
//! have been cut short by a crash: it is thrown away unless it was marked as synced.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::Error;
use super::files::make_dir;
use super::overlay::is_overlayfs;
use super::sums;
use crate::oci::ChainId;
use crate::store::{Folder, Measuring, Store};
use crate::sync::lock;

/// What trees must have in common to be of use to one another: the owners of their files on disk. Also the name of the folder
/// that they lie in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeKind(String);

impl TreeKind {
    /// Owners as in the image: made by root of the machine.
    pub fn root() -> Self {
        Self("root".to_owned())
    }

    /// Owners as in the image, with the marks of those who are not root of the machine.
    pub fn plain() -> Self {
        Self("plain".to_owned())
    }

    /// One owner for all; the image's are written down with the files.
    pub fn recorded() -> Self {
        Self("recorded".to_owned())
    }

    /// Owners as a user namespace maps them. `ranges` stands for the map: with others, files belong to others.
    pub fn mapped(ranges: &str) -> Self {
        Self(format!("user-{ranges}"))
    }

    /// No trees but files to mount, which have owners of their own.
    pub fn images() -> Self {
        Self("erofs".to_owned())
    }

    /// Whole roots, each what its chain shows, and nobody else's while it lies there.
    #[must_use]
    pub fn spare(&self) -> Self {
        Self(format!("{}-spare", self.0))
    }

    /// Trees that stand for all below them as well, made of trees of this kind.
    #[must_use]
    pub fn merged(&self) -> Self {
        Self(format!("{}{MERGED}", self.0))
    }

    /// A file name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// In the names of kinds whose trees share files with others.
pub(super) const MERGED: &str = "-merged";

/// All trees of a store that were made in the same way. May be shared between threads.
#[derive(Debug)]
pub struct Trees {
    store: Store,
    dir: PathBuf,
    /// One lock for each tree that is being made, so that steps that want the same wait for each other.
    making: Mutex<HashMap<ChainId, Arc<Mutex<()>>>>,
}

impl Trees {
    /// The trees of `store` of one kind.
    pub fn new(store: &Store, kind: &TreeKind) -> Result<Self, Error> {
        // On overlayfs what is deleted stands beside the tree; earlier versions had it in the tree.
        let name = if is_overlayfs(store.root()) {
            format!("{}-beside", kind.name())
        } else {
            kind.name().to_owned()
        };
        let dir = store.private(Folder::Trees).join(name);
        fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
        Ok(Self { store: store.clone(), dir, making: Mutex::default() })
    }

    /// The tree of the top layer of `chain`, if there is one that can be trusted. Notes the time, as that of its last use.
    pub fn find(&self, chain: ChainId) -> Option<PathBuf> {
        let home = self.home(chain);
        is_sound(&self.store, &home).then(|| {
            self.store.note_use(&home);
            home.join("fs")
        })
    }

    /// The tree of the top layer of `chain`, made if need be: `make` must create and fill the directory that it
    /// is given. Of threads of this process that want the same tree one makes it and the others wait; of
    /// several processes all make it, and the first to finish wins.
    pub fn ensure<E: From<Error>>(
        &self,
        chain: ChainId,
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let turn = Arc::clone(self.lock_map().entry(chain).or_default());
        let _making = lock(&turn);
        if let Some(found) = self.find(chain) {
            return Ok(found);
        }
        let scratch = self.store.scratch_dir().map_err(Error::from)?;
        let fresh = scratch.path().join("tree");
        make_dir(&fresh, 0o755)?;
        make(&fresh.join("fs"))?;
        let boot = fresh.join("boot");
        fs::write(&boot, self.store.boot_id()).map_err(Error::io("write", &boot))?;
        let size = fresh.join("size");
        let sum = Measuring::default().tree(&fresh);
        let sum = sums::write(&size, sum).map_err(Error::io("write", &size))?;
        Ok(self.publish(chain, &fresh, sum.disk_bytes)?)
    }

    fn publish(&self, chain: ChainId, fresh: &Path, disk_bytes: u64) -> Result<PathBuf, Error> {
        let home = self.home(chain);
        loop {
            match rustix::fs::rename(fresh, &home) {
                Ok(()) => {
                    self.store.count_growth(disk_bytes);
                    return Ok(home.join("fs"));
                }
                // Another process was faster, or an earlier boot left one.
                Err(Errno::EXIST | Errno::NOTEMPTY) => match self.find(chain) {
                    Some(found) => return Ok(found),
                    None => self.remove(chain)?,
                },
                Err(error) => return Err(Error::io("publish", &home)(error)),
            }
        }
    }

    /// Takes the tree of `chain` out of the store, to the new folder `to` on its file system, if there is one that can be trusted. Of
    /// several who want it one gets it.
    pub fn take(&self, chain: ChainId, to: &Path) -> Option<PathBuf> {
        rustix::fs::rename(self.home(chain), to).ok()?;
        is_sound(&self.store, to).then(|| to.join("fs"))
    }

    /// Moves all trees but that of `chain` to the store's trash. Nothing may have them mounted.
    pub fn keep_only(&self, chain: ChainId) -> Result<(), Error> {
        let kept = self.home(chain);
        let homes = self.store.entries_of(&self.dir)?.into_iter().map(|(home, _)| home);
        homes.filter(|home| *home != kept).try_for_each(|home| Ok(self.store.trash(&home)?))
    }

    /// Moves a tree to the store's trash. Nothing may have it mounted.
    pub fn remove(&self, chain: ChainId) -> Result<(), Error> {
        Ok(self.store.trash(&self.home(chain))?)
    }

    fn home(&self, chain: ChainId) -> PathBuf {
        self.dir.join(chain.0.hex())
    }

    fn lock_map(&self) -> std::sync::MutexGuard<'_, HashMap<ChainId, Arc<Mutex<()>>>> {
        lock(&self.making)
    }
}

/// Whether what lies at `home` is as it was published: a crash may have cut a file of an earlier boot short.
pub(super) fn is_sound(store: &Store, home: &Path) -> bool {
    let boot = home.join("boot");
    let made = crate::rootfs::read_regular_text(&boot);
    made.is_ok_and(|made| made == store.boot_id() || store.was_synced(&boot))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::oci::Digest;

    fn chain() -> ChainId {
        ChainId(Digest::of(b"chain"))
    }

    fn make(target: &Path) -> Result<(), Error> {
        fs::create_dir(target).unwrap();
        fs::write(target.join("f"), "tree").unwrap();
        Ok(())
    }

    #[test]
    fn a_tree_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let trees = Trees::new(&Store::open(&dir.path().join("s")).unwrap(), &TreeKind::root()).unwrap();
        assert_eq!(trees.find(chain()), None);
        let made = std::sync::atomic::AtomicUsize::new(0);
        let count = |target: &Path| {
            made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            make(target)
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| trees.ensure(chain(), count).unwrap());
            }
        });
        assert_eq!(made.into_inner(), 1);
        assert_eq!(fs::read_to_string(trees.find(chain()).unwrap().join("f")).unwrap(), "tree");
    }

    #[test]
    fn a_tree_that_failed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let trees = Trees::new(&Store::open(&dir.path().join("s")).unwrap(), &TreeKind::root()).unwrap();
        let failed = trees.ensure(chain(), |target| {
            make(target)?;
            Err(Error::Redirected(PathBuf::new()))
        });
        assert!(failed.is_err());
        assert_eq!(trees.find(chain()), None);
    }

    #[test]
    fn a_tree_of_another_boot_is_made_again_unless_synced() {
        let dir = tempfile::tempdir().unwrap();
        let trees = Trees::new(&Store::open(&dir.path().join("s")).unwrap(), &TreeKind::root()).unwrap();
        let tree = trees.ensure(chain(), make).unwrap();
        fs::write(tree.join("f"), "lost").unwrap();
        fs::write(tree.parent().unwrap().join("boot"), "another").unwrap();
        assert_eq!(trees.find(chain()), None);
        trees.ensure(chain(), make).unwrap();
        assert_eq!(fs::read_to_string(tree.join("f")).unwrap(), "tree");
        let boot = tree.parent().unwrap().join("boot");
        fs::write(&boot, "another").unwrap();
        trees.store.sync().unwrap();
        assert_eq!(trees.find(chain()), None, "what is as young as the sync may have come after it");
        fs::write(trees.store.root().join("rbuild/synced"), "99999999999\n").unwrap();
        fs::write(tree.join("f"), "kept").unwrap();
        trees.ensure(chain(), make).unwrap();
        assert_eq!(fs::read_to_string(tree.join("f")).unwrap(), "kept");
        trees.remove(chain()).unwrap();
        assert_eq!(trees.find(chain()), None);
    }

    #[test]
    fn the_process_that_publishes_first_wins() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s")).unwrap();
        let (here, there) =
            (Trees::new(&store, &TreeKind::root()).unwrap(), Trees::new(&store, &TreeKind::root()).unwrap());
        let tree = here
            .ensure(chain(), |target| {
                let first = there.ensure(chain(), make)?;
                fs::write(first.join("f"), "first").unwrap();
                make(target)
            })
            .unwrap();
        assert_eq!(fs::read_to_string(tree.join("f")).unwrap(), "first");
    }
}
