//! The program: see the library's documentation.

fn main() -> std::process::ExitCode {
    rbuild::cli::main()
}
