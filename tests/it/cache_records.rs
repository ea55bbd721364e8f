//! The cache: hits, misses, and what it says about them.

use std::fs;

use rbuild::cache::{Cache, Key, Preimage, Record};
use rbuild::key::files::{FileKind, FileState, push_name};
use rbuild::oci::{ChainId, Descriptor, DiffId, Digest, Layer, MediaType};
use rbuild::store::Store;

fn setup() -> (tempfile::TempDir, Store, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let cache = Cache::new(store.clone());
    (dir, store, cache)
}

fn record(store: &Store, preimage: &Preimage, content: &[u8]) -> Record {
    let digest = store.put_blob(content).unwrap();
    let descriptor = Descriptor::new(MediaType::LAYER_GZIP, digest, content.len() as u64);
    let diff_id = DiffId(Digest::of(&[content, b" tar"].concat()));
    Record::new(preimage.key(), Layer { descriptor, diff_id }, ChainId::of(&[diff_id]), 1_700_000_000)
}

fn preimage(fields: &[(&str, &str)]) -> Preimage {
    let mut preimage = Preimage::new("copy/1");
    for (name, value) in fields {
        preimage.push(*name, *value);
    }
    preimage
}

fn record_path(store: &Store, key: &Key) -> std::path::PathBuf {
    let hex = key.hex();
    store.root().join("rbuild/records").join(&hex[..2]).join(&hex[2..])
}

#[test]
fn finds_what_was_published() {
    let (_dir, store, cache) = setup();
    let why = preimage(&[("command", "make")]);
    assert_eq!(cache.lookup(&why.key()).unwrap(), None);
    let published = cache.publish(record(&store, &why, b"layer"), &why, "build/1").unwrap();
    assert_eq!(published.boot_id, store.boot_id());
    assert_eq!(cache.lookup(&why.key()).unwrap(), Some(published));
    assert_eq!(cache.preimage(&why.key()).unwrap(), Some(why));
}

#[test]
fn a_layer_that_somebody_wrote_to_is_none() {
    let (dir, store, cache) = setup();
    let why = preimage(&[("command", "make")]);
    let published = cache.publish(record(&store, &why, b"layer"), &why, "s").unwrap();
    // As an export shares it.
    let shared = dir.path().join("shared");
    fs::hard_link(store.blob_path(&published.layer.descriptor.digest), &shared).unwrap();
    assert_eq!(cache.lookup(&why.key()).unwrap(), Some(published));
    fs::write(&shared, b"LAYER").unwrap();
    assert_eq!(cache.lookup(&why.key()).unwrap(), None);
    assert_eq!(cache.explain("s", &why).as_deref(), Some("its layer was damaged on disk"));
}

#[test]
fn the_loser_of_a_race_goes_on_from_the_winner() {
    let (_dir, store, cache) = setup();
    let why = preimage(&[("command", "date > /now")]);
    let winner = cache.publish(record(&store, &why, b"first"), &why, "s").unwrap();
    let loser = cache.publish(record(&store, &why, b"second"), &why, "s").unwrap();
    assert_eq!(loser, winner);
    // A winner whose blob is gone is none.
    fs::remove_file(store.blob_path(&winner.layer.descriptor.digest)).unwrap();
    let second = cache.publish(record(&store, &why, b"second"), &why, "s").unwrap();
    assert_eq!(second.layer.descriptor.digest, Digest::of(b"second"));
}

#[test]
fn threads_agree_on_one_record() {
    let (_dir, store, cache) = setup();
    let why = preimage(&[("command", "x")]);
    let publish = |n: u8| cache.publish(record(&store, &why, &[n; 10]), &why, "s").unwrap();
    let results: Vec<Record> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || publish(n))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(results.iter().all(|r| *r == results[0]));
}

#[test]
fn a_record_of_another_boot_is_verified_or_dropped() {
    let (_dir, store, cache) = setup();
    let why = preimage(&[("command", "x")]);
    let published = cache.publish(record(&store, &why, b"layer"), &why, "s").unwrap();
    let path = record_path(&store, &why.key());
    let another = Record { boot_id: "another-boot".to_owned(), ..published.clone() }.to_bytes();
    fs::write(&path, &another).unwrap();
    assert_eq!(cache.lookup(&why.key()).unwrap(), Some(published.clone()));
    assert!(fs::read_to_string(&path).unwrap().contains(store.boot_id()), "it is rewritten for this boot");

    fs::write(&path, &another).unwrap();
    fs::write(store.blob_path(&published.layer.descriptor.digest), "l@yer").unwrap();
    assert_eq!(cache.lookup(&why.key()).unwrap(), None);
    assert!(!path.exists());
    assert_eq!(cache.explain("s", &why).as_deref(), Some("its layer was damaged on disk"));
}

#[test]
fn damaged_records_are_misses() {
    let (_dir, store, cache) = setup();
    let why = preimage(&[("command", "x")]);
    for text in ["", "{", "[]", "{\"version\":1}", "\0\0\0\0", "null"] {
        cache.publish(record(&store, &why, b"layer"), &why, "s").unwrap();
        let path = record_path(&store, &why.key());
        fs::write(&path, text).unwrap();
        assert_eq!(cache.lookup(&why.key()).unwrap(), None, "{text:?}");
        assert!(!path.exists());
        assert_eq!(cache.explain("s", &why).as_deref(), Some("its cache record was damaged"));
    }
    // A diff id, a chain or a time with another bit reads as well.
    cache.publish(record(&store, &why, b"layer"), &why, "s").unwrap();
    let path = record_path(&store, &why.key());
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, damaged).unwrap();
        assert_eq!(cache.lookup(&why.key()).unwrap(), None, "byte {at}");
    }
    // Neither does a damaged preimage break anything; the next publication heals it.
    fs::write(path.with_extension("why"), "{").unwrap();
    let cache = Cache::new(store.clone());
    assert_eq!(cache.explain("s", &why), None);
    cache.publish(record(&store, &why, b"layer"), &why, "s").unwrap();
    assert_eq!(cache.preimage(&why.key()).unwrap(), Some(why));
}

#[test]
fn misses_are_explained() {
    let file = "file 0644 0:0 sha256:aa";
    let base = [("user", "app"), ("command", "make"), ("arg:GIT_SHA", "1"), ("file:run.sh", file)];
    let with = |name: &str, value: &str| {
        let changed = base.map(|(n, v)| if n == name { (n, value.to_owned()) } else { (n, v.to_owned()) });
        changed.map(|(n, v)| (n.to_owned(), v)).to_vec()
    };
    let without = |name: &str| with("", "").into_iter().filter(|(n, _)| n != name).collect::<Vec<_>>();
    let plus = |name: &str| [with("", ""), vec![(name.to_owned(), "x".to_owned())]].concat();
    for (fields, want) in [
        (with("user", "root"), "the user changed"),
        (with("command", "make all"), "the command changed"),
        (with("arg:GIT_SHA", "2"), "ARG GIT_SHA changed"),
        (without("arg:GIT_SHA"), "ARG GIT_SHA removed"),
        (plus("arg:NEW"), "ARG NEW added"),
        (plus("env:NEW"), "ENV NEW added"),
        (plus("file:src/new.py"), "src/new.py added"),
        (without("file:run.sh"), "run.sh removed"),
        (with("file:run.sh", "file 0644 0:0 sha256:bb"), "run.sh changed"),
        (with("file:run.sh", "file 0755 0:0 sha256:bb"), "run.sh changed"),
        (with("file:run.sh", "file 0664 0:0 sha256:aa"), "mode of run.sh 0644 → 0664"),
        (with("file:run.sh", "file 0644 1000:1000 sha256:aa"), "owner of run.sh 0:0 → 1000:1000"),
        (with("file:run.sh", "symlink 0777 0:0 target"), "run.sh is now a symlink"),
        (plus("chown"), "the chown added"),
        (plus("mount:/root/.cache"), "the mount at /root/.cache added"),
        (
            [with("command", "x"), vec![("parent".to_owned(), "y".to_owned())]].concat(),
            "the command changed, and 1 more",
        ),
    ] {
        let (_dir, store, cache) = setup();
        let old = preimage(&base);
        assert_eq!(cache.explain("app build/1", &old), None);
        cache.publish(record(&store, &old, b"layer"), &old, "app build/1").unwrap();
        let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(cache.explain("app build/1", &preimage(&fields)).as_deref(), Some(want));
        assert_eq!(cache.explain("another build/1", &preimage(&fields)), None);
    }
}

#[test]
fn a_hit_can_be_remembered_for_its_slot() {
    let (_dir, store, cache) = setup();
    let (one, two, three) = (
        preimage(&[("arg:A", "1")]),
        preimage(&[("arg:A", "2")]),
        preimage(&[("arg:A", "1"), ("arg:B", "")]),
    );
    cache.publish(record(&store, &one, b"1"), &one, "s").unwrap();
    cache.publish(record(&store, &two, b"2"), &two, "s").unwrap();
    cache.remember("s", &one.key()).unwrap();
    assert_eq!(cache.explain("s", &three).as_deref(), Some("ARG B added"));
}

#[test]
fn no_two_lists_of_fields_have_one_key() {
    let lists: [&[(&str, &str)]; 6] = [
        &[("a", "bc")],
        &[("ab", "c")],
        &[("a", "b"), ("c", "")],
        &[("a", ""), ("bc", "")],
        &[("c", ""), ("a", "b")],
        &[],
    ];
    let keys: std::collections::HashSet<_> = lists.iter().map(|l| preimage(l).key()).collect();
    assert_eq!(keys.len(), lists.len());
}

#[test]
fn the_key_is_the_same_in_every_version() {
    let preimage =
        preimage(&[("parent", "sha256:0"), ("arg:A", "1"), ("file:src/app.py", "file 0644 0:1 sha256:aa")]);
    assert_eq!(preimage.key().hex(), "fdef926b21702e07f21d2273cb39a8e977d20c916b0a4559c92216503b22c2b2");
}

#[test]
fn fifty_thousand_files_are_cheap() {
    let (_dir, store, cache) = setup();
    let mut why = Preimage::new("copy/1");
    for i in 0..50_000 {
        let digest = Digest::of(format!("{i}").as_bytes());
        let kind = FileKind::File { digest: digest.as_bytes(), capability: None, first_name: None };
        let (mut name, mut value) = (String::new(), String::new());
        push_name(&mut name, &[b"src/some/folder", format!("{i}.py").as_bytes()]);
        FileState { kind, mode: 0o644, owner: Some((0, 0)) }.push_to(&mut value);
        why.push(name, value);
    }
    let key = why.key();
    cache.publish(record(&store, &why, b"layer"), &why, "s").unwrap();
    let told = record_path(&store, &key).with_extension("why");
    let size = fs::metadata(&told).unwrap().len();
    assert!(size < 50_000 * 160, "{size}");
    // A lookup does not read the reasons, so their number costs it nothing.
    let away = told.with_extension("away");
    fs::rename(&told, &away).unwrap();
    assert!(cache.lookup(&key).unwrap().is_some());
    fs::rename(&away, &told).unwrap();
    let mut changed = Preimage::default();
    let mut name = "";
    for (at, field) in why.fields().enumerate() {
        if at == 25_000 {
            name = field.name.trim_start_matches("file:");
            changed.push(field.name, format!("{}0", field.value));
        } else {
            changed.push(field.name, field.value);
        }
    }
    assert_eq!(cache.explain("s", &changed), Some(format!("{name} changed")));
}
