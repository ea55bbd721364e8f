//! What others push can be pulled, and what is pushed others can pull; with a login and TLS of a private authority.

use std::path::Path;

use rbuild::http::Environment;
use rbuild::oci::{Digest, Index};
use rbuild::registry::Progress;

use super::push::keep;
use super::tls::tls_registry;
use super::{amd64, client, client_in, client_with_certs_d, reference, small_image, store};
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::tls::certificates;
use crate::support::{skip, tools};

/// The image as an OCI layout that skopeo reads.
fn layout(store: &rbuild::store::Store) -> String {
    let image = small_image();
    let descriptor = keep(store, &image);
    store.set_tag(&"localhost/small:1".parse().unwrap(), &descriptor).unwrap();
    format!("oci:{}:localhost/small:1", store.root().display())
}

#[test]
fn pulls_what_skopeo_pushed_in_every_form() {
    let (_dir, store) = store();
    let from = layout(&store);
    for (tag, between, options) in [
        ("oci", &[][..], &["--format", "oci"][..]),
        ("docker", &[], &["--format", "v2s2"]),
        (
            "zstd",
            &["--dest-compress", "--dest-compress-format", "zstd", "--format", "oci"],
            &["--format", "oci"],
        ),
    ] {
        // One each: skopeo takes what it knows there, though it be in another form.
        let registry = Registry::start();
        let middle = tempfile::tempdir().unwrap();
        let [plain, packed] = ["plain", "packed"].map(|name| middle.path().join(name));
        let (plain, packed) = (format!("dir:{}", plain.display()), format!("oci:{}:x", packed.display()));
        let to = format!("docker://{}/app-{tag}:1", registry.host());
        tools::run("skopeo", ["copy", "-q", "--dest-decompress", &from, &plain]);
        let copy = |options: &[&str], from: &str, to: &str| {
            let fixed = ["copy", "-q", "--dest-tls-verify=false"];
            tools::run("skopeo", fixed.iter().chain(options).copied().chain([from, to]));
        };
        copy(between, &plain, &packed);
        copy(options, &packed, &to);
        let (_dir, fresh) = super::store();
        let name = reference(&registry.host(), &format!("app-{tag}:1"));
        let resolved = client().resolve(&fresh, &name, &amd64()).unwrap();
        client().pull_layers(&fresh, &name, &resolved.layers, &Progress::silent()).unwrap();
        let diff_ids: Vec<_> = resolved.layers.iter().map(|layer| layer.diff_id).collect();
        assert_eq!(diff_ids, small_image().config.rootfs.diff_ids, "{tag}");
        let types: Vec<&str> =
            resolved.layers.iter().map(|layer| layer.descriptor.media_type.as_str()).collect();
        if tag == "zstd" {
            assert!(types.iter().all(|kind| kind.ends_with("+zstd")), "{types:?}");
        }
    }
}

#[test]
fn skopeo_and_podman_pull_what_was_pushed() {
    let registry = Registry::start_with_login();
    let (dir, store) = store();
    let descriptor = keep(&store, &small_image());
    let host = registry.host();
    let auth = dir.path().join("auth.json");
    tools::run(
        "skopeo",
        [
            "login",
            "--tls-verify=false",
            "--authfile",
            auth.to_str().unwrap(),
            "-u",
            USER,
            "-p",
            PASSWORD,
            &host,
        ],
    );
    let client = client_in(Environment::empty().with("REGISTRY_AUTH_FILE", &auth));
    let name = reference(&host, "team/app:1");
    client.push(&store, &descriptor, std::slice::from_ref(&name), &Progress::silent()).unwrap();
    let image = format!("docker://{name}");
    let common = ["--tls-verify=false", "--authfile", auth.to_str().unwrap()];
    let raw =
        tools::run("skopeo", ["inspect", "--raw"].iter().chain(&common).copied().chain([image.as_str()]));
    assert_eq!(Digest::of(raw.as_bytes()), descriptor.digest);
    let copy = format!("dir:{}", dir.path().join("copy").display());
    tools::run(
        "skopeo",
        ["copy", "-q", "--src-tls-verify=false", "--authfile", auth.to_str().unwrap(), &image, &copy],
    );
    if !crate::support::is_root() {
        skip!("podman's own store needs root here");
    }
    let storage = |name: &str| dir.path().join(name).display().to_string();
    let (root, run) = (storage("podman"), storage("podman-run"));
    let own = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs", "pull", "-q"];
    tools::run("podman", own.into_iter().chain(common).chain([name.to_string().as_str()]));
}

#[test]
fn a_private_authority_and_a_login() {
    let (dir, store) = store();
    certificates(dir.path());
    let registry = tls_registry(dir.path());
    let host = format!("localhost:{}", registry.port);
    let certs_d = dir.path().join("certs.d");
    std::fs::create_dir_all(certs_d.join(&host)).unwrap();
    std::fs::copy(dir.path().join("ca.crt"), certs_d.join(&host).join("ca.crt")).unwrap();
    let client = client_with_certs_d(certs_d.clone());
    let descriptor = keep(&store, &small_image());
    let name = reference(&host, "app:1");
    client.push(&store, &descriptor, std::slice::from_ref(&name), &Progress::silent()).unwrap();
    let folder = certs_d.join(&host);
    assert_eq!(raw(&format!("docker://{name}"), &folder), descriptor.digest);
}

fn raw(image: &str, certificates: &Path) -> Digest {
    let options = ["inspect", "--raw", "--cert-dir", certificates.to_str().unwrap(), image];
    Digest::of(tools::run("skopeo", options).as_bytes())
}

#[test]
fn attestations_and_referrers_are_no_images() {
    let registry = Registry::start();
    let image = small_image();
    let manifest = registry.push(&image, "app", "1");
    // As BuildKit attaches a provenance, and as tools attach a signature (distribution-spec, "Listing Referrers").
    let statement = registry.push_blob("app", b"{}");
    let artifact = |config: &str, more: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
              "config":{{"mediaType":"{config}","digest":"{statement}","size":2}},
              "layers":[{{"mediaType":"application/vnd.in-toto+json","digest":"{statement}","size":2}}]{more}}}"#
        )
    };
    let subject = format!(
        r#","artifactType":"application/vnd.example","subject":{{"mediaType":"{}","digest":"{}","size":{}}}"#,
        manifest.media_type, manifest.digest, manifest.size
    );
    let documents = [
        artifact("application/vnd.oci.image.config.v1+json", ""),
        artifact("application/vnd.oci.empty.v1+json", &subject),
    ];
    let mut entries = Vec::new();
    for (document, extra) in documents.iter().zip([
        r#","platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#,
        r#","artifactType":"application/vnd.example""#,
    ]) {
        let digest = Digest::of(document.as_bytes());
        registry.push_manifest("app", &digest.to_string(), &manifest.media_type, document.as_bytes());
        let (kind, size) = (&manifest.media_type, document.len());
        entries.push(format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}{extra}}}"#));
    }
    entries.push(format!(
        r#"{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"amd64"}}}}"#,
        manifest.media_type, manifest.digest, manifest.size
    ));
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
    let parsed: Index = serde_json::from_str(&index).unwrap();
    registry.push_index(parsed.manifests, "app", "all");
    let (_dir, store) = store();
    let resolved = client().resolve(&store, &reference(&registry.host(), "app:all"), &amd64()).unwrap();
    assert_eq!(resolved.manifest.digest, manifest.digest);
    let error =
        client().resolve(&store, &reference(&registry.host(), "app:all"), &"linux/arm64".parse().unwrap());
    let said = error.unwrap_err().to_string();
    assert!(said.ends_with("this image has: linux/amd64"), "{said}");
}
