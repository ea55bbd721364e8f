use rbuild::http::{Environment, Problem};
use rbuild::oci::{Descriptor, Digest, MediaType, Platform};
use rbuild::registry::Error;

use super::{amd64, client, client_in, impatient_client, reference, small_image, store};
use crate::support::http::{Ending, Reply, Server};
use crate::support::image::{TestImage, TestLayer};
use crate::support::registry::Registry;

#[test]
fn reads_oci_and_docker_manifests_alike() {
    let registry = Registry::start();
    let (_dir, store) = store();
    for (image, tag) in [(small_image(), "oci"), (small_image().docker(), "docker")] {
        let pushed = registry.push(&image, "base", tag);
        let reference = reference(&registry.host(), &format!("base:{tag}"));
        let resolved = client().resolve(&store, &reference, &amd64()).unwrap();
        assert_eq!(resolved.manifest.digest, pushed.digest);
        assert_eq!(resolved.manifest.media_type, pushed.media_type);
        assert_eq!(resolved.target.digest, pushed.digest);
        assert_eq!(resolved.config, image.config);
        assert_eq!(resolved.layers.len(), 3);
        assert_eq!(resolved.layers[1].descriptor, image.layers[1].descriptor());
        assert_eq!(resolved.layers[1].diff_id, image.layers[1].diff_id);
        assert!(store.has_blob(&pushed.digest).is_some(), "the manifest is stored");
        assert!(store.has_blob(&image.manifest().config.digest).is_some(), "the configuration is stored");
    }
}

#[test]
fn an_image_without_layers_is_an_image() {
    let registry = Registry::start();
    let (_dir, store) = store();
    registry.push(&TestImage::new("linux/amd64", Vec::new()), "empty", "latest");
    let resolved = client().resolve(&store, &reference(&registry.host(), "empty"), &amd64()).unwrap();
    assert_eq!(resolved.layers, []);
}

#[test]
fn picks_the_best_platform_of_an_index() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let mut entries = Vec::new();
    let mut attestation = small_image();
    attestation.config.architecture = "unknown".to_owned();
    attestation.config.os = "unknown".to_owned();
    entries.push(registry.push(&attestation, "multi", "att"));
    for platform in ["linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/amd64", "linux/amd64"] {
        let layer = TestLayer::files(&[("platform", &format!("{platform} {}", entries.len()))]);
        entries.push(registry.push(&TestImage::new(platform, vec![layer]), "multi", "part"));
    }
    // What BuildKit puts beside an image says that it is about an image, and need not say `unknown`.
    entries[4].annotations.insert("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned());
    let index = registry.push_index(entries.clone(), "multi", "1");
    let reference = reference(&registry.host(), "multi:1");
    for (platform, expected) in [
        ("linux/amd64", 5),
        ("linux/arm64", 3),
        ("linux/arm/v7", 2),
        ("linux/arm/v6", 1),
        ("linux/amd64/v3", 5),
    ] {
        let resolved = client().resolve(&store, &reference, &platform.parse().unwrap()).unwrap();
        assert_eq!(resolved.manifest.digest, entries[expected].digest, "{platform}");
        assert_eq!(resolved.target.digest, index);
        assert!(store.has_blob(&index).is_some(), "the index is stored");
    }
    let error = client().resolve(&store, &reference, &"linux/s390x".parse().unwrap()).unwrap_err();
    let expected = format!(
        "`{}/multi:1`: no match for linux/s390x; this image has: linux/arm/v6, linux/arm/v7, linux/arm64, linux/amd64",
        registry.host()
    );
    assert_eq!(error.to_string(), expected);
    assert!(error.help().unwrap().contains("--platform"));
}

#[test]
fn looks_into_entries_that_do_not_say_their_platform() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let silent = |image: &TestImage| Descriptor { platform: None, ..registry.push(image, "silent", "part") };
    let arm = silent(&TestImage::new("linux/arm64", vec![TestLayer::files(&[("arm", "")])]));
    let amd = silent(&small_image());
    registry.push_index(vec![arm, amd.clone()], "silent", "1");
    let reference = reference(&registry.host(), "silent:1");
    let resolved = client().resolve(&store, &reference, &amd64()).unwrap();
    assert_eq!(resolved.manifest.digest, amd.digest);
    let error = client().resolve(&store, &reference, &"linux/s390x".parse().unwrap()).unwrap_err();
    assert!(matches!(error, Error::NoPlatform { .. }), "{error}");
}

#[test]
fn follows_an_index_within_an_index() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let image = registry.push(&small_image(), "nested", "part");
    let inner = registry.push_index(vec![image.clone()], "nested", "inner");
    let size = store.put_blob(b"").map(|_| 0).unwrap();
    let entry = Descriptor::new(MediaType::INDEX, inner, size);
    registry.push_index(vec![entry], "nested", "outer");
    let resolved = client().resolve(&store, &reference(&registry.host(), "nested:outer"), &amd64()).unwrap();
    assert_eq!(resolved.manifest.digest, image.digest);
}

#[test]
fn a_single_manifest_of_another_platform_is_taken_as_it_is() {
    let registry = Registry::start();
    let (_dir, store) = store();
    registry.push(&TestImage::new("linux/s390x", vec![TestLayer::files(&[("x", "")])]), "single", "1");
    let resolved = client().resolve(&store, &reference(&registry.host(), "single:1"), &amd64()).unwrap();
    assert_eq!(resolved.config.platform(), Platform::new("linux", "s390x"));
}

#[test]
fn by_digest_the_second_time_needs_no_registry() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let digest = registry.push(&small_image(), "base", "1").digest;
    let reference = reference(&registry.host(), &format!("base:ignored@{digest}"));
    client().resolve(&store, &reference, &amd64()).unwrap();
    drop(registry);
    let resolved = client().resolve(&store, &reference, &amd64()).unwrap();
    assert_eq!(resolved.manifest.digest, digest);
}

#[test]
fn by_tag_the_second_time_is_one_head_request() {
    let registry = Registry::start();
    let (_dir, store) = store();
    registry.push(&small_image(), "base", "1");
    let between = Server::between(registry.host(), |_, reply| reply);
    let reference = reference(&between.host(), "base:1");
    client().resolve(&store, &reference, &amd64()).unwrap();
    let first = between.requests().len();
    client().resolve(&store, &reference, &amd64()).unwrap();
    assert_eq!(between.requests()[first..], ["HEAD /v2/base/manifests/1"]);
}

#[test]
fn a_tag_that_moved_is_seen() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let reference = reference(&registry.host(), "base:1");
    for image in [small_image(), TestImage::new("linux/amd64", Vec::new())] {
        let digest = registry.push(&image, "base", "1").digest;
        assert_eq!(client().resolve(&store, &reference, &amd64()).unwrap().manifest.digest, digest);
    }
}

#[test]
fn says_which_tag_is_missing() {
    let registry = Registry::start();
    let (_dir, store) = store();
    registry.push(&small_image(), "base", "1");
    let host = registry.host();
    let error = client().resolve(&store, &reference(&host, "base:absent"), &amd64()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("`{host}/base:absent` not found: the repository `base` on `{host}` has no `absent`")
    );
    assert!(error.help().unwrap().contains("list-tags"));
}

#[test]
fn says_that_a_repository_is_missing_when_the_registry_does() {
    let body = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#;
    let server = Server::start(move |_| Reply::new(404, body));
    let (_dir, store) = store();
    let error = client().resolve(&store, &reference(&server.host(), "nope:1"), &amd64()).unwrap_err();
    assert!(matches!(&error, Error::UnknownRepository { repository, .. } if repository == "nope"), "{error}");
}

#[test]
fn says_that_nothing_listens() {
    let (_dir, store) = store();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let reference = reference(&format!("localhost:{port}"), "x");
    let error = client().resolve(&store, &reference, &amd64()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("`localhost:{port}/x`: cannot reach `localhost` on port {port}: connection refused")
    );
}

#[test]
fn says_that_a_name_has_no_address() {
    let (_dir, store) = store();
    let error = client().resolve(&store, &reference("no-such-host.invalid", "x"), &amd64()).unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("`no-such-host.invalid/x`: cannot reach `no-such-host.invalid` on port 443: "),
        "{said}"
    );
}

/// What a registry may answer with to a manifest request, and what is said about it.
#[test]
fn refuses_manifests_that_make_no_sense() {
    let (_dir, store) = store();
    let image = small_image();
    let mut short = image.manifest();
    short.layers.pop();
    let many = format!("{{\"schemaVersion\":2,\"x\":\"{}\"}}", "x".repeat(5 << 20));
    for (body, expected) in [
        ("<html>captive portal</html>".to_owned(), "malformed"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "schema 1"),
        (many, "more than the 4194304 bytes"),
        (serde_json::to_string(&short).unwrap(), "the manifest has 2 layers, the configuration"),
    ] {
        let config = image.config_bytes();
        let server = Server::start(move |request| match request.path.contains("/blobs/") {
            true => Reply::new(200, config.clone()),
            false => Reply::new(200, body.clone()),
        });
        let error = client().resolve(&store, &reference(&server.host(), "x"), &amd64()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn refuses_bytes_that_are_not_those_of_their_digest() {
    let registry = Registry::start();
    let digest = registry.push(&small_image(), "base", "1").digest;
    let by_digest = format!("base@{digest}");
    for (name, changed) in
        [("base:1", "/manifests/"), (by_digest.as_str(), "/manifests/"), ("base:1", "/blobs/")]
    {
        let (_dir, store) = store();
        let between = Server::between(registry.host(), move |request, mut reply| {
            if request.path.contains(changed) && !reply.body.is_empty() {
                // A changed space or letter: still JSON, other bytes.
                reply.body = String::from_utf8(reply.body).unwrap().replace("linux", "linuy").into_bytes();
                reply.body.push(b' ');
                reply.headers.retain(|(name, _)| name != "content-length");
            }
            reply
        });
        let error = client().resolve(&store, &reference(&between.host(), name), &amd64()).unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{name} {changed}: {error}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn waits_out_a_busy_registry() {
    let registry = Registry::start();
    registry.push(&small_image(), "base", "1");
    let (_dir, store) = store();
    for (status, ending) in [(429, Ending::Whole), (503, Ending::Whole), (200, Ending::NoAnswer)] {
        let left = std::sync::atomic::AtomicUsize::new(2);
        let between = Server::between(registry.host(), move |_, reply| {
            let busy = left
                .fetch_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst, |n| {
                    n.checked_sub(1)
                })
                .is_ok();
            match busy {
                true => Reply::new(status, "").header("retry-after", "0").ending(ending),
                false => reply,
            }
        });
        client().resolve(&store, &reference(&between.host(), "base:1"), &amd64()).unwrap();
    }
}

#[test]
fn a_registry_that_stays_busy_is_an_error() {
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"you have reached your pull rate limit"}]}"#;
    let server = Server::start(move |_| Reply::new(429, body).header("retry-after", "3600"));
    let (_dir, store) = store();
    let error = client().resolve(&store, &reference(&server.host(), "x"), &amd64()).unwrap_err();
    let Error::Status { status: 429, retry_after_seconds: Some(3600), detail, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(detail, "you have reached your pull rate limit");
    assert!(error.help().unwrap().contains("rbuild login"));
    // An hour is more than anyone wants to wait: it is not tried again.
    assert_eq!(server.requests().len(), 2, "HEAD, and GET for the words");
}

#[test]
fn a_registry_that_says_nothing_is_left() {
    let server = Server::start(|_| Reply::new(200, "x").ending(Ending::StallAfter(0)));
    let (_dir, store) = store();
    let error = impatient_client().resolve(&store, &reference(&server.host(), "x"), &amd64()).unwrap_err();
    assert!(error.to_string().contains("stalled"), "{error}");
}

#[test]
fn digest_headers_of_other_algorithms_are_no_obstacle() {
    let image = small_image();
    let bytes = image.manifest_bytes();
    let config = image.config_bytes();
    let server = Server::start(move |request| match request.path.contains("/blobs/") {
        true => Reply::new(200, config.clone()),
        false => Reply::new(200, bytes.clone()).header("docker-content-digest", "sha512:00"),
    });
    let (_dir, store) = store();
    let resolved = client().resolve(&store, &reference(&server.host(), "x"), &amd64()).unwrap();
    assert_eq!(resolved.manifest.digest, Digest::of(&image.manifest_bytes()));
}

#[test]
fn goes_through_the_proxy_of_the_environment() {
    let proxy = Server::start(|_| Reply::new(403, ""));
    let environment = Environment::empty()
        .with("HTTPS_PROXY", format!("http://user:hunter2@{}", proxy.host()))
        .with("NO_PROXY", "direct.invalid");
    let (_dir, store) = store();
    let client = client_in(environment);
    let error = client.resolve(&store, &reference("registry.invalid", "x"), &amd64()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { problem: Problem::Proxy, .. }), "{error:?}");
    assert!(error.to_string().contains("(through the proxy `localhost`)"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
    assert_eq!(proxy.requests(), ["CONNECT registry.invalid:443"]);
    client.resolve(&store, &reference("direct.invalid", "x"), &amd64()).unwrap_err();
    assert_eq!(proxy.requests().len(), 1);
}

#[test]
fn a_manifest_whose_connection_broke_is_asked_for_again() {
    let registry = Registry::start();
    let image = small_image();
    let digest = registry.push(&image, "base", "1").digest;
    let broken = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::between(registry.host(), move |request, reply| {
        let breaks = request.method == "GET" && broken.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2;
        if breaks { reply.ending(Ending::CutAfter(20)) } else { reply }
    });
    let (_dir, store) = store();
    let resolved = client().resolve(&store, &reference(&server.host(), "base:1"), &amd64()).unwrap();
    assert_eq!(resolved.manifest.digest, digest);
}
