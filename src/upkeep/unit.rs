//! What can go as a whole: a cached step, an unnamed image, a base, a tree, a folder of another module.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::inventory::{Error, Inventory};
use super::sessions;
use crate::cache::Key;
use crate::image::Image;
use crate::oci::{ChainId, DiffId, Digest, Reference};
use crate::store::{Folder, Measuring, Store};

/// One thing that may go, with what it needs of others.
#[derive(Debug, Clone)]
pub struct Unit {
    /// What it is.
    pub kind: UnitKind,
    /// Seconds since 1970 at which a build last used it.
    pub last_used: i64,
    /// What its own files take up on disk; blobs that it shares with others are not among them.
    pub own_bytes: u64,
    /// Blobs that it needs.
    pub blobs: Vec<Digest>,
    /// Layers whose derived files are worth keeping because of it.
    pub diff_ids: Vec<DiffId>,
    /// Stacks whose trees are worth keeping because of it.
    pub chains: Vec<ChainId>,
}

/// What a [`Unit`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitKind {
    /// A record of the cache, with its layer.
    Step(Key),
    /// An image without a name, by its manifest.
    Unnamed(Digest),
    /// What builds fetched, and the names that they fetched it by.
    Base(Digest, Vec<Reference>),
    /// An unpacked layer; it goes also when nothing needs its stack any more.
    Tree(ChainId, PathBuf),
    /// A cache mount.
    CacheMount(PathBuf),
    /// A fetched git repository.
    Git(PathBuf),
    /// Digests of the files of a context.
    Context(PathBuf),
    /// A kept session without a name.
    Session(PathBuf),
    /// What the commands of a build printed.
    Log(PathBuf),
}

impl UnitKind {
    /// Its kind in a word or two, as lists show it.
    pub fn name(&self) -> &'static str {
        match self {
            UnitKind::Step(_) => "cached step",
            UnitKind::Unnamed(_) => "unnamed image",
            UnitKind::Base(..) => "base image",
            UnitKind::Tree(..) => "unpacked layer",
            UnitKind::CacheMount(_) => "cache mount",
            UnitKind::Git(_) => "git repository",
            UnitKind::Context(_) => "context digests",
            UnitKind::Session(_) => "kept session",
            UnitKind::Log(_) => "log of a build",
        }
    }

    /// Which one of its kind.
    pub fn id(&self) -> String {
        let file = |path: &PathBuf| {
            path.file_name().unwrap_or_default().to_string_lossy().chars().take(12).collect()
        };
        match self {
            UnitKind::Step(key) => key.hex()[..12].to_owned(),
            UnitKind::Unnamed(digest) => digest.short(),
            UnitKind::Base(digest, names) => {
                names.first().map_or_else(|| digest.short(), Reference::to_string)
            }
            UnitKind::Tree(chain, _) => chain.0.short(),
            UnitKind::CacheMount(path)
            | UnitKind::Git(path)
            | UnitKind::Context(path)
            | UnitKind::Session(path)
            | UnitKind::Log(path) => file(path),
        }
    }
}

/// All units of the store, the one that was used longest ago first.
pub(super) fn all(
    store: &Store,
    inventory: &Inventory,
    measuring: &mut Measuring,
) -> Result<Vec<Unit>, Error> {
    measuring.again();
    let mut units: Vec<Unit> = inventory.entries.iter().map(step).collect();
    units.extend(inventory.unnamed.iter().map(|image| {
        let changed = inventory.blobs.get(&image.target.digest).map_or(0, |blob| blob.changed);
        of_image(UnitKind::Unnamed(image.target.digest), image, changed)
    }));
    units.extend(bases(inventory));
    for (home, changed) in trees(store)? {
        let Some(chain) = chain_of(&home) else { continue };
        let own_bytes = measuring.tree(&home).disk_bytes;
        units.push(plain(UnitKind::Tree(chain, home), changed, own_bytes));
    }
    for (folder, kind) in FOLDERS {
        for (path, changed) in store.entries_of(&store.folder(folder))? {
            // The lock of a cache mount and what is noted of it go with it.
            if path.extension().is_none_or(|e| !["lock", "note", "note-new"].iter().any(|other| e == *other))
            {
                let changed = lock_time(&path).unwrap_or(changed);
                let own_bytes = measuring.tree(&path).disk_bytes;
                units.push(plain(kind(path), changed, own_bytes));
            }
        }
    }
    units.extend(sessions::units(store, measuring)?.0);
    units.sort_by_key(|unit| unit.last_used);
    Ok(units)
}

/// A folder whose entries are units each, and of which kind.
type Unitary = (Folder, fn(PathBuf) -> UnitKind);

const FOLDERS: [Unitary; 5] = [
    (Folder::CacheMounts, UnitKind::CacheMount),
    (Folder::Git, UnitKind::Git),
    (Folder::StatCache, UnitKind::Context),
    (Folder::Placed, UnitKind::Context),
    (Folder::Logs, UnitKind::Log),
];

fn plain(kind: UnitKind, last_used: i64, own_bytes: u64) -> Unit {
    Unit { kind, last_used, own_bytes, blobs: Vec::new(), diff_ids: Vec::new(), chains: Vec::new() }
}

fn step(entry: &super::CacheEntry) -> Unit {
    let record = &entry.record;
    Unit {
        blobs: vec![record.layer.descriptor.digest],
        diff_ids: vec![record.layer.diff_id],
        chains: vec![record.chain],
        ..plain(UnitKind::Step(record.key), entry.last_used, entry.disk_bytes)
    }
}

/// What an image needs, as a unit.
pub(super) fn of_image(kind: UnitKind, image: &Image, last_used: i64) -> Unit {
    Unit {
        blobs: image.blobs.keys().copied().collect(),
        diff_ids: image.diff_ids().into_iter().collect(),
        chains: image.chains().into_iter().collect(),
        ..plain(kind, last_used, 0)
    }
}

/// What builds fetched; one under several names is used when any of them is.
fn bases(inventory: &Inventory) -> Vec<Unit> {
    let mut names: BTreeMap<Digest, (Vec<Reference>, i64)> = BTreeMap::new();
    for fetched in &inventory.fetched {
        let (names, last_used) = names.entry(fetched.target.digest).or_default();
        names.push(fetched.reference.clone());
        *last_used = fetched.last_used.max(*last_used);
    }
    let unit = |(digest, (names, last_used)): (Digest, (Vec<Reference>, i64))| {
        let image = inventory.bases.get(&digest).or_else(|| inventory.named.get(&digest))?;
        Some(of_image(UnitKind::Base(digest, names), image, last_used))
    };
    names.into_iter().filter_map(unit).collect()
}

/// Every tree's own folder, of all kinds.
pub(super) fn trees(store: &Store) -> Result<Vec<(PathBuf, i64)>, Error> {
    let mut homes = Vec::new();
    for (kind, _) in store.entries_of(&store.folder(Folder::Trees))? {
        homes.extend(store.entries_of(&kind)?);
    }
    Ok(homes)
}

pub(super) fn chain_of(home: &std::path::Path) -> Option<ChainId> {
    let name = home.file_name()?.to_str()?;
    format!("sha256:{name}").parse().ok().map(ChainId)
}

/// A step that uses a cache mount takes its lock.
fn lock_time(path: &std::path::Path) -> Option<i64> {
    use std::os::unix::fs::MetadataExt;
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    std::fs::metadata(name).ok().map(|meta| meta.mtime())
}
