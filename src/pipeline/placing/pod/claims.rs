//! Volumes that stay: which claim a repository has, and which of them pods of this process have already.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Mutex;

use super::super::Cluster;
use crate::pipeline::{ContextFrom, Request};
use crate::source::git;
use crate::sync::lock;

/// Claims that pods of this process have. Where a volume is for one pod at a time, a second one would wait until the first is done, which waits
/// for the second.
static TAKEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A claim that a pod has.
#[derive(Debug)]
pub(super) struct Taken(String);

impl Drop for Taken {
    fn drop(&mut self) {
        lock(&TAKEN).remove(&self.0);
    }
}

/// What chooses a repository's volume: where the context comes from, or where it lies.
pub(in crate::pipeline::placing) fn key(cluster: &Cluster, request: &Request) -> String {
    if let Some(key) = &cluster.key {
        return key.clone();
    }
    let ContextFrom::Directory(folder) = &request.context else { return String::new() };
    match git::here::here(folder).and_then(|here| here.remote) {
        Some(remote) => repository(&remote),
        None => std::fs::canonicalize(folder).unwrap_or_else(|_| folder.clone()).display().to_string(),
    }
}

/// A repository, however its URL is written.
fn repository(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix(".git").unwrap_or(rest);
    rest.replacen(':', "/", 1)
}

/// The claims of a key, the best one first: each has a number for it, and the largest counts. So one more claim, or one less, moves only what it has.
fn ranked<'c>(claims: &'c [String], key: &str) -> Vec<&'c String> {
    let mut ranked: Vec<&String> = claims.iter().collect();
    let number = |claim: &str| *blake3::hash(format!("{claim}\0{key}").as_bytes()).as_bytes();
    ranked.sort_by_cached_key(|claim| Reverse(number(claim)));
    ranked
}

/// The best claim that no pod of this process has.
pub(super) fn take(claims: &[String], key: &str, place: &str) -> Option<(String, Taken)> {
    let mut taken = lock(&TAKEN);
    let free = ranked(claims, key).into_iter().find_map(|claim| {
        let name = format!("{place} {claim}");
        (!taken.contains(&name)).then(|| (claim.clone(), Taken(name)))
    });
    if let Some((_, Taken(name))) = &free {
        taken.insert(name.clone());
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_have_volumes_that_they_keep() {
        for url in [
            "https://host.example/team/app.git",
            "git@host.example:team/app",
            "ssh://git@host.example/team/app/",
        ] {
            assert_eq!(repository(url), "host.example/team/app", "{url}");
        }
        let claims = |count: usize| (0..count).map(|n| format!("rbuild-{n}")).collect::<Vec<String>>();
        let (four, five) = (claims(4), claims(5));
        let (mut moved, mut counts) = (0, [0; 4]);
        for n in 0..1000 {
            let key = format!("host.example/team/app{n}");
            let (before, after) = (ranked(&four, &key)[0], ranked(&five, &key)[0]);
            if let Some(at) = four.iter().position(|claim| claim == before) {
                counts[at] += 1;
            }
            // Only to the new one.
            assert!(before == after || Some(after) == five.last(), "{key}");
            moved += u32::from(before != after);
        }
        assert!(counts.iter().all(|count| (200..300).contains(count)), "{counts:?}");
        assert!((150..250).contains(&moved), "{moved}");
        assert!(ranked(&[], "x").is_empty());
    }

    #[test]
    fn pods_of_one_process_have_claims_of_their_own() {
        let claims = ["a".to_owned(), "b".to_owned()];
        let first = take(&claims, "key", "tests own").expect("a claim");
        assert_eq!(first.0, *ranked(&claims, "key")[0]);
        let second = take(&claims, "key", "tests own").expect("another claim");
        assert_ne!(first.0, second.0);
        assert!(take(&claims, "key", "tests own").is_none());
        assert!(take(&claims, "key", "tests other").is_some());
        let name = first.0.clone();
        drop(first);
        assert_eq!(take(&claims, "key", "tests own").expect("it is free").0, name);
    }
}
