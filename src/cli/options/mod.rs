//! Options that several commands share, and what is made of them.

mod attestations;
pub(super) mod bake;
pub(super) mod budget;
pub(super) mod build;
pub(super) mod caches;
pub(super) mod configuration;
pub(super) mod contexts;
pub(super) mod definition;
pub(super) mod docker;
pub(super) mod filter;
pub(super) mod limits;
mod load;
pub(super) mod on;
pub(super) mod podman;
pub(super) mod recorded;
pub(super) mod request;
pub(super) mod sandbox;
pub(super) mod secrets;
pub(super) mod ssh;
