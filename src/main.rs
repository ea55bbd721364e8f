//! Becomes a step's supervisor when it was re-executed as one; else runs the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    match rbuild::exec::role_from_args() {
        Some(role) => role.run(rbuild::solve::jobs::TABLE),
        None => rbuild::cli::main(),
    }
}
