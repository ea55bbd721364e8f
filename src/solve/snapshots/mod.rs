//! The root file systems of one build: trees of layers, and which kind of writable root works here.

mod coming;
mod handed_on;
mod images;
mod merged;
mod spare;
mod unpacking;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use coming::Come;
use images::{Images, Usable};
use unpacking::Unpacking;

use super::error::Error;
use super::full_disk::binary;
use super::indexes::LayerIndexes;
use super::jobs::{self, JobError};
use super::state::RootState;
use super::writable::WritableRoot;
use crate::cache::Lookup;
use crate::exec::{Executor, Hidden, MemoryMount, OwnedPath, Privilege, Spec, Writes, room_in_memory};
use crate::layer::view::{Kind, Node, RootView};
use crate::oci::{ChainId, DiffId, Layer};
use crate::report::{Event, Events};
use crate::rootfs::SpecialOwner;
use crate::snapshot::{
    self, ActiveSnapshot, CopyJob, DiffJob, IdMap, Listing, OverlayKind, Owners, PackJob, Tracked, TreeKind,
    Trees, UnpackJob,
};
use crate::store::{ScratchDir, Store};
use crate::sync::lock;
use crate::{key, layer};

/// Shared by all RUN steps of a build.
pub struct Snapshots {
    store: Store,
    lookup: Arc<Lookup>,
    executor: Arc<Executor>,
    indexes: Arc<LayerIndexes>,
    events: Events,
    trees: OnceLock<Trees>,
    /// Trees that stand for many.
    merged: OnceLock<Trees>,
    /// Roots that are kept; only where roots are changed in place.
    spare: OnceLock<Trees>,
    images: Images,
    tree_kind: OnceLock<TreeKind>,
    /// Which kind of writable root works here, once it was asked for.
    kind: Mutex<Option<OverlayKind>>,
    /// Whether the user was told who the steps run as.
    is_announced: AtomicBool,
    /// The trees of roots that this build has seen, the top one first; none of them goes while it runs.
    known: Mutex<HashMap<ChainId, Vec<PathBuf>>>,
    /// Kept until the build is over.
    scratch: Mutex<Vec<ScratchDir>>,
    /// Layers that this build has had brought to this machine; only where roots are changed in place.
    brought: Mutex<HashSet<DiffId>>,
    /// Roots that steps have left, for those that go on from them; only where roots are changed in place.
    handed_on: Mutex<HashMap<ChainId, WritableRoot>>,
}

/// All but where to.
struct ReadyToUnpack {
    job: UnpackJob,
    view: Arc<RootView>,
    /// Where the index comes to be.
    _scratch: ScratchDir,
}

impl Snapshots {
    /// Nothing is unpacked or tried yet.
    pub fn new(
        (store, lookup): (&Store, &Arc<Lookup>),
        executor: &Arc<Executor>,
        indexes: &Arc<LayerIndexes>,
        events: &Events,
    ) -> Self {
        Self {
            store: store.clone(),
            lookup: Arc::clone(lookup),
            executor: Arc::clone(executor),
            indexes: Arc::clone(indexes),
            events: events.clone(),
            trees: OnceLock::new(),
            merged: OnceLock::new(),
            spare: OnceLock::new(),
            images: Images::new(store),
            tree_kind: OnceLock::new(),
            kind: Mutex::default(),
            is_announced: AtomicBool::new(false),
            known: Mutex::default(),
            scratch: Mutex::default(),
            brought: Mutex::default(),
            handed_on: Mutex::default(),
        }
    }

    /// Tells what happens to `events` instead.
    pub(super) fn telling(self, events: &Events) -> Self {
        Self { events: events.clone(), ..self }
    }

    /// Who the steps run as.
    pub(super) fn privilege(&self) -> Result<Privilege, Error> {
        Ok(self.executor.privilege()?)
    }

    /// Whether a step gets what is mounted for it: tried once, where that is in doubt.
    pub(super) fn try_step(&self) -> Result<(), Error> {
        if !self.executor.may_be_barred() {
            return Ok(());
        }
        let folder = self.store.scratch_dir()?;
        Ok(self.executor.try_step(folder.path())?)
    }

    /// Which owners files have on disk. What was made with one kind is of no use to another.
    pub(super) fn tree_kind(&self) -> Result<&TreeKind, Error> {
        if let Some(kind) = self.tree_kind.get() {
            return Ok(kind);
        }
        let kind = self.privilege()?.tree_kind();
        Ok(self.tree_kind.get_or_init(|| kind))
    }

    /// Whether what a command makes keeps its owners.
    pub(super) fn owners(&self) -> Result<key::Owners, Error> {
        Ok(match self.privilege()?.owners() {
            layer::unpack::Owners::Record => key::Owners::Recorded,
            layer::unpack::Owners::Apply => key::Owners::Kept,
        })
    }

    /// Who owns what cannot tell itself in a root, where owners are only written down.
    pub(super) fn owned_paths(&self, root: &RootState) -> Result<Vec<OwnedPath>, Error> {
        if self.privilege()?.has_other_ids() {
            return Ok(Vec::new());
        }
        let view = self.indexes.view(&root.layers)?;
        let special = view.walk(b"").filter(|entry| {
            let Node { kind, uid, gid, .. } = entry.node;
            matches!(kind, Kind::Symlink(_) | Kind::Fifo) && (uid, gid) != (0, 0)
        });
        let owned = special.map(|entry| OwnedPath {
            path: entry.path.to_vec(),
            uid: entry.node.uid,
            gid: entry.node.gid,
        });
        Ok(owned.collect())
    }

    fn trees(&self) -> Result<&Trees, Error> {
        if let Some(trees) = self.trees.get() {
            return Ok(trees);
        }
        let trees = Trees::new(&self.store, self.tree_kind()?)?;
        Ok(self.trees.get_or_init(|| trees))
    }

    /// What is in use now.
    pub(super) fn kind(&self) -> OverlayKind {
        // Where there is no user namespace the step itself fails, and says why.
        if let Ok(privilege) = self.executor.privilege()
            && !self.is_announced.swap(true, Ordering::Relaxed)
        {
            let why_single = self.executor.why_single().ok().flatten();
            self.events.send(Event::RunsAs(privilege.note(why_single)));
            if let Some(note) = self.executor.note_on_proc() {
                self.events.send(Event::Note(note));
            }
        }
        self.chosen()
    }

    /// What is in use now, chosen if need be.
    fn chosen(&self) -> OverlayKind {
        // Who they run as was told, and that says it.
        if self.changes_in_place() {
            return OverlayKind::Copy;
        }
        let order = OverlayKind::order(self.store.root());
        let mut kind = lock(&self.kind);
        *kind.get_or_insert_with(|| match order.first() {
            // Whether it works is seen at the first step.
            Some(OverlayKind::Native) => OverlayKind::Native,
            _ => self.choose(order, "the store is on an overlayfs itself"),
        })
    }

    /// The first of `kinds` that works, for the reason that is given; says so once.
    fn choose(&self, kinds: &[OverlayKind], reason: &str) -> OverlayKind {
        let mut reasons = reason.to_owned();
        for kind in kinds {
            let note = match kind {
                OverlayKind::Native => return OverlayKind::Native,
                OverlayKind::Memory => match self.try_memory() {
                    Ok(room) => format!("keeping what RUN changes in memory, {} at most", binary(room)),
                    Err(error) => {
                        reasons = format!("{reasons}; {error}");
                        continue;
                    }
                },
                OverlayKind::Copy => break,
            };
            self.events.send(Event::Note(format!("{note}: {reasons}")));
            return *kind;
        }
        let note = format!("copying the root file system for every RUN: {reasons}");
        self.events.send(Event::Note(note));
        OverlayKind::Copy
    }

    fn try_memory(&self) -> Result<u64, String> {
        let scratch = self.store.scratch_dir().map_err(|e| e.to_string())?;
        self.executor.try_overlay_in_memory(scratch.path())
    }

    /// Goes on to the next kind after `failed` was refused, and says so once.
    pub(super) fn fall_back(&self, failed: OverlayKind, error: io::Error) -> Result<(), Error> {
        let next = match failed {
            OverlayKind::Native => &[OverlayKind::Memory, OverlayKind::Copy][..],
            OverlayKind::Memory => &[OverlayKind::Copy],
            // What was refused is a mount of the step, which has no other kind.
            OverlayKind::Copy => return Err(Error::OverlayRefused(error)),
        };
        let mut kind = lock(&self.kind);
        if *kind != Some(failed) {
            return Ok(());
        }
        *kind = Some(self.choose(next, &format!("the store's file system takes no overlay ({error})")));
        Ok(())
    }

    /// The trees of a root, the top one first, each made if need be. Some may be images, mounted for as long as this
    /// value lives. The last may stand for many layers.
    pub(super) fn lowers(&self, root: &RootState) -> Result<Vec<PathBuf>, Error> {
        self.lowers_told(root, &Unpacking::silent())
    }

    fn lowers_told(&self, root: &RootState, told: &Unpacking<'_>) -> Result<Vec<PathBuf>, Error> {
        if let Some(known) = self.known_few(root.chain)? {
            return Ok(known);
        }
        let wanted = self.to_be_brought(root)?;
        self.while_coming(&wanted, |come| self.make_all(root, told, come))
    }

    /// The trees of a root; `come` waits until a layer is here.
    fn make_all(
        &self,
        root: &RootState,
        told: &Unpacking<'_>,
        come: &Come<'_>,
    ) -> Result<Vec<PathBuf>, Error> {
        let mut chain = ChainId::EMPTY;
        let mut lowers: Vec<PathBuf> = Vec::new();
        for (at, layer) in root.layers.iter().enumerate() {
            chain = chain.push(layer.diff_id);
            let below = &root.layers[..at];
            if let Some(known) = self.known_few(chain)? {
                lowers = known;
                continue;
            }
            let tree = match self.trees()?.find(chain) {
                Some(tree) => tree,
                None => {
                    come(layer)?;
                    self.make(chain, layer, (below, &lowers), told)?
                }
            };
            lowers.insert(0, tree);
            lowers = self.few(chain, lowers)?;
            self.known().insert(chain, lowers.clone());
        }
        Ok(lowers)
    }

    /// The layers that are to be unpacked and are not here.
    fn to_be_brought(&self, root: &RootState) -> Result<Vec<Layer>, Error> {
        let mut chain = ChainId::EMPTY;
        let mut wanted = Vec::new();
        for layer in &root.layers {
            chain = chain.push(layer.diff_id);
            let is_wanted = self.lookup.is_elsewhere(layer)
                && self.known_few(chain)?.is_none()
                && self.trees()?.find(chain).is_none();
            wanted.extend(is_wanted.then(|| layer.clone()));
        }
        Ok(wanted)
    }

    /// The tree of a layer, or the root of its image.
    fn make(
        &self,
        chain: ChainId,
        layer: &Layer,
        (below, lowers): (&[Layer], &[PathBuf]),
        told: &Unpacking<'_>,
    ) -> Result<PathBuf, Error> {
        let progress = self.store.scratch_dir()?;
        let progress = progress.path().join("read");
        told.watch(&layer.descriptor, &progress, || match self.image(chain, layer, below)? {
            Some(root) => Ok(root),
            None => self.unpack(chain, layer, (below, lowers), &progress),
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<ChainId, Vec<PathBuf>>> {
        lock(&self.known)
    }

    /// The root of a layer's image, made if need be; `None` when it must be unpacked.
    fn image(&self, chain: ChainId, layer: &Layer, below: &[Layer]) -> Result<Option<PathBuf>, Error> {
        // A root that is a copy is made faster from trees.
        if self.chosen() != OverlayKind::Native {
            return Ok(None);
        }
        match self.images.are_usable(&self.executor)? {
            Usable::Yes => {}
            Usable::No => return Ok(None),
            Usable::NotHere(error) => {
                let note = format!("layers are unpacked: images of them cannot be mounted here ({error})");
                self.events.send(Event::Note(note));
                return Ok(None);
            }
        }
        if let Some(root) = self.images.find(chain) {
            return Ok(Some(root));
        }
        let scratch = self.store.scratch_dir()?;
        let index = self.indexes.index_file(layer.diff_id).is_none().then(|| scratch.path().join("index"));
        let view = self.indexes.view(below)?;
        let job = PackJob {
            blob: self.store.blob_path(&layer.descriptor.digest),
            diff_id: layer.diff_id,
            target: PathBuf::new(),
            index: index.clone(),
        };
        let made = self.images.ensure(chain, &job, &view).map_err(Error::Unpack)?;
        self.adopt_index(layer, index)?;
        Ok(made)
    }

    /// Keeps the index that came about in passing, if it did.
    fn adopt_index(&self, layer: &Layer, file: Option<PathBuf>) -> Result<(), Error> {
        match file.filter(|path| path.exists()) {
            Some(index) => Ok(self.indexes.adopt(layer.diff_id, &index)?),
            None => Ok(()),
        }
    }

    /// Names for directories that [`lowers`](Self::lowers) gave which hold after this process: an image's file instead of
    /// where it is mounted.
    pub(super) fn lasting(&self, lowers: &mut [PathBuf]) {
        for lower in lowers {
            if let Some(file) = self.images.file_of(lower) {
                *lower = file;
            }
        }
    }

    /// Undoes [`lasting`](Self::lasting), also that of another process; `false` when one of them is not there any more.
    pub(super) fn at_hand(&self, lowers: &mut [PathBuf]) -> bool {
        lowers.iter_mut().all(|lower| {
            if lower.is_file() {
                return self.images.mount(lower).map(|root| *lower = root).is_some();
            }
            lower.exists()
        })
    }

    fn unpack(
        &self,
        chain: ChainId,
        layer: &Layer,
        below: (&[Layer], &[PathBuf]),
        progress: &Path,
    ) -> Result<PathBuf, Error> {
        let ready = self.ready_to_unpack(layer, below, progress)?;
        let tree = self.trees()?.ensure(chain, |target| self.unpack_it(target, &ready));
        let tree = tree.map_err(Error::UnpackJob)?;
        self.adopt_index(layer, ready.job.index)?;
        Ok(tree)
    }

    /// Unpacks to a new directory, which is no tree of the store.
    fn unpack_to(
        &self,
        target: &Path,
        layer: &Layer,
        below: (&[Layer], &[PathBuf]),
        progress: &Path,
    ) -> Result<(), Error> {
        let ready = self.ready_to_unpack(layer, below, progress)?;
        self.unpack_it(target, &ready).map_err(Error::UnpackJob)?;
        self.adopt_index(layer, ready.job.index)
    }

    fn ready_to_unpack(
        &self,
        layer: &Layer,
        (below, lowers): (&[Layer], &[PathBuf]),
        progress: &Path,
    ) -> Result<ReadyToUnpack, Error> {
        let privilege = self.privilege()?;
        let scratch = self.store.scratch_dir()?;
        let has_index = self.indexes.index_file(layer.diff_id).is_some();
        let job = UnpackJob {
            blob: self.store.blob_path(&layer.descriptor.digest),
            diff_id: layer.diff_id,
            parents: self.index_files(below)?,
            lowers: lowers.to_vec(),
            target: PathBuf::new(),
            mark: privilege.opaque_mark(),
            owners: privilege.owners(),
            index: (!has_index).then(|| scratch.path().join("index")),
            progress: Some(progress.to_owned()),
        };
        Ok(ReadyToUnpack { job, view: self.indexes.view(below)?, _scratch: scratch })
    }

    fn unpack_it(&self, target: &Path, ready: &ReadyToUnpack) -> Result<(), JobError> {
        let job = UnpackJob { target: target.to_owned(), ..ready.job.clone() };
        for note in jobs::unpack(&self.executor, &job, &ready.view)? {
            self.events.send(Event::Note(note));
        }
        Ok(())
    }

    /// The files with the indexes of `layers`, in their order; for jobs.
    pub(super) fn index_files(&self, layers: &[Layer]) -> Result<Vec<PathBuf>, Error> {
        let index_file = |layer: &Layer| match self.indexes.index_file(layer.diff_id) {
            Some(path) => Ok(path),
            None => {
                self.indexes.own(layer)?;
                self.indexes.index_file(layer.diff_id).ok_or(Error::IndexNotSaved)
            }
        };
        layers.iter().map(index_file).collect()
    }

    /// A writable root on `lowers`.
    pub(super) fn prepare(&self, lowers: &[PathBuf], kind: OverlayKind) -> Result<WritableRoot, Error> {
        let mark = self.privilege()?.opaque_mark();
        let snapshot = ActiveSnapshot::prepare(&self.store, lowers.to_vec(), kind, mark)?;
        if let Some(job) = snapshot.copy_job() {
            jobs::copy(&self.executor, &job)?;
        }
        if self.changes_in_place() {
            let before = Listing::of(&snapshot.dirs().merged)?;
            before.settle(snapshot.beside())?;
            let tracked = Tracked::new(before, lowers.len()).watched(&snapshot.dirs().merged);
            return Ok(WritableRoot::tracked(snapshot, tracked));
        }
        let memory = self.mount_memory(&snapshot, &snapshot.dirs().to_make())?;
        Ok(WritableRoot::new(snapshot, memory))
    }

    /// What the upper directory of `snapshot` is in, if that is memory, with these folders.
    fn mount_memory(
        &self,
        snapshot: &ActiveSnapshot,
        folders: &[(&Path, u32)],
    ) -> Result<Option<MemoryMount>, Error> {
        let Some(at) = &snapshot.dirs().tmpfs else { return Ok(None) };
        let room = room_in_memory().map_err(Error::NoRoomInMemory)?;
        Ok(Some(self.executor.mount_memory(at, room, folders)?))
    }

    /// A writable root that was kept in `folder`. One that was in memory is filled again with `changes`, a layer on `parent`.
    pub(super) fn reopen(
        &self,
        folder: &Path,
        (kind, changes): (OverlayKind, Option<&Layer>),
        parent: &RootState,
    ) -> Result<WritableRoot, Error> {
        let lowers = self.lowers(parent)?;
        let privilege = self.privilege()?;
        let snapshot = ActiveSnapshot::reopen(folder, lowers, kind, privilege.opaque_mark());
        let [upper, work] = snapshot.dirs().to_make();
        let Some(layer) = changes else {
            let memory = self.mount_memory(&snapshot, &[upper, work])?;
            return Ok(WritableRoot::new(snapshot, memory));
        };
        let memory = self.mount_memory(&snapshot, &[work])?;
        let job = UnpackJob {
            blob: self.store.blob_path(&layer.descriptor.digest),
            diff_id: layer.diff_id,
            parents: self.index_files(&parent.layers)?,
            lowers: snapshot.lowers().to_vec(),
            target: upper.0.to_owned(),
            mark: privilege.opaque_mark(),
            owners: privilege.owners(),
            index: None,
            progress: None,
        };
        jobs::unpack_among(&self.executor, memory.as_ref(), &job).map_err(Error::Restore)?;
        Ok(WritableRoot::new(snapshot, memory))
    }

    /// Lets `spec` know what its lower directories hide and cannot say.
    pub(super) fn hide(&self, spec: &mut Spec) -> Result<(), Error> {
        spec.hidden.clear();
        // Where steps write to native overlays, layers are unpacked with overlayfs's own marks.
        if self.chosen() == OverlayKind::Native {
            return Ok(());
        }
        let lowers: BTreeSet<PathBuf> = spec.lowers().cloned().collect();
        for by in lowers {
            let paths = snapshot::hidden_by(&by)?;
            if !paths.is_empty() {
                spec.hidden.push(Hidden { by, paths });
            }
        }
        Ok(())
    }

    /// What becomes of what a step writes to the mounted files of a root.
    pub(super) fn writes(&self) -> Result<Writes, Error> {
        match self.chosen() {
            OverlayKind::Native => Ok(Writes::ToFolder(self.scratch()?)),
            OverlayKind::Memory | OverlayKind::Copy => Ok(Writes::ToMemory),
        }
    }

    /// What finds the changes of a step that has ended.
    pub(super) fn diff_job(
        &self,
        snapshot: &WritableRoot,
        special: &[SpecialOwner],
    ) -> Result<DiffJob, Error> {
        let owners = match self.privilege()?.owners() {
            layer::unpack::Owners::Record => Owners::Recorded { special: special.to_vec() },
            layer::unpack::Owners::Apply => Owners::OnDisk(IdMap::default()),
        };
        Ok(DiffJob { tracked: snapshot.before().cloned(), ..snapshot.diff_job(Vec::new(), owners) })
    }

    /// A directory for what a step writes into a mount, gone with the build.
    pub(super) fn scratch(&self) -> Result<PathBuf, Error> {
        let scratch = self.store.scratch_dir()?;
        let path = scratch.path().to_owned();
        lock(&self.scratch).push(scratch);
        Ok(path)
    }

    /// What copies a root, or a part of it, to a new folder, gone with the build.
    pub(super) fn copy_of(&self, root: &RootState) -> Result<CopyJob, Error> {
        let lowers = self.lowers(root)?;
        let (target, mark) = (self.scratch()?.join("root"), self.privilege()?.opaque_mark());
        Ok(CopyJob { lowers, target, onto: false, mark, linked: false, moved: false, on_threads: true })
    }

    /// Makes the changes of a step the tree of its layer. If that does not work the layer is unpacked one day.
    pub(super) fn adopt(&self, chain: ChainId, snapshot: &ActiveSnapshot) {
        let upper = &snapshot.dirs().upper;
        let Some(trees) = self.trees.get() else { return };
        let adopted = trees.ensure(chain, |target| {
            let renamed = std::fs::rename(upper, target);
            renamed.map_err(|source| snapshot::Error::Io { action: "move", path: upper.clone(), source })
        });
        match adopted {
            Ok(tree) => {
                let lowers = std::iter::once(tree).chain(snapshot.lowers().iter().cloned());
                self.known().insert(chain, lowers.collect());
            }
            Err(error) => tracing::info!(%error, "cannot keep a step's changes as a tree"),
        }
    }
}
