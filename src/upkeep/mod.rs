//! What the store holds, what of it is needed, and what may go.
//!
//! Knows images, the cache's records and the folders of other modules, but builds and fetches nothing. Everything that
//! removes holds the store alone ([`crate::store::Store::lock_exclusive`]), so that no build can rely on what goes; names are the
//! exception, since a build reads one once.
//!
//! A blob is kept by whatever names it: a name's image, a cache record, or an image that a build has fetched. Whatever
//! was derived from layers (indexes, trees) goes with them.
//!
//! Removal has an order, so that a `kill -9` between any two steps leaves a store that is whole: what names goes before
//! what is named.

mod derived;
mod inventory;
mod prune;
mod remove;
mod sessions;
mod steps;
mod unit;
mod unnamed;
mod usage;
mod verify;

pub use inventory::{CacheEntry, Inventory};
pub use prune::{Plan, Policy, plan, prune};
pub use remove::{Collected, collect};
pub use steps::{StepNote, StepNotes};
pub use unit::{Unit, UnitKind};
pub use usage::{Part, Usage, usage};
pub use verify::{Fault, Remedy, Repair, Report, verify};
