use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use rbuild::oci::Layer;
use rbuild::registry::{Client, Error, Progress};
use rbuild::report::{Event, Events, StepNumber};
use rbuild::store::Store;

use super::{amd64, client, impatient_client, reference, small_image, store};
use crate::support::http::{Ending, Received, Reply, Server};
use crate::support::image::{TestImage, TestLayer};
use crate::support::registry::Registry;

pub(super) const SIZE: usize = 600_000;

/// Five blobs that take a while.
pub(super) fn large_image() -> TestImage {
    TestImage::new("linux/amd64", (0..5).map(|seed| TestLayer::noise(SIZE, seed)).collect())
}

pub(super) fn pull(client: &Client, store: &Store, host: &str) -> Result<Vec<Layer>, Error> {
    let reference = reference(host, "base:1");
    let resolved = client.resolve(store, &reference, &amd64())?;
    client.pull_layers(store, &reference, &resolved.layers, &Progress::silent())?;
    Ok(resolved.layers)
}

pub(super) fn assert_complete(store: &Store, image: &TestImage) {
    for layer in &image.layers {
        assert!(store.verify_blob(&layer.digest()).unwrap(), "{}", layer.digest());
    }
}

pub(super) fn layer_requests(server: &Server) -> Vec<Received> {
    server.received().into_iter().filter(|r| r.path.contains("/blobs/")).collect()
}

#[test]
fn fetches_each_blob_once_and_never_again() {
    let registry = Registry::start();
    let image = small_image();
    registry.push(&image, "base", "1");
    let between = Server::between(registry.host(), |_, reply| reply);
    let (_dir, store) = store();
    pull(&client(), &store, &between.host()).unwrap();
    assert_complete(&store, &image);
    // The configuration, and two different layers of three.
    assert_eq!(layer_requests(&between).len(), 3);
    pull(&client(), &store, &between.host()).unwrap();
    assert_eq!(layer_requests(&between).len(), 3);
}

#[test]
fn reports_bytes_of_each_layer() {
    let registry = Registry::start();
    let image = large_image();
    registry.push(&image, "base", "1");
    let (_dir, store) = store();
    let reference = reference(&registry.host(), "base:1");
    let resolved = client().resolve(&store, &reference, &amd64()).unwrap();
    let (sender, receiver) = channel();
    let progress = Progress::new(Events::new(sender), StepNumber(7));
    client().pull_layers(&store, &reference, &resolved.layers, &progress).unwrap();
    drop(progress);
    let mut ended: Vec<String> = receiver
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Bytes { step: StepNumber(7), what, done, total } if done == total => Some(what),
            _ => None,
        })
        .collect();
    ended.sort();
    let mut expected: Vec<String> = image.layers.iter().map(|layer| layer.digest().short()).collect();
    expected.sort();
    assert_eq!(ended, expected);
}

/// Breaks off the first two answers of every blob that is no configuration, each time a bit later.
fn breaking(registry: &Registry, ending: fn(usize) -> Ending, ranges: bool) -> Server {
    let counts = Mutex::new(std::collections::BTreeMap::<String, usize>::new());
    let upstream = registry.host();
    Server::start(move |request| {
        let mut request = request.clone();
        if !ranges {
            request.headers.retain(|(name, _)| name != "range");
        }
        let reply = crate::support::http::forward(&upstream, &request);
        if reply.body.len() < 100_000 {
            return reply;
        }
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(request.path.clone()).or_default();
        *count += 1;
        if *count > 2 { reply } else { reply.ending(ending(*count * 100_000)) }
    })
}

#[test]
fn goes_on_where_the_connection_broke() {
    let registry = Registry::start();
    let image = large_image();
    registry.push(&image, "base", "1");
    let server = breaking(&registry, Ending::CutAfter, true);
    let (_dir, store) = store();
    pull(&client(), &store, &server.host()).unwrap();
    assert_complete(&store, &image);
    let path = format!("/v2/base/blobs/{}", image.layers[0].digest());
    let asked: Vec<String> = layer_requests(&server)
        .iter()
        .filter(|r| r.path == path)
        .map(|r| r.header("range").unwrap_or("all").to_owned())
        .collect();
    assert_eq!(asked, ["all", "bytes=100000-", "bytes=300000-"]);
}

#[test]
fn goes_on_after_a_stall() {
    let registry = Registry::start();
    let image = large_image();
    registry.push(&image, "base", "1");
    let server = breaking(&registry, Ending::StallAfter, true);
    let (_dir, store) = store();
    pull(&impatient_client(), &store, &server.host()).unwrap();
    assert_complete(&store, &image);
}

#[test]
fn starts_over_where_ranges_are_unknown() {
    let registry = Registry::start();
    let image = large_image();
    registry.push(&image, "base", "1");
    let server = breaking(&registry, Ending::CutAfter, false);
    let (_dir, store) = store();
    pull(&client(), &store, &server.host()).unwrap();
    assert_complete(&store, &image);
}

#[test]
fn gives_up_on_a_connection_that_always_breaks() {
    let registry = Registry::start();
    registry.push(&large_image(), "base", "1");
    let server = Server::between(registry.host(), |request, reply| match request.path.contains("/blobs/") {
        true if reply.body.len() > 100_000 => reply.ending(Ending::CutAfter(10)),
        _ => reply,
    });
    let (_dir, store) = store();
    let error = pull(&client(), &store, &server.host()).unwrap_err();
    assert!(matches!(error, Error::Interrupted { done: 40, .. }), "{error}");
    assert!(error.to_string().contains("broke at 40 of 600000 bytes"), "{error}");
}

#[test]
fn refuses_layers_that_are_not_what_their_digest_says() {
    let registry = Registry::start();
    let image = large_image();
    registry.push(&image, "base", "1");
    for (what, spoil) in [
        ("changed", (|body: &mut Vec<u8>| body[300_000] ^= 1) as fn(&mut Vec<u8>)),
        ("too long", |body| body.push(0)),
        ("too short", |body| body.truncate(SIZE - 1)),
    ] {
        let between = Server::between(registry.host(), move |request, mut reply| {
            if request.header("range").is_some() {
                return Reply::new(416, "");
            }
            if reply.body.len() >= SIZE {
                spoil(&mut reply.body);
                reply.headers.retain(|(name, _)| name != "content-length");
            }
            reply
        });
        let (_dir, store) = store();
        let error = pull(&client(), &store, &between.host()).unwrap_err();
        let expected = match what {
            "changed" => matches!(error, Error::DigestMismatch { .. }),
            "too long" => matches!(error, Error::Malformed { .. }),
            _ => matches!(error, Error::Interrupted { .. }),
        };
        assert!(expected, "{what}: {error}");
        for layer in &image.layers {
            assert_eq!(store.has_blob(&layer.digest()), None, "{what}");
        }
    }
}

#[test]
fn says_which_blob_is_gone() {
    let registry = Registry::start();
    let image = small_image();
    registry.push(&image, "base", "1");
    let gone = image.layers[1].digest().to_string();
    let hidden = gone.clone();
    let server =
        Server::between(registry.host(), move |request, reply| match request.path.contains(&hidden) {
            true => Reply::new(404, r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"gone"}]}"#),
            false => reply,
        });
    let (_dir, store) = store();
    let error = pull(&client(), &store, &server.host()).unwrap_err();
    assert!(matches!(&error, Error::UnknownBlob { digest, .. } if digest.to_string() == gone), "{error}");
}

#[test]
fn two_builds_at_once_share_one_transfer() {
    let registry = Registry::start();
    let image = large_image();
    registry.push(&image, "base", "1");
    let between = Server::between(registry.host(), |_, reply| reply);
    let (_dir, store) = store();
    let client = client();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| pull(&client, &store, &between.host()).unwrap());
        }
    });
    assert_complete(&store, &image);
    let layers = layer_requests(&between)
        .iter()
        .filter(|r| image.layers.iter().any(|l| r.path.ends_with(&l.digest().hex())))
        .count();
    assert_eq!(layers, 5);
}

#[test]
fn two_processes_at_once_do_not_disturb_each_other() {
    let registry = Registry::start();
    let image = large_image();
    registry.push(&image, "base", "1");
    let (dir, _store) = store();
    // Clients and stores that share nothing but the directory are what two processes are.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let store = Store::open(&dir.path().join("store")).unwrap();
                pull(&client(), &store, &registry.host()).unwrap();
                assert_complete(&store, &image);
            });
        }
    });
}

#[test]
fn moves_no_more_than_four_blobs_at_once() {
    let registry = Registry::start();
    let image = TestImage::new("linux/amd64", (0..12).map(|seed| TestLayer::noise(2000, seed)).collect());
    registry.push(&image, "base", "1");
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let upstream = registry.host();
    let server = Server::start(move |request| {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let reply = crate::support::http::forward(&upstream, request);
        NOW.fetch_sub(1, Ordering::SeqCst);
        reply
    });
    let (_dir, store) = store();
    pull(&client(), &store, &server.host()).unwrap();
    assert_complete(&store, &image);
    assert!(MOST.load(Ordering::SeqCst) <= 4);
}
