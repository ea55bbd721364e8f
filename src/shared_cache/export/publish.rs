//! Writes the head: merges a build's own pack into what is there, so that nobody's is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Results, Shared};
use crate::cache::Key;
use crate::oci::{Descriptor, Digest, Seconds};
use crate::shared_cache::backend::{Error, Head, PackId, Put};
use crate::shared_cache::import::Known;
use crate::shared_cache::merge::{bound, fit, merge};
use crate::shared_cache::pack::Pack;
use crate::shared_cache::sealed::Sealed;
use crate::sync::lock;

/// A head that others keep changing is merged again so many times.
const TRIES: u32 = 4;
/// And so many times where no pack is left beside it.
const TRIES_WITHOUT_PACK: u32 = 64;
/// Packs beside the head that are merged stay for so long, for writers that read the head before.
const KEEP_PACKS: Duration = Duration::from_secs(600);

impl Shared {
    /// Leaves the pack beside the head, and merges it into the head until it is there. Nothing is written where nothing is new.
    pub(super) fn publish(
        &self,
        results: &Results<'_>,
        own: &Pack,
        known: &Known,
        now: Seconds,
    ) -> Result<usize, Error> {
        let bounds = self.options.bounds;
        let is_gone =
            |blob: &Descriptor| self.is_gone(results, blob) && !lock(&self.sent).contains(&blob.digest);
        let merged_with = |mut pack: Pack| {
            let is_wrong = |layer| self.has_wrong_index(results, layer);
            pack.indexes.retain(|layer, kept| !is_wrong(*layer) || own.indexes.get(layer) == Some(kept));
            let mut merged = merge(pack, own.clone());
            merged.entries.retain(|_, entry| !is_gone(&entry.record.layer.descriptor));
            let dropped = bound(&mut merged, bounds, now) + fit(&mut merged);
            (merged, dropped)
        };
        // Another name of an image alone is not worth writing.
        let mine = self.mine(known);
        let merged = Pack { images: mine.images.clone(), ..merged_with(mine.clone()).0 };
        if known.head.is_some() && merged == mine {
            return Ok(0);
        }
        let bytes = self.sealed(own)?.to_bytes();
        let id = PackId(format!("{:010}-{}", now.max(0), &Digest::of(&bytes).hex()[..12]));
        let is_atomic = self.backend.is_atomic();
        if !is_atomic {
            self.backend.put_pack(&id, &bytes, &own.blobs())?;
        }
        for _ in 0..if is_atomic { TRIES_WITHOUT_PACK } else { TRIES } {
            let head = self.backend.head()?;
            let current =
                head.as_ref().map_or(Ok(Sealed::default()), |head| Sealed::parse_whole(&head.pack))?;
            let (current, folded, stale) = self.fold(current, &id, now)?;
            let (mut merged, dropped) = merged_with(current.of(self.key.as_ref(), &self.place));
            merged.folded = folded;
            if !is_atomic {
                merged.folded.insert(id.0.clone());
            }
            if self.write(&merged, current.without(self.key.as_ref(), &self.place), head.as_ref())? {
                stale.iter().for_each(|id| drop(self.backend.remove_pack(id)));
                return Ok(dropped);
            }
        }
        match is_atomic {
            true => Err(Error::Server("others keep writing to it".to_owned())),
            // It lies beside the head, and the next writer finds it there.
            false => Ok(0),
        }
    }

    /// Writes the head of what others left and `merged`; whether that is there afterwards.
    fn write(&self, merged: &Pack, others: Sealed, previous: Option<&Head>) -> Result<bool, Error> {
        let mut all = others;
        all.push(self.sealed(merged)?);
        if self.backend.put_head(&all.to_bytes(), &all.blobs(), previous)? == Put::Lost {
            return Ok(false);
        }
        if self.backend.is_atomic() {
            return Ok(true);
        }
        let Some(head) = self.backend.head()? else { return Ok(false) };
        let there = Sealed::parse(&head.pack)?.of(self.key.as_ref(), &self.place);
        let has_mount = |name: &String| there.mounts.contains_key(name);
        let has_record = |key: &Key| there.entries.contains_key(key);
        Ok(merged.entries.keys().all(has_record) && merged.mounts.keys().all(has_mount))
    }

    /// Adds what writers left beside the head. Gives also the names of these packs, and of those that nobody needs any more.
    fn fold(
        &self,
        mut head: Sealed,
        own: &PackId,
        now: Seconds,
    ) -> Result<(Sealed, BTreeSet<String>, Vec<PackId>), Error> {
        let ids = self.backend.packs()?;
        let there: BTreeSet<&str> = ids.iter().map(|id| id.0.as_str()).collect();
        let mut folded = head.folded();
        folded.retain(|id| there.contains(id.as_str()));
        let mut stale = Vec::new();
        for id in ids.iter().filter(|id| *id != own) {
            if folded.contains(&id.0) {
                let written: Option<Seconds> = id.0.split('-').next().and_then(|time| time.parse().ok());
                let age = now - written.unwrap_or(now);
                if age > i64::try_from(KEEP_PACKS.as_secs()).unwrap_or(i64::MAX) {
                    stale.push(id.clone());
                }
                continue;
            }
            let Some(bytes) = self.backend.pack(id)? else { continue };
            // What cannot be read is nobody's loss.
            if let Ok(packs) = Sealed::parse(&bytes) {
                head.add(packs, &self.place);
            }
            folded.insert(id.0.clone());
        }
        Ok((head, folded, stale))
    }
}
