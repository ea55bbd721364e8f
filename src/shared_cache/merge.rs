//! Of two packs one; and what is dropped when there is too much.

use std::collections::BTreeSet;
use std::time::Duration;

use super::mounts::{self, Snapshot};
use super::pack::{Entry, Pack};
use crate::oci::{Digest, Seconds};

/// How large and how old a head may become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The layers of its records and the indexes of these, each blob once, in bytes. Indexes of layers without a record, such as a
    /// base's, are not counted.
    pub size: Option<u64>,
    /// Since a record was used last.
    pub age: Option<Duration>,
    /// What cache mounts take of it, in bytes; [`mounts::ALL_LIMIT`] when absent.
    pub mounts: Option<u64>,
}

/// So many images are known at most: the newest.
const IMAGES: usize = 8;

/// All records of both. Of two of one key that of the higher generation stands, then the older one, as the keys of others are
/// chained on its result. In whatever order packs are merged, the same comes out.
pub fn merge(mut one: Pack, other: Pack) -> Pack {
    for (key, entry) in other.entries {
        match one.entries.entry(key) {
            std::collections::btree_map::Entry::Vacant(free) => drop(free.insert(entry)),
            std::collections::btree_map::Entry::Occupied(mut taken) => {
                let used = taken.get().used.max(entry.used);
                if goes_before(&entry, taken.get()) {
                    taken.insert(entry);
                }
                taken.get_mut().used = used;
            }
        }
    }
    for (layer, index) in other.indexes {
        let kept = one.indexes.entry(layer).or_insert(index);
        // Any is as good as another: they hold the same.
        let used = kept.used.max(index.used);
        *kept = if (index.size, index.digest) < (kept.size, kept.digest) { index } else { *kept };
        kept.used = used;
    }
    for (name, snapshot) in other.mounts {
        match one.mounts.entry(name) {
            std::collections::btree_map::Entry::Vacant(free) => drop(free.insert(snapshot)),
            std::collections::btree_map::Entry::Occupied(mut taken) => {
                let used = taken.get().used.max(snapshot.used);
                // The newer one stands, as a whole.
                let (one, other) = (Snapshot { used, ..snapshot }, taken.get_mut());
                other.used = used;
                if (one.written, &one) > (other.written, &*other) {
                    *other = one;
                }
            }
        }
    }
    for (image, used) in other.images {
        let kept = one.images.entry(image).or_insert(used);
        *kept = used.max(*kept);
    }
    let mut newest: Vec<(Seconds, String)> =
        one.images.iter().map(|(name, used)| (*used, name.clone())).collect();
    newest.sort();
    for (_, image) in newest.iter().rev().skip(IMAGES) {
        one.images.remove(image);
    }
    one.folded.extend(other.folded);
    one
}

fn goes_before(one: &Entry, other: &Entry) -> bool {
    let order = |entry: &Entry| {
        let (chain, told) = (entry.record.chain.to_string(), entry.record.told.clone());
        let layer = entry.record.layer.descriptor.digest;
        // What is proven of a record is not doubted again.
        (std::cmp::Reverse(entry.generation), entry.written, chain, layer, told.len(), told)
    };
    order(one) < order(other)
}

/// Drops records until the pack keeps its bounds: first those that nobody used for too long, then those that save the least time
/// for each byte that only they need. Gives how many went.
pub fn bound(pack: &mut Pack, bounds: Bounds, now: Seconds) -> usize {
    let before = pack.entries.len();
    if let Some(age) = bounds.age {
        let oldest = now.saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        pack.entries.retain(|_, entry| entry.used >= oldest);
        pack.indexes.retain(|_, index| index.used >= oldest);
        pack.mounts.retain(|_, mount| mount.used >= oldest);
    }
    let of_mounts = bound_mounts(pack, bounds);
    if let Some(size) = bounds.size {
        bound_records(pack, size.saturating_sub(of_mounts));
    }
    before - pack.entries.len()
}

fn bound_records(pack: &mut Pack, size: u64) {
    let mut ranked: Vec<(&Entry, f64)> = pack.entries.values().map(|e| (e, worth(e))).collect();
    ranked.sort_by(|(a, x), (b, y)| y.total_cmp(x).then_with(|| a.record.key.cmp(&b.record.key)));
    let (mut seen, mut total, mut kept) = (BTreeSet::<Digest>::new(), 0_u64, BTreeSet::new());
    for (entry, _) in ranked {
        let index = pack.indexes.get(&entry.record.layer.diff_id).map(|index| (index.digest, index.size));
        let layer = &entry.record.layer.descriptor;
        let blobs = [Some((layer.digest, layer.size)), index].into_iter().flatten();
        let fresh: Vec<(Digest, u64)> = blobs.filter(|(digest, _)| !seen.contains(digest)).collect();
        let more = fresh.iter().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
        if total.saturating_add(more) <= size {
            total += more;
            seen.extend(fresh.into_iter().map(|(digest, _)| digest));
            kept.insert(entry.record.key);
        }
    }
    pack.entries.retain(|key, _| kept.contains(key));
}

/// Drops records, those that save least first, until the pack can be read again: its bytes have a limit. Gives how many went.
pub(super) fn fit(pack: &mut Pack) -> usize {
    let before = pack.entries.len();
    while !pack.fits() && !pack.entries.is_empty() {
        let blobs = pack.blobs().iter().fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
        let of_mounts = pack.mounts.values().fold(0_u64, |sum, mount| sum.saturating_add(mount.total()));
        let kept = pack.entries.len();
        bound_records(pack, blobs.saturating_sub(of_mounts) / 4 * 3);
        // Records of layers without a byte among them.
        if pack.entries.len() == kept {
            let half: Vec<_> = pack.entries.keys().copied().step_by(2).collect();
            half.iter().for_each(|key| drop(pack.entries.remove(key)));
        }
        let layers: BTreeSet<_> = pack.entries.values().map(|entry| entry.record.layer.diff_id).collect();
        pack.indexes.retain(|layer, _| layers.contains(layer));
    }
    before - pack.entries.len()
}

/// Drops the cache mounts that were used longest ago until all keep their bound, which is half of all that is allowed at most.
/// Gives what is left, in bytes.
fn bound_mounts(pack: &mut Pack, bounds: Bounds) -> u64 {
    let limit = bounds.mounts.unwrap_or(mounts::ALL_LIMIT).min(bounds.size.map_or(u64::MAX, |size| size / 2));
    let mut ranked: Vec<(&String, &Snapshot)> = pack.mounts.iter().collect();
    ranked.sort_by(|(a, x), (b, y)| (y.used, y.written).cmp(&(x.used, x.written)).then_with(|| a.cmp(b)));
    let (mut seen, mut total, mut kept) = (BTreeSet::<Digest>::new(), 0_u64, BTreeSet::new());
    for (name, snapshot) in ranked {
        let fresh: Vec<_> = snapshot.blobs().filter(|blob| !seen.contains(&blob.digest)).collect();
        let more = fresh.iter().fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
        if total.saturating_add(more) <= limit {
            total += more;
            seen.extend(fresh.iter().map(|blob| blob.digest));
            kept.insert(name.clone());
        }
    }
    pack.mounts.retain(|name, _| kept.contains(name));
    total
}

/// Milliseconds that a hit saves for each byte of the layer, halved for each week that it was not used.
fn worth(entry: &Entry) -> f64 {
    let saved = entry.record.took.map_or(1.0, |took| took.as_secs_f64() * 1000.0 + 1.0);
    let size = entry.record.layer.descriptor.size.max(1) as f64;
    let weeks = entry.used as f64 / (7.0 * 24.0 * 3600.0);
    // Only the order counts, so the logarithm does, which does not overflow.
    saved.ln() - size.ln() + weeks * std::f64::consts::LN_2
}
