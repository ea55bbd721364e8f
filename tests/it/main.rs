//! One binary for all tests that use the real program, real registries and real namespaces.
#![allow(clippy::unwrap_used)]
// Tests that run as children of others report on standard output, and a test that skips says why.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bad_input;
mod cache;
mod cache_rule;
mod check;
mod cli;
mod config_changes;
mod conformance;
mod context;
mod exec;
mod export;
mod fallback;
mod golden_dockerfiles;
mod headline;
mod kill;
mod layering;
mod outputs;
mod plan;
mod push;
mod registry;
mod reproducible;
mod smallest;
mod store;
mod support;
