//! Tests through the front door of each module.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod cache;
mod export;
mod store;
