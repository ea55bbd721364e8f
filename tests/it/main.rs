//! One binary for all tests that use the real program, real registries and real namespaces.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "tests make their own files")]
// Tests that run as children of others report on standard output, and a test that skips says why.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod attack;
mod bad_input;
mod beneath;
mod bombs;
mod built_and_pushed;
mod cache_records;
mod cache_rule;
mod check;
mod cli;
mod config_changes;
mod conformance;
mod context;
mod doctor;
mod emulation;
mod erofs_layers;
mod estargz;
mod exec;
mod export_formats;
mod fallback;
mod git;
mod golden_dockerfiles;
mod hostile_paths;
mod in_a_container;
mod install_vim;
mod interrupt;
mod keys;
mod kill;
mod layering;
mod library;
mod limits;
mod lock;
mod logs;
mod nested;
mod network;
mod no_privilege;
mod one_id;
mod outputs;
mod parallel_steps;
mod plan;
mod platforms;
mod process_limits;
mod readers;
mod recompress;
mod registry;
mod reproducible;
mod sessions;
mod shown;
mod sizes;
mod stock;
mod store;
mod support;
mod urls;
