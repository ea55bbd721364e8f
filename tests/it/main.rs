//! One binary for all tests that use the real program, real registries and real namespaces.

mod cache;
mod export;
mod layering;
mod store;
