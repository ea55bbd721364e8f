//! A cluster for tests: an API server as far as rbuild asks one, and a node that runs pods as processes (`tests/kubernetes_node.py`).

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::tls::certificates;

/// A cluster; it and its pods go with the value.
pub struct Cluster {
    child: Child,
    control: u16,
    dir: tempfile::TempDir,
}

/// How it is spoken with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Plain, with a token.
    Token,
    /// Over TLS, by a certificate of the client.
    Certificate,
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

impl Cluster {
    pub fn start() -> Self {
        Self::behind(Door::Token)
    }

    pub fn behind(door: Door) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("python3");
        command.arg(here("tests/kubernetes_node.py"));
        command.args(["--rbuild", env!("CARGO_BIN_EXE_rbuild")]).arg("--dir").arg(dir.path());
        command.arg("--schema").arg(here("testdata/kubernetes/schema.json"));
        match door {
            Door::Token => {
                command.args(["--token", "hidden"]);
            }
            Door::Certificate => {
                certificates(dir.path());
                let file = |name: &str| dir.path().join(name);
                command.arg("--certificate").arg(file("tls.crt")).arg("--key").arg(file("tls.key"));
                command.arg("--client-ca").arg(file("ca.crt"));
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut port = || -> u16 { lines.next().unwrap().unwrap().parse().unwrap() };
        let (port, control) = (port(), port());
        let cluster = Self { child, control, dir };
        let (scheme, user) = match door {
            Door::Token => ("http", "{token: hidden}"),
            Door::Certificate => ("https", "{client-certificate: tls.crt, client-key: tls.key}"),
        };
        let kubeconfig = format!(
            "current-context: test\ncontexts: [{{name: test, context: {{cluster: c, user: u, namespace: builds}}}}]\n\
             clusters: [{{name: c, cluster: {{server: '{scheme}://127.0.0.1:{port}', tls-server-name: localhost{}}}}}]\n\
             users: [{{name: u, user: {user}}}]\n",
            if door == Door::Certificate { ", certificate-authority: ca.crt" } else { "" }
        );
        fs::write(cluster.path("kubeconfig"), kubeconfig).unwrap();
        cluster
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Asks or tells it something beside the API.
    pub fn tell(&self, what: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.control)).unwrap();
        let size = body.len();
        let request = format!(
            "POST /test/{what} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        match answer.contains("chunked") {
            false => serde_json::from_str(body).unwrap(),
            true => {
                let (mut rest, mut whole) = (body, String::new());
                while let Some((size, more)) = rest.split_once("\r\n") {
                    let size = usize::from_str_radix(size, 16).unwrap();
                    whole.push_str(&more[..size]);
                    rest = more[size..].trim_start_matches("\r\n");
                }
                serde_json::from_str(&whole).unwrap()
            }
        }
    }

    /// The names of pods that are there.
    pub fn pods(&self) -> usize {
        self.tell("pods", "").as_array().unwrap().len()
    }

    /// The jobs that were made.
    pub fn jobs(&self) -> Vec<Value> {
        self.tell("jobs", "").as_array().unwrap().clone()
    }

    /// What was asked, as `GET /path`.
    pub fn log(&self) -> Vec<String> {
        let log = self.tell("log", "");
        log.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The end of its input is its end, and that of its pods.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
