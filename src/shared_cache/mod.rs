//! Results of builds that machines share: records travel in packs, blobs by digest, and nothing moves that nobody needs.
//!
//! A *pack* holds the records of one build, or of many that were merged. A place that keeps packs and blobs is a
//! *backend*: a registry, a folder, a server; one file each. Its *head* is the pack that readers fetch, in one request, while
//! the context is scanned; all keys of a chain are then found in memory. Writers leave a pack of their own beside the head before
//! they merge it, as most places cannot compare and swap: what a lost race drops from the head is found there and merged one
//! build later.
//!
//! What is read is trusted for what it names, and verified for what it is: every blob against its digest, every layer
//! against its diff id. What is wrong is as good as absent, with a warning.
//!
//! ```text
//! spec/       what --cache-from and --cache-to say
//! pack.rs     records that travel, as bytes and back
//! merge.rs    of two packs one; what is dropped when they grow
//! sealed.rs   packs of several writers, with their signatures
//! backend/    where packs and blobs are kept, one file each
//! import.rs   a backend as a place where the cache looks
//! export/     what a build leaves for others: gathered, sent, published
//! inline.rs   records that an image carries of its own layers
//! writer.rs   who wrote a record
//! care.rs     looking after a cache: what is in it, less of it
//! mounts/     what cache mounts hold, kept file by file
//! ```

pub mod backend;
pub mod care;
mod export;
mod import;
mod inline;
mod merge;
pub mod mounts;
pub mod pack;
pub mod sealed;
pub mod spec;
mod writer;

pub use backend::{Backend, Error};
pub use care::Pruned;
pub use export::{Exported, Exporter, Results};
pub use import::{Import, Known};
pub use inline::records as carried_records;
pub use merge::{Bounds, bound, merge};
pub use pack::{Entry, Pack};
pub use sealed::{Sealed, Trust};
pub use spec::{CacheFrom, CacheTo, Location, Mode};
