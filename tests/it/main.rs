//! One binary for all tests that use the real program, real registries and real namespaces.
#![allow(clippy::unwrap_used)]

mod exec;
