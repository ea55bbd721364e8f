//! The store: what is kept, who may use it at the same time, and what survives.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rbuild::oci::{Descriptor, Digest, MediaType, Reference};
use rbuild::store::{Error, Folder, Store};

fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(&dir.path().join("store")).unwrap()
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::MANIFEST, Digest::of(bytes), bytes.len() as u64)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// The message that a user would see.
fn message<T>(result: Result<T, Error>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn keeps_blobs_under_their_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let digest = store.put_blob(b"hello").unwrap();
    assert_eq!(store.put_blob(b"hello").unwrap(), digest);
    assert_eq!(store.has_blob(&digest), Some(5));
    assert_eq!(store.read_blob(&descriptor(b"hello"), 100).unwrap(), b"hello");
    let path = store.root().join("blobs/sha256").join(digest.hex());
    assert_eq!(path, store.blob_path(&digest));
    assert_eq!((mode(&path), mode(store.root())), (0o644, 0o755));
    assert_eq!(
        (mode(&store.root().join("blobs/sha256")), mode(&store.root().join("rbuild"))),
        (0o755, 0o700)
    );
}

#[test]
fn a_written_blob_appears_when_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let digest = Digest::of(b"two parts");

    let mut blob = store.new_blob().unwrap();
    blob.write_all(b"two ").unwrap();
    blob.write_all(b"parts").unwrap();
    assert_eq!(store.has_blob(&digest), None);
    let temporary = blob.path().to_owned();
    assert_eq!(blob.commit(Some(digest)).unwrap(), (digest, 9));
    assert!(!temporary.exists());
    assert_eq!(mode(&store.blob_path(&digest)), 0o644);

    let mut wrong = store.new_blob().unwrap();
    wrong.write_all(b"other").unwrap();
    let temporary = wrong.path().to_owned();
    assert!(matches!(wrong.commit(Some(digest)), Err(Error::WrongDigest { .. })));
    assert!(!temporary.exists(), "a refused blob leaves nothing");
}

#[test]
fn positioned_writes_are_trusted_or_hashed_again() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let blob = store.new_blob().unwrap().without_hashing();
    blob.file().write_all_at(b"world", 5).unwrap();
    blob.file().write_all_at(b"hello", 0).unwrap();
    assert!(matches!(
        blob.commit_trusted(Digest::of(b"helloworld"), 11),
        Err(Error::WrongSize { actual: 10, .. })
    ));
    let blob = store.new_blob().unwrap();
    blob.file().write_all_at(b"helloworld", 0).unwrap();
    assert_eq!(blob.commit(None).unwrap(), (Digest::of(b"helloworld"), 10));
}

#[test]
fn a_whole_blob_stays_where_it_is_and_another_is_replaced() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let write = || {
        let mut blob = store.new_blob().unwrap();
        blob.write_all(b"hello").unwrap();
        let path = blob.path().to_owned();
        let (digest, _) = blob.commit(None).unwrap();
        assert!(!path.exists());
        (digest, fs::metadata(store.blob_path(&digest)).unwrap().ino())
    };
    let (digest, first) = write();
    assert_eq!(write(), (digest, first));
    fs::write(store.blob_path(&digest), "hell0").unwrap();
    assert_ne!(write().1, first);
    assert!(store.verify_blob(&digest).unwrap());
}

#[test]
fn a_damaged_blob_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let digest = store.put_blob(b"hello").unwrap();
    fs::write(store.blob_path(&digest), "hell0").unwrap();
    assert!(matches!(store.read_blob(&descriptor(b"hello"), 100), Err(Error::Damaged { .. })));
    assert!(matches!(store.read_blob(&descriptor(b"hello"), 100), Err(Error::NotFound { .. })));
    // As a crash leaves it: the name is there, the bytes are not.
    fs::write(store.blob_path(&digest), "").unwrap();
    store.put_blob(b"hello").unwrap();
    assert!(store.verify_blob(&digest).unwrap());
    fs::write(store.blob_path(&digest), "short").unwrap();
    assert!(!store.verify_blob(&digest).unwrap());
    assert_eq!(store.has_blob(&digest), None);
}

#[test]
fn a_descriptor_that_lies_does_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let digest = store.put_blob(b"hello").unwrap();
    let lie = |size| Descriptor::new(MediaType::CONFIG, digest, size);
    assert!(matches!(store.read_blob(&lie(4), 100), Err(Error::WrongSize { actual: 5, .. })));
    assert!(matches!(store.read_blob(&lie(2), 3), Err(Error::WrongSize { actual: 5, .. })));
    assert!(matches!(store.read_blob(&lie(101), 100), Err(Error::TooLarge { .. })));
    assert_eq!(store.has_blob(&digest), Some(5));
}

#[test]
fn names_are_projected_into_index_json() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let a: Reference = "localhost:5000/b:1".parse().unwrap();
    let b: Reference = "app".parse().unwrap();
    store.set_tag(&a, &descriptor(b"1")).unwrap();
    store.set_tag(&b, &descriptor(b"2")).unwrap();
    let index = fs::read_to_string(store.root().join("index.json")).unwrap();
    let index: oci_spec::image::ImageIndex = serde_json::from_str(&index).unwrap();
    let names: Vec<_> = index
        .manifests()
        .iter()
        .map(|m| m.annotations().clone().unwrap()["org.opencontainers.image.ref.name"].clone())
        .collect();
    assert_eq!(names, ["docker.io/library/app:latest", "localhost:5000/b:1"]);
    assert_eq!(store.tag(&"app:latest".parse().unwrap()).unwrap(), Some(descriptor(b"2")));
    assert_eq!(store.tags().unwrap().len(), 2);

    let before = fs::read(store.root().join("index.json")).unwrap();
    store.set_tag(&a, &descriptor(b"1")).unwrap();
    assert_eq!(fs::read(store.root().join("index.json")).unwrap(), before);
    assert!(store.remove_tag(&a).unwrap());
    assert!(!store.remove_tag(&a).unwrap());
    assert_eq!(store.tag(&a).unwrap(), None);
}

#[test]
fn a_damaged_tag_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let name: Reference = "app".parse().unwrap();
    store.set_tag(&name, &descriptor(b"1")).unwrap();
    let file = fs::read_dir(store.root().join("rbuild/tags")).unwrap().next().unwrap().unwrap().path();
    fs::write(&file, "{").unwrap();
    let text = message(store.tag(&name));
    assert!(text.contains(file.to_str().unwrap()) && text.contains("is damaged"), "{text}");
    assert!(message(store.tags()).contains(file.to_str().unwrap()));
}

/// Nothing is synced to disk, so a crash may leave names without content.
#[test]
fn files_that_a_crash_has_emptied_count_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (lost, kept): (Reference, Reference) = ("lost".parse().unwrap(), "kept".parse().unwrap());
    store.set_tag(&lost, &descriptor(b"1")).unwrap();
    let file = fs::read_dir(store.root().join("rbuild/tags")).unwrap().next().unwrap().unwrap().path();
    fs::write(&file, "").unwrap();
    store.set_tag(&kept, &descriptor(b"2")).unwrap();
    assert_eq!(store.tag(&lost).unwrap(), None);
    assert_eq!(store.tags().unwrap(), [(kept.clone().with_default_tag(), descriptor(b"2"))]);
    fs::write(&file, [0; 300]).unwrap();
    assert_eq!(store.tags().unwrap().len(), 1);

    fs::write(store.root().join("rbuild/version"), "").unwrap();
    fs::write(store.root().join("oci-layout"), "").unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    assert_eq!(fs::read_to_string(store.root().join("rbuild/version")).unwrap(), "1\n");
    let index = fs::read_to_string(store.root().join("index.json")).unwrap();
    assert!(index.contains("library/kept"), "the names are still there: {index}");
}

/// What a careless user may delete comes back.
#[test]
fn missing_folders_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = open(&dir).root().to_owned();
    for folder in ["blobs", "rbuild/tmp", "rbuild/trash", "rbuild/tags", "rbuild/records"] {
        fs::remove_dir_all(root.join(folder)).unwrap();
    }
    let store = Store::open(&root).unwrap();
    assert!(store.tags().unwrap().is_empty());
    store.put_blob(b"x").unwrap();
    store.new_blob().unwrap().commit(None).unwrap();
    store.put_record("abcd", b"x").unwrap();
    store.set_tag(&"app".parse().unwrap(), &descriptor(b"1")).unwrap();
    drop(store.scratch_dir().unwrap());
    assert!(store.empty_trash().is_empty());
    store.sync().unwrap();
}

#[test]
fn a_newer_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = open(&dir).root().to_owned();
    fs::write(root.join("rbuild/version"), "7\n").unwrap();
    let text = message(Store::open(&root));
    assert!(text.contains("format version 7") && text.contains("versions up to 1"), "{text}");
    assert!(text.contains("--root"), "{text}");
    fs::write(root.join("rbuild/version"), "\0\u{ff}").unwrap();
    assert!(message(Store::open(&root)).contains("rbuild/version"));
}

#[test]
fn other_directories_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("main.c"), "").unwrap();
    let text = message(Store::open(dir.path()));
    assert!(text.contains("is not empty") && text.contains("main.c"), "{text}");
    assert_eq!(count(dir.path()), 1);
    // Not even when it has a folder of that name.
    fs::create_dir(dir.path().join("rbuild")).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(Error::NotAStore { .. })));
    // Nor an OCI layout of somebody else.
    let layout = dir.path().join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    assert!(matches!(Store::open(&layout), Err(Error::NotAStore { .. })));

    let text = message(Store::open(&dir.path().join("main.c/store")));
    assert!(text.contains("main.c` is not a directory"), "{text}");
    let text = message(Store::open(&dir.path().join("main.c")));
    assert!(text.contains("not a directory"), "{text}");
}

#[test]
fn a_file_where_a_folder_must_be_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let root = open(&dir).root().to_owned();
    fs::remove_dir(root.join("blobs/sha256")).unwrap();
    fs::write(root.join("blobs/sha256"), "").unwrap();
    let store = Store::open(&root).unwrap();
    let text = message(store.put_blob(b"x"));
    assert!(text.contains("blobs/sha256` is not a directory"), "{text}");
}

#[test]
fn permission_errors_name_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let root = open(&dir).root().to_owned();
    // Root may write everywhere: another user tries.
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(root.join("rbuild"), fs::Permissions::from_mode(0o000)).unwrap();
        assert!(message(Store::open(&root)).contains("no permission"));
        fs::set_permissions(root.join("rbuild"), fs::Permissions::from_mode(0o700)).unwrap();
        return;
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let exe = dir.path().join("it");
    crate::support::copy_of_this_program(&exe);
    let mut child = as_child_of(&exe, "store::child_opens", &root);
    std::os::unix::process::CommandExt::uid(&mut child, 65534);
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("no permission to") && text.contains("belongs to user 0"), "{text}");
    assert!(text.contains("this is user 65534"), "{text}");
}

#[test]
fn the_umask_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    for umask in ["077", "000"] {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$0\" --exact store::child_puts --nocapture")]);
        shell.arg(std::env::current_exe().unwrap()).env("RBUILD_TEST_STORE", &root).stdout(Stdio::null());
        assert!(shell.status().unwrap().success());
        let modes =
            ["", "blobs", "blobs/sha256", "index.json", "oci-layout", "rbuild", "rbuild/records/ab/cd"];
        assert_eq!(
            modes.map(|path| mode(&root.join(path))),
            [0o755, 0o755, 0o755, 0o644, 0o644, 0o700, 0o600]
        );
        assert_eq!(mode(&root.join("blobs/sha256").join(Digest::of(b"x").hex())), 0o644);
        fs::remove_dir_all(&root).unwrap();
    }
}

#[test]
fn child_puts() {
    let Some(root) = std::env::var_os("RBUILD_TEST_STORE") else { return };
    let store = Store::open(Path::new(&root)).unwrap();
    store.put_blob(b"x").unwrap();
    store.put_record("abcd", b"x").unwrap();
}

#[test]
fn child_opens() {
    let Some(root) = std::env::var_os("RBUILD_TEST_STORE") else { return };
    println!("{:?}", Store::open(Path::new(&root)).map(|_| ()).map_err(|e| e.to_string()));
}

#[test]
fn scratch_directories_disappear() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let scratch = store.scratch_dir().unwrap();
    fs::create_dir(scratch.path().join("full")).unwrap();
    let path = scratch.path().to_owned();
    drop(scratch);
    assert!(!path.exists());
    let root = store.root().to_owned();
    assert_eq!(count(&root.join("rbuild/trash")), 1);
    assert!(store.empty_trash().is_empty());
    assert_eq!(count(&root.join("rbuild/trash")), 0);
    drop(store);
    assert_eq!(count(&root.join("rbuild/tmp")), 0);
}

#[test]
fn trash_takes_everything_and_tells_what_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let tree = store.private(Folder::Trees).join("t");
    fs::create_dir_all(tree.join("locked/inner")).unwrap();
    fs::write(tree.join("locked/inner/file"), "").unwrap();
    std::os::unix::fs::symlink(dir.path(), tree.join("link")).unwrap();
    fs::set_permissions(tree.join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
    store.trash(&tree).unwrap();
    store.trash(&tree).unwrap();
    assert!(!tree.exists());
    assert_eq!(store.empty_trash(), Vec::<std::path::PathBuf>::new());
    assert!(dir.path().exists());
}

#[test]
fn trash_of_other_users_stays_and_is_told() {
    if !crate::support::is_root() {
        crate::support::skip!("only root can be another user");
    }
    let dir = tempfile::tempdir().unwrap();
    let root = open(&dir).root().to_owned();
    let exe = dir.path().join("it");
    crate::support::copy_of_this_program(&exe);
    for path in [dir.path(), &root]
        .into_iter()
        .chain(["rbuild", "rbuild/tmp", "rbuild/trash", "rbuild/lock", "rbuild/door"].map(Path::new))
    {
        std::os::unix::fs::chown(root.join(path), Some(65534), Some(65534)).unwrap();
    }
    std::os::unix::fs::chown(root.join("rbuild/version"), Some(65534), None).unwrap();
    let foreign = root.join("rbuild/trash/tree/bin");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("sh"), "").unwrap();
    let mut child = as_child_of(&exe, "store::child_empties_trash", &root);
    std::os::unix::process::CommandExt::uid(&mut child, 65534);
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(&format!("{:?}", [root.join("rbuild/trash/tree")])), "{text}");
    assert!(Store::open(&root).unwrap().empty_trash().is_empty());
}

#[test]
fn child_empties_trash() {
    let Some(root) = std::env::var_os("RBUILD_TEST_STORE") else { return };
    let store = Store::open(Path::new(&root)).unwrap();
    store.trash(store.scratch_dir().unwrap().path()).unwrap();
    println!("{:?}", store.empty_trash());
}

#[test]
fn the_exclusive_lock_waits_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let other = open(&dir);
    assert!(matches!(store.lock_exclusive(Duration::ZERO), Err(Error::InUse { .. })));
    drop(other);
    let lock = store.lock_exclusive(Duration::ZERO).unwrap();
    let root = store.root().to_owned();
    let waiting = std::thread::spawn(move || Store::open(&root).map(|_| ()));
    drop(lock);
    waiting.join().unwrap().unwrap();
}

#[test]
fn threads_and_stores_share_one_root() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let work = |n: usize| {
        let store = Store::open(&root).unwrap();
        for i in 0..50 {
            store.put_blob(format!("shared {i}").as_bytes()).unwrap();
            let mut blob = store.new_blob().unwrap();
            blob.write_all(format!("stream {i}").as_bytes()).unwrap();
            blob.commit(None).unwrap();
        }
        store.set_tag(&format!("image{n}").parse().unwrap(), &descriptor(&[n as u8])).unwrap();
    };
    std::thread::scope(|scope| (0..8).for_each(|n| drop(scope.spawn(move || work(n)))));
    let store = Store::open(&root).unwrap();
    assert_eq!(count(&root.join("blobs/sha256")), 100);
    assert_eq!(count(&root.join("rbuild/tmp")), 0);
    let index = fs::read_to_string(root.join("index.json")).unwrap();
    assert_eq!(index.matches("ref.name").count(), 8);
    assert_eq!(store.tags().unwrap().len(), 8);
}

#[test]
fn processes_race_to_make_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let exe = std::env::current_exe().unwrap();
    let children: Vec<_> =
        (0..6).map(|_| as_child_of(&exe, "store::child_opens", &root).spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("Ok(())"), "{output:?}");
    }
    assert_eq!(count(&root.join("rbuild/tmp")), 0);
}

/// A child of this test binary that runs one of the `child_…` tests for real.
fn as_child_of(exe: &Path, test: &str, root: &Path) -> Command {
    let mut command = Command::new(exe);
    command.args(["--exact", test, "--nocapture"]).env("RBUILD_TEST_STORE", root);
    command.stdout(Stdio::piped()).stdin(Stdio::null());
    command
}

#[test]
fn child_writes_until_killed() {
    let Some(root) = std::env::var_os("RBUILD_TEST_STORE") else { return };
    let store = Store::open(Path::new(&root)).unwrap();
    let _scratch = store.scratch_dir().unwrap();
    for n in 0u64.. {
        let mut blob = store.new_blob().unwrap();
        for _ in 0..16 {
            blob.write_all(&[n as u8; 4096]).unwrap();
        }
        blob.commit(None).unwrap();
        store.put_record(&format!("{n:064x}"), &[b'x'; 500]).unwrap();
        store.set_tag(&format!("image{}", n % 4).parse().unwrap(), &descriptor(b"x")).unwrap();
        if n == 20 {
            println!("busy");
        }
    }
}

#[test]
fn a_killed_writer_leaves_a_usable_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let exe = std::env::current_exe().unwrap();
    for _ in 0..5 {
        let mut child = as_child_of(&exe, "store::child_writes_until_killed", &root).spawn().unwrap();
        wait_for_line(&mut child, "busy");
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&root).unwrap();
        assert_eq!(count(&root.join("rbuild/tmp")), 0, "what the dead process left is in trash");
        assert!(store.empty_trash().is_empty());
        check_everything(&store);
    }
}

fn wait_for_line(child: &mut std::process::Child, wanted: &str) {
    use std::io::BufRead;
    let reader = std::io::BufReader::new(child.stdout.take().unwrap());
    assert!(reader.lines().map_while(Result::ok).any(|line| line.contains(wanted)));
}

fn check_everything(store: &Store) {
    for entry in fs::read_dir(store.root().join("blobs/sha256")).unwrap() {
        let hex = entry.unwrap().file_name().into_string().unwrap();
        assert!(store.verify_blob(&format!("sha256:{hex}").parse().unwrap()).unwrap());
    }
    let index = fs::read_to_string(store.root().join("index.json")).unwrap();
    let _: oci_spec::image::ImageIndex = serde_json::from_str(&index).unwrap();
    for (reference, _) in store.tags().unwrap() {
        assert!(store.tag(&reference).unwrap().is_some());
    }
}

#[test]
fn records_are_private_and_replaced_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    assert_eq!(store.record("abcdef").unwrap(), None);
    assert!(store.put_new_record("abcdef", b"1").unwrap());
    assert!(!store.put_new_record("abcdef", b"2").unwrap());
    assert_eq!(store.record("abcdef").unwrap().unwrap(), b"1");
    store.put_record("abcdef", b"3").unwrap();
    assert_eq!(store.record("abcdef").unwrap().unwrap(), b"3");
    assert_eq!(mode(&store.root().join("rbuild/records/ab/cdef")), 0o600);
    store.remove_record("abcdef").unwrap();
    store.remove_record("abcdef").unwrap();
    for bad in ["", "abc", "../../etc/passwd", "ab/cd", ".hidden", "a b c d"] {
        assert!(matches!(store.record(bad), Err(Error::BadRecordName { .. })), "{bad}");
    }
}

#[test]
fn a_full_disk_is_reported_with_the_way_on() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=300k", "none"])
        .arg(dir.path())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    }
    let store = open(&dir);
    let mut blob = store.new_blob().unwrap();
    let error = (0..100).find_map(|_| blob.write_all(&[1; 8192]).err()).unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    let streamed = error.to_string();
    drop(blob);
    let whole = message(store.put_blob(&[2; 400_000]));
    let still_works = store.put_blob(b"small").map(|digest| store.has_blob(&digest));
    let left = count(&store.root().join("rbuild/tmp"));
    drop(store);
    assert!(Command::new("umount").arg("-l").arg(dir.path()).status().unwrap().success());
    for text in [streamed, whole] {
        assert!(text.contains("no space left to write") && text.contains(" of 0.3 MB free"), "{text}");
        assert!(text.contains("`rbuild prune --all`") && text.contains("--root"), "{text}");
    }
    assert_eq!(still_works.unwrap(), Some(5));
    assert_eq!(left, 1);
}

#[test]
fn a_read_only_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let root = open(&dir).root().to_owned();
    let bind = |options: &str| {
        let status =
            Command::new("mount").args(["-o", options]).arg(&root).arg(&root).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !bind("bind") {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let read_only = bind("remount,bind,ro");
    // It is opened for those who only read.
    let result = Store::open(&root).map(|store| store.put_blob(b"new"));
    assert!(Command::new("umount").arg("-l").arg(&root).status().unwrap().success());
    assert!(read_only);
    assert!(message(result.unwrap()).contains("read-only file system"));
}

#[test]
fn blobs_of_an_earlier_boot_are_hashed_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let digest = store.put_blob(b"hello").unwrap();
    assert_eq!(store.intact_blob(&digest).unwrap(), Some(5));
    assert_eq!(store.intact_blob(&Digest::of(b"nothing")).unwrap(), None);
}

#[test]
fn who_writes_to_a_blob_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let digest = store.put_blob(b"hello").unwrap();
    fs::write(store.blob_path(&digest), b"jello").unwrap();
    assert_eq!(store.intact_blob(&digest).unwrap(), None);
    assert_eq!(store.has_blob(&digest), None, "it is set aside");
    // The same bytes again: what was touched only is hashed once and believed.
    let digest = store.put_blob(b"hello").unwrap();
    fs::write(store.blob_path(&digest), b"hello").unwrap();
    assert_eq!(store.intact_blob(&digest).unwrap(), Some(5));
    assert_eq!(store.intact_blob(&digest).unwrap(), Some(5));
}

#[test]
fn index_json_is_written_only_when_a_name_moves() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let index = store.root().join("index.json");
    let name = |n: usize| format!("image{n}:1").parse::<Reference>().unwrap();
    let inode = || fs::metadata(&index).unwrap().ino();
    for n in [5, 1, 9, 3] {
        store.set_tag(&name(n), &descriptor(&[n as u8])).unwrap();
    }
    let before = inode();
    store.set_tag(&name(5), &descriptor(&[5])).unwrap();
    store.remove_tag(&name(7)).unwrap();
    assert_eq!(inode(), before, "nothing moved");
    for n in [0, 4, 99] {
        store.set_tag(&name(n), &descriptor(&[n as u8])).unwrap();
        assert!(store.index_is_current().unwrap(), "{n}");
    }
    store.set_tag(&name(9), &descriptor(b"other")).unwrap();
    assert!(store.remove_tag(&name(1)).unwrap());
    assert!(store.index_is_current().unwrap());
    // What others wrote there, and what a crash between a name and the index left, is made good by the next build.
    fs::write(&index, "{}\n").unwrap();
    store.set_tag(&name(5), &descriptor(&[5])).unwrap();
    assert!(store.index_is_current().unwrap());
    let names: Vec<_> = fs::read_dir(store.root().join("rbuild/tags")).unwrap().collect();
    fs::remove_file(names[0].as_ref().unwrap().path()).unwrap();
    assert!(!store.index_is_current().unwrap());
    store.set_tag(&store.tags().unwrap()[0].0.clone(), &store.tags().unwrap()[0].1.clone()).unwrap();
    assert!(store.index_is_current().unwrap());
}
