//! What it costs to have something done by an engine, beside doing it: what was measured of the last builds that were placed there.

use std::path::PathBuf;
use std::time::Duration;

use super::On;
use super::names::keep;
use crate::oci::Digest;
use crate::store::{Folder, Store};

/// So many builds are remembered.
const BUILDS: usize = 5;

/// The least that it cost lately: what is above that is time in which all workers were busy, or files that are not sent again. `None` if nothing
/// was placed there yet.
pub(super) fn of(store: &Store, on: &On) -> Option<Duration> {
    read(store, on).into_iter().min().map(Duration::from_millis)
}

/// Remembers what a build cost. Of two that end at once one may be lost.
pub(super) fn took(store: &Store, on: &On, took: Duration) {
    let mut all = read(store, on);
    all.push(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    let last = &all[all.len().saturating_sub(BUILDS)..];
    let write = || {
        std::fs::create_dir_all(store.private(Folder::Placed)).ok()?;
        keep(store, &file(store, on), &serde_json::to_vec(last).ok()?)
    };
    if write().is_none() {
        tracing::debug!("what placing costs is not remembered");
    }
}

fn read(store: &Store, on: &On) -> Vec<u64> {
    let bytes = std::fs::read(file(store, on)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn file(store: &Store, on: &On) -> PathBuf {
    store.private(Folder::Placed).join(Digest::of(format!("overhead {}", on.id()).as_bytes()).hex())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::{Engine, On};
    use super::*;
    use crate::shared_cache::spec;

    #[test]
    fn the_least_of_the_last_builds_counts() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let on = |text: &str| {
            let (at, _) = spec::engine(text, |_| false).unwrap();
            let engine = Engine::Reapi { at: Box::new(at), properties: Vec::new() };
            On { engine, shown: String::new(), timeout: None, falls_back: false, grain: None }
        };
        let (one, other) = (on("reapi://one:1"), on("reapi://other:1"));
        assert_eq!(of(&store, &one), None);
        for ms in [100, 900, 800, 300, 700, 600] {
            took(&store, &one, Duration::from_millis(ms));
        }
        assert_eq!(of(&store, &one), Some(Duration::from_millis(300)));
        assert_eq!(of(&store, &other), None);
    }
}
