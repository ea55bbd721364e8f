//! What counts for the cache: every operation as the fields of its key, all of it in this folder.
//!
//! ```text
//! run.rs         RUN
//! mounts.rs      its mounts, what they show, and which directory a cache mount has
//! copy.rs        COPY and ADD: what the instruction says
//! files.rs       what COPY, ADD and mounts find there: one field for each file
//! workdir.rs     WORKDIR
//! form.rs        how layers are written
//! recompress.rs  a layer in another compression
//! squash.rs      a layer that stands for several
//! value.rs       a value that is made of parts
//! ```
//!
//! It is a floor of its own below COPY and RUN because both, and the build that compresses layers anew, write into keys.
//! Hashing fields and explaining a miss is the affair of [`cache`](crate::cache).
//!
//! **Nothing is forgotten**: every function takes its operation apart without `..`, so a new field does not compile until
//! somebody decides here whether it belongs to the key. Spans and titles are outside of operations, so moving or
//! re-indenting an instruction never misses.
//!
//! **No two operations have one key**: names and values are hashed with their lengths first. A list is one field for each
//! element; a value made of parts is a [`Value`], again with lengths. Text of the user is in a name only behind a word and a
//! colon, and nothing follows it there. Nothing is joined by a separator.
//!
//! **Results are chained, not keys**: a step's key holds its parent's *result*. A parent that was run again and gave other
//! bytes must not get a child that was made on the old ones.
//!
//! **Tags carry a version** (`run/2`), increased when the same fields come to mean another result.

mod copy;
pub mod files;
mod layer_options;
mod mounts;
mod recompress;
mod run;
mod squash;
mod value;
mod volumes;
mod workdir;

pub use copy::{copy, push_from};
pub use layer_options::LayerOptions;
pub use mounts::{CacheIdentity, Shown, cache_directory};
pub use recompress::recompress;
pub use run::{Owners, run};
pub use squash::squash;
pub use value::Value;
pub use volumes::push_volumes;
pub use workdir::workdir;

use crate::cache::Preimage;

/// SOURCE_DATE_EPOCH, where a step writes it.
fn push_epoch(key: &mut Preimage, epoch: Option<i64>) {
    if let Some(epoch) = epoch {
        key.push("arg:SOURCE_DATE_EPOCH", epoch.to_string());
    }
}
