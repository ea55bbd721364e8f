//! The root file systems of one build: trees of layers, and which kind of writable root works here.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use super::super::super::state::{Environment, RootState};
use super::super::super::{Failures, StepContext, jobs};
use super::images::{Images, Usable};
use super::writable::WritableRoot;
use crate::exec::{Hidden, MemoryMount, OwnedPath, Privilege, Spec, Writes, room_in_memory};
use crate::layer::view::{Kind, Node};
use crate::oci::{ChainId, Layer};
use crate::report::Event;
use crate::rootfs::SpecialOwner;
use crate::snapshot::{
    ActiveSnapshot, CopyJob, DiffJob, Error, IdMap, OverlayKind, Owners, PackJob, TreeKind, Trees, UnpackJob,
};
use crate::solve::full_disk::{FULL_MEMORY, binary};
use crate::store::{ScratchDir, Store};
use crate::sync::lock;
use crate::{key, layer, snapshot};

/// Shared by all RUN steps of a build.
pub struct Snapshots {
    store: Store,
    trees: OnceLock<Trees>,
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
}

impl Snapshots {
    /// Nothing is unpacked or tried yet.
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            trees: OnceLock::new(),
            images: Images::new(store),
            tree_kind: OnceLock::new(),
            kind: Mutex::default(),
            is_announced: AtomicBool::new(false),
            known: Mutex::default(),
            scratch: Mutex::default(),
        }
    }

    /// Who the steps run as.
    pub(in crate::solve) fn privilege(&self, step: &StepContext<'_>) -> Result<Privilege, Failures> {
        step.environment.executor.privilege().map_err(|e| vec![step.error(e.to_string())])
    }

    /// Which owners files have on disk. What was made with one kind is of no use to another.
    pub(in crate::solve) fn tree_kind(&self, step: &StepContext<'_>) -> Result<&TreeKind, Failures> {
        if let Some(kind) = self.tree_kind.get() {
            return Ok(kind);
        }
        let kind = self.privilege(step)?.tree_kind();
        Ok(self.tree_kind.get_or_init(|| kind))
    }

    /// Whether what a command makes keeps its owners.
    pub(in crate::solve) fn owners(&self, step: &StepContext<'_>) -> Result<key::Owners, Failures> {
        Ok(match self.privilege(step)?.owners() {
            layer::unpack::Owners::Record => key::Owners::Recorded,
            layer::unpack::Owners::Apply => key::Owners::Kept,
        })
    }

    /// Who owns what cannot tell itself in a root, where owners are only written down.
    pub(in crate::solve) fn owned_paths(
        &self,
        step: &StepContext<'_>,
        root: &RootState,
    ) -> Result<Vec<OwnedPath>, Failures> {
        if self.privilege(step)?.has_other_ids() {
            return Ok(Vec::new());
        }
        let view = step.environment.roots.view(&root.layers).map_err(|e| vec![step.error(e.to_string())])?;
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

    fn trees(&self, step: &StepContext<'_>) -> Result<&Trees, Failures> {
        if let Some(trees) = self.trees.get() {
            return Ok(trees);
        }
        let trees =
            Trees::new(&self.store, self.tree_kind(step)?).map_err(|e| vec![step.error(e.to_string())])?;
        Ok(self.trees.get_or_init(|| trees))
    }

    /// What is in use now.
    pub(in crate::solve) fn kind(&self, step: &StepContext<'_>) -> OverlayKind {
        let executor = step.environment.executor;
        // Where there is no user namespace the step itself fails, and says why.
        if let Ok(privilege) = executor.privilege()
            && !self.is_announced.swap(true, Ordering::Relaxed)
        {
            let why_single = executor.why_single().ok().flatten();
            step.environment.events.send(Event::RunsAs(privilege.note(why_single)));
        }
        self.chosen(step)
    }

    /// What is in use now, chosen if need be.
    fn chosen(&self, step: &StepContext<'_>) -> OverlayKind {
        let order = OverlayKind::order(self.store.root());
        let mut kind = lock(&self.kind);
        *kind.get_or_insert_with(|| match order.first() {
            // Whether it works is seen at the first step.
            Some(OverlayKind::Native) => OverlayKind::Native,
            _ => self.choose(step, order, "the store is on an overlayfs itself"),
        })
    }

    /// The first of `kinds` that works, for the reason that is given; says so once.
    fn choose(&self, step: &StepContext<'_>, kinds: &[OverlayKind], reason: &str) -> OverlayKind {
        let mut reasons = reason.to_owned();
        for kind in kinds {
            let note = match kind {
                OverlayKind::Native => return OverlayKind::Native,
                OverlayKind::Memory => match self.try_memory(step) {
                    Ok(room) => format!("keeping what RUN changes in memory, {} at most", binary(room)),
                    Err(error) => {
                        reasons = format!("{reasons}; {error}");
                        continue;
                    }
                },
                OverlayKind::Copy => break,
            };
            step.environment.events.send(Event::Note(format!("{note}: {reasons}")));
            return *kind;
        }
        let note = format!("copying the root file system for every RUN: {reasons}");
        step.environment.events.send(Event::Note(note));
        OverlayKind::Copy
    }

    fn try_memory(&self, step: &StepContext<'_>) -> Result<u64, String> {
        let scratch = self.store.scratch_dir().map_err(|e| e.to_string())?;
        step.environment.executor.try_overlay_in_memory(scratch.path())
    }

    /// Goes on to the next kind after `failed` was refused, and says so once.
    pub(in crate::solve) fn fall_back(
        &self,
        step: &StepContext<'_>,
        failed: OverlayKind,
        error: &io::Error,
    ) -> Result<(), Failures> {
        let next = match failed {
            OverlayKind::Native => &[OverlayKind::Memory, OverlayKind::Copy][..],
            OverlayKind::Memory => &[OverlayKind::Copy],
            // What was refused is a mount of the step, which has no other kind.
            OverlayKind::Copy => {
                let error = step.error(format!("the kernel refuses an overlay that the step needs: {error}"));
                return Err(vec![error.help(
                    "put the store on ext4, xfs, btrfs or tmpfs, in a container on a volume: `--root DIR`",
                )]);
            }
        };
        let mut kind = lock(&self.kind);
        if *kind != Some(failed) {
            return Ok(());
        }
        *kind = Some(self.choose(step, next, &format!("the store's file system takes no overlay ({error})")));
        Ok(())
    }

    /// The trees of a root, the top one first, each made if need be. Some may be images, mounted for as long as this
    /// value lives.
    pub(in crate::solve) fn lowers(
        &self,
        step: &StepContext<'_>,
        root: &RootState,
    ) -> Result<Vec<PathBuf>, Failures> {
        if let Some(known) = self.known().get(&root.chain) {
            return Ok(known.clone());
        }
        let mut chain = ChainId::EMPTY;
        let mut lowers: Vec<PathBuf> = Vec::new();
        for (at, layer) in root.layers.iter().enumerate() {
            chain = chain.push(layer.diff_id);
            let below = &root.layers[..at];
            if let Some(known) = self.known().get(&chain) {
                lowers.clone_from(known);
                continue;
            }
            let tree = match self.trees(step)?.find(chain) {
                Some(tree) => tree,
                None => match self.image(step, chain, layer, below)? {
                    Some(root) => root,
                    None => self.unpack(step, chain, layer, below, &lowers)?,
                },
            };
            lowers.insert(0, tree);
            self.known().insert(chain, lowers.clone());
        }
        Ok(lowers)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<ChainId, Vec<PathBuf>>> {
        lock(&self.known)
    }

    /// The root of a layer's image, made if need be; `None` when it must be unpacked.
    fn image(
        &self,
        step: &StepContext<'_>,
        chain: ChainId,
        layer: &Layer,
        below: &[Layer],
    ) -> Result<Option<PathBuf>, Failures> {
        let environment = step.environment;
        // A root that is a copy is made faster from trees.
        if self.chosen(step) != OverlayKind::Native {
            return Ok(None);
        }
        let fail = |message: String| vec![step.error(message)];
        match self.images.are_usable(environment.executor).map_err(fail)? {
            Usable::Yes => {}
            Usable::No => return Ok(None),
            Usable::NotHere(error) => {
                let note = format!("layers are unpacked: images of them cannot be mounted here ({error})");
                environment.events.send(Event::Note(note));
                return Ok(None);
            }
        }
        if let Some(root) = self.images.find(chain) {
            return Ok(Some(root));
        }
        let scratch = environment.store.scratch_dir().map_err(|e| fail(e.to_string()))?;
        let index =
            environment.roots.index_file(layer.diff_id).is_none().then(|| scratch.path().join("index"));
        let view = environment.roots.view(below).map_err(|e| fail(e.to_string()))?;
        let job = PackJob {
            blob: environment.store.blob_path(&layer.descriptor.digest),
            diff_id: layer.diff_id,
            target: PathBuf::new(),
            index: index.clone(),
        };
        let made = self.images.ensure(chain, &job, &view);
        let made = made.map_err(|e| fail(format!("cannot unpack a layer: {e}")))?;
        self.adopt_index(step, layer, index)?;
        Ok(made)
    }

    /// Keeps the index that came about in passing, if it did.
    fn adopt_index(
        &self,
        step: &StepContext<'_>,
        layer: &Layer,
        file: Option<PathBuf>,
    ) -> Result<(), Failures> {
        match file.filter(|path| path.exists()) {
            Some(index) => {
                let adopted = step.environment.roots.adopt(layer.diff_id, &index);
                adopted.map_err(|e| vec![step.error(e.to_string())])
            }
            None => Ok(()),
        }
    }

    /// Names for directories that [`lowers`](Self::lowers) gave which hold after this process: an image's file instead of
    /// where it is mounted.
    pub(in crate::solve) fn lasting(&self, lowers: &mut [PathBuf]) {
        for lower in lowers {
            if let Some(file) = self.images.file_of(lower) {
                *lower = file;
            }
        }
    }

    /// Undoes [`lasting`](Self::lasting), also that of another process; `false` when one of them is not there any more.
    pub(in crate::solve) fn at_hand(&self, lowers: &mut [PathBuf]) -> bool {
        lowers.iter_mut().all(|lower| {
            if lower.is_file() {
                return self.images.mount(lower).map(|root| *lower = root).is_some();
            }
            lower.exists()
        })
    }

    fn unpack(
        &self,
        step: &StepContext<'_>,
        chain: ChainId,
        layer: &Layer,
        below: &[Layer],
        lowers: &[PathBuf],
    ) -> Result<PathBuf, Failures> {
        let environment = step.environment;
        let privilege = self.privilege(step)?;
        let parents = self.index_files(step, below)?;
        let index = environment.roots.index_file(layer.diff_id);
        let scratch = environment.store.scratch_dir().map_err(|e| vec![step.error(e.to_string())])?;
        let fresh_index = index.is_none().then(|| scratch.path().join("index"));
        let view = environment.roots.view(below).map_err(|e| vec![step.error(e.to_string())])?;
        let made = self.trees(step)?.ensure(chain, |target| {
            let job = UnpackJob {
                blob: environment.store.blob_path(&layer.descriptor.digest),
                diff_id: layer.diff_id,
                parents,
                lowers: lowers.to_vec(),
                target: target.to_owned(),
                mark: privilege.opaque_mark(),
                owners: privilege.owners(),
                index: fresh_index.clone(),
            };
            for note in jobs::unpack(environment, &job, &view).map_err(UnpackError::Job)? {
                environment.events.send(Event::Note(note));
            }
            Ok::<_, UnpackError>(())
        });
        let tree = made.map_err(|e| vec![step.error(format!("cannot unpack a layer: {e}"))])?;
        self.adopt_index(step, layer, fresh_index)?;
        Ok(tree)
    }

    /// The files with the indexes of `layers`, in their order; for jobs.
    pub(super) fn index_files(
        &self,
        step: &StepContext<'_>,
        layers: &[Layer],
    ) -> Result<Vec<PathBuf>, Failures> {
        layers
            .iter()
            .map(|layer| index_file(step.environment, layer))
            .collect::<Result<_, _>>()
            .map_err(|message| vec![step.error(message)])
    }

    /// A writable root on `lowers`.
    pub(in crate::solve) fn prepare(
        &self,
        step: &StepContext<'_>,
        lowers: &[PathBuf],
        kind: OverlayKind,
    ) -> Result<WritableRoot, Failures> {
        let environment = step.environment;
        let fail = |message: String| vec![step.error(message)];
        let mark = self.privilege(step)?.opaque_mark();
        let snapshot = ActiveSnapshot::prepare(&environment.store, lowers.to_vec(), kind, mark)
            .map_err(|e| fail(e.to_string()))?;
        if let Some(job) = snapshot.copy_job() {
            jobs::copy(environment, &job).map_err(fail)?;
        }
        let memory = self.mount_memory(step, &snapshot, &snapshot.dirs().to_make())?;
        Ok(WritableRoot::new(snapshot, memory))
    }

    /// What the upper directory of `snapshot` is in, if that is memory, with these folders.
    fn mount_memory(
        &self,
        step: &StepContext<'_>,
        snapshot: &ActiveSnapshot,
        folders: &[(&Path, u32)],
    ) -> Result<Option<MemoryMount>, Failures> {
        let Some(at) = &snapshot.dirs().tmpfs else { return Ok(None) };
        let room = room_in_memory().map_err(|why| vec![step.error(why).help(FULL_MEMORY)])?;
        let mounted = step.environment.executor.mount_memory(at, room, folders);
        mounted.map(Some).map_err(|e| vec![step.error(e.to_string())])
    }

    /// A writable root that was kept in `folder`. One that was in memory is filled again with `changes`, a layer on `parent`.
    pub(in crate::solve) fn reopen(
        &self,
        step: &StepContext<'_>,
        folder: &Path,
        (kind, changes): (OverlayKind, Option<&Layer>),
        parent: &RootState,
    ) -> Result<WritableRoot, Failures> {
        let lowers = self.lowers(step, parent)?;
        let privilege = self.privilege(step)?;
        let snapshot = ActiveSnapshot::reopen(folder, lowers, kind, privilege.opaque_mark());
        let [upper, work] = snapshot.dirs().to_make();
        let Some(layer) = changes else {
            let memory = self.mount_memory(step, &snapshot, &[upper, work])?;
            return Ok(WritableRoot::new(snapshot, memory));
        };
        let memory = self.mount_memory(step, &snapshot, &[work])?;
        let job = UnpackJob {
            blob: step.environment.store.blob_path(&layer.descriptor.digest),
            diff_id: layer.diff_id,
            parents: self.index_files(step, &parent.layers)?,
            lowers: snapshot.lowers().to_vec(),
            target: upper.0.to_owned(),
            mark: privilege.opaque_mark(),
            owners: privilege.owners(),
            index: None,
        };
        let filled = jobs::unpack_among(step.environment, memory.as_ref(), &job);
        filled.map_err(|e| vec![step.error(format!("cannot restore what was changed: {e}"))])?;
        Ok(WritableRoot::new(snapshot, memory))
    }

    /// Lets `spec` know what its lower directories hide and cannot say.
    pub(in crate::solve) fn hide(&self, step: &StepContext<'_>, spec: &mut Spec) -> Result<(), Failures> {
        spec.hidden.clear();
        // Where steps write to native overlays, layers are unpacked with overlayfs's own marks.
        if self.chosen(step) == OverlayKind::Native {
            return Ok(());
        }
        let lowers: BTreeSet<PathBuf> = spec.lowers().cloned().collect();
        for by in lowers {
            let paths = snapshot::hidden_by(&by).map_err(|e| vec![step.error(e.to_string())])?;
            if !paths.is_empty() {
                spec.hidden.push(Hidden { by, paths });
            }
        }
        Ok(())
    }

    /// What becomes of what a step writes to the mounted files of a root.
    pub(in crate::solve) fn writes(&self, step: &StepContext<'_>) -> Result<Writes, Failures> {
        match self.chosen(step) {
            OverlayKind::Native => Ok(Writes::ToFolder(self.scratch(step)?)),
            OverlayKind::Memory | OverlayKind::Copy => Ok(Writes::ToMemory),
        }
    }

    /// What finds the changes of a step that has ended.
    pub(super) fn diff_job(
        &self,
        step: &StepContext<'_>,
        snapshot: &ActiveSnapshot,
        special: &[SpecialOwner],
    ) -> Result<DiffJob, Failures> {
        let owners = match self.privilege(step)?.owners() {
            layer::unpack::Owners::Record => Owners::Recorded { special: special.to_vec() },
            layer::unpack::Owners::Apply => Owners::OnDisk(IdMap::default()),
        };
        Ok(snapshot.diff_job(Vec::new(), owners))
    }

    /// A directory for what a step writes into a mount, gone with the build.
    pub(in crate::solve) fn scratch(&self, step: &StepContext<'_>) -> Result<PathBuf, Failures> {
        let scratch = step.environment.store.scratch_dir().map_err(|e| vec![step.error(e.to_string())])?;
        let path = scratch.path().to_owned();
        lock(&self.scratch).push(scratch);
        Ok(path)
    }

    /// What copies a whole root to a new folder, gone with the build.
    pub(super) fn copy_of(&self, step: &StepContext<'_>, root: &RootState) -> Result<CopyJob, Failures> {
        let lowers = self.lowers(step, root)?;
        Ok(CopyJob {
            lowers,
            target: self.scratch(step)?.join("root"),
            mark: self.privilege(step)?.opaque_mark(),
        })
    }

    /// Makes the changes of a step the tree of its layer. If that does not work the layer is unpacked one day.
    pub(super) fn adopt(&self, chain: ChainId, snapshot: &ActiveSnapshot) {
        let upper = &snapshot.dirs().upper;
        let Some(trees) = self.trees.get() else { return };
        let adopted = trees.ensure(chain, |target| {
            std::fs::rename(upper, target).map_err(|e| UnpackError::Job(e.to_string()))
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

fn index_file(environment: &Environment<'_>, layer: &Layer) -> Result<PathBuf, String> {
    if let Some(path) = environment.roots.index_file(layer.diff_id) {
        return Ok(path);
    }
    environment.roots.index(layer).map_err(|e| e.to_string())?;
    environment.roots.index_file(layer.diff_id).ok_or_else(|| "cannot save the index of a layer".to_owned())
}

/// Why a tree could not be made.
#[derive(Debug, thiserror::Error)]
enum UnpackError {
    #[error(transparent)]
    Snapshot(#[from] Error),
    #[error("{0}")]
    Job(String),
}
