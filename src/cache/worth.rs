//! Whether it is faster to fetch a layer or to make it again here, from what this machine has anyway.
//!
//! Only who can give the very same bytes may offer to make a layer: keys are chained on results.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::oci::Digest;
use crate::store::Store;
use crate::sync::lock;

/// What a place gives in a second as long as nobody has measured it.
const SEED_BYTES: f64 = 30e6;
/// What is smaller says more of delays than of a line.
const LEAST_BYTES: u64 = 256 << 10;
/// How much the last transfer counts beside those before.
const WEIGHT: f64 = 0.5;

/// Makes the blob of a layer; `false` when it came out otherwise.
pub type MakeLayer = dyn Fn() -> bool + Send + Sync;

/// A layer that can be made here.
struct Offer {
    size: u64,
    took: Duration,
    /// What came of it, once it was tried. Others wait meanwhile.
    made: Mutex<Option<bool>>,
    make: Box<MakeLayer>,
}

/// How fast places give, and what need not come from there.
pub(super) struct Worth {
    store: Store,
    /// In bytes for each second.
    rates: Mutex<HashMap<String, f64>>,
    offers: Mutex<HashMap<Digest, Arc<Offer>>>,
}

impl Worth {
    pub(super) fn new(store: &Store) -> Self {
        Self { store: store.clone(), rates: Mutex::default(), offers: Mutex::default() }
    }

    /// How much a place gives in a second: as measured in this build, or in the last.
    pub(super) fn rate(&self, place: &str) -> f64 {
        let kept = || {
            let text = String::from_utf8(self.store.record(&record_name(place)).ok()??).ok()?;
            text.trim_end().parse::<u64>().ok().map(|rate| rate.max(1) as f64)
        };
        *lock(&self.rates).entry(place.to_owned()).or_insert_with(|| kept().unwrap_or(SEED_BYTES))
    }

    /// A place gave so much in that time.
    pub(super) fn measured(&self, place: &str, bytes: u64, took: Duration) {
        if bytes < LEAST_BYTES {
            return;
        }
        let seconds = took.as_secs_f64().max(1e-6);
        let rate = self.rate(place) * (1.0 - WEIGHT) + bytes as f64 / seconds * WEIGHT;
        lock(&self.rates).insert(place.to_owned(), rate);
        // Without it the next build begins with a guess.
        let _ = self.store.put_record(&record_name(place), format!("{}\n", rate as u64).as_bytes());
    }

    /// Whoever needs the blob may have it made by `make`, which took so long when it was made first.
    pub(super) fn offer(&self, blob: Digest, size: u64, took: Duration, make: Box<MakeLayer>) {
        let offer = Offer { size, took, made: Mutex::default(), make };
        lock(&self.offers).insert(blob, Arc::new(offer));
    }

    /// Makes the blob if that is faster than to fetch it from `place`, and it comes out the same.
    pub(super) fn make(&self, blob: &Digest, place: &str) -> bool {
        let Some(offer) = lock(&self.offers).get(blob).map(Arc::clone) else { return false };
        let fetching = offer.size as f64 / self.rate(place);
        let mut made = lock(&offer.made);
        offer.took.as_secs_f64() < fetching && *made.get_or_insert_with(|| (offer.make)())
    }

    /// What was offered holds files and services of the build.
    pub(super) fn forget(&self) {
        lock(&self.offers).clear();
    }
}

fn record_name(place: &str) -> String {
    format!("{}.rate", Digest::of(place.as_bytes()).hex())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_made_faster_than_it_comes_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let worth = Worth::new(&store);
        let blob = Digest::of(b"layer");
        let offer = |size, millis| {
            worth.offer(blob, size, Duration::from_millis(millis), Box::new(|| true));
        };
        // A guess, of 30 MB in a second.
        offer(30_000_000, 900);
        assert!(worth.make(&blob, "place"));
        offer(30_000_000, 1100);
        assert!(!worth.make(&blob, "place"));
        // Small transfers say nothing; a slow one does, for later builds too.
        worth.measured("place", 1000, Duration::from_secs(100));
        assert!(!worth.make(&blob, "place"));
        worth.measured("place", 1 << 20, Duration::from_secs(100));
        assert!(worth.make(&blob, "place"));
        assert!(!worth.make(&blob, "another place"));
        assert!(Worth::new(&store).rate("place") < 16e6);
        worth.forget();
        assert!(!worth.make(&blob, "place"));
    }

    #[test]
    fn what_came_out_otherwise_is_not_made_twice() {
        let dir = tempfile::tempdir().unwrap();
        let worth = Worth::new(&Store::open(dir.path()).unwrap());
        let blob = Digest::of(b"layer");
        let tries = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&tries);
        let make = move || {
            *lock(&counted) += 1;
            false
        };
        worth.offer(blob, 1 << 30, Duration::ZERO, Box::new(make));
        assert!(!worth.make(&blob, "place") && !worth.make(&blob, "place"));
        assert_eq!(*lock(&tries), 1);
    }
}
