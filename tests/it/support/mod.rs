//! What several integration tests need.
// A test that uses one half of a helper shall not be warned about the other half.
#![allow(dead_code, unreachable_pub)]

pub mod accounts;
pub mod attack;
pub mod base;
pub mod buildgrid;
pub mod casd;
pub mod containerd;
pub mod dockerd;
pub mod fake_docker;
pub mod gha;
pub mod golden;
pub mod http;
pub mod image;
pub mod kubernetes;
pub mod layout;
pub mod moto;
pub mod mounts;
pub mod nginx;
pub mod program;
pub mod registry;
pub mod tap;
pub mod terminal;
pub mod tls;
pub mod tools;
pub mod wire;

/// Leaves a test that this machine cannot run, and says why. In CI (`CI` is set) that is a failure: there
/// everything must be there.
macro_rules! skip {
    ($($why:tt)*) => {{
        let why = format!($($why)*);
        assert!(std::env::var_os("CI").is_none(), "skipped in CI: {why}");
        eprintln!("SKIPPED: {why}");
        return;
    }};
}
pub(crate) use skip;

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Copies the test program to where every user can run it. Another process does it: a thread that forks while this
/// one has the copy open for writing would make it busy.
pub fn copy_of_this_program(to: &std::path::Path) {
    copy_program(&std::env::current_exe().unwrap(), to);
}

/// Copies a program, in another process for the same reason.
pub fn copy_program(from: &std::path::Path, to: &std::path::Path) {
    assert!(std::process::Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// Writes a program, in another process for the same reason.
pub fn write_program(to: &std::path::Path, content: &[u8]) {
    use std::io::Write as _;
    let script = "cat > \"$1\" && chmod 755 \"$1\"";
    let mut writer = std::process::Command::new("sh");
    writer.args(["-c", script, "sh"]).arg(to).stdin(std::process::Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    writer.stdin.take().unwrap().write_all(content).unwrap();
    assert!(writer.wait().unwrap().success());
}
