//! Signed statements: envelopes under cosign's tag, which openssl believes.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{listed, prepare};
use crate::support::http::{Reply, Server, forward};
use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::tools;

pub(super) struct Pushed {
    pub(super) world: World,
    pub(super) registry: Registry,
    pub(super) digest: String,
}

impl Pushed {
    /// An image with an SBOM and provenance.
    pub(super) fn new(more: &[&str]) -> Self {
        let (world, registry) = (World::new(), Registry::start());
        prepare(&world);
        let name = format!("{}/app:1", registry.host());
        let ran = world.build(["-t", &name, "--push", "--sbom", "--provenance"]).args(more).remarks().run();
        for (key, kind) in [("p256", "EC"), ("ed25519", "ED25519"), ("other", "ED25519")] {
            let file = world.path().join(key).display().to_string();
            let mut words = vec!["genpkey", "-algorithm", kind, "-out", &file];
            if kind == "EC" {
                words.extend(["-pkeyopt", "ec_paramgen_curve:P-256"]);
            }
            tools::run("openssl", words);
            tools::run("openssl", ["pkey", "-in", &file, "-pubout", "-out", &format!("{file}.pub")]);
        }
        let digest = ran.digest();
        Self { world, registry, digest }
    }

    pub(super) fn remote(&self) -> String {
        format!("docker://{}/app:1", self.registry.host())
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.world.path().join(name).display().to_string()
    }

    pub(super) fn sign(&self, key: &str) -> String {
        self.sign_as(key, &[])
    }

    pub(super) fn sign_as(&self, key: &str, more: &[&str]) -> String {
        let words = ["attest", "sign", "--key", &self.file(key), &self.remote()];
        self.world.rbuild(words).args(more).any_stdout().run().stdout
    }

    pub(super) fn verify(&self, key: &str, more: &[&str], status: i32) -> (String, String) {
        let words = ["attest", "verify", "--key", &self.file(&format!("{key}.pub"))];
        let ran = self.world.rbuild(words).args(more).arg(self.remote()).any_stdout().status(status).run();
        (ran.stdout, ran.stderr)
    }

    pub(super) fn get(&self, path: &str) -> Vec<u8> {
        let url = format!("http://{}/v2/app/{path}", self.registry.host());
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        let out = std::process::Command::new("curl").args(["-sSf", "-H", accept, &url]).output().unwrap();
        assert!(out.status.success(), "{url}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    fn tag(&self) -> String {
        format!("{}.att", self.digest.replace(':', "-"))
    }
}

#[test]
fn what_is_printed_with_a_key_is_what_the_key_signed() {
    let pushed = Pushed::new(&[]);
    let get = |key: &str, more: &[&str], status: i32| {
        let words = ["attest", "get", "--key", &pushed.file(&format!("{key}.pub"))];
        pushed.world.rbuild(words).args(more).arg(pushed.remote()).any_stdout().status(status).run()
    };
    let ran = get("p256", &[], 1);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("is not signed with the key"), "{}", ran.stderr);
    pushed.sign("p256");
    for more in [&[][..], &["--type=in-toto"], &["--type=provenance"]] {
        let plain = pushed.world.rbuild(["attest", "get", &pushed.remote()]).args(more).any_stdout().run();
        assert_eq!(get("p256", more, 0).stdout, plain.stdout);
        assert!(get("other", more, 1).stdout.is_empty());
    }
    let name = pushed.remote();
    let here = ["attest", "get", "--key", &pushed.file("p256.pub"), name.strip_prefix("docker://").unwrap()];
    let ran = pushed.world.rbuild(here).status(2).run();
    assert!(ran.stderr.contains("kept in registries"), "{}", ran.stderr);
}

/// As cosign's specification of attestations and DSSE's protocol have it.
#[test]
fn envelopes_are_where_and_what_cosign_looks_for() {
    for key in ["p256", "ed25519"] {
        let pushed = Pushed::new(&[]);
        let lines = pushed.sign(key);
        assert_eq!(lines.lines().count(), 2, "{lines}");
        assert!(lines.contains(&format!("@{} https://slsa.dev/provenance/v1\n", pushed.digest)), "{lines}");
        // The same once more is the same.
        pushed.sign(key);
        let manifest: Value =
            serde_json::from_slice(&pushed.get(&format!("manifests/{}", pushed.tag()))).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2, "{manifest}");
        for layer in layers {
            assert_eq!(layer["mediaType"], "application/vnd.dsse.envelope.v1+json");
            let envelope = pushed.get(&format!("blobs/{}", layer["digest"].as_str().unwrap()));
            let envelope: Value = serde_json::from_slice(&envelope).unwrap();
            assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
            let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
            let statement: Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(layer["annotations"]["predicateType"], statement["predicateType"]);
            let hex = pushed.digest.strip_prefix("sha256:").unwrap();
            assert_eq!(statement["subject"][0]["digest"], json!({"sha256": hex}));
            let signature = STANDARD.decode(envelope["signatures"][0]["sig"].as_str().unwrap()).unwrap();
            let head = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len());
            fs::write(pushed.file("message"), [head.as_bytes(), &payload].concat()).unwrap();
            fs::write(pushed.file("signature"), signature).unwrap();
            let (public, message, signature) =
                (pushed.file(&format!("{key}.pub")), pushed.file("message"), pushed.file("signature"));
            let mut words = vec!["pkeyutl", "-verify", "-pubin", "-inkey", &public, "-rawin"];
            words.extend(["-in", &message, "-sigfile", &signature]);
            if key == "p256" {
                words.extend(["-digest", "sha256"]);
            }
            assert!(tools::run("openssl", words).contains("Verified Successfully"));
        }
        let (told, _) = pushed.verify(key, &[], 0);
        assert_eq!(told, "verified 3 documents; 2 statements signed with the key\n");
    }
}

#[test]
fn what_no_trusted_key_signed_is_not_believed() {
    let pushed = Pushed::new(&[]);
    let (_, told) = pushed.verify("p256", &[], 1);
    assert!(
        told.contains("is not signed with the key") && told.contains("rbuild attest sign --key"),
        "{told}"
    );
    pushed.sign("other");
    let (_, told) = pushed.verify("p256", &[], 1);
    assert_eq!(told.matches("is not signed with the key").count(), 5, "with what is in two bundles: {told}");
    // One of several keys is enough.
    let more = ["--key", &pushed.file("other.pub")];
    assert_eq!(
        pushed.verify("p256", &more, 0).0,
        "verified 3 documents; 2 statements signed with one of the keys\n"
    );
    // A new provenance is another statement, and nobody signed that.
    let name = format!("{}/app:1", pushed.registry.host());
    pushed.world.build(["-t", &name, "--push", "--provenance=builder-id=https://elsewhere"]).remarks().run();
    let (_, told) = pushed.verify("other", &["--type=provenance"], 1);
    assert!(told.contains("is not signed with the key"), "{told}");
    assert_eq!(
        pushed.verify("other", &["--type=spdx"], 0).0,
        "verified 1 document; 1 statement signed with the key\n"
    );
    // Nothing here is signed.
    let local = ["attest", "verify", "--key", &pushed.file("p256.pub"), &name];
    let ran = pushed.world.rbuild(local).status(2).run();
    assert!(ran.stderr.contains("write `docker://` before the name"), "{}", ran.stderr);
    let ran =
        pushed.world.rbuild(["attest", "sign", "--key", &pushed.file("p256.pub"), &name]).status(2).run();
    assert!(ran.stderr.contains("is no key to sign with"), "{}", ran.stderr);
}

#[test]
fn statements_in_an_index_and_of_each_platform_are_signed() {
    let pushed = Pushed::new(&["--platform=linux/amd64,linux/arm64"]);
    assert_eq!(pushed.sign("ed25519").lines().count(), 8);
    let (told, _) = pushed.verify("ed25519", &[], 0);
    assert_eq!(told, "verified 12 documents; 4 statements signed with the key\n");
    let pushed = Pushed::new(&["--sbom=layout=buildkit", "--provenance=layout=buildkit"]);
    assert_eq!(listed(&pushed.world, &pushed.remote()).len(), 2);
    pushed.sign("p256");
    let (told, _) = pushed.verify("p256", &[], 0);
    assert_eq!(told, "verified 2 documents; 2 statements signed with the key\n");
}

/// What another image's registry shows beside this one, and what is no envelope.
#[test]
fn envelopes_of_others_are_found_out() {
    let (one, two) = (Pushed::new(&[]), Pushed::new(&["--label=a=b"]));
    one.sign("other");
    let (upstream, other) = (two.registry.host(), one.registry.host());
    let (tag, others_tag) = (two.tag(), one.tag());
    let server = Server::start(move |request| {
        let path = request.path.replace(&tag, &others_tag);
        let of_other = crate::support::http::Received { path, ..request.clone() };
        let is_there = request.path.contains(&tag);
        let reply = forward(if is_there { &other } else { &upstream }, &of_other);
        match reply.status == 404 && request.path.contains("/blobs/") {
            true => forward(&other, request),
            false => reply,
        }
    });
    let key = one.file("other.pub");
    let ran = two
        .world
        .rbuild(["attest", "verify", "--key", &key, &format!("docker://{}/app:1", server.host())])
        .status(1)
        .run();
    assert!(ran.stderr.contains("a signed statement beside sha256:"), "{}", ran.stderr);
    let upstream = two.registry.host();
    let server = Server::start(move |request| match request.path.contains(".att") {
        true => Reply::new(200, "<html>"),
        false => forward(&upstream, request),
    });
    let ran = two
        .world
        .rbuild(["attest", "verify", "--key", &key, &format!("docker://{}/app:1", server.host())])
        .status(1)
        .run();
    assert!(ran.stderr.contains("is damaged"), "{}", ran.stderr);
}

/// A type that nobody signed, and that is not there, is not verified.
#[test]
fn a_type_that_is_missing_is_no_success() {
    let (world, registry) = (World::new(), Registry::start());
    prepare(&world);
    let name = format!("{}/app:1", registry.host());
    world.build(["-t", &name, "--push", "--sbom"]).remarks().run();
    let file = |name: &str| world.path().join(name).display().to_string();
    let (key, public) = (file("key"), file("key.pub"));
    tools::run("openssl", ["genpkey", "-algorithm", "ED25519", "-out", &key]);
    tools::run("openssl", ["pkey", "-in", &key, "-pubout", "-out", &public]);
    let remote = format!("docker://{name}");
    world.rbuild(["attest", "sign", "--key", &key, &remote]).any_stdout().run();
    world
        .rbuild(["attest", "verify", "--key", &public, "--type=spdx", &remote])
        .stdout("verified 1 document; 1 statement signed with the key\n")
        .run();
    for more in [&["--key", public.as_str()][..], &[]] {
        let ran = world.rbuild(["attest", "verify", "--type=provenance", &remote]).args(more).status(1).run();
        assert!(ran.stderr.contains("has no such document beside it"), "{}", ran.stderr);
    }
}
