//! Hostile manifests, indexes and configurations in a layout that is loaded: an error in words, or an image that is whole.

use std::fs;
use std::path::Path;

use rbuild::oci::Digest;
use serde_json::{Value, json};

use super::{attempt, is_success};
use crate::support::attack::{Chance, Tally, rounds};
use crate::support::image::{TestImage, TestLayer};
use crate::support::program::World;

/// A change of the documents of an image: the index, the manifest, the configuration.
type Change = (&'static str, fn(&mut Documents));

struct Documents {
    index: Value,
    manifest: Value,
    config: Value,
    layers: Vec<Vec<u8>>,
    /// Bytes under a name that is not theirs.
    misnamed: bool,
    without_blobs: bool,
    /// The size and digest of the manifest and configuration are left as they were.
    stale: bool,
}

const CHANGES: &[Change] = &[
    ("nothing", |_| ()),
    ("a layer's size too large", |d| put(&mut d.manifest, "/layers/0/size", json!(99_999))),
    ("a layer's size too small", |d| put(&mut d.manifest, "/layers/0/size", json!(1))),
    ("a negative size", |d| put(&mut d.manifest, "/layers/0/size", json!(-1))),
    ("a size of 2^64", |d| put(&mut d.manifest, "/layers/0/size", json!(u64::MAX))),
    ("a size that is text", |d| put(&mut d.manifest, "/layers/0/size", json!("1"))),
    ("a digest with ..", |d| {
        put(&mut d.manifest, "/layers/0/digest", json!("sha256:../../../../etc/passwd"));
    }),
    ("a digest that is short", |d| put(&mut d.manifest, "/layers/0/digest", json!("sha256:00"))),
    ("a digest of another algorithm", |d| {
        put(&mut d.manifest, "/layers/0/digest", json!("md5:d41d8cd98f00b204e9800998ecf8427e"));
    }),
    ("a digest of nothing", |d| {
        put(&mut d.manifest, "/layers/0/digest", json!(format!("sha256:{}", "0".repeat(64))));
    }),
    ("upper case in a digest", |d| {
        let upper = d.manifest["layers"][0]["digest"].as_str().unwrap_or_default().to_uppercase();
        put(&mut d.manifest, "/layers/0/digest", json!(upper.replace("SHA256", "sha256")));
    }),
    ("an unknown media type", |d| put(&mut d.manifest, "/layers/0/mediaType", json!("text/plain"))),
    ("no media type", |d| remove(&mut d.manifest, "/layers/0", "mediaType")),
    ("a plain tar that is gzip", |d| {
        put(&mut d.manifest, "/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar"));
    }),
    ("zstd that is gzip", |d| {
        put(&mut d.manifest, "/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar+zstd"));
    }),
    ("a foreign layer", |d| {
        put(
            &mut d.manifest,
            "/layers/0/mediaType",
            json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
        );
        put(&mut d.manifest, "/layers/0/urls", json!(["file:///etc/passwd", "http://localhost:1/x"]));
    }),
    ("an encrypted layer", |d| {
        put(
            &mut d.manifest,
            "/layers/0/mediaType",
            json!("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
        );
    }),
    ("no layers", |d| put(&mut d.manifest, "/layers", json!([]))),
    ("layers that are no list", |d| put(&mut d.manifest, "/layers", json!({}))),
    ("ten thousand layers", |d| {
        let layers = vec![d.manifest["layers"][0].clone(); 10_000];
        put(&mut d.manifest, "/layers", json!(layers));
    }),
    ("one layer more than diff ids", |d| {
        if let Some(ids) = d.config.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut) {
            ids.pop();
        }
    }),
    ("a wrong diff id", |d| {
        put(&mut d.config, "/rootfs/diff_ids/0", json!(format!("sha256:{}", "1".repeat(64))));
    }),
    ("diff ids exchanged", |d| {
        if let Some(ids) = d.config.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut) {
            ids.reverse();
        }
    }),
    ("a rootfs of another type", |d| put(&mut d.config, "/rootfs/type", json!("windows"))),
    ("no rootfs", |d| remove(&mut d.config, "", "rootfs")),
    ("a configuration that is a list", |d| d.config = json!([])),
    ("a history of everything", |d| put(&mut d.config, "/history", json!([{"empty_layer": "yes"}, 5, null]))),
    ("more history than layers", |d| {
        put(&mut d.config, "/history", json!(vec![json!({"created_by": "x"}); 500]));
    }),
    ("environment without =", |d| {
        put(&mut d.config, "/config", json!({"Env": ["A", "=b", "", "C=d=e", "NUL=\u{0}"]}));
    }),
    ("a user with control characters", |d| {
        put(&mut d.config, "/config", json!({"User": "\u{1b}[31m:\n", "WorkingDir": "../../.."}));
    }),
    ("schema version 1", |d| put(&mut d.manifest, "/schemaVersion", json!(1))),
    ("schema version 99", |d| put(&mut d.manifest, "/schemaVersion", json!(99))),
    ("a manifest that is an index", |d| {
        put(&mut d.manifest, "/mediaType", json!("application/vnd.oci.image.index.v1+json"));
    }),
    ("an artifact", |d| put(&mut d.manifest, "/config/mediaType", json!("application/vnd.example+json"))),
    ("a configuration that is a layer", |d| {
        let layer = d.manifest["layers"][0].clone();
        put(&mut d.manifest, "/config", layer);
    }),
    ("an index that is empty", |d| put(&mut d.index, "/manifests", json!([]))),
    ("an index of text", |d| put(&mut d.index, "/manifests", json!("x"))),
    ("a name with ..", |d| {
        put(
            &mut d.index,
            "/manifests/0/annotations/org.opencontainers.image.ref.name",
            json!("../../../../tmp/evil:x"),
        );
    }),
    ("a name that is absolute", |d| {
        put(&mut d.index, "/manifests/0/annotations/org.opencontainers.image.ref.name", json!("/etc/passwd"));
    }),
    ("a name of 100,000 bytes", |d| {
        put(
            &mut d.index,
            "/manifests/0/annotations/org.opencontainers.image.ref.name",
            json!("a".repeat(100_000)),
        );
    }),
    ("the same image 5,000 times", |d| {
        let all = vec![d.index["manifests"][0].clone(); 5_000];
        put(&mut d.index, "/manifests", json!(all));
    }),
    ("blobs of other bytes", |d| d.misnamed = true),
    ("no blobs", |d| d.without_blobs = true),
    ("descriptors of an older manifest", |d| {
        put(&mut d.manifest, "/annotations", json!({"a": "b"}));
        d.stale = true;
    }),
    ("a layer that is no tar", |d| d.layers[0] = b"\x1f\x8bgarbage".to_vec()),
    ("a layer that is empty", |d| d.layers[0] = Vec::new()),
    ("deep nesting", |d| {
        put(&mut d.config, "/x", (0..120).fold(json!(1), |inner, _| json!([inner])));
    }),
];

/// Sets what the pointer names, if what it is in is there: another change may have removed it.
fn put(document: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent) {
        Some(Value::Object(members)) => drop(members.insert(name.to_owned(), value)),
        Some(Value::Array(elements)) => {
            if let Some(element) = name.parse().ok().and_then(|at: usize| elements.get_mut(at)) {
                *element = value;
            }
        }
        _ => {}
    }
}

fn remove(document: &mut Value, parent: &str, name: &str) {
    if let Some(members) = document.pointer_mut(parent).and_then(Value::as_object_mut) {
        members.remove(name);
    }
}

#[test]
fn a_hostile_layout_is_refused_or_whole() {
    let (mut chance, mut tally) = (Chance::of("hostile manifests"), Tally::of("hostile manifests"));
    let world = World::new();
    world.dockerfile("FROM hostile:1\nCOPY Dockerfile /new\n");
    let mut chosen: Vec<Vec<usize>> = (0..CHANGES.len()).map(|number| vec![number]).collect();
    for _ in 0..rounds(0, 200) {
        chosen.push(vec![chance.below(CHANGES.len()), chance.below(CHANGES.len())]);
    }
    for parts in chosen {
        let told = format!("{:?}", parts.iter().map(|part| CHANGES[*part].0).collect::<Vec<_>>());
        let layout = world.path().join("layout");
        for folder in [&layout, &world.store()] {
            let _ = fs::remove_dir_all(folder);
        }
        write(&layout, &parts);
        let loaded = attempt(&world, &["load", "-i", layout.to_str().unwrap()]).run();
        let is_loaded = is_success(&loaded, &told);
        assert!(is_loaded || parts != [0], "{told}: {}", loaded.stderr);
        // What was loaded is whole: verify has nothing to say, and a build uses it or says why not.
        if is_loaded {
            let report = attempt(&world, &["verify"]).run();
            assert!(is_success(&report, &told), "{told}: loaded, but {}", report.stdout);
            is_success(&attempt(&world, &["--progress=quiet", "--offline", "."]).run(), &told);
        } else {
            let images = attempt(&world, &["images", "-q"]).run();
            assert_eq!(images.stdout, "", "{told}: refused, and yet there");
        }
        tally.count(if is_loaded { "an image that is whole" } else { "a clear error" });
    }
}

/// An index that names itself, and one below another without end.
#[test]
fn indexes_in_a_circle_end() {
    let world = World::new();
    let layout = world.path().join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let media = "application/vnd.oci.image.index.v1+json";
    let mut inner = json!({"schemaVersion": 2, "mediaType": media, "manifests": []});
    // A digest cannot name itself, but a hundred indexes can stand in one another, each twice.
    for _ in 0..100 {
        let bytes = serde_json::to_vec(&inner).unwrap();
        let digest = blob(&layout, &bytes);
        let one = json!({"mediaType": media, "digest": digest, "size": bytes.len()});
        inner = json!({"schemaVersion": 2, "mediaType": media, "manifests": [one, one]});
    }
    inner["manifests"][0]["annotations"] = json!({"org.opencontainers.image.ref.name": "deep:1"});
    fs::write(layout.join("index.json"), serde_json::to_vec(&inner).unwrap()).unwrap();
    let ran = attempt(&world, &["load", "-i", layout.to_str().unwrap()]).run();
    is_success(&ran, "indexes in indexes");
}

fn write(layout: &Path, parts: &[usize]) {
    let image = TestImage::new(
        "linux/amd64",
        vec![TestLayer::files(&[("one", "1")]), TestLayer::files(&[("two", "2")])],
    );
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let mut documents = Documents {
        index: json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "annotations": {"org.opencontainers.image.ref.name": "docker.io/library/hostile:1"},
        }]}),
        manifest: value(&image.manifest_bytes()),
        config: value(&image.config_bytes()),
        layers: image.layers.iter().map(|layer| layer.blob.clone()).collect(),
        misnamed: false,
        without_blobs: false,
        stale: false,
    };
    let stale = serde_json::to_vec(&documents.manifest).unwrap();
    for part in parts {
        (CHANGES[*part].1)(&mut documents);
    }
    for (number, bytes) in documents.layers.iter().enumerate() {
        let digest = blob(layout, bytes);
        let was = image.layers[number].descriptor().digest.to_string();
        let descriptor = format!("/layers/{number}");
        let named = documents.manifest.pointer(&format!("{descriptor}/digest"));
        if digest != was && named == Some(&json!(was)) {
            put(&mut documents.manifest, &format!("{descriptor}/digest"), json!(digest));
            put(&mut documents.manifest, &format!("{descriptor}/size"), json!(bytes.len()));
        }
    }
    let config = serde_json::to_vec(&documents.config).unwrap();
    let digest = blob(layout, &config);
    if documents.manifest["config"]["digest"] == json!(Digest::of(&image.config_bytes()).to_string()) {
        put(&mut documents.manifest, "/config/digest", json!(digest));
        put(&mut documents.manifest, "/config/size", json!(config.len()));
    }
    let manifest = serde_json::to_vec(&documents.manifest).unwrap();
    let digest = blob(layout, &manifest);
    let (digest, size) = if documents.stale {
        (Digest::of(&stale).to_string(), stale.len())
    } else {
        (digest, manifest.len())
    };
    if let Some(entries) = documents.index["manifests"].as_array_mut() {
        for entry in entries {
            put(entry, "/digest", json!(digest));
            put(entry, "/size", json!(size));
        }
    }
    fs::write(layout.join("index.json"), serde_json::to_vec(&documents.index).unwrap()).unwrap();
    for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        if documents.without_blobs {
            fs::remove_file(&path).unwrap();
        } else if documents.misnamed {
            let mut bytes = fs::read(&path).unwrap();
            bytes.push(b' ');
            fs::write(&path, bytes).unwrap();
        }
    }
}

/// Writes a blob; gives its digest.
fn blob(layout: &Path, bytes: &[u8]) -> String {
    let digest = Digest::of(bytes);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    digest.to_string()
}
