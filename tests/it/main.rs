//! One binary for all tests that use the real program, real registries and real namespaces.
#![allow(clippy::unwrap_used)]

mod cache;
mod context;
mod exec;
mod export;
mod layering;
mod push;
mod registry;
mod store;
mod support;
