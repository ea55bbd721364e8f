//! One binary for all tests that use the real program, real registries and real namespaces.
#![allow(clippy::unwrap_used)]

mod cache;
mod exec;
mod export;
mod golden_dockerfiles;
mod layering;
mod registry;
mod store;
mod support;
