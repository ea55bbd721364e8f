//! rbuild builds OCI images from Dockerfiles.
//!
//! The modules are listed from the top of the house to its foundation; a module names only modules
//! below it (`tests/it/layering.rs` holds that). `docs/architecture.md` tells the whole story.

pub mod cli;

pub mod build;

pub mod copy;

pub mod solve;

pub mod plan;

pub mod dockerfile;

pub mod import;

pub mod export;

pub mod registry;

pub mod upkeep;

pub mod exec;

pub mod cache;

pub mod snapshot;

pub mod layer;

pub mod context;

pub mod store;

pub mod config;

pub mod oci;

pub mod rootfs;

pub mod report;
