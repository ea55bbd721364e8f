//! Becomes the zygote of steps, or a worker, when it was re-executed as one; else runs the command line.

use std::process::ExitCode;

// musl's own allocator takes one lock for all threads.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match rbuild::exec::role_from_args() {
        Some(role) => role.run(rbuild::solve::jobs::TABLE),
        None => rbuild::cli::main(),
    }
}
