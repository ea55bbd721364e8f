//! Pulls and pushes through a network and a proxy that do everything wrong, by a seed: the result is right, or there is an
//! error that names the image; never is something wrong stored or tagged.
//!
//! A dozen runs by default; `RBUILD_FAULT_RUNS=100 cargo nextest run faults` does more, and
//! `RBUILD_FAULT_SEED` says where to begin.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::Duration;

use rbuild::http::Environment;
use rbuild::oci::Digest;
use rbuild::registry::{Client, Error, Progress, Settings};
use rbuild::store::Store;

use super::push::keep;
use super::{amd64, client, client_in, reference, settings, store};
use crate::support::attack::{Tally, rounds};
use crate::support::http::{Ending, Received, Reply, Server, forward};
use crate::support::image::{TestImage, TestLayer};
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::wire::{Fate, Wire};

/// What the same seed and words always give.
#[derive(Clone, Copy)]
struct Dice(u64);

impl Dice {
    fn of(seed: u64, what: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, what).hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
}

/// How the registry wants to know who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Anyone,
    Login,
    /// Tokens, each good for a few requests.
    Tokens,
}

/// A registry behind everything that can go wrong.
struct World {
    registry: Registry,
    access: Access,
    /// Where redirects lead; it must not be told any login.
    elsewhere: Server,
    _proxy: Server,
    wire: Wire,
}

impl World {
    fn new(seed: u64) -> Self {
        let access = [Access::Anyone, Access::Login, Access::Tokens][(seed % 3) as usize];
        let registry = match access {
            Access::Login => Registry::start_with_login(),
            Access::Anyone | Access::Tokens => Registry::start(),
        };
        let (upstream, header) = (registry.host(), crate::support::registry::basic(USER, PASSWORD));
        let elsewhere = Server::start(move |request| {
            let mut request = request.clone();
            request.headers.retain(|(name, _)| name != "authorization");
            request.headers.push(("authorization".to_owned(), header.clone()));
            forward(&upstream, &request)
        });
        let (upstream, to) = (registry.host(), elsewhere.host());
        let (counts, tokens) = (Mutex::new(BTreeMap::new()), Mutex::new((1_u64, 0_u64)));
        let proxy = Server::start(move |request| {
            let nth = {
                let mut counts = counts.lock().unwrap();
                let nth = counts.entry((request.method.clone(), request.path.clone())).or_insert(0_u64);
                *nth += 1;
                *nth
            };
            if access == Access::Tokens
                && let Some(reply) = token(request, &tokens)
            {
                return reply;
            }
            faulty(Dice::of(seed, (&request.method, request.path.len(), nth)), request, &upstream, &to)
        });
        let wire = Wire::to(&proxy.host(), move |number| {
            let mut dice = Dice::of(seed, number);
            let at = 200 + dice.roll(60_000);
            match dice.roll(20) {
                0 => Fate::CutUp(at),
                1 => Fate::CutDown(at),
                2 => Fate::StallDown(at),
                _ => Fate::Good,
            }
        });
        Self { registry, access, elsewhere, _proxy: proxy, wire }
    }

    /// No login went where a redirect led.
    fn assert_kept_logins(&self, seed: u64) {
        let told = self.elsewhere.received().iter().any(|r| r.header("authorization").is_some());
        assert!(!told, "seed {seed}: a login went to another host");
    }

    /// A client that knows the login of `host`.
    fn client(&self, host: &str, dir: &std::path::Path) -> Client {
        let environment = match self.access {
            Access::Anyone | Access::Tokens => Environment::empty(),
            Access::Login => {
                let basic = crate::support::registry::basic(USER, PASSWORD);
                let auth = basic.trim_start_matches("Basic ");
                let file = dir.join(format!("auth-{}.json", host.replace(':', "-")));
                std::fs::write(&file, format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
                Environment::empty().with("REGISTRY_AUTH_FILE", file)
            }
        };
        if host == self.registry.host() {
            return client_in(environment);
        }
        let mut settings = Settings { chunk_bytes: 60_000, ..settings(environment) };
        settings.http.stall_timeout = Duration::from_millis(400);
        settings.http.attempts = 5;
        Client::new(settings)
    }
}

/// Wants a token that expires after five requests.
fn token(request: &Received, tokens: &Mutex<(u64, u64)>) -> Option<Reply> {
    let (valid, used) = &mut *tokens.lock().unwrap();
    if request.path.starts_with("/token") {
        return Some(Reply::new(200, format!(r#"{{"token":"{valid}","expires_in":3600}}"#)));
    }
    if request.header("authorization") != Some(&format!("Bearer {valid}")) {
        let host = request.header("host").unwrap_or_default();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"tests\"");
        return Some(Reply::new(401, "").header("www-authenticate", challenge));
    }
    *used += 1;
    if *used % 5 == 0 {
        *valid += 1;
    }
    None
}

/// An answer of the registry, or what somebody on the way makes of it.
fn faulty(mut dice: Dice, request: &Received, upstream: &str, elsewhere: &str) -> Reply {
    let at = dice.roll(50_000) as usize;
    let fault = dice.roll(40);
    if request.path.starts_with("/round/") {
        return Reply::new(307, "").header("location", request.path.clone());
    }
    let may_redirect = request.method == "GET" && request.path.contains("/blobs/sha256");
    match fault {
        0 => return Reply::new(429, "").header("retry-after", "0"),
        1 => return Reply::new(503, "<html>busy</html>"),
        2 => return Reply::new(500, "").ending(Ending::NoAnswer),
        3 if may_redirect => {
            return Reply::new(307, "").header("location", format!("http://{elsewhere}{}", request.path));
        }
        // Round and round, here or by way of a place that sends it back.
        11 if may_redirect => return Reply::new(302, "").header("location", "/round/1"),
        12 if request.method == "PUT" || request.method == "POST" => {
            return Reply::new(308, "").header("location", request.path.clone());
        }
        4 if request.method == "GET" => {
            return Reply::new(200, "<html>log in first</html>").header("content-type", "text/html");
        }
        _ => {}
    }
    let mut reply = forward(upstream, request);
    if reply.body.is_empty() || request.method == "HEAD" {
        return reply;
    }
    let at = at % reply.body.len();
    match fault {
        5 => reply.body[at] ^= 1,
        6 => reply.body.truncate(at),
        7 => reply.body.extend_from_slice(b"more"),
        8 => reply.headers.retain(|(name, _)| name != "content-type"),
        9 => return reply.ending(Ending::CutAfter(at)),
        10 => return reply.ending(Ending::StallAfter(at)),
        _ => return reply,
    }
    reply.headers.retain(|(name, _)| name != "content-length");
    reply
}

fn random_image(seed: u64) -> TestImage {
    let mut dice = Dice::of(seed, "image");
    let count = 1 + dice.roll(4);
    let layers = (0..count).map(|n| TestLayer::noise(dice.roll(200_000) as usize, (seed * 7 + n) as u8));
    TestImage::new("linux/amd64", layers.collect())
}

/// Everything that the store holds has the digest that it is named by.
fn assert_sound(store: &Store, seed: u64) {
    for entry in std::fs::read_dir(store.root().join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(Digest::of(&std::fs::read(&path).unwrap()).hex(), name, "seed {seed}");
    }
}

fn pull(client: &Client, store: &Store, host: &str) -> Result<Digest, Error> {
    let name = reference(host, "team/base:1");
    let resolved = client.resolve(store, &name, &amd64())?;
    client.pull_layers(store, &name, &resolved.layers, &Progress::silent())?;
    Ok(resolved.manifest.digest)
}

fn assert_names_the_image(error: &Error, host: &str, seed: u64) {
    let text = error.to_string();
    println!("seed {seed}: {text}");
    assert!(text.contains(host) || text.contains("localhost"), "seed {seed}: {text}");
    assert!(text.contains("team/base") || matches!(error, Error::Unreachable { .. }), "seed {seed}: {text}");
}

/// Gives whether it went well.
fn faulty_pull(seed: u64) -> bool {
    let (world, image) = (World::new(seed), random_image(seed));
    let digest = world.registry.push(&image, "team/base", "1").digest;
    let (dir, store) = store();
    let host = world.wire.host();
    let outcome = pull(&world.client(&host, dir.path()), &store, &host);
    world.assert_kept_logins(seed);
    assert_sound(&store, seed);
    match &outcome {
        Ok(pulled) => {
            assert_eq!(*pulled, digest, "seed {seed}");
            assert!(
                image.layers.iter().all(|layer| store.verify_blob(&layer.digest()).unwrap()),
                "seed {seed}"
            );
        }
        Err(error) => assert_names_the_image(error, &host, seed),
    }
    // What went wrong is no obstacle to the next attempt.
    let direct = world.registry.host();
    assert_eq!(pull(&world.client(&direct, dir.path()), &store, &direct).unwrap(), digest, "seed {seed}");
    assert_sound(&store, seed);
    outcome.is_ok()
}

/// Gives whether it went well.
fn faulty_push(seed: u64) -> bool {
    let (world, image) = (World::new(seed), random_image(seed));
    let (dir, store) = store();
    let descriptor = keep(&store, &image);
    let (host, direct) = (world.wire.host(), world.registry.host());
    let push = |host: &str| {
        let client = world.client(host, dir.path());
        client.push(&store, &descriptor, &[reference(host, "team/base:1")], &Progress::silent())
    };
    let outcome = push(&host);
    let there = || {
        let (_dir, fresh) = super::store();
        let pulled = pull(&world.client(&direct, dir.path()), &fresh, &direct);
        assert_sound(&fresh, seed);
        pulled
    };
    match &outcome {
        Ok(()) => assert_eq!(there().unwrap(), descriptor.digest, "seed {seed}"),
        Err(error) => {
            assert_names_the_image(error, &host, seed);
            // A tag that is there nevertheless, because only the last answer was lost, is whole.
            match there() {
                Ok(digest) => assert_eq!(digest, descriptor.digest, "seed {seed}"),
                Err(error) => assert!(
                    matches!(error, Error::UnknownManifest { .. } | Error::UnknownRepository { .. }),
                    "seed {seed}: {error}"
                ),
            }
        }
    }
    push(&direct).unwrap();
    assert_eq!(there().unwrap(), descriptor.digest, "seed {seed}");
    outcome.is_ok()
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("it is a number"))
}

/// Runs every seed; half of the runs or more must come through, else the faults are all that is tested.
fn run(what: &str, one: impl Fn(u64) -> bool + Sync) {
    let (first, runs) = (
        number("RBUILD_FAULT_SEED", number("RBUILD_TEST_SEED", 1)),
        number("RBUILD_FAULT_RUNS", u64::from(rounds(12, 400))) / 2,
    );
    let next = std::sync::atomic::AtomicU64::new(first);
    let right = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    if seed >= first + runs {
                        return;
                    }
                    if one(seed) {
                        right.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let right = right.into_inner();
    let mut tally = Tally::of(&format!("faulty {what}"));
    (0..right).for_each(|_| tally.count("right"));
    (right..runs).for_each(|_| tally.count("a clear error"));
    assert!(right * 2 >= runs, "{right} of {runs}");
}

#[test]
fn pulls_are_right_or_an_error() {
    run("pulls", faulty_pull);
}

#[test]
fn pushes_are_right_or_an_error() {
    run("pushes", faulty_push);
}

#[test]
fn without_faults_the_world_is_a_registry() {
    let registry = Registry::start();
    let image = random_image(1);
    registry.push(&image, "team/base", "1");
    let wire = Wire::to(&registry.host(), |_| Fate::Good);
    let (_dir, store) = store();
    pull(&client(), &store, &wire.host()).unwrap();
}
