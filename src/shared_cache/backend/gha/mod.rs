//! The cache service of GitHub's workflows. Entries have keys, are never changed, and go when nobody used them for a week.
//!
//! ```text
//! rbuild-head-1#SCOPE#REF#NUMBER      a head: the newest of a branch is that of the highest number
//! rbuild-blob-1-SHA256                a large blob
//! rbuild-bundle-1-SHA256              small blobs of one build
//! ```
//!
//! Each head is an entry of its own, with the number after the one it was made of. Whoever reserves that number first has it, so
//! this is a real compare-and-swap. A number whose writer died is passed over; so is the key of a blob, by another one that begins
//! with it. Requests are what the service counts, so small blobs travel together, and a head says where each of them is.
//!
//! A workflow reads the entries of its own branch, then those of its base and of the default branch, and its token names them all.
//! The service stops where it finds something, so each branch has heads of its own here, and a reader merges them.

mod bundle;
mod service;
mod upload;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::web::{Prepare, Web, at_once, settings};
use super::{Backend, Content, Error, Head, Put, Sent, used_again, verified};
use crate::http::{Environment, Request};
use crate::oci::{Descriptor, Digest};
use crate::report::Events;
use crate::shared_cache::pack::{COMPRESSED_LIMIT, Pack};
use crate::shared_cache::sealed::Sealed;
use crate::shared_cache::spec::GhaAt;
use crate::store::Store;
use crate::sync::lock;
use bundle::{Bundle, Part, Parts, SMALL};
use service::{Found, Service};
use upload::Bytes;

/// A bundle that has so many bytes is sent, and the next one begun.
const BUNDLE: usize = 32 << 20;
/// A head has its packs, and where blobs are.
const HEAD_LIMIT: u64 = 2 * COMPRESSED_LIMIT;
/// So many branches are read: a workflow's own, its base, the default one.
const BRANCHES: usize = 4;
/// So often it is looked whether somebody who reserved a number has finished; the wait is longer each time.
const LOOKS: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// So many numbers may belong to writers that died.
const DEAD: u64 = 8;

/// The cache service.
#[derive(Debug)]
pub struct Gha {
    at: GhaAt,
    repository: Option<String>,
    service: Service,
    /// Where signed URLs lead: nobody is told who asks.
    blobs: Web<Nobody>,
    /// Where blobs are that travelled together.
    parts: Mutex<Parts>,
    /// What travels next.
    bundle: Mutex<Bundle>,
    /// URLs of entries, each locked while it is asked for.
    urls: Mutex<HashMap<String, Arc<Mutex<Option<String>>>>>,
    /// The highest number of a head of this branch that was seen.
    newest: AtomicU64,
}

/// The URL says it all.
#[derive(Debug)]
struct Nobody;

impl Prepare for Nobody {
    fn prepare(&self, _: &mut Request<'_>) -> Result<(), Error> {
        Ok(())
    }
}

impl Gha {
    /// Contacts nothing yet; what the option does not say the environment does.
    pub(super) fn new(at: GhaAt, environment: Environment) -> Self {
        let repository = environment.text(&["GITHUB_REPOSITORY"]).map(str::to_owned);
        Self {
            repository: at.repository.clone().or(repository),
            service: Service::new(&at, environment.clone()),
            at,
            blobs: Web::new(settings(environment), Nobody),
            parts: Mutex::default(),
            bundle: Mutex::default(),
            urls: Mutex::default(),
            newest: AtomicU64::new(0),
        }
    }

    /// What the keys of a branch's heads begin with.
    fn head_prefix(&self, of: &str) -> String {
        let of = &Digest::of(of.as_bytes()).hex()[..12];
        format!("rbuild-head-1#{}#{of}#", self.at.scope)
    }

    /// The newest head of a branch, and its number. It is no error when there is none.
    fn head_of(&self, branch: &str, is_own: bool) -> Result<Option<(u64, Vec<u8>, Parts)>, Error> {
        let prefix = self.head_prefix(branch);
        let number = |found: &Found| found.key.get(prefix.len()..)?.parse::<u64>().ok();
        let mut found = self.service.newest(&prefix)?;
        let seen = if is_own { self.newest.load(Ordering::Relaxed) } else { 0 };
        // What was seen may not be found yet.
        if seen > 0 && found.as_ref().and_then(number).is_none_or(|number| number < seen) {
            found = self.service.newest(&head_key(&prefix, seen))?.or(found);
        }
        let Some(found) = found else { return Ok(None) };
        let number =
            number(&found).ok_or_else(|| Error::NoPack("it is no head that rbuild wrote".to_owned()))?;
        // One that went just now is as good as none.
        let Some(body) = self.blobs.get(&found.url, HEAD_LIMIT)? else { return Ok(None) };
        if is_own {
            self.newest.fetch_max(number, Ordering::Relaxed);
        }
        let (pack, parts) = bundle::parse(&body.bytes)?;
        Ok(Some((number, pack, parts)))
    }

    /// Does something with the URL of an entry whose key begins so, which is asked for once. One that was known and does not work
    /// any more is asked for anew: they hold for some minutes.
    fn with_url<R>(
        &self,
        key: &str,
        digest: &Digest,
        work: impl Fn(&str) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let slot = Arc::clone(lock(&self.urls).entry(key.to_owned()).or_default());
        let ask = || self.service.newest(key)?.map(|found| found.url).ok_or(Error::NoBlob(*digest));
        let mut known = lock(&slot);
        let Some(url) = known.clone() else {
            let url = known.insert(ask()?).clone();
            drop(known);
            return work(&url);
        };
        drop(known);
        match work(&url) {
            Err(Error::Server(_) | Error::NoBlob(_)) => {}
            done => return done,
        }
        let mut known = lock(&slot);
        // Somebody else may have asked meanwhile.
        let fresh = match known.take().filter(|known| *known != url) {
            Some(fresh) => fresh,
            None => ask()?,
        };
        *known = Some(fresh.clone());
        drop(known);
        work(&fresh)
    }

    /// Sends what travels together.
    fn send_bundle(&self, bundle: &Bundle) -> Result<(), Error> {
        if bundle.blobs.is_empty() {
            return Ok(());
        }
        let key = format!("rbuild-bundle-1-{}", Digest::of(&bundle.bytes).hex());
        let kept = self.keep(&key, Bytes::Here(&bundle.bytes))?.unwrap_or(key);
        lock(&self.parts).extend(bundle.parts(&kept));
        Ok(())
    }

    /// Makes entries young: the service drops those for which nobody asked for a week, and a build that needs no bytes of a layer
    /// does not. What goes wrong is met when they are gone.
    fn touch(&self, used: &[Digest]) {
        let key = |digest: &Digest| self.part(digest).map_or_else(|| blob_key(digest), |part| part.key);
        let keys: BTreeSet<String> = used.iter().map(key).collect();
        let asked = |key: &String| lock(&self.urls).contains_key(key);
        let keys: Vec<String> = keys.into_iter().filter(|key| !asked(key)).collect();
        at_once(&keys, |key| drop(self.service.newest(key)));
    }

    fn part(&self, digest: &Digest) -> Option<Part> {
        lock(&self.parts).get(digest).cloned()
    }

    /// Whether the head of that key, which somebody reserved, can be read before long.
    fn arrives(&self, key: &str) -> Result<bool, Error> {
        let mut wait = FIRST_WAIT;
        for _ in 0..LOOKS {
            if self.service.newest(key)?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        Ok(false)
    }
}

fn head_key(prefix: &str, number: u64) -> String {
    format!("{prefix}{number:010}")
}

fn blob_key(digest: &Digest) -> String {
    format!("rbuild-blob-1-{}", digest.hex())
}

impl Backend for Gha {
    fn name(&self) -> String {
        format!("gha:{}", self.at.scope)
    }

    fn place(&self) -> String {
        format!("gha:{}#{}", self.repository.as_deref().unwrap_or_default(), self.at.scope)
    }

    fn head(&self) -> Result<Option<Head>, Error> {
        let refs = self.service.refs();
        let branches: Vec<(usize, &String)> = refs.iter().take(BRANCHES).enumerate().collect();
        let heads = at_once(&branches, |(number, branch)| self.head_of(branch, *number == 0));
        let (mut own, mut all, mut others) = (0, Vec::new(), BTreeMap::new());
        for (head, is_own) in heads.into_iter().zip([true].into_iter().chain(std::iter::repeat(false))) {
            let head = match head {
                Err(error) if is_own => return Err(error),
                // What another branch has is welcome, and no more.
                Err(error) => {
                    tracing::debug!(%error, "the head of another branch cannot be read");
                    continue;
                }
                Ok(head) => head,
            };
            let Some((number, pack, parts)) = head else { continue };
            own = if is_own { number } else { own };
            others.extend(parts);
            all.push(pack);
        }
        lock(&self.parts).extend(others);
        let version = Some(own.to_string());
        let Some(first) = all.first() else { return Ok(None) };
        if all.len() == 1 {
            return Ok(Some(Head::of_cache(first.clone(), version)));
        }
        let mut packs = Sealed::parse(first)?;
        for other in all.iter().skip(1).filter_map(|pack| Sealed::parse(pack).ok()) {
            packs.add(other, &self.place());
        }
        Ok(Some(Head::of_cache(packs.to_bytes(), version)))
    }

    fn is_atomic(&self) -> bool {
        true
    }

    fn put_head(&self, pack: &[u8], blobs: &[Descriptor], previous: Option<&Head>) -> Result<Put, Error> {
        self.service.may_write()?;
        let bundle = std::mem::take(&mut *lock(&self.bundle));
        self.send_bundle(&bundle)?;
        let body = bundle::to_bytes(pack, &lock(&self.parts), blobs);
        let before = previous.and_then(|head| head.version.as_deref()?.parse::<u64>().ok()).unwrap_or(0);
        let refs = self.service.refs();
        let prefix = self.head_prefix(&refs[0]);
        for number in before + 1..=before + DEAD {
            let key = head_key(&prefix, number);
            if let Some(url) = self.service.reserve(&key)? {
                self.upload(&url, Bytes::Here(&body))?;
                self.service.finish(&key, body.len() as u64)?;
                self.newest.fetch_max(number, Ordering::Relaxed);
                self.touch(&used_again(pack, previous));
                return Ok(Put::Done);
            }
            if self.arrives(&key)? {
                self.newest.fetch_max(number, Ordering::Relaxed);
                return Ok(Put::Lost);
            }
        }
        Err(Error::Server("the service has heads that were begun and never finished".to_owned()))
    }

    /// Entries go when nobody uses them; what is empty is as good.
    fn remove(&self) -> Result<(), Error> {
        for _ in 0..DEAD {
            let head = self.head()?;
            if self.put_head(&Pack::default().to_bytes(), &[], head.as_ref())? == Put::Done {
                return Ok(());
            }
        }
        Err(Error::Server("others keep writing to it".to_owned()))
    }

    fn read(&self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        let part = self.part(&blob.digest).filter(|part| part.size == blob.size);
        let part = part.unwrap_or_else(|| Part { key: blob_key(&blob.digest), offset: 0, size: blob.size });
        if part.size == 0 {
            return verified(blob, Vec::new());
        }
        let bytes = self.with_url(&part.key, &blob.digest, |url| {
            self.blobs.get_part(url, part.offset, part.size)?.ok_or(Error::NoBlob(blob.digest))
        })?;
        verified(blob, bytes)
    }

    fn fetch(&self, store: &Store, blobs: &[Descriptor], _: &Events) -> Result<(), Error> {
        let fetch = |blob: &Descriptor| {
            if self.part(&blob.digest).is_none() {
                let key = blob_key(&blob.digest);
                return self.with_url(&key, &blob.digest, |url| self.blobs.fetch_one(store, blob, url));
            }
            if store.intact_blob(&blob.digest)? == Some(blob.size) {
                return Ok(());
            }
            let bytes = self.read(blob)?;
            let mut writer = store.new_blob()?;
            writer.write_all(&bytes).map_err(|e| Error::io("write", writer.path(), e))?;
            Ok(writer.commit(Some(blob.digest)).map(drop)?)
        };
        at_once(blobs, fetch).into_iter().collect()
    }

    fn send(&self, blob: &Descriptor, content: Content<'_>) -> Result<Sent, Error> {
        self.service.may_write()?;
        if blob.size <= SMALL {
            let stored = match content {
                Content::Bytes(_) => None,
                Content::Stored(store) => Some(store.read_blob(blob, SMALL)?),
            };
            let bytes = match (&stored, content) {
                (Some(bytes), _) => bytes,
                (None, Content::Bytes(bytes)) => bytes,
                (None, Content::Stored(_)) => return Err(Error::NoBlob(blob.digest)),
            };
            let mut bundle = lock(&self.bundle);
            let is_new = bundle.add(blob.digest, bytes);
            let full = (bundle.bytes.len() >= BUNDLE).then(|| std::mem::take(&mut *bundle));
            drop(bundle);
            full.map_or(Ok(()), |full| self.send_bundle(&full))?;
            return Ok(if is_new { Sent::Bytes(blob.size) } else { Sent::Known });
        }
        let bytes = match content {
            Content::Bytes(bytes) => Bytes::Here(bytes),
            Content::Stored(store) => Bytes::Stored(store, blob),
        };
        let kept = self.keep(&blob_key(&blob.digest), bytes)?;
        Ok(if kept.is_some() { Sent::Bytes(blob.size) } else { Sent::Known })
    }
}
