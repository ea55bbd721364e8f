//! rbuild builds OCI images from Dockerfiles, without a daemon.
//!
//! Programs that use it as a library use [`api`], which stays as it is: build, plan, look at images, be told on the way.
//!
//! All other modules are rbuild's own, and public only for its program, for the tests in `tests/it`, for `benches` and `fuzz`. Start reading
//! at [`pipeline`], which tells one build from top to bottom, and at [`plan::graph`], the values that all of it turns around. The modules are
//! listed from the top of the house to its foundation; a module names only modules below it (`tests/it/layering.rs` holds that).
//! `docs/architecture.md` tells the whole story; `RUSTDOCFLAGS="--cfg internals" cargo doc` shows them.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make their own files"))]

#[allow(clippy::disallowed_methods, reason = "what the user names on the command line")]
#[cfg_attr(not(internals), doc(hidden))]
pub mod cli;

pub mod api;

#[allow(clippy::disallowed_methods, reason = "the context, Dockerfile and files that the user names")]
#[cfg_attr(not(internals), doc(hidden))]
pub mod pipeline;

#[allow(clippy::disallowed_methods, reason = "compose files, and files of variables, that definitions name")]
#[cfg_attr(not(internals), doc(hidden))]
pub mod bake;

#[cfg_attr(not(internals), doc(hidden))]
pub mod transport;

#[cfg_attr(not(internals), doc(hidden))]
pub mod compare;

#[cfg_attr(not(internals), doc(hidden))]
pub mod solve;

#[cfg_attr(not(internals), doc(hidden))]
pub mod copy_files;

#[cfg_attr(not(internals), doc(hidden))]
pub mod key;

#[cfg_attr(not(internals), doc(hidden))]
pub mod plan;

#[cfg_attr(not(internals), doc(hidden))]
pub mod dockerfile;

#[cfg_attr(not(internals), doc(hidden))]
pub mod attest;

#[allow(clippy::disallowed_methods, reason = "folders that the user names; blobs by digest")]
#[cfg_attr(not(internals), doc(hidden))]
pub mod shared_cache;

#[cfg_attr(not(internals), doc(hidden))]
pub mod engine;

#[cfg_attr(not(internals), doc(hidden))]
pub mod import;

#[cfg_attr(not(internals), doc(hidden))]
pub mod export;

#[allow(clippy::disallowed_methods, reason = "logins of the user; pieces of blobs by digest")]
#[cfg_attr(not(internals), doc(hidden))]
pub mod registry;

#[cfg_attr(not(internals), doc(hidden))]
pub mod source;

#[allow(clippy::disallowed_methods, reason = "blobs by digest, and files that rbuild or its user named")]
#[cfg_attr(not(internals), doc(hidden))]
pub mod reapi;

#[allow(
    clippy::disallowed_methods,
    reason = "files that the user's kubeconfig and a pod's service account are"
)]
#[cfg_attr(not(internals), doc(hidden))]
pub mod kubernetes;

#[cfg_attr(not(internals), doc(hidden))]
pub mod grpc;

#[allow(clippy::disallowed_methods, reason = "the files that the user gives")]
#[cfg_attr(not(internals), doc(hidden))]
pub mod secrets;

#[allow(
    clippy::disallowed_methods,
    reason = "certificates of the user and of the machine; pieces of blobs by digest; files in folders of rbuild's"
)]
#[cfg_attr(not(internals), doc(hidden))]
pub mod http;

#[cfg_attr(not(internals), doc(hidden))]
pub mod page;

#[cfg_attr(not(internals), doc(hidden))]
pub mod insight;

#[cfg_attr(not(internals), doc(hidden))]
pub mod inventory;

#[allow(clippy::disallowed_methods, reason = "the store's own files, by digest and hash")]
#[cfg_attr(not(internals), doc(hidden))]
pub mod upkeep;

#[allow(clippy::disallowed_methods, reason = "the store's own files, by number and hash")]
#[cfg_attr(not(internals), doc(hidden))]
pub mod record;

#[allow(
    clippy::disallowed_methods,
    reason = "/proc, control groups and rbuild's own folders; in roots it goes by descriptors (exec/step/target.rs)"
)]
#[cfg_attr(not(internals), doc(hidden))]
pub mod exec;

#[cfg_attr(not(internals), doc(hidden))]
pub mod cache;

#[cfg_attr(not(internals), doc(hidden))]
pub mod snapshot;

#[cfg_attr(not(internals), doc(hidden))]
pub mod layer;

#[cfg_attr(not(internals), doc(hidden))]
pub mod context;

#[cfg_attr(not(internals), doc(hidden))]
pub mod image;

#[allow(
    clippy::disallowed_methods,
    reason = "the store's own files: digests, hashes, numbers, and names that were parsed"
)]
#[cfg_attr(not(internals), doc(hidden))]
pub mod store;

#[allow(clippy::disallowed_methods, reason = "configuration of the user and of the machine")]
#[cfg_attr(not(internals), doc(hidden))]
pub mod config;

#[allow(clippy::disallowed_methods, reason = "the files of keys that the user names")]
#[cfg_attr(not(internals), doc(hidden))]
pub mod signature;

#[cfg_attr(not(internals), doc(hidden))]
pub mod tripwire;

#[cfg_attr(not(internals), doc(hidden))]
pub mod oci;

#[allow(clippy::disallowed_methods, reason = "it is what the others go through")]
#[cfg_attr(not(internals), doc(hidden))]
pub mod rootfs;

#[cfg_attr(not(internals), doc(hidden))]
pub mod yaml;

#[cfg_attr(not(internals), doc(hidden))]
pub mod report;

#[cfg_attr(not(internals), doc(hidden))]
pub mod text;

#[cfg_attr(not(internals), doc(hidden))]
pub mod busy;

mod sync;

#[cfg_attr(not(internals), doc(hidden))]
pub mod clock;
