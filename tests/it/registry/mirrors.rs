//! Mirrors, blocked registries, short names, and what flags say about certificates.

use std::sync::mpsc::channel;

use rbuild::config::Flags;
use rbuild::http::Problem;
use rbuild::registry::{Client, Error};
use rbuild::report::{Event, Events};

use super::pull::{assert_complete, large_image, layer_requests, pull};
use super::{amd64, configured, flagged, reference, small_image, store};
use crate::support::http::{Ending, Reply, Server};
use crate::support::registry::Registry;

/// What a client tells while `work` is done.
fn notes(client: &Client, work: impl FnOnce()) -> Vec<String> {
    let (sender, receiver) = channel();
    client.tell(&Events::new(sender));
    work();
    let notes = receiver.try_iter().filter_map(|(_, event)| match event {
        Event::Note(text) => Some(text),
        _ => None,
    });
    notes.collect()
}

fn mirrors(primary: &str, mirrors: &[&str]) -> Client {
    configured(&format!("[registry.'{primary}']\nmirrors = {mirrors:?}\n"))
}

/// A port where nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("localhost:{}", listener.local_addr().unwrap().port())
}

#[test]
fn mirrors_are_asked_in_order_and_the_registry_last() {
    let (full, empty, primary) = (Registry::start(), Registry::start(), Registry::start());
    let image = large_image();
    full.push(&image, "copies/base", "1");
    let asked = Server::between(primary.host(), |_, reply| reply);
    let (host, dead) = (asked.host(), nowhere());
    let client = mirrors(&host, &[&dead, &empty.host(), &format!("http://{}/copies", full.host())]);
    let (_dir, store) = store();
    let told = notes(&client, || {
        pull(&client, &store, &host).unwrap();
    });
    assert_complete(&store, &image);
    assert_eq!(asked.requests(), Vec::<String>::new());
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with(&format!("mirror `{dead}` failed, going on with `{}`", empty.host())));
    assert!(told[1].contains("not found"), "{told:?}");
}

#[test]
fn without_a_mirror_the_registry_does() {
    let primary = Registry::start();
    let image = small_image();
    primary.push(&image, "base", "1");
    let (_dir, store) = store();
    pull(&mirrors(&primary.host(), &[&nowhere()]), &store, &primary.host()).unwrap();
    assert_complete(&store, &image);
}

#[test]
fn what_a_mirror_brought_is_not_fetched_again() {
    let registry = Registry::start();
    let image = large_image();
    registry.push(&image, "base", "1");
    let breaking = Server::between(registry.host(), |_, reply| match reply.body.len() > 100_000 {
        true => reply.ending(Ending::CutAfter(100_000)),
        false => reply,
    });
    let primary = Server::between(registry.host(), |_, reply| reply);
    let (_dir, store) = store();
    pull(&mirrors(&primary.host(), &[&breaking.host()]), &store, &primary.host()).unwrap();
    assert_complete(&store, &image);
    let ranges: Vec<Option<String>> =
        layer_requests(&primary).iter().map(|r| r.header("range").map(str::to_owned)).collect();
    assert!(!ranges.is_empty() && ranges.iter().all(Option::is_some), "{ranges:?}");
}

#[test]
fn a_mirror_that_lies_is_found_out() {
    let registry = Registry::start();
    let image = large_image();
    registry.push(&image, "base", "1");
    let lying = Server::between(registry.host(), |_, mut reply| {
        if reply.body.len() > 100_000 {
            reply.body[50_000] ^= 1;
        }
        reply
    });
    let (_dir, store) = store();
    let client = mirrors(&registry.host(), &[&lying.host()]);
    let told = notes(&client, || {
        pull(&client, &store, &registry.host()).unwrap();
    });
    assert_complete(&store, &image);
    assert!(told.iter().any(|note| note.contains("digest mismatch")), "{told:?}");
}

#[test]
fn what_is_blocked_is_not_asked() {
    let registry = Server::start(|_| Reply::new(500, ""));
    let client = configured(&format!("[registry.'{}']\nblocked = true\n", registry.host()));
    let (_dir, store) = store();
    let error = client.resolve(&store, &reference(&registry.host(), "x:1"), &amd64()).unwrap_err();
    assert!(matches!(error, Error::Blocked { .. }), "{error}");
    assert!(error.to_string().contains("config.toml"), "{error}");
    assert!(registry.requests().is_empty());
}

#[test]
fn a_short_name_is_looked_for_in_each_registry() {
    let (first, second) = (Registry::start(), Registry::start());
    let image = small_image();
    second.push(&image, "team/base", "1");
    let (first, second) = (first.host(), second.host());
    let client = configured(&format!(
        "unqualified-search-registries = ['{first}', '{second}']\n[aliases]\nown = '{second}/team/base'\n"
    ));
    let (_dir, store) = store();
    for name in ["team/base:1", "own:1"] {
        let resolved = client.resolve(&store, &name.parse().unwrap(), &amd64()).unwrap();
        assert_eq!(resolved.remote.unwrap().to_string(), format!("{second}/team/base:1"));
    }
    let error = client.resolve(&store, &"team/base:2".parse().unwrap(), &amd64()).unwrap_err();
    assert!(error.to_string().contains(&format!("{second}/team/base:2")), "{error}");
}

#[test]
fn plain_http_is_refused_where_tls_is_demanded() {
    let registry = Registry::start();
    registry.push(&small_image(), "base", "1");
    let (_dir, store) = store();
    let demanding = flagged("", Flags { tls_verify: Some(true), ..Flags::default() });
    let error = pull(&demanding, &store, &registry.host()).unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { problem, .. } if *problem != Problem::Certificate),
        "{error}"
    );
    let careless = flagged("", Flags { tls_verify: Some(false), ..Flags::default() });
    pull(&careless, &store, &registry.host()).unwrap();
}

#[test]
fn flags_name_mirrors_too() {
    let registry = Registry::start();
    registry.push(&small_image(), "library/base", "1");
    let flags = Flags { mirrors: vec![format!("http://{}", registry.host())], ..Flags::default() };
    let (_dir, store) = store();
    let resolved = flagged("", flags).resolve(&store, &"base:1".parse().unwrap(), &amd64()).unwrap();
    assert_eq!(resolved.remote.unwrap().to_string(), "base:1");
}
