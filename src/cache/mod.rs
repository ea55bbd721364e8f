//! Remembers which layer a key produced, and why the key is what it is.
//!
//! Knows nothing of steps: what belongs into a key is decided where steps are run.
//!
//! A record is two files of the store's records: `<key>` (small, read on every lookup) and `<key>.why`
//! (the preimage, read only to explain a miss). A third, named after the slot, tells which key the
//! slot had last.

mod explain;
mod key;
mod lookup;
mod place;
mod record;
mod told;
mod worth;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

pub use explain::{ChangedField, changes, difference, difference_of_names};
pub use key::{Field, Fields, Key, Preimage, Reasons, write_json};
pub use lookup::{Broken, Dropped, Found, HearLayer, Lookup, Saved, Used, Why};
pub use place::{BlobSource, FetchError, Place, Precedence};
pub use record::Record;
pub use told::{Proof, Told};
pub use worth::MakeLayer;

use crate::oci::{DiffId, Digest};
use crate::store::{self, Store};
use crate::sync::lock;

/// Why the cache could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store could not.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A record kept being damaged or removed by somebody else while it was published.
    #[error("the cache record {key} changes again and again; is another program writing to the store?")]
    Unsettled {
        /// The record's key.
        key: Key,
    },
    /// Another place promised a blob, and does not have it, or cannot give it.
    #[error("the layer {digest} was to come from `{place}`, and cannot: {cause}")]
    Broken {
        /// The blob.
        digest: Digest,
        /// The place.
        place: String,
        /// What is wrong there.
        #[source]
        cause: FetchError,
    },
    /// Another place told what a layer holds, and the layer holds something else.
    #[error("the index of the layer {layer} that came from `{place}` does not match the layer")]
    WrongIndex {
        /// The layer.
        layer: DiffId,
        /// The place.
        place: String,
    },
}

/// The cache of one store. Cheap to clone; may be shared between threads.
#[derive(Debug, Clone)]
pub struct Cache {
    store: Store,
    /// Records that lookups have dropped in this process, and why: [`Cache::explain`] tells.
    dropped: Arc<Mutex<HashMap<Key, Dropped>>>,
}

impl Cache {
    /// The cache in `store`.
    pub fn new(store: Store) -> Self {
        Self { store, dropped: Arc::default() }
    }

    /// The record of `key`, if its layer's blob is there. A record of another boot is believed only after its blob was hashed
    /// again or if the store was synced since, and is then rewritten for this boot. Notes the time, as that of its last use.
    /// A record that cannot be read, and one whose blob is missing or damaged, is dropped and counts as none.
    pub fn lookup(&self, key: &Key) -> Result<Option<Record>, Error> {
        let found = self.find(key)?;
        if found.is_some() {
            self.store.touch_record(&key.hex());
        }
        Ok(found)
    }

    /// Looks up as [`Cache::lookup`] does, but leaves no trace of having done so.
    fn find(&self, key: &Key) -> Result<Option<Record>, Error> {
        let Some(bytes) = self.store.record(&key.hex())? else { return Ok(None) };
        let Some(record) = Record::parse(&bytes).filter(|r| r.key == *key) else {
            return self.drop_record(key, Dropped::Unreadable);
        };
        if self.is_refuted(&record) {
            return self.drop_record(key, Dropped::WrongIndex);
        }
        let descriptor = &record.layer.descriptor;
        match self.store.has_blob(&descriptor.digest) {
            None => return self.drop_record(key, Dropped::BlobMissing),
            Some(size) if size != descriptor.size => return self.drop_record(key, Dropped::BlobDamaged),
            Some(_) => {}
        }
        let is_of_this_boot = record.boot_id == self.store.boot_id();
        let is_on_disk = is_of_this_boot || self.store.was_synced(&self.store.blob_path(&descriptor.digest));
        // Layouts elsewhere may share the file, and somebody may have written to one of them.
        let is_intact = match is_on_disk {
            true => self.store.intact_blob(&descriptor.digest)?.is_some(),
            false => self.store.verify_blob(&descriptor.digest)?,
        };
        if !is_intact {
            return self.drop_record(key, Dropped::BlobDamaged);
        }
        if is_of_this_boot {
            return Ok(Some(record));
        }
        let record = Record { boot_id: self.store.boot_id().to_owned(), ..record };
        self.store.put_record(&key.hex(), &record.to_bytes())?;
        Ok(Some(record))
    }

    /// Whether the record was made with an index that turned out not to be its layer's.
    fn is_refuted(&self, record: &Record) -> bool {
        record.told.iter().any(|told| told.proof(&self.store) == Proof::Refuted)
    }

    /// The record in the file `name` of the store's records, whatever its blob is like; `None` when the file holds none of
    /// that key.
    pub fn peek(&self, name: &str) -> Result<Option<Record>, store::Error> {
        let Some(key) = Key::from_hex(name) else { return Ok(None) };
        let bytes = self.store.record(name)?;
        Ok(bytes.and_then(|bytes| Record::parse(&bytes)).filter(|record| record.key == key))
    }

    /// The preimage that is kept for `key`, if one can be read.
    pub fn peek_preimage(&self, key: &Key) -> Result<Option<Preimage>, store::Error> {
        Ok(self.store.record(&why(key))?.and_then(|bytes| Preimage::parse(&bytes)))
    }

    /// Publishes a record, made in this boot, whose blob is complete in the store. When another process has
    /// published the same key first, gives that one's record, from which the caller goes on. `slot` names the step
    /// in a way that survives small changes of the Dockerfile, and must differ between projects that share a store.
    ///
    /// The preimage goes first, so that a record always has one; one that is there may have been cut off by a crash.
    pub fn publish(&self, record: Record, preimage: &dyn Reasons, slot: &str) -> Result<Record, Error> {
        let key = record.key;
        let record = Record { boot_id: self.store.boot_id().to_owned(), ..record };
        self.put_preimage(&key, preimage)?;
        self.remember(slot, &key)?;
        for _ in 0..16 {
            if self.store.put_new_record(&key.hex(), &record.to_bytes())? {
                return Ok(record);
            }
            // What is there may be a record that no longer holds; looking it up drops it then.
            if let Some(winner) = self.lookup(&key)? {
                return Ok(winner);
            }
        }
        Err(Error::Unsettled { key })
    }

    /// Publishes a record that no slot names, so that [`Cache::explain`] never compares with it, and replaces what this key
    /// had: the second key of a step, or that of work which is no step (recompressing).
    pub fn publish_alias(&self, record: Record, preimage: &dyn Reasons) -> Result<(), Error> {
        self.put_preimage(&record.key, preimage)?;
        let record = Record { boot_id: self.store.boot_id().to_owned(), ..record };
        Ok(self.store.put_record(&record.key.hex(), &record.to_bytes())?)
    }

    /// Publishes a record in the place of what its key had before: a step that was told to run again has the last
    /// word, also for later builds.
    pub fn replace(&self, record: Record, preimage: &dyn Reasons, slot: &str) -> Result<Record, Error> {
        let key = record.key;
        let record = Record { boot_id: self.store.boot_id().to_owned(), ..record };
        self.put_preimage(&key, preimage)?;
        self.remember(slot, &key)?;
        self.store.put_record(&key.hex(), &record.to_bytes())?;
        Ok(record)
    }

    /// Keeps a record of another place whose blob is in the store now, in the place of what its key had. Its preimage is here.
    fn adopt(&self, record: &Record) -> Result<(), Error> {
        let record = Record { boot_id: self.store.boot_id().to_owned(), ..record.clone() };
        Ok(self.store.put_record(&record.key.hex(), &record.to_bytes())?)
    }

    fn put_preimage(&self, key: &Key, preimage: &dyn Reasons) -> Result<(), Error> {
        Ok(self.store.put_record_with(&why(key), |file| write_json(preimage, file))?)
    }

    /// Notes that `slot` had `key` last: [`Cache::publish`] does, and a caller does after a hit, so that the next miss
    /// is compared with what was used last. Writes only when it was another key.
    pub fn remember(&self, slot: &str, key: &Key) -> Result<(), Error> {
        let name = slot_name(slot);
        let text = format!("{}\n", key.hex());
        if self.store.record(&name)?.as_deref() != Some(text.as_bytes()) {
            self.store.put_record(&name, text.as_bytes())?;
        }
        Ok(())
    }

    /// Why there is no record of `key`.
    fn why_missing(&self, key: &Key) -> Why {
        lock(&self.dropped).get(key).copied().map_or(Why::Unknown, Why::Dropped)
    }

    /// Why `preimage` missed, in one clause: compares it with what `slot` had last. Never fails: what cannot be
    /// read is as good as never built, and then there is nothing to say.
    pub fn explain(&self, slot: &str, preimage: &dyn Reasons) -> Option<String> {
        let key = preimage.key();
        if let Why::Dropped(dropped) = self.why_missing(&key) {
            return Some(dropped.clause().to_owned());
        }
        Some(difference(&self.last_preimage(slot)?, &preimage.to_preimage()))
    }

    /// Whether `slot` ever had a key.
    pub fn knows(&self, slot: &str) -> bool {
        self.last_key(slot).is_some()
    }

    /// What made `key` what it is, if it is known.
    pub fn preimage(&self, key: &Key) -> Result<Option<Preimage>, Error> {
        Ok(self.peek_preimage(key)?)
    }

    /// The record that `slot` had last, if its layer still is there and whole.
    pub fn last_record(&self, slot: &str) -> Option<Record> {
        self.find(&self.last_key(slot)?).ok()?
    }

    fn last_preimage(&self, slot: &str) -> Option<Preimage> {
        self.preimage(&self.last_key(slot)?).ok()?
    }

    fn last_key(&self, slot: &str) -> Option<Key> {
        let text = self.store.record(&slot_name(slot)).ok()??;
        Key::from_hex(std::str::from_utf8(&text).ok()?.trim_end())
    }

    fn drop_record(&self, key: &Key, why: Dropped) -> Result<Option<Record>, Error> {
        tracing::warn!(key = %key, reason = why.clause(), "dropped a cache record");
        lock(&self.dropped).insert(*key, why);
        self.store.remove_record(&key.hex())?;
        Ok(None)
    }
}

fn why(key: &Key) -> String {
    format!("{}.why", key.hex())
}

fn slot_name(slot: &str) -> String {
    format!("{}.slot", Digest::of(slot.as_bytes()).hex())
}
