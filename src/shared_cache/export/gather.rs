//! What a build has to say: its own pack.

use std::collections::{BTreeMap, BTreeSet};

use super::{Results, Shared};
use crate::cache::{Proof, Used};
use crate::oci::{Descriptor, DiffId, Digest, Seconds};
use crate::shared_cache::Mode;
use crate::shared_cache::import::Known;
use crate::shared_cache::pack::{Entry, Kept, Pack, clues, had_secrets, slot};
use crate::shared_cache::writer::writer;
use crate::store::Folder;

/// zstd's level for indexes.
const INDEX_LEVEL: i32 = 3;

impl Shared {
    /// The build's own pack, and the bytes of indexes that the backend does not have.
    pub(super) fn gather(
        &self,
        results: &Results<'_>,
        known: &Known,
        now: Seconds,
    ) -> (Pack, BTreeMap<Digest, Vec<u8>>) {
        let day = now - now.rem_euclid(24 * 3600);
        let of_result: BTreeSet<DiffId> = results.layers.iter().map(|layer| layer.diff_id).collect();
        let is_wanted =
            |used: &Used| self.options.mode == Mode::Max || of_result.contains(&used.record.layer.diff_id);
        let is_gone = |blob: &Descriptor| self.is_gone(results, blob);
        let mine = self.mine(known);
        let mut pack = Pack::default();
        for used in results.lookup.used().into_iter().filter(is_wanted) {
            let key = used.record.key;
            let Some(used) = self.proven(used) else { continue };
            let stands = |entry: &&Entry| {
                let is_wrong = entry.record.told.iter().any(|told| told.proof(&self.store) == Proof::Refuted);
                !used.is_replacement && !is_gone(&entry.record.layer.descriptor) && !is_wrong
            };
            let entry = match (mine.entries.get(&key).filter(stands), known.pack.entries.get(&key)) {
                (Some(entry), _) => {
                    let mut entry = Entry { used: day, ..entry.clone() };
                    if entry.record.layer == used.record.layer {
                        entry.record.told.retain(|told| used.record.told.contains(told));
                    }
                    entry
                }
                // Another writer's pack has it. Who signs says only what this build or its store found out.
                (None, Some(entry)) if self.key.is_none() && stands(&entry) => continue,
                (None, _)
                    if self.key.is_some() && (used.is_from_elsewhere || !used.record.told.is_empty()) =>
                {
                    continue;
                }
                (None, before) => {
                    let generation = before.map_or(0, |entry| entry.generation.saturating_add(1));
                    entry(used, results, (generation, now, day))
                }
            };
            pack.entries.insert(key, entry);
        }
        let mut secret: BTreeSet<DiffId> = BTreeSet::new();
        if self.options.skip_secrets {
            let had_secrets = pack.entries.values().filter(|entry| entry.had_secrets);
            secret.extend(had_secrets.map(|entry| entry.record.layer.diff_id));
            pack.entries.retain(|_, entry| !secret.contains(&entry.record.layer.diff_id));
        }
        pack.images.extend(results.images.iter().map(|image| (image.clone(), day)));
        let mut indexes = BTreeMap::new();
        let layers = pack.entries.values().map(|entry| entry.record.layer.diff_id);
        let seen = results.seen.iter().map(|layer| layer.diff_id).filter(|_| self.options.mode == Mode::Max);
        for layer in layers.chain(seen).chain(of_result.iter().copied()).collect::<BTreeSet<DiffId>>() {
            if secret.contains(&layer) {
                continue;
            }
            let is_wrong = self.has_wrong_index(results, layer);
            if let Some(kept) = mine.indexes.get(&layer).filter(|_| !is_wrong) {
                pack.indexes.insert(layer, Kept { used: day, ..*kept });
            } else if self.key.is_none() && !is_wrong && known.pack.indexes.contains_key(&layer) {
                // Another writer's pack has it.
            } else if let Some(bytes) = self.index(layer) {
                let kept = Kept::of(&bytes, day);
                pack.indexes.insert(layer, kept);
                indexes.insert(kept.digest, bytes);
            }
        }
        (pack, indexes)
    }

    /// Without what the record was told that has been seen since; `None` of one that stands on something wrong.
    fn proven(&self, mut used: Used) -> Option<Used> {
        let mut is_wrong = false;
        used.record.told.retain(|told| {
            let proof = told.proof(&self.store);
            is_wrong |= proof == Proof::Refuted;
            proof == Proof::None
        });
        (!is_wrong).then_some(used)
    }

    /// Whether the backend turned out to have a wrong index of a layer.
    pub(super) fn has_wrong_index(&self, results: &Results<'_>, layer: DiffId) -> bool {
        results.lookup.is_refuted(layer, &self.backend.name())
    }

    /// The index of a layer, compressed.
    fn index(&self, layer: DiffId) -> Option<Vec<u8>> {
        let path = self.store.folder(Folder::Indexes).join(layer.0.hex());
        let bytes = crate::rootfs::read_regular(&path).ok()?;
        zstd::bulk::compress(&bytes, INDEX_LEVEL).ok()
    }
}

fn entry(used: Used, results: &Results<'_>, (generation, now, day): (u32, Seconds, Seconds)) -> Entry {
    let Used { record, slot: name, .. } = used;
    let preimage = results.lookup.preimage(&record.key);
    let had_secrets = preimage.as_ref().is_some_and(had_secrets);
    let place = |name: &str| {
        let prefix = format!("{}\n", results.project);
        slot(name.strip_prefix(&prefix).unwrap_or(name))
    };
    Entry {
        clues: preimage.map(|preimage| clues(&record.key, &preimage)).unwrap_or_default(),
        slot: name.as_deref().map(place).unwrap_or_default(),
        record,
        generation,
        written: now,
        used: day,
        writer: writer(),
        had_secrets,
    }
}
