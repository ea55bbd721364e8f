//! A bucket for tests: S3 as `moto_server` plays it (PyPI's package `moto`), in memory.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::registry::wait_until_it_listens;

/// The one bucket.
pub const BUCKET: &str = "tests";

/// A service on a free port of 127.0.0.1, which goes with the value.
pub struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    pub fn start() -> Self {
        // Between choosing the port and using it someone else may take it: then it exits.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = spawn(port);
            if wait_until_it_listens(&mut child, port) {
                let moto = Self { child, port };
                moto.make_bucket();
                return moto;
            }
        }
        panic!("moto_server does not start; `tests/run` installs it");
    }

    /// `localhost:PORT`
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    fn make_bucket(&self) {
        let url = format!("http://{}/{BUCKET}", self.host());
        let request = ureq::http::Request::builder().method("PUT").uri(url);
        assert!(ureq::run(request.body(&b""[..]).unwrap()).unwrap().status().is_success());
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python that has moto, and with it Amazon's own library, which is `botocore`.
pub fn python() -> Command {
    // Where `tests/run` installs it.
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/moto/bin/python");
    Command::new(if own.exists() { own } else { "python3".into() })
}

fn spawn(port: u16) -> Child {
    let mut command = python();
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("python3 is missing")
}
