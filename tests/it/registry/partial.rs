//! What arrived before a transfer broke off is there for the next process.

use rbuild::registry::Error;
use rbuild::store::{Folder, Store};

use super::pull::{assert_complete, large_image, layer_requests, pull};
use super::{client, store};
use crate::support::http::{Ending, Server};
use crate::support::registry::Registry;

/// Lets no more than so many bytes of a layer through.
fn cutting(registry: &Registry) -> Server {
    Server::between(registry.host(), |request, reply| match reply.body.len() > 100_000 {
        true if request.header("range").is_none() => reply.ending(Ending::CutAfter(100_000)),
        true => reply.ending(Ending::CutAfter(0)),
        false => reply,
    })
}

#[test]
fn the_next_process_goes_on_where_one_gave_up() {
    let registry = Registry::start();
    let image = large_image();
    registry.push(&image, "base", "1");
    let (dir, first) = store();
    let error = pull(&client(), &first, &cutting(&registry).host()).unwrap_err();
    assert!(matches!(error, Error::Interrupted { done: 100_000, .. }), "{error}");
    assert!(error.help().unwrap().contains("what arrived is kept"));
    drop(first);

    let between = Server::between(registry.host(), |_, reply| reply);
    let second = Store::open(&dir.path().join("store")).unwrap();
    pull(&client(), &second, &between.host()).unwrap();
    assert_complete(&second, &image);
    let resumed =
        layer_requests(&between).iter().filter(|r| r.header("range") == Some("bytes=100000-")).count();
    assert!(resumed >= 1, "{:?}", between.requests());
    assert_eq!(std::fs::read_dir(second.private(Folder::Partial)).unwrap().count(), 0);
}

#[test]
fn a_damaged_part_costs_only_time() {
    let registry = Registry::start();
    let image = large_image();
    registry.push(&image, "base", "1");
    let (_dir, store) = store();
    for (layer, damage) in image.layers.iter().zip([&b"wrong"[..], &[0; 700_000], &[0; 600_000], b"x", b"y"])
    {
        let path = store.private(Folder::Partial).join(layer.digest().hex());
        std::fs::write(path, damage).unwrap();
    }
    pull(&client(), &store, &registry.host()).unwrap();
    assert_complete(&store, &image);
}
