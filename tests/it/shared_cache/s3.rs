//! `type=s3`: a bucket that moto plays. It takes any signature, so Amazon's own library looks at those, and its conditions are no lock.

use std::io::Write as _;
use std::process::Stdio;

use rbuild::oci::Digest;
use rbuild::shared_cache::Pack;

use super::servers::{Backend, faults};
use super::{Project, writers_at_once_lose_nothing};
use crate::support::http::{Reply, Server, forward};
use crate::support::moto::{BUCKET, Moto, python};

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

#[test]
fn what_was_removed_is_a_miss() {
    let (project, service) = (Project::new(), Moto::start());
    let (from, to) = options(&service.host());
    project.built("one", &[&to]);
    let cache = from.strip_prefix("--cache-from=").unwrap();
    let removed = project.rbuild("one", &["cache", "rm", cache]);
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    let again = project.rbuild("one", &["cache", "rm", cache]);
    assert!(again.code == 1 && !again.stderr.contains("hidden"), "{}", again.stderr);
    assert_eq!(project.built("two", &[&from, &to]).ran(), 8);
    assert_eq!(project.built("three", &[&from]).ran(), 0);
}

/// What moto takes for a signature.
const ANYBODY: &str =
    "AWS4-HMAC-SHA256 Credential=id/20260101/eu-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// The head as it is in the bucket.
fn head_of(service: &Moto) -> (String, Pack) {
    let url = format!("http://{}/{BUCKET}/ci/manifests/rbuild/rbuild", service.host());
    let head = ureq::get(&url).header("authorization", ANYBODY).call();
    let bytes = head.unwrap().body_mut().read_to_vec().unwrap();
    (url, Pack::parse(&bytes).unwrap())
}

#[test]
fn blobs_that_are_used_stay_young() {
    let (project, service) = (Project::new(), Moto::start());
    let counter = Server::between(service.host(), |_, reply| reply);
    let (from, to) = options(&counter.host());
    project.built("one", &[&to]);
    let copied = || {
        let all = counter.received();
        all.iter().filter(|request| request.header("x-amz-copy-source").is_some()).count()
    };
    assert_eq!(copied(), 0);
    for (machine, more, is_touched) in [("two", "", true), ("three", ",touch_refresh=0s", false)] {
        let (url, mut pack) = head_of(&service);
        pack.entries.values_mut().for_each(|entry| entry.used -= 48 * 3600);
        pack.indexes.values_mut().for_each(|index| index.used -= 48 * 3600);
        ureq::put(&url).header("authorization", ANYBODY).send(&pack.to_bytes()[..]).unwrap();
        let before = copied();
        project.built(machine, &[&from, &format!("{to}{more}")]);
        let blobs = pack.blobs().len();
        assert_eq!(copied() - before, if is_touched { blobs } else { 0 }, "{machine}");
        // It is known from now on.
        project.built(machine, &[&from, &format!("{to}{more}")]);
        assert_eq!(copied() - before, if is_touched { blobs } else { 0 }, "{machine}");
    }
}

#[test]
fn a_service_without_conditions_is_written_to() {
    let (project, service) = (Project::new(), Moto::start());
    let upstream = service.host();
    let server = Server::start(move |request| {
        let conditions = ["if-match", "if-none-match"];
        let is_asked =
            request.method == "PUT" && conditions.iter().any(|name| request.header(name).is_some());
        match is_asked {
            true => Reply::new(501, "<Error><Code>NotImplemented</Code></Error>"),
            false => forward(&upstream, request),
        }
    });
    let (from, to) = options(&server.host());
    let first = project.built("one", &[&to]);
    assert!(first.stderr.contains("cached to "), "{}", first.stderr);
    project.write("a", "changed\n");
    project.built("two", &[&from, &to]);
    assert_eq!(project.built("three", &[&from]).ran(), 0);
    project.write("a", "a file\n");
    assert_eq!(project.built("four", &[&from]).ran(), 0);
}

/// Reads requests from its standard input, signs each again and compares.
const SIGNS_AGAIN: &str = r#"
import json, sys
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
for request in json.load(sys.stdin):
    headers = request["headers"]
    parts = (part.strip().split("=", 1) for part in headers["authorization"].split(" ", 1)[1].split(","))
    said = dict(parts)
    key, _, region, service, _ = said["Credential"].split("/")
    signed = {name: headers[name] for name in said["SignedHeaders"].split(";")}
    again = AWSRequest(request["method"], "http://" + headers["host"] + request["path"], headers=signed)
    again.context["timestamp"] = headers["x-amz-date"]
    signer = S3SigV4Auth(Credentials(key, "hidden-key"), service, region)
    text = signer.canonical_request(again)
    made = signer.signature(signer.string_to_sign(again, text), again)
    if made != said["Signature"]:
        sys.exit("another signature for " + text)
"#;

#[test]
fn requests_are_signed_as_amazons_own_library_does() {
    let (project, service) = (Project::new(), Moto::start());
    let counter = Server::between(service.host(), |_, reply| reply);
    let (from, to) = options(&counter.host());
    // What must be encoded in paths and queries.
    let odd = |option: String| option.replace("prefix=ci/", "prefix=c i+/ä/,name=a&b");
    let (from, to) = (odd(from), odd(to));
    project.built("one", &[&to]);
    let second = project.built("two", &[&from, &to]);
    assert_eq!(second.ran(), 0, "{}", second.stderr);
    let requests = counter.received();
    let is_there = |method: &str, part: &str| {
        assert!(requests.iter().any(|r| r.method == method && r.path.contains(part)), "{method} {part}");
    };
    is_there("PUT", "c%20i%2B/%C3%A4/");
    is_there("GET", "list-type=2&prefix=c%20i%2B%2F");
    let told: Vec<serde_json::Value> = requests
        .iter()
        .map(|request| {
            let content = request.header("x-amz-content-sha256").unwrap();
            assert!(content == "UNSIGNED-PAYLOAD" || content == Digest::of(&request.body).hex(), "{content}");
            let headers: serde_json::Map<String, serde_json::Value> =
                request.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
            serde_json::json!({"method": request.method, "path": request.path, "headers": headers})
        })
        .collect();
    let mut child =
        python().args(["-c", SIGNS_AGAIN]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&serde_json::to_vec(&told).unwrap()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
