//! Blobs that are large enough to be sent in chunks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rbuild::oci::Descriptor;
use rbuild::registry::{Error, Progress};
use rbuild::store::Store;

use super::push::keep;
use super::{amd64, client, reference, store};
use crate::support::http::{Ending, Received, Reply, Server, forward};
use crate::support::image::{TestImage, TestLayer};
use crate::support::registry::Registry;

/// Two and a half chunks.
const SIZE: usize = 5 << 19;

fn large(store: &Store) -> (TestImage, Descriptor) {
    let image = TestImage::new("linux/amd64", vec![TestLayer::noise(SIZE, 1)]);
    let descriptor = keep(store, &image);
    (image, descriptor)
}

fn push(server: &Server, store: &Store, image: &Descriptor) -> Result<(), Error> {
    client().push(store, image, &[reference(&server.host(), "app:1")], &Progress::silent())
}

/// What the registry has is what was sent.
fn assert_arrived(registry: &Registry, image: &TestImage) {
    let (_dir, fresh) = store();
    let name = reference(&registry.host(), "app:1");
    let resolved = client().resolve(&fresh, &name, &amd64()).unwrap();
    client().pull_layers(&fresh, &name, &resolved.layers, &Progress::silent()).unwrap();
    assert!(fresh.verify_blob(&image.layers[0].digest()).unwrap());
}

/// Method and size of each request that sent something of the layer.
fn sent(server: &Server) -> Vec<(String, usize)> {
    let large = |r: &&Received| r.body.len() > 100_000;
    server.received().iter().filter(large).map(|r| (r.method.clone(), r.body.len())).collect()
}

const CHUNK: usize = super::CHUNK as usize;

#[test]
fn a_large_blob_is_sent_in_chunks() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let (image, descriptor) = large(&store);
    let server = Server::between(registry.host(), |_, reply| reply);
    push(&server, &store, &descriptor).unwrap();
    assert_arrived(&registry, &image);
    let patch = |size: usize| ("PATCH".to_owned(), size);
    assert_eq!(sent(&server), [patch(CHUNK), patch(CHUNK), patch(SIZE - 2 * CHUNK)]);
}

#[test]
fn goes_on_with_the_chunk_that_did_not_arrive() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let (image, descriptor) = large(&store);
    let (upstream, patches) = (registry.host(), AtomicUsize::new(0));
    let server = Server::start(move |request| match request.method.as_str() {
        "PATCH" => match patches.fetch_add(1, Ordering::SeqCst) {
            1 => Reply::new(500, "").ending(Ending::NoAnswer),
            2 => Reply::new(503, ""),
            _ => forward(&upstream, request),
        },
        _ => forward(&upstream, request),
    });
    push(&server, &store, &descriptor).unwrap();
    assert_arrived(&registry, &image);
    let begun = server.requests().iter().filter(|r| r.starts_with("POST")).count();
    // One for the layer, one for the configuration.
    assert_eq!((begun, sent(&server).len()), (2, 5));
}

#[test]
fn begins_anew_where_the_registry_forgot_the_upload() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let (image, descriptor) = large(&store);
    let (upstream, patches) = (registry.host(), AtomicUsize::new(0));
    let server = Server::start(move |request| match request.method.as_str() {
        // The bytes arrive, the answer does not: docker's registry then no longer accepts the state that is known here.
        "PATCH" if patches.fetch_add(1, Ordering::SeqCst) == 1 => {
            forward(&upstream, request).ending(Ending::NoAnswer)
        }
        _ => forward(&upstream, request),
    });
    push(&server, &store, &descriptor).unwrap();
    assert_arrived(&registry, &image);
}

#[test]
fn a_registry_that_takes_no_chunks_gets_the_whole() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let (image, descriptor) = large(&store);
    let upstream = registry.host();
    let server = Server::start(move |request| match request.method.as_str() {
        "PATCH" => Reply::new(405, ""),
        _ => forward(&upstream, request),
    });
    push(&server, &store, &descriptor).unwrap();
    assert_arrived(&registry, &image);
    assert_eq!(sent(&server).last(), Some(&("PUT".to_owned(), SIZE)));
}

#[test]
fn a_token_that_expires_on_the_way_is_replaced() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let (image, descriptor) = large(&store);
    // Each token is good for one chunk; other requests, which go beside it, are fine with any.
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let (upstream, seen) = (registry.host(), Arc::clone(&accepted));
    let server = Server::start(move |request| {
        let mut seen = seen.lock().unwrap();
        let valid = seen.len() + 1;
        let host = request.header("host").unwrap_or_default().to_owned();
        if request.path.starts_with("/token") {
            return Reply::new(200, format!(r#"{{"token":"{valid}","expires_in":3600}}"#));
        }
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if token.is_none() || request.method == "PATCH" && token != Some(&valid.to_string()) {
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"tests\"");
            return Reply::new(401, "").header("www-authenticate", challenge);
        }
        if request.method == "PATCH" {
            seen.extend(token.map(str::to_owned));
        }
        forward(&upstream, request)
    });
    push(&server, &store, &descriptor).unwrap();
    assert_arrived(&registry, &image);
    // How often a token was asked for is chance: the configuration goes up at the same time, and they share them.
    assert_eq!(*accepted.lock().unwrap(), ["1", "2", "3"]);
}

#[test]
fn an_upload_that_always_breaks_is_an_error() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let (_image, descriptor) = large(&store);
    let upstream = registry.host();
    let server = Server::start(move |request| match request.method.as_str() {
        "PATCH" => Reply::new(500, "").ending(Ending::NoAnswer),
        _ => forward(&upstream, request),
    });
    let error = push(&server, &store, &descriptor).unwrap_err();
    assert!(matches!(error, Error::UploadBroken { .. }), "{error}");
    let tagged = client().resolve(&store, &reference(&registry.host(), "app:1"), &amd64());
    assert!(tagged.is_err(), "half an image has no tag");
}
