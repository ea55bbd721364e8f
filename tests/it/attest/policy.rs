//! Rules that want something said of what is built upon, by somebody who is trusted.

use std::fs;

use rbuild::oci::MediaType;
use serde_json::{Value, json};

use super::signed::Pushed;
use crate::support::http::{Reply, Server, forward};

impl Pushed {
    /// Builds upon the image with a rule that wants these attestations; gives what was said.
    fn build_upon(&self, dockerfile: &str, attestations: &str, status: i32) -> String {
        let policy = self.file("policy.toml");
        fs::write(&policy, format!("[[image]]\nmatch = '**/app'\nattestations = [\n{attestations}\n]\n"))
            .unwrap();
        self.world.dockerfile(&dockerfile.replace("IMAGE", &format!("{}/app:1", self.registry.host())));
        self.world.build(["-t", "upon", "--policy", &policy]).remarks().status(status).run().stderr
    }
}

#[test]
fn what_is_built_upon_carries_what_a_rule_wants() {
    let pushed = Pushed::new(&["--provenance=builder-id=https://ci.example.org/7"]);
    let provenance = "{ type = 'provenance', keys = ['p256.pub'] }";
    let from = "# first\nFROM IMAGE\nRUN touch /ran\n";
    let told = pushed.build_upon(from, provenance, 1);
    assert!(
        told.contains("the policy wants provenance of `localhost:") && told.contains("Dockerfile:2:6"),
        "{told}"
    );
    assert!(told.contains("nothing that is signed with a key is said of it"), "{told}");
    assert!(told.contains("policy.toml:4 says so") && !told.contains("touch"), "nothing runs: {told}");

    pushed.sign_as("other", &["--type=provenance"]);
    let told = pushed.build_upon(from, provenance, 1);
    assert!(told.contains("none of the keys that are trusted made it"), "{told}");
    // In either form.
    pushed.sign_as("p256", &["--type=provenance", "--new-bundle-format"]);
    pushed.build_upon("FROM IMAGE\n", provenance, 0);
    // Each of those on one line is asked for.
    let two = format!("{provenance}, {{ type = 'provenance', keys = ['ed25519.pub'] }}");
    pushed.build_upon("FROM IMAGE\n", &two, 1);
    let told = pushed.build_upon(from, "{ type = 'sbom', keys = ['p256.pub'] }", 1);
    assert!(told.contains("an SBOM of `") && told.contains("says other things"), "{told}");
    pushed.sign_as("ed25519", &["--new-bundle-format=false"]);
    let both = "{ type = 'sbom', keys = ['p256.pub', 'ed25519.pub'] }, { type = 'https://slsa.dev/**', keys = ['p256.pub'] }";
    pushed.build_upon("FROM IMAGE\n", both, 0);

    let by =
        |builder: &str| format!("{{ type = 'provenance', keys = ['p256.pub'], builder-id = {builder} }}");
    pushed.build_upon("FROM IMAGE\n", &by("'https://ci.example.org/*'"), 0);
    let told = pushed.build_upon(from, &by("['urn:a', 'https://other.example.org/**']"), 1);
    assert!(told.contains("its builder is `https://ci.example.org/7`"), "{told}");

    // What is found when it runs cannot be asked about before.
    let told = pushed.build_upon("FROM scratch\nCOPY --from=IMAGE /etc /\n", provenance, 1);
    assert!(told.contains("FROM … AS name") && told.contains("Dockerfile:2"), "{told}");
    let pinned = format!("FROM scratch\nCOPY --from=IMAGE@{} /etc /\n", pushed.digest);
    pushed.build_upon(&pinned, provenance, 0);
}

/// Whether it is signed nobody can tell then: another try may do, and nothing is built.
#[test]
fn a_registry_that_does_not_say_who_signed_fails_the_build_for_now() {
    let pushed = Pushed::new(&[]);
    pushed.sign("p256");
    let upstream = pushed.registry.host();
    let server = Server::start(move |request| match request.path.contains("/manifests/sha256-") {
        true => Reply::new(503, "{}"),
        false => forward(&upstream, request),
    });
    let policy = pushed.file("policy.toml");
    let wanted = "attestations = [{ type = 'provenance', keys = ['p256.pub'] }]";
    pushed.world.dockerfile(&format!("FROM {}/app:1\n", server.host()));
    for rule in ["keys = ['p256.pub']", wanted] {
        fs::write(&policy, format!("[[image]]\nmatch = '**/app'\n{rule}\n")).unwrap();
        let ran = pushed.world.build(["-t", "upon", "--policy", &policy]).remarks().status(75).run();
        assert!(ran.stderr.contains("nobody can tell whether there is one"), "{}", ran.stderr);
        assert!(ran.stderr.contains("503"), "{}", ran.stderr);
    }
}

/// Of both forms of a signed statement one cannot be had.
#[test]
fn a_document_that_is_gone_hides_no_good_one() {
    let pushed = Pushed::new(&[]);
    pushed.sign("p256");
    let tag = format!("manifests/{}.att", pushed.digest.replace(':', "-"));
    let envelopes: Value = serde_json::from_slice(&pushed.get(&tag)).unwrap();
    let envelopes = envelopes["layers"].as_array().unwrap().iter();
    let gone: Vec<String> =
        envelopes.map(|layer| format!("/blobs/{}", layer["digest"].as_str().unwrap())).collect();
    assert!(!gone.is_empty());
    let upstream = pushed.registry.host();
    let server = Server::start(move |request| match gone.iter().any(|path| request.path.ends_with(path)) {
        true => Reply::new(404, "{}"),
        false => forward(&upstream, request),
    });
    let policy = pushed.file("policy.toml");
    let wanted =
        "[[image]]\nmatch = '**/app'\nattestations = [{ type = 'provenance', keys = ['p256.pub'] }]\n";
    fs::write(&policy, wanted).unwrap();
    pushed.world.dockerfile(&format!("FROM {}/app:1\n", server.host()));
    pushed.world.build(["-t", "upon", "--policy", &policy]).remarks().run();
}

#[test]
fn what_is_said_of_one_platform_is_not_of_another() {
    let pushed = Pushed::new(&[]);
    pushed.sign("p256");
    let (host, world) = (pushed.registry.host(), &pushed.world);
    let ran =
        world.build(["-t", &format!("{host}/app:arm"), "--platform=linux/arm64", "--push"]).remarks().run();
    let entry = |digest: &str, architecture: &str| {
        let size = pushed.get(&format!("manifests/{digest}")).len();
        json!({
            "mediaType": MediaType::MANIFEST.as_str(), "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let index = json!({
        "schemaVersion": 2, "mediaType": MediaType::INDEX.as_str(),
        "manifests": [entry(&pushed.digest, "amd64"), entry(&ran.digest(), "arm64")],
    });
    pushed.registry.push_manifest("app", "two", &MediaType::INDEX, index.to_string().as_bytes());
    let provenance = "{ type = 'provenance', keys = ['p256.pub'] }";
    let from = |architecture: &str| format!("FROM --platform=linux/{architecture} {host}/app:two");
    pushed.build_upon(&from("amd64"), provenance, 0);
    let both = format!("{} AS one\n{}\nCOPY --from=one /etc /\n", from("amd64"), from("arm64"));
    let told = pushed.build_upon(&both, provenance, 1);
    assert!(told.contains("nothing that is signed with a key is said of it"), "{told}");
}

#[test]
fn an_image_of_this_machine_has_no_attestations() {
    let pushed = Pushed::new(&[]);
    let layout = pushed.file("layout");
    pushed
        .world
        .rbuild(["save", "-o", &layout, "--format=oci-dir", &format!("{}/app:1", pushed.registry.host())])
        .any_stdout()
        .run();
    pushed.world.dockerfile("FROM base\n");
    let policy = pushed.file("policy.toml");
    let context = format!("base=oci-layout://{layout}");
    for rule in ["keys = ['p256.pub']", "attestations = [{ type = 'sbom', keys = ['p256.pub'] }]"] {
        fs::write(&policy, format!("[[image]]\nmatch = '**'\n{rule}\n")).unwrap();
        let build = pushed.world.build(["-t", "upon", "--policy", &policy, "--build-context", &context]);
        let told = build.remarks().status(1).run().stderr;
        assert!(told.contains("is kept in its registry"), "{told}");
    }
}
