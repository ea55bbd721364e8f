//! Registries that list page by page, never end, list what is something else, or know no artifacts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{listed, prepare};
use crate::support::http::{Received, Reply, Server, forward};
use crate::support::program::World;
use crate::support::registry::Registry;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn page(manifests: &[Value]) -> Reply {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    Reply::new(200, index.to_string()).header("content-type", INDEX)
}

/// Stands before a registry whose referrers tag has documents; `referrers` answers by the query of the request and what the tag lists.
fn lying(
    registry: &Registry,
    tag: &str,
    referrers: impl Fn(&str, &str, &[Value]) -> Reply + Send + Sync + 'static,
) -> Server {
    let (upstream, tag) = (registry.host(), tag.to_owned());
    Server::start(move |request: &Received| {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if !path.contains("/referrers/") {
            // Nothing under the tag: what there is comes by the API.
            return match path.contains("/manifests/sha256-") {
                true => Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
                false => forward(&upstream, request),
            };
        }
        let of_tag = Received { path: tag.clone(), ..request.clone() };
        let index: Value = serde_json::from_slice(&forward(&upstream, &of_tag).body).unwrap();
        referrers(path, query, index["manifests"].as_array().unwrap())
    })
}

/// An image with two documents; its registry, and the path of the index of these there.
fn pushed(world: &World) -> (Registry, String) {
    let registry = Registry::start();
    prepare(world);
    let name = format!("{}/app:1", registry.host());
    let digest = world.build(["-t", &name, "--sbom", "--push"]).remarks().run().digest();
    (registry, format!("/v2/app/manifests/{}", digest.replace(':', "-")))
}

#[test]
fn all_pages_are_read() {
    let world = World::new();
    let (registry, tag) = pushed(&world);
    let server = lying(&registry, &tag, |path, query, all| match query {
        "" => page(&all[..1]).header("link", format!("<{path}?page=2>; rel=\"next\"")),
        "page=2" => page(&all[1..]).header("link", format!("<http://elsewhere{path}?page=3>; rel=next")),
        "page=3" => page(&[]),
        other => panic!("{other}"),
    });
    let remote = format!("docker://{}/app:1", server.host());
    assert_eq!(listed(&world, &remote).len(), 2);
    world
        .rbuild(["attest", "verify", &remote])
        .stdout("verified 2 documents; no signature was looked at\n")
        .run();
}

#[test]
fn lists_that_do_not_end_are_given_up() {
    let world = World::new();
    let (registry, tag) = pushed(&world);
    let told = |server: &Server| {
        let ran =
            world.rbuild(["attest", "ls", &format!("docker://{}/app:1", server.host())]).status(1).run();
        ran.stderr
    };
    let circle =
        lying(&registry, &tag, |path, _, all| page(all).header("link", format!("<{path}?a=1>; rel=next")));
    let text = told(&circle);
    assert!(
        text.contains("its list of referrers of sha256:") && text.contains("goes round in a circle"),
        "{text}"
    );
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let endless = lying(&registry, &tag, move |path, _, all| {
        let next = counted.fetch_add(1, Ordering::Relaxed);
        page(all).header("link", format!("<{path}?a={next}>; rel=next"))
    });
    let text = told(&endless);
    assert!(text.contains("does not end"), "{text}");
    assert!(count.load(Ordering::Relaxed) <= 100);
    let broken = lying(&registry, &tag, |path, query, all| match query {
        "" => page(all).header("link", format!("<{path}?a=1>; rel=next")),
        _ => Reply::new(200, "<html>"),
    });
    let text = told(&broken);
    assert!(text.contains("a page of referrers of sha256:"), "{text}");
}

#[test]
fn documents_of_others_are_found_out() {
    let world = World::new();
    let (registry, tag) = pushed(&world);
    let server = lying(&registry, &tag, |_, _, all| {
        let mut all = all.to_vec();
        // Listed under a digest that it has not.
        all[0]["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
        page(&all)
    });
    let remote = format!("docker://{}/app:1", server.host());
    let ran = world.rbuild(["attest", "verify", &remote]).status(1).run();
    assert!(ran.stderr.contains("it is listed, and is not there"), "{}", ran.stderr);
    let ran = world
        .rbuild(["pull", "-q", "--with-attestations", &remote["docker://".len()..]])
        .any_stdout()
        .status(1)
        .run();
    assert!(ran.stderr.contains("itself was fetched"), "{}", ran.stderr);
    // What is listed as about an image that it is not about is not taken along.
    let world = World::new();
    let (registry, tag) = pushed(&world);
    let name = format!("{}/app:1", registry.host());
    world.file("root/more", "more\n");
    world.build(["-t", &name, "--push"]).remarks().run();
    let server = lying(&registry, &tag, |_, _, all| page(all));
    let name = format!("{}/app:1", server.host());
    let ran = world.rbuild(["attest", "verify", &format!("docker://{name}")]).status(1).run();
    assert!(ran.stderr.contains("is not about sha256:"), "{}", ran.stderr);
    let ran = world.rbuild(["pull", "-q", "--with-attestations", &name]).any_stdout().status(1).run();
    assert!(ran.stderr.contains("its subject is sha256:"), "{}", ran.stderr);
    assert_eq!(listed(&world, &name), Vec::<Value>::new());
}

#[test]
fn a_registry_that_takes_no_artifacts_gets_what_looks_like_an_image() {
    let (world, registry) = (World::new(), Registry::start());
    prepare(&world);
    let upstream = registry.host();
    let server = Server::start(move |request: &Received| {
        let is_manifest = request.method == "PUT" && request.path.contains("/manifests/");
        match is_manifest
            && String::from_utf8_lossy(&request.body).contains("\"artifactType\":\"application/")
        {
            // But not of an index, which lists such types.
            true if !String::from_utf8_lossy(&request.body).contains("\"manifests\"") => {
                Reply::new(400, r#"{"errors":[{"code":"MANIFEST_INVALID","message":"artifactType"}]}"#)
            }
            _ => forward(&upstream, request),
        }
    });
    let name = format!("{}/app:1", server.host());
    world.build(["-t", &name, "--sbom", "--push"]).remarks().run();
    let remote = format!("docker://{name}");
    let types: Vec<Value> = listed(&world, &remote).iter().map(|entry| entry["Type"].clone()).collect();
    assert_eq!(types.len(), 2);
    assert!(types.contains(&"application/spdx+json".into()), "{types:?}");
    world
        .rbuild(["attest", "verify", &remote])
        .stdout("verified 2 documents; no signature was looked at\n")
        .run();
}

/// An API that does not answer now is none of a registry without one: what it would have listed is missed.
#[test]
fn a_registry_that_refuses_to_list_has_not_said_that_there_is_nothing() {
    let world = World::new();
    let (registry, tag) = pushed(&world);
    let server = lying(&registry, &tag, |_, _, _| Reply::new(410, ""));
    let remote = format!("docker://{}/app:1", server.host());
    let ran = world.rbuild(["attest", "verify", &remote]).status(1).run();
    assert!(ran.stderr.contains("410"), "{}", ran.stderr);
    let name = &remote["docker://".len()..];
    let ran = world.rbuild(["pull", "-q", "--with-attestations", name]).any_stdout().status(1).run();
    assert!(ran.stderr.contains("410"), "{}", ran.stderr);
    // What another try may do is told to the pipeline.
    let busy = lying(&registry, &tag, |_, _, _| Reply::new(503, ""));
    let name = format!("{}/app:1", busy.host());
    let ran = world.rbuild(["pull", "-q", "--with-attestations", &name]).any_stdout().status(75).run();
    assert!(ran.stderr.contains("503"), "{}", ran.stderr);
    for status in [400, 404, 405, 501] {
        let server = lying(&registry, &tag, move |_, _, _| Reply::new(status, ""));
        assert_eq!(listed(&world, &format!("docker://{}/app:1", server.host())), Vec::<Value>::new());
    }
}

/// Links to the next page that are cut off, or come in a second header.
#[test]
fn a_next_page_is_never_missed() {
    let world = World::new();
    let (registry, tag) = pushed(&world);
    let server = lying(&registry, &tag, |path, query, all| match query {
        "" => page(&all[..1])
            .header("link", format!("<{path}>; rel=prev"))
            .header("link", format!("<{path}?last=a,b>; rel=\"next\"")),
        "last=a,b" => page(&all[1..]),
        other => panic!("{other}"),
    });
    assert_eq!(listed(&world, &format!("docker://{}/app:1", server.host())).len(), 2);
    let server =
        lying(&registry, &tag, |path, _, all| page(&all[..1]).header("link", format!("<{path}>; rel=next")));
    let remote = format!("docker://{}/app:1", server.host());
    let ran = world.rbuild(["attest", "verify", &remote]).status(1).run();
    assert!(ran.stderr.contains("is not understood"), "{}", ran.stderr);
}

/// BuildKit's documents, in the image's index.
#[test]
fn documents_of_an_index_are_what_it_lists_and_about_what_it_has() {
    let (world, registry) = (World::new(), Registry::start());
    prepare(&world);
    let name = format!("{}/app:1", registry.host());
    world.build(["-t", &name, "--sbom=layout=buildkit", "--push"]).remarks().run();
    let told = |change: fn(&mut Value) -> bool| {
        let upstream = registry.host();
        let server = Server::start(move |request: &Received| {
            let reply = forward(&upstream, request);
            let mut document: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            if !request.path.contains("/manifests/") || !change(&mut document) {
                return reply;
            }
            let kind = document["mediaType"].as_str().unwrap_or_default().to_owned();
            Reply::new(200, document.to_string()).header("content-type", kind)
        });
        let remote = format!("docker://{}/app:1", server.host());
        world.rbuild(["attest", "verify", &remote]).status(1).run().stderr
    };
    let text = told(|document| {
        let is_attesting = document["layers"][0]["mediaType"] == "application/vnd.in-toto+json";
        if is_attesting {
            document["layers"] = json!([]);
        }
        is_attesting
    });
    assert!(text.contains("the registry sent something else"), "{text}");
    let text = told(|document| {
        let about = document.pointer_mut("/manifests/1/annotations/vnd.docker.reference.digest");
        about.map(|about| *about = json!(format!("sha256:{}", "0".repeat(64)))).is_some()
    });
    assert!(text.contains("which the index does not have"), "{text}");
}

/// What others hang on images: more blobs than one, a configuration of its own, no JSON.
#[test]
fn documents_of_others_go_along_and_other_forms_are_passed_over() {
    let (world, registry) = (World::new(), Registry::start());
    prepare(&world);
    let name = format!("{}/app:1", registry.host());
    let digest = world.build(["-t", &name, "--push"]).remarks().run().digest();
    let subject: rbuild::oci::Digest = digest.parse().unwrap();
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let described = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": rbuild::oci::Digest::of(bytes).to_string(), "size": bytes.len()});
    let (config, cose) = (br#"{"of": "others"}"#.to_vec(), b"\xd2\x84COSE".to_vec());
    let manifest = |layers: &[Value]| {
        let kind = "application/vnd.cncf.notary.signature";
        json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": described(kind, &config), "layers": layers,
            "subject": {"mediaType": MANIFEST, "digest": subject.to_string(), "size": 1},
        })
        .to_string()
        .into_bytes()
    };
    let layer = described("application/cose", &cose);
    let all = [manifest(std::slice::from_ref(&layer)), manifest(&[layer.clone(), layer.clone()])];
    let listed_there: Vec<Value> = all.iter().map(|bytes| described(MANIFEST, bytes)).collect();
    let documents: Vec<(String, Vec<u8>)> = [config, cose]
        .into_iter()
        .chain(all)
        .map(|bytes| (rbuild::oci::Digest::of(&bytes).to_string(), bytes))
        .collect();
    let upstream = registry.host();
    let server = Server::start(move |request: &Received| {
        if request.path.contains("/referrers/") {
            return page(&listed_there);
        }
        match documents.iter().find(|(digest, _)| request.path.ends_with(digest)) {
            Some((_, bytes)) => Reply::new(200, bytes.clone()).header("content-type", MANIFEST),
            None => forward(&upstream, request),
        }
    });
    let there = format!("{}/app:1", server.host());
    let layout = world.path().join("layout");
    let ran = world
        .rbuild([
            "copy",
            "--with-attestations",
            &format!("docker://{there}"),
            &format!("oci:{}", layout.display()),
        ])
        .any_stdout()
        .remarks()
        .run();
    assert!(ran.stderr.contains("it has 2 documents, not one; it is not taken along"), "{}", ran.stderr);
    let blobs = layout.join("blobs/sha256");
    for bytes in [&br#"{"of": "others"}"#[..], b"\xd2\x84COSE"] {
        assert_eq!(std::fs::read(blobs.join(rbuild::oci::Digest::of(bytes).hex())).unwrap(), bytes);
    }
    // The same of a layout that is loaded.
    let two = r#"{"of": "two"}"#.as_bytes();
    let mut index: Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let known = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["artifactType"].is_string())
        .unwrap();
    let manifest =
        std::fs::read(layout.join("blobs").join(known["digest"].as_str().unwrap().replace(':', "/")))
            .unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let layers = manifest["layers"].as_array_mut().unwrap();
    layers.push(described("application/x", two));
    for bytes in [two, manifest.to_string().as_bytes()] {
        std::fs::write(blobs.join(rbuild::oci::Digest::of(bytes).hex()), bytes).unwrap();
    }
    let mut entry = described(MANIFEST, manifest.to_string().as_bytes());
    entry["artifactType"] = json!("application/x");
    index["manifests"].as_array_mut().unwrap().push(entry);
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let ran = world
        .rbuild(["load", "--with-attestations", "-i"])
        .arg(&layout)
        .any_stdout()
        .any_status()
        .remarks()
        .run();
    assert!(
        ran.stderr.contains("note: the attestation ") && ran.stderr.contains("it is not taken along"),
        "{}",
        ran.stderr
    );
}
