//! The registry client against a real docker-registry, and against registries that misbehave.

mod auth;
mod disasters;
mod faults;
mod interop;
mod mirrors;
mod overlap;
mod partial;
mod pull;
mod push;
mod resolve;
pub(crate) mod tls;
mod upload;

use std::path::PathBuf;
use std::time::Duration;

use rbuild::config::{Config, Files, Flags, Sources};
use rbuild::http::{self, Environment};
use rbuild::oci::{Platform, Reference};
use rbuild::registry::{Client, Settings};
use rbuild::store::Store;

use crate::support::image::{TestImage, TestLayer};

/// Small, so that tests need not move much.
const CHUNK: u64 = 1 << 20;

/// A client that loses no time, in a world without credentials.
fn client() -> Client {
    client_in(Environment::empty())
}

fn client_in(environment: Environment) -> Client {
    Client::new(settings(environment))
}

/// A client that trusts what is in a folder of certificates for single hosts.
fn client_with_certs_d(folder: PathBuf) -> Client {
    let mut settings = settings(Environment::empty());
    settings.http.certs_d.push(folder);
    Client::new(settings)
}

/// On a busy machine an answer may take its time: only tests of stalls take that for one.
fn settings(environment: Environment) -> Settings {
    let http = http::Settings {
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(10),
        backoff: Duration::from_millis(1),
        attempts: 4,
        longest_wait: Duration::from_secs(2),
        ..http::Settings::with_environment(environment)
    };
    Settings { http, chunk_bytes: CHUNK, ..Settings::with_environment(Environment::empty()) }
}

/// A client that takes 200 ms of silence for a stall.
fn impatient_client() -> Client {
    let mut settings = settings(Environment::empty());
    settings.http.stall_timeout = Duration::from_millis(200);
    Client::new(settings)
}

/// A client with a configuration as rbuild's own file has it.
fn configured(toml: &str) -> Client {
    flagged(toml, Flags::default())
}

/// The same with options of the command line.
fn flagged(toml: &str, flags: Flags) -> Client {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, toml).unwrap();
    let own = Config::load(&Files { own: Some(path), ..Files::default() }).unwrap();
    let registries = Sources::new(flags, own.registries, Files::default()).unwrap();
    Client::new(Settings { registries, ..settings(Environment::empty()) })
}

/// A store that goes with the value.
fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn reference(host: &str, rest: &str) -> Reference {
    format!("{host}/{rest}").parse().unwrap()
}

/// Three layers, of which two are the same.
fn small_image() -> TestImage {
    let first = TestLayer::files(&[("etc/os-release", "ID=test\n")]);
    let second = TestLayer::files(&[("bin/sh", "#!\n"), ("a", "b")]);
    TestImage::new("linux/amd64", vec![first.clone(), second, first])
}
