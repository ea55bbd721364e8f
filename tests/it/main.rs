//! One binary for all tests that use the real program, real registries and real namespaces.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "tests make their own files")]
// Tests that run as children of others report on standard output, and a test that skips says why.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod attack;
mod bad_input;
mod beneath;
mod bombs;
mod cache;
mod cache_rule;
mod check;
mod cli;
mod config_changes;
mod conformance;
mod context;
mod doctor;
mod emulation;
mod estargz;
mod exec;
mod export;
mod fallback;
mod force;
mod git;
mod golden_dockerfiles;
mod headline;
mod hostile_paths;
mod images;
mod interrupt;
mod jobs;
mod keys;
mod kill;
mod layering;
mod limits;
mod lock;
mod logs;
mod nested;
mod network;
mod one_id;
mod outputs;
mod plan;
mod processes;
mod push;
mod readers;
mod registry;
mod reproducible;
mod sessions;
mod shown;
mod sizes;
mod smallest;
mod stock;
mod store;
mod support;
mod urls;
