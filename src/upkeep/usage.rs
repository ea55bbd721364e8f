//! What the store takes up on disk, by what it is for.

use std::collections::{BTreeMap, BTreeSet};

use super::inventory::{Error, Inventory};
use super::prune::{self, Policy};
use crate::oci::Digest;
use crate::snapshot::measuring;
use crate::store::{Folder, Measured, Measuring, Store};

/// The store's use of the disk. Sizes are allocated blocks, as `du` without `--apparent-size` counts them, directories
/// included; a file with several names counts once.
#[derive(Debug)]
pub struct Usage {
    /// What there is, largest concerns first.
    pub parts: Vec<Part>,
    /// The sum, which is what `du -s` says of the store's folder.
    pub total_bytes: u64,
    /// What a prune without options would free.
    pub waste_bytes: u64,
    /// What a prune of everything would free.
    pub reclaimable_bytes: u64,
    /// What layouts elsewhere share with the store: removing it here frees nothing.
    pub shared_bytes: u64,
    /// Layers of pushed images that are not here, because registries have them.
    pub promised: usize,
    /// Their size.
    pub promised_bytes: u64,
    /// Directories that may not be read and are not counted.
    pub unreadable: u64,
}

/// One concern.
#[derive(Debug, Clone)]
pub struct Part {
    /// In a word or two.
    pub name: &'static str,
    /// How many things it is.
    pub count: usize,
    /// What it takes up.
    pub bytes: u64,
}

/// Measures the store.
///
/// # Errors
/// What the system refuses.
pub fn usage(store: &Store) -> Result<Usage, Error> {
    let inventory = Inventory::take(store)?;
    let mut measuring = measuring(store)?;
    let mut freed = |policy: &Policy| {
        prune::plan_on(store, &inventory, &mut measuring, policy).map(|plan| plan.freed_bytes)
    };
    let waste_bytes = freed(&Policy::default())?;
    let reclaimable_bytes = freed(&Policy { all: true, ..Policy::default() })?;
    measuring.again();
    let mut all = Measured::default();
    let mut parts = blobs(store, &inventory, &mut measuring, &mut all);
    for (name, folders) in FOLDERS {
        let mut measured = Measured::default();
        let mut count = 0;
        for folder in folders {
            let path = store.folder(*folder);
            measured += measuring.tree(&path);
            count += count_in(store, &path, *folder == Folder::Trees)?;
        }
        all += measured;
        parts.push(Part { name, count, bytes: measured.disk_bytes });
    }
    // Known since the first plan was made.
    let mut whole = measuring.tree(store.root());
    whole.unreadable = whole.unreadable.max(all.unreadable);
    let rest = whole.disk_bytes.saturating_sub(all.disk_bytes);
    parts.push(Part { name: "other", count: 0, bytes: rest });
    let promised = promised(store, &inventory)?;
    Ok(Usage {
        promised: promised.len(),
        promised_bytes: promised.values().sum(),
        parts,
        total_bytes: whole.disk_bytes,
        waste_bytes,
        reclaimable_bytes,
        shared_bytes: inventory.blobs.values().filter(|blob| blob.shared).map(|blob| blob.disk_bytes).sum(),
        unreadable: whole.unreadable,
    })
}

/// Layers that only registries have, with the bytes of each.
fn promised(store: &Store, inventory: &Inventory) -> Result<BTreeMap<Digest, u64>, Error> {
    let mut promised = BTreeMap::new();
    for (name, target) in &inventory.names {
        if store.is_remote_tag(name)?
            && let Some(image) = inventory.named.get(&target.digest)
        {
            let absent = image.absent_layers();
            promised.extend(absent.values().map(|layer| (layer.digest, layer.size)));
        }
    }
    Ok(promised)
}

const FOLDERS: [(&str, &[Folder]); 9] = [
    ("unpacked layers", &[Folder::Trees]),
    ("indexes of layers", &[Folder::Indexes, Folder::Digests, Folder::Inventories, Folder::Segments]),
    ("cache mounts", &[Folder::CacheMounts]),
    ("git repositories", &[Folder::Git]),
    ("context digests", &[Folder::StatCache]),
    ("cache records", &[Folder::Records, Folder::Builds, Folder::Fetched, Folder::Placed]),
    ("kept sessions", &[Folder::Sessions]),
    ("logs of builds", &[Folder::Logs, Folder::History]),
    ("unfinished and trash", &[Folder::Partial, Folder::Scratch, Folder::Trash]),
];

/// Trees are one level deeper, below their kind.
fn count_in(store: &Store, folder: &std::path::Path, is_deep: bool) -> Result<usize, Error> {
    let entries = store.entries_of(folder)?;
    if !is_deep {
        return Ok(entries.len());
    }
    entries.iter().map(|(kind, _)| Ok(store.entries_of(kind)?.len())).sum()
}

/// Each blob belongs to the first that needs it: a name, a fetched base, a cached step, an unnamed image.
fn blobs(store: &Store, inventory: &Inventory, measuring: &mut Measuring, all: &mut Measured) -> Vec<Part> {
    let mut counted: BTreeSet<Digest> = BTreeSet::new();
    let mut part = |name, count, digests: &mut dyn Iterator<Item = &Digest>| {
        let mut measured = Measured::default();
        for digest in digests {
            if counted.insert(*digest) {
                measured += measuring.alone(&store.blob_path(digest));
            }
        }
        *all += measured;
        Part { name, count, bytes: measured.disk_bytes }
    };
    let Inventory { named, bases, entries, unnamed, blobs, .. } = inventory;
    let steps = entries.iter().map(|entry| &entry.record.layer.descriptor.digest);
    vec![
        part("named images", named.len(), &mut named.values().flat_map(|image| image.blobs.keys())),
        part("base images", bases.len(), &mut bases.values().flat_map(|image| image.blobs.keys())),
        part("cached steps", entries.len(), &mut steps.into_iter()),
        part("unnamed images", unnamed.len(), &mut unnamed.iter().flat_map(|image| image.blobs.keys())),
        part("needless blobs", 0, &mut blobs.keys()),
    ]
}
