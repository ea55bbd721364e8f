//! Writers of a cache that say of a layer what is not in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rbuild::layer::entry::{Content, Entry, EntryKind};
use rbuild::layer::index::{Index, Kind, Record, What};
use rbuild::oci::{DiffId, Digest};
use rbuild::shared_cache::pack::Kept;
use rbuild::shared_cache::{Pack, Sealed};

use super::{Project, Said};

/// A layer whose mode, links and contents what comes later stands on.
const BELOW: &str = "FROM scratch AS low
COPY busybox /bin/sh
COPY busybox /bin/busybox
RUN b=/bin/busybox; $b mkdir -m 700 /d && echo content > /d/f && $b chmod 600 /d/f && $b ln -s d /l
";

/// What stands on it, and when the layer comes for that.
const ABOVE: [(&str, &str); 5] = [
    ("for a command", "COPY a /l/a\nRUN /bin/busybox cat /d/a\n"),
    ("for the result", "COPY a /l/a\n"),
    ("for the result, of a folder", "WORKDIR /l/w\n"),
    ("for what is copied", "FROM scratch\nCOPY --from=low /d /got\n"),
    (
        "for what is mounted",
        "FROM low\nRUN --mount=type=bind,from=low,source=/d,target=/m /bin/busybox cat /m/f > /f\n",
    ),
];

type Lie = fn(&mut Vec<(Entry, u64)>);
const LIES: [(&str, Lie); 4] = [
    ("entries are missing", |entries| entries.retain(|(entry, _)| entry.path == b"bin")),
    ("other modes", |entries| entries.iter_mut().for_each(|(entry, _)| entry.mode = 0o777)),
    ("another size", |entries| {
        for (entry, _) in entries {
            if let EntryKind::File(content) = &mut entry.kind {
                *content = Content::Bytes(Arc::from(*b"con"));
            }
        }
    }),
    ("other offsets", |entries| entries.iter_mut().for_each(|(_, offset)| *offset -= 100)),
];

fn options(project: &Project) -> (String, String) {
    let folder = project.path().join("cache").display().to_string();
    (format!("--cache-from=type=local,src={folder}"), format!("--cache-to=type=local,dest={folder}"))
}

fn entry(record: &Record<'_>) -> (Entry, u64) {
    let What::Node(node) = record.what else { panic!("the layer has nodes only") };
    let (kind, offset) = match node.kind {
        Kind::Directory => (EntryKind::Directory, node.inode),
        Kind::Symlink(target) => (EntryKind::Symlink(target.to_vec()), node.inode),
        Kind::File { size, offset } => {
            let content = vec![0; usize::try_from(size).unwrap()];
            (EntryKind::File(Content::Bytes(content.into())), offset)
        }
        Kind::Fifo | Kind::CharDevice { .. } | Kind::BlockDevice { .. } => panic!("the layer has none"),
    };
    let entry = Entry {
        path: record.path.to_vec(),
        kind,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime,
        xattrs: node.xattrs.to_map(),
    };
    (entry, offset)
}

/// The index of the layer that has `/d/f`, and of which layer it is.
fn index_of_it(project: &Project, pack: &Pack) -> (DiffId, Index) {
    let folder = project.path().join("cache/blobs/sha256");
    let mut indexes = pack.indexes.iter().map(|(layer, kept)| {
        let bytes = zstd::decode_all(&*fs::read(folder.join(kept.digest.hex())).unwrap()).unwrap();
        (*layer, Index::from_bytes(&bytes).unwrap())
    });
    indexes.find(|(_, index)| index.find(b"d/f").is_some()).unwrap()
}

fn head(project: &Project) -> Pack {
    Pack::parse(&fs::read(project.path().join("cache/rbuild-cache/latest")).unwrap()).unwrap()
}

/// Has the cache tell something else of that layer.
fn tell(project: &Project, pack: &Pack, (layer, index): &(DiffId, Index), lie: Lie) {
    let mut told: Vec<(Entry, u64)> = index.iter().map(|record| entry(&record)).collect();
    lie(&mut told);
    let (entries, offsets): (Vec<Entry>, Vec<u64>) = told.into_iter().unzip();
    let told = Index::from_entries(&entries, &offsets).unwrap();
    assert_ne!(told, *index);
    let bytes = zstd::bulk::compress(&told.to_bytes(), 3).unwrap();
    let mut pack = pack.clone();
    pack.indexes.insert(*layer, Kept::of(&bytes, 0));
    let folder = project.path().join("cache");
    fs::write(folder.join("blobs/sha256").join(Digest::of(&bytes).hex()), bytes).unwrap();
    fs::write(folder.join("rbuild-cache/latest"), pack.to_bytes()).unwrap();
}

/// What is in a folder, without its times.
fn listing(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = match meta.file_type() {
                kind if kind.is_symlink() => format!("-> {}", fs::read_link(&path).unwrap().display()),
                kind if kind.is_dir() => "directory".to_owned(),
                _ => Digest::of(&fs::read(&path).unwrap()).to_string(),
            };
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            found.insert(name, format!("{:o} {content}", meta.permissions().mode()));
            if meta.is_dir() {
                left.push(path);
            }
        }
    }
    found
}

fn built_into(project: &Project, machine: &str, arguments: &[&str]) -> (Said, BTreeMap<String, String>) {
    let out = project.path().join("out");
    let output = format!("--output=type=local,dest={}", out.display());
    let said = project.built(machine, &[&[&*output], arguments].concat());
    let found = listing(&out);
    fs::remove_dir_all(out).unwrap();
    (said, found)
}

#[test]
fn a_wrong_index_is_noticed_when_the_layer_is_here() {
    let project = Project::new();
    let (from, to) = options(&project);
    project.write("Dockerfile", BELOW);
    project.built("writer", &[&to]);
    let good = head(&project);
    let it = index_of_it(&project, &good);
    for (when, above) in ABOVE {
        project.write("Dockerfile", format!("{BELOW}{above}"));
        let (_, expected) = built_into(&project, &format!("honest-{}", when.replace([' ', ','], "-")), &[]);
        for (what, lie) in LIES {
            tell(&project, &good, &it, lie);
            let machine = format!("{what} {when}").replace([' ', ','], "-");
            let (said, found) = built_into(&project, &machine, &[&from]);
            assert_eq!(found, expected, "{machine}: {}", said.stderr);
            let folder = project.path().join("cache").display().to_string();
            let told = format!("that came from `{folder}` does not match the layer");
            let count = said.stderr.matches(&told).count();
            // Where a command will run the layer is under way before anybody asks for its index, and may be here first.
            let is_race = when == "for a command";
            assert!(count == 1 || is_race && count == 0, "{machine}: {}", said.stderr);
            // Neither what it said of the layer nor what was made of that is believed later.
            if what == LIES[0].0 {
                let (said, found) = built_into(&project, &machine, &[]);
                assert_eq!((said.ran(), found), (0, expected.clone()), "{machine}: {}", said.stderr);
            }
            fs::remove_dir_all(project.store(&machine)).unwrap();
        }
    }
}

#[test]
fn a_true_index_costs_nobody_anything() {
    let project = Project::new();
    let (from, to) = options(&project);
    project.write("Dockerfile", BELOW);
    project.built("writer", &[&to]);
    for (when, above) in ABOVE {
        project.write("Dockerfile", format!("{BELOW}{above}"));
        let said = project.built(&when.replace([' ', ','], "-"), &[&from]);
        assert!(!said.stderr.contains("match"), "{}", said.stderr);
        assert!(said.stderr.contains("3 steps cached (3 remote; "), "{}", said.stderr);
    }
}

/// A machine whose builds never need the layer goes by what it was told, and hands on that it did.
#[test]
fn what_was_made_of_a_wrong_index_goes_when_the_layer_comes() {
    let registry = crate::support::registry::Registry::start();
    let project = Project::new();
    let (from, to) = options(&project);
    project.write("Dockerfile", BELOW);
    project.built("writer", &[&to]);
    let good = head(&project);
    let it = index_of_it(&project, &good);
    tell(&project, &good, &it, LIES[0].1);
    let copy = format!("{BELOW}COPY a /l/a\n");
    project.write("Dockerfile", &copy);
    let pushed = |number: u32| format!("{}/app:{number}", registry.host());
    // The layer is sent on by whoever has it, and is not on this machine.
    project.built("writer", &["--push", "-t", &pushed(0)]);
    let only_pushed = project.built("between", &["--push", "-t", &pushed(1), &from, &to]);
    assert!(!only_pushed.stderr.contains("does not match"), "{}", only_pushed.stderr);
    // Whoever has the layer can tell.
    let indexes = |machine: &str| project.store(machine).join("rbuild/indexes");
    let is_told = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "told");
    let files = fs::read_dir(indexes("between")).unwrap().map(|entry| entry.unwrap().path());
    for told in files.filter(is_told) {
        fs::copy(&told, indexes("writer").join(told.file_name().unwrap())).unwrap();
    }
    assert_eq!(project.rbuild("between", &["verify"]).code, 0);
    assert_ne!(project.rbuild("writer", &["verify"]).code, 0);
    assert_eq!(project.rbuild("writer", &["verify"]).code, 0);
    let made_of_it = |pack: &Pack| pack.entries.values().any(|entry| !entry.record.told.is_empty());
    assert!(made_of_it(&head(&project)));

    let (_, expected) = built_into(&project, "honest", &[]);
    project.write("Dockerfile", format!("{copy}RUN /bin/busybox cat /d/a > /b\n"));
    let said = project.built("between", &[&from, &to]);
    assert!(said.stderr.contains("does not match"), "{}", said.stderr);
    project.write("Dockerfile", &copy);
    for machine in ["between", "another"] {
        let (said, found) = built_into(&project, machine, &[&from]);
        assert_eq!((said.ran(), found), (0, expected.clone()), "{machine}: {}", said.stderr);
    }
    assert!(!made_of_it(&head(&project)));
}

/// Who signs does not sign what another one only said.
#[test]
fn what_was_made_of_what_others_told_is_not_signed() {
    let registry = crate::support::registry::Registry::start();
    let project = Project::new();
    let (from, to) = options(&project);
    let key = project.path().join("key");
    let mut keygen = std::process::Command::new("ssh-keygen");
    assert!(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap().success());
    let signed = project.path().join("signed").display().to_string();
    let sign = format!("--cache-to=type=local,dest={signed},sign={}", key.display());
    project.write("Dockerfile", BELOW);
    project.built("writer", &[&to]);
    project.write("Dockerfile", format!("{BELOW}COPY a /l/a\n"));
    project.built("writer", &["--push", "-t", &format!("{}/app:0", registry.host())]);
    project.built("signer", &["--push", "-t", &format!("{}/app:1", registry.host()), &from, &sign]);
    let said = || {
        let sealed = Sealed::parse(&fs::read(project.path().join("signed/rbuild-cache/latest")).unwrap());
        sealed.unwrap().claims().map(|(pack, _)| pack.entries.len()).sum::<usize>()
    };
    assert_eq!(said(), 0);
    // What the layer itself has may be said.
    project.built("signer", &[&from, &sign]);
    assert_eq!(said(), 1);
}
