//! (to be written)

/// Placeholder.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
