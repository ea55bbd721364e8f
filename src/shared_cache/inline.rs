//! Records that an image carries of its own layers, in its configuration (`--cache-to type=inline`).
//!
//! Of each layer it says the key and the time of the step, and how long that took. These are the same whenever the same steps are
//! found again, so the image keeps its digest: who wrote it, and when, is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::pack::{Entry, Pack, had_secrets};
use crate::cache::{Key, Lookup, Record, Used};
use crate::oci::{CarriedRecord, ChainId, Layer};

/// A layer and all below it, by the number of the layer.
fn chains(layers: &[Layer]) -> impl Iterator<Item = (usize, ChainId)> {
    let push = |chain: &mut ChainId, layer: &Layer| {
        *chain = chain.push(layer.diff_id);
        Some(*chain)
    };
    layers.iter().scan(ChainId::EMPTY, push).enumerate()
}

/// The records of the steps that `layers` are made of, those of the lowest first. `skip_secrets` leaves out steps that had secrets.
pub fn records(lookup: &Lookup, layers: &[Layer], skip_secrets: bool) -> Vec<CarriedRecord> {
    let mut by_chain: BTreeMap<String, Vec<Used>> = BTreeMap::new();
    for used in lookup.used() {
        by_chain.entry(used.record.chain.to_string()).or_default().push(used);
    }
    let mut carried = Vec::new();
    for (layer, chain) in chains(layers) {
        let Some(mut of_layer) = by_chain.remove(&chain.to_string()) else { continue };
        let preimage = |used: &Used| lookup.preimage(&used.record.key);
        // Of a step that copies from others there are two keys: by what it copies, and by the steps that made that. Only the second
        // is met in every build.
        let is_quick =
            |used: &Used| preimage(used).is_some_and(|p| p.fields().any(|field| field.name == "from"));
        let quick: Vec<bool> = of_layer.iter().map(is_quick).collect();
        if quick.contains(&true) {
            let mut quick = quick.into_iter();
            of_layer.retain(|_| quick.next().unwrap_or_default());
        }
        if skip_secrets {
            of_layer.retain(|used| !preimage(used).is_some_and(|preimage| had_secrets(&preimage)));
        }
        carried.extend(of_layer.into_iter().map(|Used { record, .. }| CarriedRecord {
            layer,
            key: record.key.hex(),
            time: record.time,
            took_ms: record.took.and_then(|took| u64::try_from(took.as_millis()).ok()),
        }));
    }
    carried.sort();
    carried
}

/// What an image of `layers` carries, as a pack. What names no layer, or has no key, is left out.
pub(super) fn pack(carried: Vec<CarriedRecord>, layers: &[Layer]) -> Pack {
    let chains: BTreeMap<usize, ChainId> = chains(layers).collect();
    let entry = |CarriedRecord { layer, key, time, took_ms }: CarriedRecord| {
        let record =
            Record::new(Key::from_hex(&key)?, layers.get(layer)?.clone(), *chains.get(&layer)?, time);
        Some(Entry {
            record: Record { took: took_ms.map(Duration::from_millis), ..record },
            slot: String::new(),
            clues: Vec::new(),
            generation: 0,
            written: time,
            used: time,
            writer: String::new(),
            had_secrets: false,
        })
    };
    let entries = carried.into_iter().filter_map(entry).map(|entry| (entry.record.key, entry));
    Pack { entries: entries.collect(), ..Pack::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::oci::{Descriptor, DiffId, Digest, MediaType};

    #[test]
    fn what_an_image_carries_is_of_its_own_layers() {
        let layer = |number: u8| Layer {
            descriptor: Descriptor::new(MediaType::LAYER_GZIP, Digest::of(&[number]), 1),
            diff_id: DiffId(Digest::of(&[number, 1])),
        };
        let layers = [layer(1), layer(2)];
        let record =
            |layer: usize, key: &str| CarriedRecord { layer, key: key.to_owned(), time: 5, took_ms: Some(7) };
        let key = "ab".repeat(32);
        let pack = pack(vec![record(1, &key), record(2, &"cd".repeat(32)), record(0, "ab")], &layers);
        let [entry] = pack.entries.values().collect::<Vec<_>>()[..] else { panic!("{pack:?}") };
        assert_eq!((entry.record.key.hex(), &entry.record.layer), (key, &layers[1]));
        assert_eq!(entry.record.chain, ChainId::of(&[layers[0].diff_id, layers[1].diff_id]));
        assert_eq!((entry.record.time, entry.record.took), (5, Some(Duration::from_millis(7))));
    }
}
