//! A writable root on top of trees: the directories that a mount needs.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::diff::{DiffJob, Form, Owners};
use super::files::make_dir;
use super::overlay::OverlayKind;
use super::{CopyJob, Error};
use crate::layer::unpack::OpaqueMark;
use crate::store::{ScratchDir, Store};

/// The root of one step while it runs. The directories are on the store's file system and go when this is
/// dropped (through the store's trash).
#[derive(Debug)]
pub struct ActiveSnapshot {
    dirs: Dirs,
    lowers: Vec<PathBuf>,
    kind: OverlayKind,
    mark: OpaqueMark,
    /// `None` for one that outlives its value.
    scratch: Option<ScratchDir>,
}

/// Where the parts of a root are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dirs {
    /// What the step changes; for [`OverlayKind::Copy`] the whole root.
    pub upper: PathBuf,
    /// overlayfs's own; on the same file system as `upper`. Not made for [`OverlayKind::Copy`].
    pub work: PathBuf,
    /// Where to mount the root; for [`OverlayKind::Copy`] the same as `upper`.
    pub merged: PathBuf,
    /// Where to mount a tmpfs before [`Dirs::to_make`], for [`OverlayKind::Memory`] only.
    pub tmpfs: Option<PathBuf>,
}

impl Dirs {
    fn below(base: &Path, kind: OverlayKind) -> Self {
        let merged = base.join("merged");
        let tmpfs = (kind == OverlayKind::Memory).then(|| base.join("tmpfs"));
        let parts = tmpfs.as_deref().unwrap_or(base);
        let upper = if kind == OverlayKind::Copy { merged.clone() } else { parts.join("upper") };
        Self { upper, work: parts.join("work"), merged, tmpfs }
    }

    /// The directories that overlayfs needs, with their modes. For [`OverlayKind::Memory`] whoever mounted the tmpfs makes
    /// them, where it is mounted.
    pub fn to_make(&self) -> [(&Path, u32); 2] {
        // The upper directory's mode is that of the root directory which the command sees.
        [(&self.upper, 0o755), (&self.work, 0o700)]
    }
}

impl ActiveSnapshot {
    /// Makes the directories for a root on `lowers`, the top one first. `mark` is [`OpaqueMark::Trusted`] when
    /// root mounts without a user namespace.
    ///
    /// For [`OverlayKind::Copy`] the root is still empty: run [`ActiveSnapshot::copy_job`].
    pub fn prepare(
        store: &Store,
        lowers: Vec<PathBuf>,
        kind: OverlayKind,
        mark: OpaqueMark,
    ) -> Result<Self, Error> {
        let scratch = store.scratch_dir()?;
        let dirs = Dirs::below(scratch.path(), kind);
        make_dir(&dirs.merged, 0o755)?;
        match kind {
            OverlayKind::Native => {
                dirs.to_make().iter().try_for_each(|(path, mode)| make_dir(path, *mode))?;
            }
            OverlayKind::Memory => {
                dirs.tmpfs.iter().try_for_each(|tmpfs| make_dir(tmpfs, 0o700))?;
            }
            OverlayKind::Copy => {}
        }
        Ok(Self { dirs, lowers, kind, mark, scratch: Some(scratch) })
    }

    /// A root that is there already, a whole one: `take` moves a folder that holds it to the path that it is given, and tells where in it
    /// it is. `None` if it does not.
    pub fn taking(
        store: &Store,
        lowers: Vec<PathBuf>,
        mark: OpaqueMark,
        take: impl FnOnce(&Path) -> Option<PathBuf>,
    ) -> Result<Option<Self>, Error> {
        let scratch = store.scratch_dir()?;
        let kind = OverlayKind::Copy;
        let dirs = Dirs::below(scratch.path(), kind);
        let Some(root) = take(&scratch.path().join("taken")) else { return Ok(None) };
        fs::rename(&root, &dirs.merged).map_err(Error::io("take", &root))?;
        Ok(Some(Self { dirs, lowers, kind, mark, scratch: Some(scratch) }))
    }

    /// Moves the directories to `folder`, which must not exist, on the same file system; from there
    /// [`ActiveSnapshot::reopen`] takes them up again. With what is in `files` (names and contents, mode 0600) beside
    /// them, all at once. Nothing may have them mounted.
    pub fn keep(self, folder: &Path, files: &[(&str, &[u8])]) -> Result<(), Error> {
        let Some(scratch) = &self.scratch else { return Ok(()) };
        for (name, content) in files {
            let path = scratch.path().join(name);
            let open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            open.and_then(|mut file| file.write_all(content)).map_err(Error::io("write", &path))?;
        }
        fs::rename(scratch.path(), folder).map_err(Error::io("keep", folder))
    }

    /// Takes up what [`ActiveSnapshot::keep`] left in `folder`; it stays there when this is dropped. `lowers`, `kind` and
    /// `mark` as they were.
    pub fn reopen(folder: &Path, lowers: Vec<PathBuf>, kind: OverlayKind, mark: OpaqueMark) -> Self {
        Self { dirs: Dirs::below(folder, kind), lowers, kind, mark, scratch: None }
    }

    /// Whether anything may have been changed; surely not when this says no. `upper` is where this process sees the upper
    /// directory.
    pub fn is_changed(&self, upper: &Path) -> bool {
        let is_empty = fs::read_dir(upper).map(|mut entries| entries.next().is_none());
        self.kind == OverlayKind::Copy || !matches!(is_empty, Ok(true))
    }

    /// Where everything is.
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// A folder on the same file system that is in no root.
    pub fn beside(&self) -> &Path {
        self.dirs.merged.parent().unwrap_or(&self.dirs.merged)
    }

    /// The lower directories, the top one first.
    pub fn lowers(&self) -> &[PathBuf] {
        &self.lowers
    }

    /// How it is to be mounted.
    pub fn kind(&self) -> OverlayKind {
        self.kind
    }

    /// What fills the root of an [`OverlayKind::Copy`]; `None` for the others.
    pub fn copy_job(&self) -> Option<CopyJob> {
        (self.kind == OverlayKind::Copy).then(|| CopyJob {
            lowers: self.lowers.clone(),
            target: self.dirs.merged.clone(),
            mark: self.mark,
            onto: false,
            linked: false,
            moved: false,
            on_threads: true,
        })
    }

    /// What finds the step's changes. `stubs` are the mount points, relative to the root, that were made for the
    /// step and are no part of its changes.
    pub fn diff_job(&self, stubs: Vec<PathBuf>, owners: Owners) -> DiffJob {
        let form = match self.kind {
            OverlayKind::Native | OverlayKind::Memory => Form::Overlay(self.mark),
            OverlayKind::Copy => Form::Whole,
        };
        DiffJob {
            root: self.dirs.upper.clone(),
            form,
            lowers: self.lowers.clone(),
            stubs,
            owners,
            newest: None,
            tracked: None,
        }
    }
}
