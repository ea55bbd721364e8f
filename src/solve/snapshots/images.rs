//! Layers that need not be unpacked: files that are mounted for as long as a build lasts.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use crate::exec::{Executor, MountedImage};
use crate::layer::view::RootView;
use crate::oci::ChainId;
use crate::snapshot::{Error, PackJob, TreeKind, Trees, pack_layer};
use crate::store::Store;
use crate::sync::lock;

/// In which form RUN gets layers that it needs: `$RBUILD_LAYERS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayersAs {
    /// Trees; what is said where nothing is.
    Trees,
    /// Images where they can be mounted, else trees.
    Auto,
    /// As [`LayersAs::Auto`], with a word where they cannot be mounted.
    Images,
}

impl LayersAs {
    /// What the environment says; else the word that nobody knows.
    fn from_process() -> Result<Self, String> {
        match std::env::var_os("RBUILD_LAYERS") {
            None => Ok(Self::Trees),
            Some(word) => match word.to_str() {
                Some("" | "tree") => Ok(Self::Trees),
                Some("auto") => Ok(Self::Auto),
                Some("erofs") => Ok(Self::Images),
                _ => Err(word.to_string_lossy().into_owned()),
            },
        }
    }
}

/// Whether layers are to be mounted as images.
pub(super) enum Usable {
    Yes,
    No,
    /// They were asked for, but this is in the way; told once.
    NotHere(String),
}

/// The images of a store, beside its trees; each belongs to a chain as a tree does. Only root mounts any.
pub(super) struct Images {
    store: Store,
    wanted: Result<LayersAs, String>,
    files: OnceLock<Trees>,
    works: OnceLock<Result<(), String>>,
    mounted: Mutex<HashMap<PathBuf, MountedImage>>,
}

impl Images {
    /// Nothing is tried yet.
    pub(super) fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            wanted: LayersAs::from_process(),
            files: OnceLock::new(),
            works: OnceLock::new(),
            mounted: Mutex::default(),
        }
    }

    /// Whether images are wanted, and can be mounted under overlays in this store.
    ///
    /// # Errors
    /// When the environment says something that nobody knows.
    pub(super) fn are_usable(&self, executor: &Executor) -> Result<Usable, super::Error> {
        let wanted = self.wanted.as_ref().map_err(|word| super::Error::UnknownLayers(word.clone()))?;
        if *wanted == LayersAs::Trees || executor.is_rootless() {
            return Ok(Usable::No);
        }
        let is_first = self.works.get().is_none();
        Ok(match self.works.get_or_init(|| self.try_once(executor)) {
            Ok(()) => Usable::Yes,
            Err(error) if is_first && *wanted == LayersAs::Images => Usable::NotHere(error.clone()),
            Err(_) => Usable::No,
        })
    }

    /// Tries it, unless it was tried since the machine was started: the answer depends on kernel and file system.
    fn try_once(&self, executor: &Executor) -> Result<(), String> {
        let note = self.store.images_note();
        let known = crate::rootfs::read_regular_text(&note).unwrap_or_default();
        if let Some((boot, answer)) = known.split_once('\n')
            && boot == self.store.boot_id()
        {
            return if answer.is_empty() { Ok(()) } else { Err(answer.to_owned()) };
        }
        let scratch = self.store.scratch_dir().map_err(|e| e.to_string())?;
        let tried = executor.try_images(scratch.path()).map(drop);
        let answer = tried.as_ref().err().map_or("", String::as_str);
        let fresh = scratch.path().join("note");
        let written = fs::write(&fresh, format!("{}\n{answer}", self.store.boot_id()));
        if let Err(error) = written.and_then(|()| fs::rename(&fresh, &note)) {
            tracing::debug!(%error, "cannot write down whether images can be mounted");
        }
        tried
    }

    /// The root of the image of `chain`, if there is one that can be trusted and mounted.
    pub(super) fn find(&self, chain: ChainId) -> Option<PathBuf> {
        self.mount(&self.files().ok()?.find(chain)?)
    }

    /// The root of the image of `chain`, made if need be from the layer of `job` (whose target does not count); `None`
    /// when the layer must be unpacked.
    pub(super) fn ensure(
        &self,
        chain: ChainId,
        job: &PackJob,
        below: &RootView,
    ) -> Result<Option<PathBuf>, Error> {
        let pack = |target: &Path| pack_layer(&PackJob { target: target.to_owned(), ..job.clone() }, below);
        match self.files()?.ensure(chain, pack) {
            Ok(file) => Ok(self.mount(&file)),
            Err(Error::Unfit(unfit)) => {
                tracing::debug!(%unfit, "a layer is unpacked");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The root of the image in `file`, mounted if it is not already.
    pub(super) fn mount(&self, file: &Path) -> Option<PathBuf> {
        let mut mounted = lock(&self.mounted);
        if let Some(image) = mounted.get(file) {
            return Some(image.path());
        }
        let image = MountedImage::mount(file);
        let image = image.inspect_err(|error| tracing::info!(%error, ?file, "cannot mount a layer")).ok()?;
        let root = image.path();
        mounted.insert(file.to_owned(), image);
        Some(root)
    }

    /// The file whose image is mounted at `root`, for what outlives this process.
    pub(super) fn file_of(&self, root: &Path) -> Option<PathBuf> {
        let mounted = lock(&self.mounted);
        mounted.iter().find(|(_, image)| image.path() == root).map(|(file, _)| file.clone())
    }

    fn files(&self) -> Result<&Trees, Error> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let files = Trees::new(&self.store, &TreeKind::images())?;
        Ok(self.files.get_or_init(|| files))
    }
}
