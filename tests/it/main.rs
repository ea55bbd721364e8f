//! Tests through the front door of each module.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod support;

mod cache;
mod export;
mod registry;
mod store;

/// Copies the test program to where every user can run it. Another process does it: a thread that forks while this
/// one has the copy open for writing would make it busy.
fn copy_of_this_program(to: &std::path::Path) {
    let from = std::env::current_exe().unwrap();
    assert!(std::process::Command::new("cp").arg(from).arg(to).status().unwrap().success());
}
