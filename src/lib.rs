//! rbuild builds OCI images from Dockerfiles, without a daemon.
//!
//! The program is a thin skin: [`cli`] turns arguments into a [`pipeline::Request`] and shows what [`pipeline::run`] tells on
//! the way. This builds an image without it:
//!
//! ```
//! use rbuild::exec::Stop;
//! use rbuild::pipeline::{self, Request};
//! use rbuild::report::Events;
//!
//! # let folder = tempfile::tempdir()?;
//! # let (context, store) = (folder.path().join("context"), folder.path().join("store"));
//! # std::fs::create_dir(&context)?;
//! std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY hello /hello\n")?;
//! std::fs::write(context.join("hello"), "hello\n")?;
//!
//! let mut request = Request::new(store, context);
//! request.tags = vec!["hello:1".parse()?];
//! // A build without RUN needs neither privileges nor the program.
//! let built = pipeline::run(&request, &Events::silent(), &Stop::default());
//! let built = built.map_err(|failed| format!("{:?}", failed.diagnostics))?;
//! assert_eq!((built.layers, built.ran), (1, 1));
//!
//! let again = pipeline::run(&request, &Events::silent(), &Stop::default());
//! assert_eq!(again.unwrap().digest, built.digest);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! Start reading at [`pipeline`], which tells one build from top to bottom, and at [`plan::graph`], the values that all of it
//! turns around. A RUN starts this very program again, so only a program that begins as `main.rs` does can run one.
//!
//! What is public is so for the program, for the tests in `tests/it`, for `benches` and `fuzz`: there is no promise that
//! names stay. The modules are listed from the top of the house to its foundation; a module names only modules
//! below it (`tests/it/layering.rs` holds that). `docs/architecture.md` tells the whole story.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make their own files"))]

#[allow(clippy::disallowed_methods, reason = "what the user names on the command line")]
pub mod cli;

#[allow(clippy::disallowed_methods, reason = "the context, Dockerfile and files that the user names")]
pub mod pipeline;

#[allow(clippy::disallowed_methods, reason = "compose files, and files of variables, that definitions name")]
pub mod bake;

pub mod transport;

pub mod compare;

pub mod solve;

pub mod copy_files;

pub mod key;

pub mod plan;

pub mod dockerfile;

pub mod attest;

#[allow(clippy::disallowed_methods, reason = "folders that the user names; blobs by digest")]
pub mod shared_cache;

pub mod engine;

pub mod import;

pub mod export;

#[allow(clippy::disallowed_methods, reason = "logins of the user; pieces of blobs by digest")]
pub mod registry;

pub mod source;

#[allow(clippy::disallowed_methods, reason = "blobs by digest, and files that rbuild or its user named")]
pub mod reapi;

pub mod grpc;

#[allow(clippy::disallowed_methods, reason = "the files that the user gives")]
pub mod secrets;

#[allow(
    clippy::disallowed_methods,
    reason = "certificates of the user and of the machine; pieces of blobs by digest; files in folders of rbuild's"
)]
pub mod http;

pub mod insight;

pub mod inventory;

#[allow(clippy::disallowed_methods, reason = "the store's own files, by digest and hash")]
pub mod upkeep;

#[allow(clippy::disallowed_methods, reason = "the store's own files, by number and hash")]
pub mod record;

#[allow(
    clippy::disallowed_methods,
    reason = "/proc, control groups and rbuild's own folders; in roots it goes by descriptors (exec/step/target.rs)"
)]
pub mod exec;

pub mod cache;

pub mod snapshot;

pub mod layer;

pub mod context;

pub mod image;

#[allow(
    clippy::disallowed_methods,
    reason = "the store's own files: digests, hashes, numbers, and names that were parsed"
)]
pub mod store;

#[allow(clippy::disallowed_methods, reason = "configuration of the user and of the machine")]
pub mod config;

#[allow(clippy::disallowed_methods, reason = "the files of keys that the user names")]
pub mod signature;

pub mod tripwire;

pub mod oci;

#[allow(clippy::disallowed_methods, reason = "it is what the others go through")]
pub mod rootfs;

pub mod report;

pub mod text;

mod sync;

pub mod clock;
