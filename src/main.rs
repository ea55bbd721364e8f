//! Becomes a step's supervisor when it was re-executed as one; else runs the command line.

use std::process::ExitCode;

/// What upper modules do inside the user namespace.
const JOBS: rbuild::exec::Jobs = &[];

fn main() -> ExitCode {
    match rbuild::exec::role_from_args() {
        Some(role) => role.run(JOBS),
        None => rbuild::cli::main(),
    }
}
