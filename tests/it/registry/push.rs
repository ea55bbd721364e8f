use std::sync::atomic::{AtomicUsize, Ordering};

use rbuild::oci::{Descriptor, Digest, Index, MediaType};
use rbuild::registry::Progress;
use rbuild::store::Store;

use super::{amd64, client, reference, small_image, store};
use crate::support::http::{Server, forward};
use crate::support::image::{TestImage, TestLayer};
use crate::support::registry::Registry;

/// Puts an image into the store as a build would.
pub(super) fn keep(store: &Store, image: &TestImage) -> Descriptor {
    for layer in &image.layers {
        store.put_blob(&layer.blob).unwrap();
    }
    store.put_blob(&image.config_bytes()).unwrap();
    store.put_blob(&image.manifest_bytes()).unwrap();
    image.descriptor()
}

#[test]
fn what_is_pushed_can_be_pulled() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let mut image = small_image();
    image.layers.push(TestLayer::noise(3 << 20, 1));
    image.config.rootfs.diff_ids.push(image.layers[3].diff_id);
    let descriptor = keep(&store, &image);
    let names = ["app:1", "app:2", "other/app:1"].map(|name| reference(&registry.host(), name));
    client().push(&store, &descriptor, &names, &Progress::silent()).unwrap();
    for name in &names {
        let (_dir, fresh) = super::store();
        let resolved = client().resolve(&fresh, name, &amd64()).unwrap();
        assert_eq!(resolved.manifest.digest, descriptor.digest);
        client().pull_layers(&fresh, name, &resolved.layers, &Progress::silent()).unwrap();
        assert!(fresh.verify_blob(&image.layers[3].digest()).unwrap());
    }
}

#[test]
fn an_index_is_pushed_with_its_images() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let images = ["linux/amd64", "linux/arm64"].map(|platform| {
        keep(&store, &TestImage::new(platform, vec![TestLayer::files(&[("platform", platform)])]))
    });
    let media_type = Some(MediaType::INDEX);
    let index =
        Index { schema_version: 2, media_type, manifests: images.to_vec(), annotations: Default::default() };
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest: Digest = store.put_blob(&bytes).unwrap();
    let descriptor = Descriptor::new(MediaType::INDEX, digest, bytes.len() as u64);
    let name = reference(&registry.host(), "multi:1");
    client().push(&store, &descriptor, std::slice::from_ref(&name), &Progress::silent()).unwrap();
    let (_dir, fresh) = super::store();
    let resolved = client().resolve(&fresh, &name, &"linux/arm64".parse().unwrap()).unwrap();
    assert_eq!((resolved.target.digest, resolved.manifest.digest), (digest, images[1].digest));
}

#[test]
fn nothing_is_sent_that_is_there_or_can_be_mounted() {
    let registry = Registry::start();
    let base = small_image();
    registry.push(&base, "base", "1");
    let between = Server::between(registry.host(), |_, reply| reply);
    let (_dir, store) = store();
    let client = client();
    let from = reference(&between.host(), "base:1");
    let resolved = client.resolve(&store, &from, &amd64()).unwrap();
    client.pull_layers(&store, &from, &resolved.layers, &Progress::silent()).unwrap();

    let mut image = base.clone();
    image.config.config.cmd = Some(vec!["sh".to_owned()]);
    let descriptor = keep(&store, &image);
    let before = between.requests().len();
    client.push(&store, &descriptor, &[reference(&between.host(), "app:1")], &Progress::silent()).unwrap();
    let sent: usize =
        between.received()[before..].iter().filter(|r| r.method == "PUT").map(|r| r.body.len()).sum();
    assert_eq!(sent, image.config_bytes().len() + image.manifest_bytes().len(), "layers were mounted");

    let before = between.requests().len();
    client.push(&store, &descriptor, &[reference(&between.host(), "app:2")], &Progress::silent()).unwrap();
    let puts: Vec<String> =
        between.requests()[before..].iter().filter(|r| r.starts_with("PUT")).cloned().collect();
    assert_eq!(puts, ["PUT /v2/app/manifests/2"]);
}

#[test]
fn an_upload_that_went_wrong_is_begun_anew() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let image = small_image();
    let descriptor = keep(&store, &image);
    let upstream = registry.host();
    let spoiled = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let mut request = request.clone();
        let upload = request.method == "PUT" && request.path.contains("/blobs/uploads/");
        if upload && spoiled.fetch_add(1, Ordering::SeqCst) < 2 {
            // The registry sees other bytes than were sent, and says so.
            request.body[0] ^= 1;
        }
        forward(&upstream, &request)
    });
    let name = reference(&server.host(), "app:1");
    client().push(&store, &descriptor, std::slice::from_ref(&name), &Progress::silent()).unwrap();
    let (_dir, fresh) = super::store();
    let resolved = client().resolve(&fresh, &name, &amd64()).unwrap();
    client().pull_layers(&fresh, &name, &resolved.layers, &Progress::silent()).unwrap();
}

#[test]
fn pushing_again_costs_nothing_but_a_look() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let image = small_image();
    let descriptor = keep(&store, &image);
    let between = Server::between(registry.host(), |_, reply| reply);
    let name = reference(&between.host(), "app:1");
    client().push(&store, &descriptor, std::slice::from_ref(&name), &Progress::silent()).unwrap();
    let before = between.requests().len();
    client().push(&store, &descriptor, std::slice::from_ref(&name), &Progress::silent()).unwrap();
    let again = between.requests().split_off(before);
    // Two different layers, the configuration, the tag.
    assert!(again.len() == 4 && again.iter().all(|request| request.starts_with("HEAD ")), "{again:?}");
}

#[test]
fn several_registries_and_repositories_in_one_go() {
    let (first, second) = (Registry::start(), Registry::start());
    let between = Server::between(first.host(), |_, reply| reply);
    let (_dir, store) = store();
    let image = small_image();
    let descriptor = keep(&store, &image);
    let names =
        [(between.host(), "a:1"), (between.host(), "b/c:1"), (between.host(), "a:2"), (second.host(), "a:1")]
            .map(|(host, name)| reference(&host, name));
    client().push(&store, &descriptor, &names, &Progress::silent()).unwrap();
    for name in &names {
        let (_dir, fresh) = super::store();
        assert_eq!(
            client().resolve(&fresh, name, &amd64()).unwrap().target.digest,
            descriptor.digest,
            "{name}"
        );
    }
    let mounted = between.requests().iter().filter(|request| request.contains("mount=")).count();
    assert_eq!(mounted, 3, "what one repository has the other does not get again");
}

/// A process of its own has seen nothing, but the store knows where its bases are from.
#[test]
fn what_the_store_fetched_from_the_registry_is_mounted() {
    let registry = Registry::start();
    let between = Server::between(registry.host(), |_, reply| reply);
    let (_dir, store) = store();
    let image = small_image();
    let descriptor = keep(&store, &image);
    let [base, name] = ["base:1", "app:1"].map(|name| reference(&between.host(), name));
    client().push(&store, &descriptor, std::slice::from_ref(&base), &Progress::silent()).unwrap();
    store.set_fetched(&base, &descriptor).unwrap();
    let before = between.requests().len();
    client().push(&store, &descriptor, std::slice::from_ref(&name), &Progress::silent()).unwrap();
    let requests = between.requests().split_off(before);
    let mounted = requests.iter().filter(|request| request.contains("mount=")).count();
    assert_eq!(mounted, 2, "its two different layers: {requests:?}");
    // What the registry has lost meanwhile is sent.
    let elsewhere = Registry::start();
    let other = Server::between(elsewhere.host(), |_, reply| reply);
    let [base, name] = ["base:1", "app:1"].map(|name| reference(&other.host(), name));
    store.set_fetched(&base, &descriptor).unwrap();
    client().push(&store, &descriptor, std::slice::from_ref(&name), &Progress::silent()).unwrap();
    let (_dir, fresh) = super::store();
    assert_eq!(client().resolve(&fresh, &name, &amd64()).unwrap().target.digest, descriptor.digest);
}

/// The image is at fault, not the registry.
#[test]
fn a_manifest_of_the_store_that_is_none_is_not_the_registrys_answer() {
    let registry = Registry::start();
    let (_dir, store) = store();
    let bytes = br#"{"schemaVersion": 2, "layers": 7}"#;
    let digest = store.put_blob(bytes).unwrap();
    let descriptor = Descriptor::new(MediaType::MANIFEST, digest, bytes.len() as u64);
    let name = reference(&registry.host(), "app:1");
    let error = client().push(&store, &descriptor, &[name], &Progress::silent()).unwrap_err();
    let told = error.to_string();
    assert!(told.starts_with(&format!("cannot push the image {digest} of the local store: ")), "{told}");
}
