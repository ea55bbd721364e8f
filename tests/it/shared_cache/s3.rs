//! `type=s3`: a bucket that moto plays. It takes any signature, and its conditions are no lock.

use super::servers::{Backend, faults};
use super::{Project, writers_at_once_lose_nothing};
use crate::support::http::Server;
use crate::support::moto::{BUCKET, Moto};

/// For reading and for writing.
fn options(host: &str) -> (String, String) {
    let keys = "access_key_id=hidden-id,secret_access_key=hidden-key,session_token=hidden-token";
    let at = format!("type=s3,bucket={BUCKET},region=eu-1,endpoint_url=http://{host},prefix=ci/,{keys}");
    (format!("--cache-from={at}"), format!("--cache-to={at}"))
}

#[test]
fn another_machine_builds_as_if_it_had_built_before() {
    let (project, service) = (Project::new(), Moto::start());
    let counter = Server::between(service.host(), |_, reply| reply);
    let (from, to) = options(&counter.host());
    let first = project.built("one", &[&to]);
    assert_eq!(first.ran(), 8, "{}", first.stderr);
    let sent = counter.requests().len();
    let second = project.built("two", &[&from, &to]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    assert!(second.stderr.contains("has it all"), "{}", second.stderr);
    // The records are one request; others are for layers of the image, each once.
    let asked = &counter.requests()[sent..];
    assert_eq!(asked.iter().filter(|line| line.contains("/manifests/")).count(), 1, "{asked:#?}");
    assert!(asked.iter().all(|line| line.starts_with("GET /tests/ci/")), "{asked:#?}");
    // Every request is signed, and nothing is told of the keys.
    for request in counter.received() {
        let authorization = request.header("authorization").unwrap();
        assert!(
            authorization.contains("Credential=hidden-id/") && authorization.contains("x-amz-security-token")
        );
    }
    for said in [&first.stderr, &second.stderr] {
        assert!(!said.contains("hidden"), "{said}");
    }
    let missing = to.replace(BUCKET, "nowhere").replace("prefix=ci/", "name=a;b");
    let said = project.built("three", &[&missing]);
    assert_eq!(said.stderr.matches("answers 404 (NoSuchBucket)").count(), 2, "{}", said.stderr);
}

#[test]
fn large_layers_go_in_parts() {
    let (project, service) = (Project::new(), Moto::start());
    let counter = Server::between(service.host(), |_, reply| reply);
    let (from, to) = options(&counter.host());
    // What does not become smaller.
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let noise: Vec<u8> = noise.take((64 << 20) + 1000).collect();
    project.write("noise", noise);
    project.write("Dockerfile", "FROM scratch\nCOPY noise /\n");
    let first = project.built("one", &[&to]);
    let parts = counter.requests().iter().filter(|line| line.contains("partNumber=")).count();
    assert_eq!(parts, 2, "{}", first.stderr);
    let second = project.built("two", &[&from]);
    assert_eq!((second.ran(), second.digest()), (0, first.digest()), "{}", second.stderr);
    assert_eq!(project.rbuild("two", &["verify"]).code, 0);
}

#[test]
fn writers_at_once() {
    let (project, service) = (Project::new(), Moto::start());
    let (from, to) = options(&service.host());
    writers_at_once_lose_nothing(&project, &from, &to);
}

#[test]
fn servers_that_fail_cost_no_build() {
    let service = Moto::start();
    faults(&Backend {
        host: service.host(),
        options,
        is_blob: |request| request.path.contains("/blobs/"),
        // What is read is read as from other servers.
        only: &["403", "other bytes"],
    });
}
