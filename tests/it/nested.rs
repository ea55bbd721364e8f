//! Indexes that name indexes: one level works, and no number of levels and names costs much.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rbuild::oci::{Descriptor, Digest, Index, MediaType, Platform, Reference};
use rbuild::store::Store;

use crate::support::http::{Reply, Server};
use crate::support::image::{TestImage, TestLayer};
use crate::support::program::{Ran, World};

const TOO_DEEP: &str = "is nested too deeply";

/// Documents and blobs, and the index on top of them.
struct Nested {
    blobs: Vec<Vec<u8>>,
    top: Descriptor,
    image: Descriptor,
}

impl Nested {
    /// So many indexes above each other, each of which names the one below so often; the lowest names an image for this
    /// machine, and the one above it says its platform.
    fn new(levels: usize, names: usize) -> Self {
        let image = TestImage::new(&Platform::host().to_string(), vec![TestLayer::files(&[("a", "b")])]);
        let mut blobs = vec![image.config_bytes(), image.layers[0].blob.clone(), image.manifest_bytes()];
        let image = Descriptor { platform: None, ..image.descriptor() };
        let mut top = image.clone();
        for _ in 0..levels {
            if top.digest == image.digest {
                top.platform = Some(Platform::host());
            }
            let (schema_version, manifests) = (2, vec![top; names]);
            let media_type = Some(MediaType::INDEX);
            let index = Index { schema_version, media_type, manifests, annotations: BTreeMap::new() };
            let bytes = serde_json::to_vec(&index).unwrap();
            top = Descriptor::new(MediaType::INDEX, Digest::of(&bytes), bytes.len() as u64);
            blobs.push(bytes);
        }
        Self { blobs, top, image }
    }

    /// The index so many levels below the top.
    fn below(&self, levels: usize) -> Digest {
        Digest::of(&self.blobs[self.blobs.len() - 1 - levels])
    }

    fn layout(&self, world: &World) -> PathBuf {
        let path = world.path().join("home/layout");
        let folder = path.join("blobs/sha256");
        fs::create_dir_all(&folder).unwrap();
        for blob in &self.blobs {
            fs::write(folder.join(Digest::of(blob).hex()), blob).unwrap();
        }
        let mut top = self.top.clone();
        top.annotations.insert("io.containerd.image.name".to_owned(), "localhost/app:1".to_owned());
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [top]});
        fs::write(path.join("index.json"), index.to_string()).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        path
    }

    /// A registry that has it as `app:1`.
    fn registry(&self) -> Server {
        let (blobs, top) = (self.blobs.clone(), self.top.digest);
        Server::start(move |request| {
            let last = request.path.rsplit('/').next().unwrap_or_default();
            let digest = if last == "1" { Some(top) } else { last.parse::<Digest>().ok() };
            match blobs.iter().find(|blob| Some(Digest::of(blob)) == digest) {
                Some(blob) => Reply::new(200, blob.clone()),
                None => Reply::new(404, "{}"),
            }
        })
    }

    /// In the store, as an older rbuild may have taken it.
    fn keep(&self, world: &World, name: &str) {
        let store = Store::open(&world.store()).unwrap();
        for blob in &self.blobs {
            store.put_blob(blob).unwrap();
        }
        store.set_tag(&name.parse::<Reference>().unwrap(), &self.top).unwrap();
    }
}

/// What goes through everything that is named takes more than this.
fn run(world: &World, words: &[&str]) -> Ran {
    world
        .through(&["prlimit", "--as=2147483648", "--cpu=10"], words)
        .any_status()
        .any_stdout()
        .remarks()
        .run()
}

#[track_caller]
fn works(world: &World, words: &[&str]) -> Ran {
    let ran = run(world, words);
    assert_eq!(ran.status, Some(0), "{words:?}: {}", ran.stderr);
    ran
}

#[track_caller]
fn is_refused(world: &World, words: &[&str], why: &str) {
    let ran = run(world, words);
    assert_eq!(ran.status, Some(1), "{words:?}: {}", ran.stderr);
    let told = ran.stdout + &ran.stderr;
    assert!(told.contains(why), "{words:?}: {told}");
}

/// Four documents that stand for a million million images.
#[test]
fn a_thousand_names_on_each_level_cost_no_more_than_one() {
    let nested = Nested::new(4, 1_000);
    let world = World::new();
    let layout = nested.layout(&world);
    let (from, registry) = (layout.display().to_string(), nested.registry());
    let remote = format!("{}/app:1", registry.host());
    let out = world.path().join("home/out.tar").display().to_string();
    works(&world, &["load", "-i", &from]);
    works(&world, &["save", "-o", &out, "--format=oci-archive", "localhost/app:1"]);
    works(&world, &["inspect", "localhost/app:1"]);
    works(&world, &["history", "localhost/app:1"]);
    works(&world, &["images"]);
    works(&world, &["verify"]);
    works(&world, &["pull", "--all-platforms", &remote]);
    works(&world, &["pull", &remote]);
    let asked = registry.requests().len();
    assert!(asked < 40, "{asked} requests");
    for (base, context) in [
        ("localhost/app:1", None),
        (remote.as_str(), None),
        ("base", Some(format!("base=oci-layout://{from}"))),
    ] {
        world.dockerfile(&format!("FROM {base}\nCOPY --from={base} /a /b\n"));
        let context = context.map(|context| format!("--build-context={context}"));
        let words = ["build", "--progress=quiet", "."].into_iter().chain(context.as_deref());
        works(&world, &words.collect::<Vec<_>>());
    }
    let described = works(&world, &["inspect", "-f", "{{.ManifestDigest}}", "localhost/app:1"]);
    assert_eq!(described.stdout.trim(), nested.image.digest.to_string());
    works(&world, &["rmi", "localhost/app:1"]);
    works(&world, &["prune", "--all", "--force"]);
}

#[test]
fn a_hundred_levels_are_refused() {
    let nested = Nested::new(100, 2);
    let world = World::new();
    let layout = nested.layout(&world).display().to_string();
    let registry = nested.registry();
    let remote = format!("{}/app:1", registry.host());
    is_refused(&world, &["load", "-i", &layout], TOO_DEEP);
    is_refused(&world, &["pull", "--all-platforms", &remote], TOO_DEEP);
    is_refused(&world, &["pull", &remote], TOO_DEEP);
    let kept = format!("{}/kept:1", registry.host());
    nested.keep(&world, &kept);
    is_refused(&world, &["verify"], TOO_DEEP);
    let fourth = nested.below(4);
    let here = format!("cannot push the image {fourth} of the local store: the index {fourth} {TOO_DEEP}");
    is_refused(&world, &["push", &kept], &here);
    is_refused(&world, &["save", "-o", "../out.tar", &kept], TOO_DEEP);
    is_refused(&world, &["history", &kept], TOO_DEEP);
    works(&world, &["images"]);
    for (base, context) in [
        (kept.as_str(), None),
        (remote.as_str(), None),
        ("base", Some(format!("--build-context=base=oci-layout://{layout}"))),
    ] {
        world.dockerfile(&format!("FROM {base}\nLABEL a=b\n"));
        let words = ["build", "--progress=quiet", "."].into_iter().chain(context.as_deref());
        is_refused(&world, &words.collect::<Vec<_>>(), TOO_DEEP);
    }
}

/// No index has its own digest in it; one that pretends to is another one.
#[test]
fn an_index_that_names_itself_is_damaged() {
    let nested = Nested::new(1, 1);
    let pretended = nested.top.digest;
    let top = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::INDEX, "manifests": [nested.top, nested.top]});
    let bytes = top.to_string().into_bytes();
    let world = World::new();
    let layout = nested.layout(&world);
    fs::write(layout.join("blobs/sha256").join(pretended.hex()), &bytes).unwrap();
    is_refused(&world, &["load", "-i", &layout.display().to_string()], "is damaged");
    let registry = Server::start(move |request| match request.path.contains("/manifests/") {
        true => Reply::new(200, bytes.clone()),
        false => Reply::new(200, "{}"),
    });
    let remote = format!("{}/app:1", registry.host());
    is_refused(&world, &["pull", "--all-platforms", &remote], &pretended.to_string());
    is_refused(&world, &["pull", &remote], &pretended.to_string());
}
