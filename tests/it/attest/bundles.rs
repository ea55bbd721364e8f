//! Sigstore's bundles: signatures and signed statements as referrers, which Sigstore's own packages believe.

use std::fs;

use rbuild::attest::Artifact;
use rbuild::oci::{Descriptor, Digest, MediaType};
use rbuild::signature::image::{Bundle, PrivateKey};
use serde_json::{Value, json};

use super::listed;
use super::signed::Pushed;
use crate::support::http::{Received, Reply, Server, forward};
use crate::support::program::Ran;
use crate::support::skip;
use crate::support::tools::{self, toolkit};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

impl Pushed {
    fn rbuild(&self, words: &[&str], status: i32) -> Ran {
        self.world.rbuild(words).any_stdout().remarks().status(status).run()
    }

    fn name(&self) -> String {
        format!("{}/app:1", self.registry.host())
    }

    fn sign_image(&self, key: &str, more: &[&str]) -> Ran {
        let (key, name) = (self.file(key), self.name());
        self.rbuild(&[&["sign", "--key", &key, &name], more].concat(), 0)
    }

    fn verify_image(&self, key: &str, status: i32) -> Ran {
        self.rbuild(&["verify-signature", "--key", &self.file(&format!("{key}.pub")), &self.name()], status)
    }

    /// Whether there is such a tag of the image.
    fn has_tag(&self, suffix: &str) -> bool {
        let tag = format!("{}.{suffix}", self.digest.replace(':', "-"));
        let url = format!("http://{}/v2/app/tags/list", self.registry.host());
        let tags: Value = serde_json::from_str(&tools::run("curl", ["-sSf", &url])).unwrap();
        tags["tags"].as_array().unwrap().contains(&json!(tag))
    }

    /// What hangs on the image.
    fn referrers(&self) -> Value {
        let url =
            format!("http://{}/v2/app/manifests/{}", self.registry.host(), self.digest.replace(':', "-"));
        let accept = "Accept: application/vnd.oci.image.index.v1+json";
        serde_json::from_str(&tools::run("curl", ["-sSf", "-H", accept, &url])).unwrap()
    }

    /// Hangs a statement on the image that says `predicate` of `about`; gives the bundle's digest.
    fn hang(&self, key: &str, predicate: &str, about: &str) -> String {
        let hex = about.strip_prefix("sha256:").unwrap();
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": hex}}],
            "predicateType": predicate, "predicate": {"name": "a stranger's"},
        });
        let key = PrivateKey::parse(&fs::read_to_string(self.file(key)).unwrap(), None).unwrap();
        let bundle = Bundle::sign(statement.to_string().as_bytes(), &key).to_bytes();
        let subject = Descriptor::new(MediaType::MANIFEST, self.digest.parse().unwrap(), 1);
        let artifact = Artifact::bundle(bundle, predicate, &subject);
        let digest = artifact.descriptor.digest.to_string();
        self.registry.push_blob("app", &artifact.config);
        let blob = self.registry.push_blob("app", &artifact.payload);
        self.registry.push_manifest("app", &digest, &MediaType::MANIFEST, &artifact.manifest);
        let mut index = self.referrers();
        index["manifests"].as_array_mut().unwrap().push(json!(artifact.descriptor));
        let tag = self.digest.replace(':', "-");
        self.registry.push_manifest("app", &tag, &MediaType::INDEX, index.to_string().as_bytes());
        blob.to_string()
    }

    /// The manifests of bundles that hang on the image.
    fn bundles(&self) -> Vec<Value> {
        let index = self.referrers();
        let all = index["manifests"].as_array().unwrap().iter();
        let bundles = all.filter(|entry| entry["artifactType"] == BUNDLE);
        let read = |entry: &Value| self.get(&format!("manifests/{}", entry["digest"].as_str().unwrap()));
        bundles.map(|entry| serde_json::from_slice(&read(entry)).unwrap()).collect()
    }
}

#[test]
fn sigstores_own_packages_believe_bundles() {
    let Some((toolkit, node)) = toolkit() else {
        skip!("@docker/actions-toolkit is not below target/; tests/run installs it");
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/sigstore/verify.mjs");
    for key in ["p256", "ed25519"] {
        let pushed = Pushed::new(&[]);
        let tell = |more: &[&str]| {
            pushed.sign_as(key, more);
            pushed.sign_image(key, &[more, &["-a", "team=a"]].concat());
        };
        tell(&[]);
        // Once more changes nothing.
        tell(&["--new-bundle-format"]);
        let mut files = vec![script.to_owned(), toolkit.join("node_modules").display().to_string()];
        files.push(pushed.file(&format!("{key}.pub")));
        let bundles = pushed.bundles();
        assert_eq!(bundles.len(), 3, "{bundles:?}");
        for (number, manifest) in bundles.iter().enumerate() {
            assert_eq!(
                (&manifest["artifactType"], &manifest["subject"]["digest"]),
                (&json!(BUNDLE), &json!(pushed.digest))
            );
            assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
            assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(1));
            assert_eq!(manifest["layers"][0]["mediaType"], BUNDLE);
            assert_eq!(manifest["annotations"]["dev.sigstore.bundle.content"], "dsse-envelope");
            let file = pushed.file(&format!("{number}.sigstore.json"));
            let digest = manifest["layers"][0]["digest"].as_str().unwrap();
            fs::write(&file, pushed.get(&format!("blobs/{digest}"))).unwrap();
            files.push(file);
        }
        let told = tools::run(node.to_str().unwrap(), &files);
        let mut said: Vec<&str> =
            told.lines().map(|line| line.strip_prefix(BUNDLE).unwrap().trim()).collect();
        said.sort_unstable();
        let expected = [
            "https://sigstore.dev/cosign/sign/v1",
            "https://slsa.dev/provenance/v1",
            "https://spdx.dev/Document",
        ];
        assert_eq!(said, expected);
        // A signature that somebody changed, and another key.
        let bundle = fs::read_to_string(&files[3]).unwrap().replace("\"payload\":\"ey", "\"payload\":\"eY");
        fs::write(pushed.file("changed"), bundle).unwrap();
        let changed = [files[0].clone(), files[1].clone(), files[2].clone(), pushed.file("changed")];
        assert!(!std::process::Command::new(&node).args(changed).output().unwrap().status.success());
    }
}

/// What Sigstore's own packages signed.
#[test]
fn bundles_of_sigstores_own_packages_are_believed() {
    let Some((toolkit, node)) = toolkit() else {
        skip!("@docker/actions-toolkit is not below target/; tests/run installs it");
    };
    let pushed = Pushed::new(&[]);
    let hex = pushed.digest.strip_prefix("sha256:").unwrap();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": hex}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {},
    });
    fs::write(pushed.file("statement"), statement.to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/sigstore/sign.mjs");
    let modules = toolkit.join("node_modules").display().to_string();
    let (key, statement) = (pushed.file("p256"), pushed.file("statement"));
    let bundle = tools::run(node.to_str().unwrap(), [script, &modules, &key, &statement]);
    let described = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": pushed.registry.push_blob("app", bytes).to_string(), "size": bytes.len()});
    let config = described("application/vnd.oci.empty.v1+json", b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::MANIFEST.as_str(), "artifactType": BUNDLE, "config": config,
        "layers": [described(BUNDLE, bundle.as_bytes())],
        "subject": {"mediaType": MediaType::MANIFEST.as_str(), "digest": pushed.digest, "size": 1},
    });
    let manifest = manifest.to_string();
    let digest = Digest::of(manifest.as_bytes()).to_string();
    pushed.registry.push_manifest("app", &digest, &MediaType::MANIFEST, manifest.as_bytes());
    let index = json!({
        "schemaVersion": 2, "mediaType": MediaType::INDEX.as_str(), "manifests": [{
            "mediaType": MediaType::MANIFEST.as_str(), "artifactType": BUNDLE, "digest": digest, "size": manifest.len(),
        }],
    });
    let tag = pushed.digest.replace(':', "-");
    pushed.registry.push_manifest("app", &tag, &MediaType::INDEX, index.to_string().as_bytes());
    let told = pushed.verify_image("p256", 0).stdout;
    assert!(told.contains("https://sigstore.dev/cosign/sign/v1"), "{told}");
    pushed.verify_image("other", 1);
}

#[test]
fn each_form_is_written_and_believed_alone() {
    let pushed = Pushed::new(&[]);
    pushed.sign_as("p256", &["--new-bundle-format"]);
    pushed.sign_image("p256", &["--new-bundle-format=true", "-a", "team=a"]);
    assert!(!pushed.has_tag("att") && !pushed.has_tag("sig"));
    let told = pushed.verify_image("p256", 0).stdout;
    assert!(
        told.contains("https://sigstore.dev/cosign/sign/v1") && told.contains("\"team\":\"a\""),
        "{told}"
    );
    assert_eq!(pushed.verify("p256", &[], 0).0, "verified 3 documents; 2 statements signed with the key\n");
    let ran = pushed.rbuild(&["attest", "verify", &pushed.remote()], 0);
    assert_eq!(ran.stdout, "verified 6 documents; no signature was looked at\n");
    let refused = pushed.verify_image("ed25519", 1).stderr;
    assert!(refused.contains("is believed: none of the keys that are trusted made it"), "{refused}");
    assert!(pushed.verify("ed25519", &[], 1).1.contains("is not signed with the key"));
    // What lies beside goes along, and is still believed.
    let copy = format!("{}/copy:1", pushed.registry.host());
    let (from, to) = (pushed.remote(), format!("docker://{copy}"));
    pushed.rbuild(&["copy", "--with-attestations", &from, &to], 0);
    pushed.rbuild(&["verify-signature", "--key", &pushed.file("p256.pub"), &copy], 0);
    assert_eq!(listed(&pushed.world, &to), listed(&pushed.world, &from));
    // A base that is signed so may be built upon.
    pushed.world.dockerfile(&format!("FROM {}\n", pushed.name()));
    let policy = pushed.file("policy.toml");
    for (key, status) in [("p256", 0), ("ed25519", 1)] {
        fs::write(&policy, format!("[[image]]\nmatch = '**'\nkeys = ['{key}.pub']\n")).unwrap();
        pushed.world.build(["--policy", &policy]).remarks().status(status).run();
    }

    let older = Pushed::new(&["--label=a=b"]);
    older.sign_as("p256", &["--new-bundle-format=false"]);
    older.sign_image("p256", &["--new-bundle-format=false"]);
    assert!(older.has_tag("att") && older.has_tag("sig"));
    assert_eq!(older.bundles(), Vec::<Value>::new());
    older.verify_image("p256", 0);
    older.verify("p256", &[], 0);
}

/// A bundle that another image's registry shows beside this one.
#[test]
fn a_bundle_of_another_image_signs_nothing() {
    let (one, two) = (Pushed::new(&[]), Pushed::new(&["--label=a=b"]));
    one.sign_image("other", &["--new-bundle-format"]);
    let (upstream, other) = (two.registry.host(), one.registry.host());
    let (tag, others_tag) = (two.digest.replace(':', "-"), one.digest.replace(':', "-"));
    let server = Server::start(move |request| {
        let of_other = Received { path: request.path.replace(&tag, &others_tag), ..request.clone() };
        let reply = forward(if request.path.contains(&tag) { &other } else { &upstream }, &of_other);
        if reply.status == 404 { forward(&other, request) } else { reply }
    });
    let (key, name) = (one.file("other.pub"), format!("{}/app:1", server.host()));
    let ran = one.rbuild(&["verify-signature", "--key", &key, &name], 1);
    assert!(ran.stderr.contains("the statement is about other digests"), "{}", ran.stderr);
}

#[test]
fn a_strangers_bundle_is_no_document_of_the_keys() {
    let pushed = Pushed::new(&["--sbom=false"]);
    pushed.sign_as("p256", &["--new-bundle-format"]);
    pushed.sign_image("p256", &["--new-bundle-format"]);
    pushed.verify("p256", &[], 0);
    let (spdx, get) = ("https://spdx.dev/Document", ["attest", "get", &pushed.remote()]);
    let gone = pushed.hang("other", spdx, &pushed.digest);
    let told = pushed.verify("p256", &[], 1).1;
    assert!(told.contains("is not signed with the key"), "{told}");
    pushed.verify("p256", &["--type=provenance"], 0);
    assert!(pushed.rbuild(&get, 0).stdout.contains("a stranger's"));
    let key = pushed.file("p256.pub");
    let believed = ["attest", "get", "--key", &key, &pushed.remote()];
    let told = pushed.rbuild(&believed, 1).stderr;
    assert!(told.contains("is not signed with the key"), "{told}");
    // One that cannot be had does not keep others from being believed.
    let upstream = pushed.registry.host();
    let server = Server::start(move |request| match request.path.contains(&gone) {
        true => Reply::new(404, "{}"),
        false => forward(&upstream, request),
    });
    let (key, name) = (pushed.file("p256.pub"), format!("{}/app:1", server.host()));
    pushed.rbuild(&["verify-signature", "--key", &key, &name], 0);

    let pushed = Pushed::new(&["--sbom=false"]);
    pushed.hang("other", spdx, &Digest::of(b"another image").to_string());
    let told = pushed.rbuild(&["attest", "get", &pushed.remote()], 1).stderr;
    assert!(told.contains("the statement is about other digests"), "{told}");
}

#[test]
fn a_registry_that_takes_no_bundles_gets_the_older_form() {
    let pushed = Pushed::new(&[]);
    let upstream = pushed.registry.host();
    let server = Server::start(move |request| {
        let is_artifact =
            request.method == "PUT" && String::from_utf8_lossy(&request.body).contains("\"artifactType\"");
        match is_artifact {
            true => Reply::new(400, r#"{"errors":[{"code":"MANIFEST_INVALID","message":"no artifacts"}]}"#),
            false => forward(&upstream, request),
        }
    });
    let name = format!("{}/app:1", server.host());
    let ran = pushed.rbuild(&["sign", "--key", &pushed.file("p256"), &name], 0);
    assert!(ran.stderr.contains("takes no bundles of Sigstore"), "{}", ran.stderr);
    pushed.rbuild(&["verify-signature", "--key", &pushed.file("p256.pub"), &name], 0);
    let ran = pushed.rbuild(&["sign", "--new-bundle-format", "--key", &pushed.file("p256"), &name], 1);
    assert!(ran.stderr.contains("no artifacts"), "{}", ran.stderr);
}
