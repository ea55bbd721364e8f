//! Reads everything again, and drops what is not what it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rayon::prelude::*;
use rustix::fs::FileType;

use super::inventory::Error;
use super::unit;
use crate::cache::{Cache, Key};
use crate::image::Image;
use crate::layer::archive::Limits;
use crate::layer::erofs;
use crate::layer::index::{Index, Kind, What};
use crate::oci::{ChainId, DiffId, Digest, Layer, Reference, TooDeep};
use crate::rootfs::Root;
use crate::store::{Folder, Store};
use crate::sync::{into_inner, lock};

/// Repairs need the store alone only for a moment at the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether what is wrong is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// What is damaged is dropped, so that it is made or fetched again.
    Yes,
    /// Nothing is changed.
    No,
}

/// What was looked at, and what was wrong.
#[derive(Debug, Default)]
pub struct Report {
    /// Blobs that were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Names that were looked at.
    pub names: usize,
    /// Records of the cache that were looked at.
    pub records: usize,
    /// Indexes of layers that were looked at.
    pub indexes: usize,
    /// Unpacked layers that were compared with their index.
    pub trees: usize,
    /// Layers that are not here, and that a registry has under the name of an image that was pushed.
    pub promised: usize,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it is about, such as `blob sha256:…`.
    pub what: String,
    /// What is wrong with it.
    pub how: String,
    /// What was done or is to do about it.
    pub remedy: Remedy,
}

/// What is done about a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// It was dropped; the next build makes or fetches it again.
    Dropped,
    /// It was written again.
    Rewritten,
    /// It can only be fetched or built again by the user.
    Hint(String),
    /// It would be dropped or rewritten, but nothing was to be changed.
    Left,
    /// It cannot be dropped while others use the store.
    InUse,
}

/// Verifies everything in the store.
///
/// # Errors
/// What the system refuses; what was found until then is lost, but repaired.
pub fn verify(store: &Store, repair: Repair) -> Result<Report, Error> {
    let (layers, blobs) = (BTreeMap::new(), BTreeMap::new());
    let mut check = Check { store, repair, report: Report::default(), layers, blobs };
    check.blobs()?;
    check.names()?;
    check.records()?;
    check.indexes()?;
    check.trees()?;
    if repair == Repair::Yes {
        store.sync()?;
    }
    Ok(check.report)
}

struct Check<'s> {
    store: &'s Store,
    repair: Repair,
    report: Report,
    /// The stack below a layer and the layer itself, by the stack with it: what trees are compared with.
    layers: BTreeMap<ChainId, DiffId>,
    /// The blobs of layers that results of steps name.
    blobs: BTreeMap<DiffId, Digest>,
}

impl Check<'_> {
    fn fault(&mut self, what: impl Into<String>, how: impl Into<String>, remedy: Remedy) {
        self.report.faults.push(Fault { what: what.into(), how: how.into(), remedy });
    }

    /// What is to be said of something that was dropped, if that is wanted.
    fn dropped(&self) -> Remedy {
        if self.repair == Repair::Yes { Remedy::Dropped } else { Remedy::Left }
    }

    fn blobs(&mut self) -> Result<(), Error> {
        let blobs = self.store.blobs()?;
        let damaged = Mutex::new(Vec::new());
        blobs.par_iter().try_for_each(|(digest, _)| -> Result<(), Error> {
            let is_whole = match self.repair {
                Repair::Yes => self.store.verify_blob(digest)?,
                Repair::No => self.store.hash_blob(digest)?.is_none_or(|actual| actual == *digest),
            };
            if !is_whole && (self.repair == Repair::No || self.store.has_blob(digest).is_none()) {
                lock(&damaged).push(*digest);
            }
            Ok(())
        })?;
        self.report.blobs = blobs.len();
        self.report.bytes = blobs.values().map(|blob| blob.bytes).sum();
        let mut damaged = into_inner(damaged);
        damaged.sort();
        for digest in damaged {
            self.fault(format!("blob {digest}"), "its bytes are not those of its digest", self.dropped());
        }
        for (path, _) in self.store.entries_of(&self.store.root().join("blobs/sha256"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if format!("sha256:{name}").parse::<Digest>().is_err() {
                self.drop_file(&path, format!("file blobs/sha256/{name}"), "it is no blob")?;
            }
        }
        Ok(())
    }

    fn drop_file(&mut self, path: &Path, what: String, how: &str) -> Result<(), Error> {
        if self.repair == Repair::Yes {
            self.store.trash(path)?;
        }
        self.fault(what, how, self.dropped());
        Ok(())
    }

    fn names(&mut self) -> Result<(), Error> {
        let (names, damaged) = self.store.tags_and_damage()?;
        for (path, reason) in damaged {
            self.drop_file(&path, format!("name in `{}`", path.display()), &reason)?;
        }
        self.report.names = names.len();
        let mut promised = BTreeSet::new();
        for (reference, target) in &names {
            let image = Image::read(self.store, target)?;
            self.remember(&image);
            match self.store.is_remote_tag(reference)? && image.lacks_layers_only() {
                true => promised.extend(image.missing),
                false => self.completeness(reference, &image),
            }
        }
        self.report.promised = promised.len();
        for fetched in self.store.fetched()? {
            let image = Image::read(self.store, &fetched.target)?;
            self.remember(&image);
        }
        if !self.store.index_is_current()? {
            if self.repair == Repair::Yes {
                self.store.rewrite_index()?;
            }
            let remedy = if self.repair == Repair::Yes { Remedy::Rewritten } else { Remedy::Left };
            self.fault("index.json", "it does not list the names that there are", remedy);
        }
        Ok(())
    }

    /// An image that lacks platforms was pulled so; but what it has must be whole.
    fn completeness(&mut self, reference: &Reference, image: &Image) {
        if image.is_complete() {
            return;
        }
        if let Some(deep) = image.too_deep.first() {
            let hint = "a build or a push of it fails: ask whoever made it for a flat index".to_owned();
            return self.fault(format!("image {reference}"), TooDeep(*deep).to_string(), Remedy::Hint(hint));
        }
        let lacks = |digest: &Digest| match image.wrong_sizes.get(digest) {
            Some((said, actual)) => format!("{digest} with {said} bytes (it has {actual})"),
            None => digest.to_string(),
        };
        let missing: Vec<String> = image.missing.iter().map(lacks).collect();
        let how = match missing.is_empty() {
            true => "it has no image for any platform".to_owned(),
            false => format!("the store lacks {}", missing.join(", ")),
        };
        let hint = format!("`rbuild pull {reference}` fetches it again, or build it again");
        self.fault(format!("image {reference}"), how, Remedy::Hint(hint));
    }

    fn remember(&mut self, image: &Image) {
        for config in image.configs() {
            let mut chain = ChainId::EMPTY;
            for diff_id in &config.rootfs.diff_ids {
                chain = chain.push(*diff_id);
                self.layers.insert(chain, *diff_id);
            }
        }
    }

    fn records(&mut self) -> Result<(), Error> {
        let cache = Cache::new(self.store.clone());
        for name in self.store.record_names()?.into_keys().filter(|name| !name.contains('.')) {
            self.report.records += 1;
            let how = match cache.peek(&name)? {
                None => "it does not parse",
                Some(record) => {
                    let Layer { descriptor, diff_id } = &record.layer;
                    match self.store.has_blob(&descriptor.digest) {
                        Some(size) if size == descriptor.size => {
                            self.layers.insert(record.chain, *diff_id);
                            self.blobs.insert(*diff_id, descriptor.digest);
                            match self.explanation_holds(&cache, &record.key)? {
                                true => continue,
                                false => "its explanation is that of another key",
                            }
                        }
                        Some(_) => "its layer has another size",
                        None => "its layer is not there",
                    }
                }
            };
            if self.repair == Repair::Yes {
                self.store.remove_record(&name)?;
            }
            self.fault(format!("cache record {}", &name[..name.len().min(12)]), how, self.dropped());
        }
        Ok(())
    }

    /// Explanations may be missing, but not wrong.
    fn explanation_holds(&self, cache: &Cache, key: &Key) -> Result<bool, Error> {
        Ok(cache.peek_preimage(key)?.is_none_or(|preimage| preimage.key() == *key))
    }

    fn indexes(&mut self) -> Result<(), Error> {
        for (path, _) in self.store.entries_of(&self.store.folder(Folder::Indexes))? {
            self.report.indexes += 1;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = crate::rootfs::read_regular(&path).unwrap_or_default();
            let fault = match name.strip_suffix(".told") {
                Some(layer) => self.fault_of_told(layer, &bytes),
                None => Index::from_bytes(&bytes).is_err().then(|| "it does not parse".to_owned()),
            };
            if let Some(fault) = fault {
                self.drop_file(&path, format!("index of layer {name}"), &fault)?;
            }
        }
        Ok(())
    }

    /// What is wrong with an index that another place told, if the layer is here to be compared with.
    fn fault_of_told(&self, layer: &str, bytes: &[u8]) -> Option<String> {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (place, index) = bytes.split_at(end);
        let Some(told) = index.get(1..).and_then(|index| Index::from_bytes(index).ok()) else {
            return Some("it does not parse".to_owned());
        };
        let layer = DiffId(format!("sha256:{layer}").parse().ok()?);
        let blob = self.store.open_blob(self.blobs.get(&layer)?).ok()?;
        let own = Index::read(blob, Limits::default()).ok().filter(|own| own.diff_id == layer)?;
        let place = String::from_utf8_lossy(place);
        (own.index != told).then(|| format!("what `{place}` said of the layer is not what it holds"))
    }

    fn trees(&mut self) -> Result<(), Error> {
        let mut bad: Vec<(PathBuf, String)> = Vec::new();
        for (home, _) in unit::trees(self.store)? {
            self.report.trees += 1;
            let layer = unit::chain_of(&home).and_then(|chain| self.layers.get(&chain)).copied();
            let index = layer.and_then(|layer| {
                let path = self.store.folder(Folder::Indexes).join(layer.0.hex());
                Index::from_bytes(&crate::rootfs::read_regular(&path).ok()?).ok()
            });
            let files = home.join("fs");
            let difference = match index {
                _ if files.is_file() => damage(&files, layer),
                Some(index) => difference(&index, &files),
                None if files.is_dir() => None,
                None => Some("it has no files".to_owned()),
            };
            bad.extend(difference.map(|how| (home, how)));
        }
        if bad.is_empty() {
            return Ok(());
        }
        // A build may have it mounted.
        let lock = (self.repair == Repair::Yes).then(|| self.store.lock_exclusive(PATIENCE).ok());
        for (home, how) in bad {
            let remedy = match &lock {
                None => Remedy::Left,
                Some(None) => Remedy::InUse,
                Some(Some(_)) => {
                    self.store.trash(&home)?;
                    Remedy::Dropped
                }
            };
            let name: String =
                home.file_name().unwrap_or_default().to_string_lossy().chars().take(12).collect();
            self.fault(format!("unpacked layer {name}"), how, remedy);
        }
        Ok(())
    }
}

/// What is wrong with an image.
fn damage(image: &Path, layer: Option<DiffId>) -> Option<String> {
    match crate::rootfs::open_regular(image).and_then(|file| erofs::is_whole(&file, layer)) {
        Ok(true) => None,
        Ok(false) => Some("its bytes are not those that were written".to_owned()),
        Err(error) => Some(format!("it cannot be read ({error})")),
    }
}

/// The first difference between a layer's index and its tree, by type and size. Folders of other users that may not be
/// entered are passed over.
fn difference(index: &Index, tree: &Path) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    let root = match Root::open(tree) {
        Ok(root) => root,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return None,
        Err(error) => return Some(format!("it cannot be opened ({error})")),
    };
    for record in index.iter() {
        let What::Node(node) = &record.what else { continue };
        let shown = || String::from_utf8_lossy(record.path).into_owned();
        let stat = match root.stat(Path::new(std::ffi::OsStr::from_bytes(record.path))) {
            Ok(stat) => stat,
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => continue,
            // Only root may make devices.
            Err(_) if matches!(node.kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. }) => continue,
            Err(_) => return Some(format!("`{}` is missing", shown())),
        };
        let found = FileType::from_raw_mode(stat.st_mode);
        let fits = match &node.kind {
            Kind::Directory => found == FileType::Directory,
            Kind::File { size, .. } => found == FileType::RegularFile && stat.st_size as u64 == *size,
            Kind::Symlink(_) => found == FileType::Symlink,
            Kind::Fifo | Kind::CharDevice { .. } | Kind::BlockDevice { .. } => true,
        };
        if !fits {
            return Some(format!("`{}` is another file than in its layer", shown()));
        }
    }
    None
}
