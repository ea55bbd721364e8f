//! The registry client against a real docker-registry, and against registries that misbehave.

mod auth;
mod pull;
mod push;
mod resolve;
mod tls;

use std::time::Duration;

use rbuild::oci::{Platform, Reference};
use rbuild::registry::{Client, Environment, Settings};
use rbuild::store::Store;

use crate::support::image::{TestImage, TestLayer};

/// A client that loses no time, in a world without credentials.
fn client() -> Client {
    client_in(Environment::empty())
}

fn client_in(environment: Environment) -> Client {
    Client::new(Settings {
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_millis(200),
        backoff: Duration::from_millis(1),
        attempts: 4,
        longest_wait: Duration::from_secs(2),
        ..Settings::with_environment(environment)
    })
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
