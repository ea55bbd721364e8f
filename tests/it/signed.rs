//! Images that are signed with keys, and rules for what builds take.

use std::fs;

use crate::support::base::busybox_registry;
use crate::support::http::{Reply, Server};
use crate::support::program::{Ran, World};
use crate::support::registry::Registry;
use crate::support::tools;

struct Signed {
    world: World,
    registry: Registry,
}

impl Signed {
    fn new() -> Self {
        let signed = Self { world: World::new(), registry: busybox_registry() };
        signed.key("key");
        signed
    }

    fn path(&self, name: &str) -> String {
        self.world.path().join(name).to_str().unwrap().to_owned()
    }

    /// A pair of keys, as openssl makes it: `NAME` and `NAME.pub`.
    fn key(&self, name: &str) {
        let (key, public) = (self.path(name), self.path(&format!("{name}.pub")));
        tools::run(
            "openssl",
            ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key],
        );
        tools::run("openssl", ["pkey", "-in", &key, "-pubout", "-out", &public]);
    }

    fn image(&self) -> String {
        format!("{}/busybox", self.registry.host())
    }

    fn rbuild(&self, words: &[&str], status: i32) -> Ran {
        self.world.rbuild(words).any_stdout().status(status).run()
    }

    fn verify(&self, key: &str, status: i32) -> Ran {
        self.rbuild(&["verify-signature", "--key", &self.path(&format!("{key}.pub")), &self.image()], status)
    }

    /// A document of the registry.
    fn get(&self, path: &str) -> Vec<u8> {
        let url = format!("http://{}/v2/busybox/{path}", self.registry.host());
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        let out = std::process::Command::new("curl").args(["-sSf", "-H", accept, &url]).output().unwrap();
        assert!(out.status.success(), "{url}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }
}

/// As cosign's specification has it, and openssl believes it. (Debian's skopeo and podman were built without this.)
#[test]
fn a_signature_is_where_and_what_cosign_looks_for() {
    let signed = Signed::new();
    let ran = signed.rbuild(&["sign", "--key", &signed.path("key"), "-a", "team=a", &signed.image()], 0);
    let digest = ran.stdout.trim().strip_prefix(&format!("{}:latest ", signed.image())).unwrap().to_owned();
    let manifest = signed.get(&format!("manifests/{}.sig", digest.replace(':', "-")));
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.dev.cosign.simplesigning.v1+json");
    let payload = signed.get(&format!("blobs/{}", layer["digest"].as_str().unwrap()));
    let said: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    let critical = serde_json::json!({
        "identity": {"docker-reference": signed.image()},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    });
    assert_eq!((&said["critical"], &said["optional"]), (&critical, &serde_json::json!({"team": "a"})));
    let signature = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap();
    let signature = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, signature).unwrap();
    fs::write(signed.path("payload"), &payload).unwrap();
    fs::write(signed.path("signature"), signature).unwrap();
    let (key, at, file) = (signed.path("key.pub"), signed.path("signature"), signed.path("payload"));
    tools::run("openssl", ["dgst", "-sha256", "-verify", &key, "-signature", &at, &file]);

    let told = signed.verify("key", 0).stdout;
    assert!(told.contains("\"team\":\"a\"") && told.contains("docker-manifest-digest"), "{told}");
    // Again it is the same signature, and another key adds its own.
    signed.rbuild(&["sign", "--key", &signed.path("key"), "-a", "team=a", &signed.image()], 0);
    assert_eq!(signed.verify("key", 0).stdout.lines().count(), 1);
    signed.key("other");
    let refused = signed.verify("other", 1).stderr;
    assert!(refused.contains("is believed: none of the keys that are trusted made it"), "{refused}");
    signed.rbuild(&["sign", "--key", &signed.path("other"), &signed.image()], 0);
    assert_eq!(signed.verify("other", 0).stdout.lines().count(), 1);
    assert_eq!(signed.verify("key", 0).stdout.lines().count(), 1);
}

#[test]
fn what_nobody_signed_or_with_what_is_no_key_is_told() {
    let signed = Signed::new();
    let unsigned = signed.verify("key", 1).stderr;
    assert!(
        unsigned.contains("has no signature") && unsigned.contains("rbuild sign --key KEY"),
        "{unsigned}"
    );
    let keyless = signed.rbuild(&["sign", &signed.image()], 2).stderr;
    assert!(keyless.contains(&format!("`cosign sign --yes {}:latest@sha256:", signed.image())), "{keyless}");
    fs::write(signed.path("bad"), "no key").unwrap();
    let bad = signed.rbuild(&["sign", "--key", &signed.path("bad"), &signed.image()], 2).stderr;
    assert!(bad.contains("is no key to sign with") && bad.contains("openssl genpkey"), "{bad}");
    let none = signed.rbuild(&["sign", "--key", "env://NO_SUCH_KEY", &signed.image()], 2).stderr;
    assert!(none.contains("`NO_SUCH_KEY` is not set"), "{none}");
    let missing = format!("{}/nothing", signed.registry.host());
    let missing = signed.rbuild(&["sign", "--key", &signed.path("key"), &missing], 1).stderr;
    assert!(missing.contains("there is no image"), "{missing}");
}

/// A signature that is moved to another image proves nothing there.
#[test]
fn a_signature_of_another_image_is_refused() {
    let signed = Signed::new();
    let ran = signed.rbuild(&["sign", "--key", &signed.path("key"), &signed.image()], 0);
    let first = ran.stdout.trim().rsplit(' ').next().unwrap().replace(':', "-");
    signed.world.file("a", "a").dockerfile("FROM scratch\nCOPY a /\n");
    let second = signed.world.build(["-t", &signed.image(), "--push"]).run().digest().replace(':', "-");
    let tag = |digest: &str| format!("docker://{}:{digest}.sig", signed.image());
    let mut command = std::process::Command::new("skopeo");
    command.args(["copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    assert!(command.args([tag(&first), tag(&second)]).status().unwrap().success());
    let refused = signed.verify("key", 1).stderr;
    assert!(refused.contains("is believed: it is of sha256:"), "{refused}");
}

#[test]
fn rules_hold_for_what_a_build_takes() {
    let signed = Signed::new();
    let server = Server::start(|_| Reply::new(200, "fetched\n"));
    let (host, image) = (signed.registry.host(), signed.image());
    let build = |dockerfile: &str, rules: &str, status: i32| {
        signed.world.dockerfile(dockerfile);
        let policy = signed.path("policy.toml");
        fs::write(&policy, rules).unwrap();
        signed.world.build(["-t", "app", "--policy", &policy]).remarks().status(status).run().stderr
    };
    let from = format!("FROM {image}\nRUN true\n");
    let told = build(&from, "default = 'deny'\n", 1);
    assert!(
        told.contains(&format!("the policy does not allow `{image}`")) && told.contains("Dockerfile:1:6"),
        "{told}"
    );
    assert!(!told.contains("RUN true"), "nothing runs: {told}");
    let told = build(&from, "[[image]]\nmatch = '**/busybox'\ndeny = 'use ours'\n", 1);
    assert!(told.contains("policy.toml:1: use ours"), "{told}");
    build(&from, &format!("default = 'deny'\n[[image]]\nmatch = '{host}/*'\n"), 0);

    let pinned = format!("[[image]]\nmatch = '{host}/*'\ndigest = true\n");
    let told = build(&from, &pinned, 1);
    assert!(told.contains("by its digest") && told.contains("@sha256:"), "{told}");
    let digest = &told[told.find("@sha256:").unwrap()..][..72];
    build(&format!("FROM {image}{digest}\n"), &pinned, 0);
    signed.world.dockerfile(&from);
    signed.rbuild(&["lock", signed.world.context().to_str().unwrap()], 0);
    build(&from, &pinned, 0);
    fs::remove_file(signed.world.context().join("rbuild.lock")).unwrap();
    build(&from, &pinned, 1);

    let keys = format!("[[image]]\nmatch = '{host}/*'\nkeys = ['key.pub']\n");
    let told = build(&from, &keys, 1);
    assert!(told.contains("the policy wants a signature of") && told.contains("has no signature"), "{told}");
    signed.rbuild(&["sign", "--key", &signed.path("key"), &image], 0);
    build(&from, &keys, 0);
    let copy = format!("FROM scratch\nCOPY --from={image} /bin/busybox /\n");
    let told = build(&copy, &keys, 1);
    assert!(told.contains("FROM … AS name") && told.contains("Dockerfile:2"), "{told}");
    build(&format!("FROM scratch\nCOPY --from={image}{digest} /bin/busybox /\n"), &keys, 0);

    let add = format!("FROM scratch\nADD http://{}/file /\n", server.host());
    let told = build(&add, &format!("[[url]]\nmatch = 'http://{}/**'\nchecksum = true\n", server.host()), 1);
    assert!(told.contains("with a checksum or a commit") && told.contains("Dockerfile:2"), "{told}");
    let told = build(&add, "[[url]]\nmatch = '**'\ndeny = true\n", 1);
    assert!(told.contains("the policy does not allow `http://"), "{told}");
    let told = build(&add, "[[uri]]\n", 2);
    assert!(told.contains("unknown field `uri`"), "{told}");
}

/// Where a server sends the build is asked before it is fetched, and so are other spellings and a Dockerfile behind a URL.
#[test]
fn rules_for_urls_hold_for_where_they_lead() {
    let signed = Signed::new();
    let secret = Server::start(|_| Reply::new(200, "fetched\n"));
    let port = secret.host().rsplit_once(':').unwrap().1.to_owned();
    let target = format!("http://localhost:{port}/x");
    let location = target.clone();
    let front = Server::start(move |_| Reply::new(302, "").header("location", location.as_str()));
    let build = |url: &str, rules: &str, status: i32| {
        signed.world.dockerfile(&format!("FROM scratch\nADD {url} /\n"));
        let policy = signed.path("policy.toml");
        fs::write(&policy, rules).unwrap();
        signed.world.build(["-t", "app", "--policy", &policy]).remarks().status(status).run().stderr
    };
    let front_only = format!("default = 'deny'\n[[url]]\nmatch = 'http://{}/**'\n", front.host());
    let moved = format!("http://{}/x", front.host());
    let told = build(&moved, &front_only, 1);
    let words = format!("a redirect leads elsewhere, and the policy does not allow `{target}`");
    assert!(told.contains(&words) && told.contains("Dockerfile:2"), "{told}");
    let hosts = "default = 'deny'\n[[url]]\nmatch = 'http://*.example.org/**'\n";
    for url in [
        format!("http://127.0.0.1:{port}?.example.org/x"),
        format!("http://u@127.0.0.1:{port}#.example.org/x"),
    ] {
        let told = build(&url, hosts, 1);
        assert!(told.contains("and does not name this"), "{told}");
    }
    let denied = format!("[[url]]\nmatch = 'http://localhost:{port}/**'\ndeny = 'not there'\n");
    for url in ["LOCALHOST:{}/x", "u@localhost:{}/x", "localhost:0{}/x", "localhost:{}?/x"] {
        let told = build(&format!("http://{}", url.replace("{}", &port)), &denied, 1);
        assert!(told.contains("not there"), "{url}: {told}");
    }
    let told = build(&moved, &denied, 1);
    assert!(told.contains("not there"), "{told}");
    let words = ["-t", "app", "--policy", &signed.path("policy.toml"), "-f", &target];
    let told = signed.world.build(words).remarks().status(1).run().stderr;
    assert!(told.contains("not there"), "{told}");
    assert_eq!(secret.requests(), [""; 0]);
    build(&moved, &format!("{front_only}[[url]]\nmatch = '{target}'\n"), 0);

    // What is pinned may be sent on to where a checksum is wanted; what a server calls a commit is none.
    let pinned = format!("{front_only}[[url]]\nmatch = 'http://localhost:{port}/**'\nchecksum = true\n");
    let git = format!("http://localhost:{port}/x.git?commit={}", "a".repeat(40));
    let to_git = Server::start(move |_| Reply::new(302, "").header("location", git.as_str()));
    let to_git = format!("http://{}/x", to_git.host());
    let told = build(&to_git, &pinned.replace(&front.host(), to_git.split('/').nth(2).unwrap()), 1);
    assert!(told.contains("with a checksum or a commit"), "{told}");
    let told = build(&moved, &pinned, 1);
    assert!(told.contains("with a checksum or a commit"), "{told}");
    let stage = format!("FROM scratch AS taken\nADD {moved} /\nFROM scratch\nCOPY --from=taken / /\n");
    signed.world.dockerfile(&stage);
    signed.world.rbuild(["lock", "."]).any_stdout().remarks().run();
    let epoch = "SOURCE_DATE_EPOCH=taken";
    let words = ["-t", "app", "--policy", &signed.path("policy.toml"), "--build-arg", epoch];
    signed.world.build(words).remarks().run();

    let (registry, image) = (signed.registry.host(), signed.image());
    let port = registry.rsplit_once(':').unwrap().1;
    signed.world.dockerfile(&format!("FROM {}\n", image.replace(&registry, &format!("LOCALHOST:{port}"))));
    let rules = format!("[[image]]\nmatch = 'localhost:{port}/**'\ndeny = 'not that'\n");
    fs::write(signed.path("policy.toml"), rules).unwrap();
    let words = ["-t", "app", "--policy", &signed.path("policy.toml")];
    let told = signed.world.build(words).remarks().status(1).run().stderr;
    assert!(told.contains("not that"), "{told}");
}

#[test]
fn rules_of_the_configuration_cannot_be_switched_off() {
    let signed = Signed::new();
    let config = signed.path("config.toml");
    fs::write(&config, "[policy]\ndefault = 'deny'\n[[policy.image]]\nmatch = 'ours.example.org/**'\n")
        .unwrap();
    signed.world.dockerfile(&format!("FROM {}\n", signed.image()));
    for more in [&[][..], &["--policy", "disabled=true"]] {
        let words = ["-t", "app"].into_iter().chain(more.iter().copied());
        let told = signed.world.build(words).env("RBUILD_CONFIG", &config).status(1).run().stderr;
        assert!(told.contains("the policy does not allow"), "{told}");
    }
    let context = "https://git.example.org/a.git";
    let told = signed.world.rbuild([context]).env("RBUILD_CONFIG", &config).status(1).run().stderr;
    assert!(told.contains(&format!("the policy does not allow `{context}`")), "{told}");
}
