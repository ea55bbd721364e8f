#![allow(clippy::unwrap_used)]

mod in_place;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::*;
use crate::layer::index::Index;
use crate::layer::{Compression, WriteOptions, unpack, write};
use crate::oci::{ChainId, DiffId};
use crate::rootfs::{FileId, OWNER_ATTRIBUTE, Root, SpecialOwner, Symlinks};
use crate::snapshot::commit::read_view;
use crate::snapshot::{
    ActiveSnapshot, CommitJob, IdRange, OverlayKind, TreeKind, Trees, UnpackJob, Views, commit, copy_tree,
    unpack_tree,
};
use crate::store::Store;

/// A store with layers that were written, published and unpacked; the root of the tests' steps.
struct Base {
    dir: tempfile::TempDir,
    store: Store,
    trees: Trees,
    chain: ChainId,
    /// Index files, the lowest first.
    indexes: Vec<PathBuf>,
    /// Trees, the top one first.
    lowers: Vec<PathBuf>,
    view: RootView,
    mark: OpaqueMark,
}

impl Base {
    fn new(layers: Vec<Vec<Entry>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let trees = Trees::new(&store, &TreeKind::root()).unwrap();
        let (chain, view) = (ChainId::EMPTY, RootView::default());
        let mark = OpaqueMark::Trusted;
        let mut base = Self { dir, store, trees, chain, indexes: vec![], lowers: vec![], view, mark };
        layers.into_iter().for_each(|entries| base.add(entries));
        base
    }

    fn add(&mut self, entries: Vec<Entry>) {
        let blob = self.dir.path().join("blob");
        let options = WriteOptions { compression: Compression::None };
        let written = write(entries, &options, &mut fs::File::create(&blob).unwrap()).unwrap();
        self.push(&blob, written.diff_id);
    }

    fn push(&mut self, blob: &Path, diff_id: DiffId) {
        let index = self.dir.path().join(format!("index{}", self.indexes.len()));
        self.chain = self.chain.push(diff_id);
        let job = |target: &Path| UnpackJob {
            blob: blob.to_owned(),
            diff_id,
            parents: self.indexes.clone(),
            lowers: self.lowers.clone(),
            target: target.to_owned(),
            mark: self.mark,
            owners: if self.mark == OpaqueMark::User {
                unpack::Owners::Record
            } else {
                unpack::Owners::Apply
            },
            index: Some(index.clone()),
            progress: None,
        };
        let unpack = |target: &Path| unpack_tree(&job(target)).map(|notes| assert_eq!(notes, [""; 0]));
        let tree = self.trees.ensure(self.chain, unpack).unwrap();
        self.view = self.view.push(Arc::new(Index::from_bytes(&fs::read(&index).unwrap()).unwrap()));
        self.lowers.insert(0, tree);
        self.indexes.push(index);
    }

    fn snapshot(&self, kind: OverlayKind) -> ActiveSnapshot {
        ActiveSnapshot::prepare(&self.store, self.lowers.clone(), kind, self.mark).unwrap()
    }

    /// Runs a shell script with the root of `kind` as its working directory, in a mount namespace of its own.
    fn run(&self, kind: OverlayKind, script: &str) -> ActiveSnapshot {
        let snapshot = self.snapshot(kind);
        if let Some(job) = snapshot.copy_job() {
            copy_tree(&job).unwrap();
        }
        let dirs = snapshot.dirs();
        let lower: Vec<&str> = snapshot.lowers().iter().map(|path| path.to_str().unwrap()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},index=off,metacopy=off,redirect_dir=nofollow,xino=off",
            lower.join(":"),
            dirs.upper.display(),
            dirs.work.display()
        );
        let options = if self.mark == OpaqueMark::User { options + ",userxattr" } else { options };
        let mount = match kind {
            OverlayKind::Copy => String::new(),
            _ => format!("mount -t overlay overlay -o {options} {}", dirs.merged.display()),
        };
        let script = format!("set -e; umask 022; {mount}\ncd {}\n{script}", dirs.merged.display());
        let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        snapshot
    }

    fn changes(&self, snapshot: &ActiveSnapshot) -> Vec<Entry> {
        diff(&snapshot.diff_job(vec![], Owners::OnDisk(IdMap::default())), &self.view).unwrap()
    }
}

/// Whether overlays can be mounted here: as root, outside of narrow containers. Elsewhere the tests that need
/// them pass without looking; plain copies are then what rbuild uses too.
fn can_mount() -> bool {
    let dir = tempfile::tempdir().unwrap();
    for name in ["l", "u", "w", "m"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let script = "mount -t overlay overlay -o lowerdir=l,upperdir=u,workdir=w m";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).current_dir(dir.path()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn entry(path: &str, kind: EntryKind, mode: u32) -> Entry {
    Entry { path: path.into(), kind, mode, uid: 0, gid: 0, mtime: 1_600_000_000, xattrs: BTreeMap::new() }
}

fn dir(path: &str) -> Entry {
    entry(path, EntryKind::Directory, 0o755)
}

fn file(path: &str, content: &str) -> Entry {
    entry(path, EntryKind::File(Content::Bytes(content.as_bytes().into())), 0o644)
}

fn link(path: &str, target: &str) -> Entry {
    entry(path, EntryKind::Symlink(target.into()), 0o777)
}

/// `None` when this is not run by root: nobody else can give files to others. As an ordinary user only
/// [`in_a_user_namespace_with_a_single_id`] looks at anything.
fn sample() -> Option<Base> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let mut app = file("app/run", "#!/bin/sh");
    app.mode = 0o4755;
    (app.uid, app.gid) = (33, 44);
    // CAP_DAC_OVERRIDE and CAP_FOWNER: the value holds a newline, which not every reader of PAX survives.
    app.xattrs.insert(CAPABILITY.into(), [&[1, 0, 0, 2, 10][..], &[0; 15]].concat());
    let mut tmp = dir("tmp");
    tmp.mode = 0o1777;
    let hard = entry("etc/alias", EntryKind::HardLink(b"etc/hosts".to_vec()), 0o644);
    Some(Base::new(vec![
        vec![
            dir("etc"),
            file("etc/hosts", "one"),
            hard,
            file("etc/old", "old"),
            dir("etc/conf.d"),
            file("etc/conf.d/a", "a"),
            file("etc/conf.d/b", "b"),
            link("lib", "usr/lib"),
            dir("usr"),
            dir("usr/lib"),
            file("usr/lib/x", "x"),
            tmp,
        ],
        vec![dir("app"), app, entry("etc/old", EntryKind::Whiteout, 0), file("etc/new", "new")],
    ]))
}

/// One line for each entry, in the order of a layer.
fn listing(entries: &[Entry]) -> String {
    let rank = |entry: &Entry| match entry.kind {
        EntryKind::OpaqueWhiteout => 0,
        EntryKind::Whiteout => 1,
        _ => 2,
    };
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_by(|a, b| (rank(a), &a.path).cmp(&(rank(b), &b.path)));
    entries.iter().map(|entry| line(entry) + "\n").collect()
}

fn line(entry: &Entry) -> String {
    let path = String::from_utf8_lossy(&entry.path);
    let kind = match &entry.kind {
        EntryKind::OpaqueWhiteout => return format!("opaque {path}"),
        EntryKind::Whiteout => return format!("gone {path}"),
        EntryKind::Directory => "dir".to_owned(),
        EntryKind::File(content) => format!("file({})", content.len()),
        EntryKind::Symlink(target) => format!("symlink({})", String::from_utf8_lossy(target)),
        EntryKind::HardLink(target) => format!("link({})", String::from_utf8_lossy(target)),
        EntryKind::Fifo => "fifo".to_owned(),
        EntryKind::CharDevice { major, minor } => format!("char({major},{minor})"),
        EntryKind::BlockDevice { major, minor } => format!("block({major},{minor})"),
    };
    let capability = if entry.xattrs.is_empty() { "" } else { " +cap" };
    format!("{kind} {:o} {}:{} {path}{capability}", entry.mode, entry.uid, entry.gid)
}

/// Runs `script` on the sample root with each kind that this machine has, and compares the changes.
fn check(script: &str, expected: &str) {
    let Some(base) = sample() else { return };
    let kinds = [OverlayKind::Native, OverlayKind::Copy];
    for kind in kinds.into_iter().filter(|kind| *kind == OverlayKind::Copy || can_mount()) {
        let snapshot = base.run(kind, script);
        assert_eq!(listing(&base.changes(&snapshot)), expected, "{kind:?}");
    }
}

#[test]
fn nothing_done_is_no_change() {
    check("cat etc/hosts", "");
}

#[test]
fn new_and_changed_files() {
    check(
        "echo more >> app/run; mkdir -p a/b; echo hi > a/b/f; ln -s /nowhere s; mkfifo p; mknod n c 1 3; \
         chmod 640 etc/new; mkdir usr/lib/d; chown 7:8 usr/lib/d",
        "dir 755 0:0 a\ndir 755 0:0 a/b\nfile(3) 644 0:0 a/b/f\nfile(14) 4755 33:44 app/run\n\
         file(3) 640 0:0 etc/new\nchar(1,3) 644 0:0 n\nfifo 644 0:0 p\nsymlink(/nowhere) 777 0:0 s\n\
         dir 755 7:8 usr/lib/d\n",
    );
}

#[test]
fn removed_files_are_whiteouts_and_what_came_and_went_is_not() {
    check(
        "rm etc/new; touch etc/brief; rm etc/brief; rm -r etc/conf.d; rm -r app; echo file > app; rm lib",
        "gone etc/conf.d\ngone etc/new\ngone lib\nfile(5) 644 0:0 app\n",
    );
}

#[test]
fn touched_but_equal_is_no_change() {
    check("chmod -R u+r .; chown -h 0:0 lib; chmod 4755 app/run; touch -h -d @1600000000 lib", "");
}

#[test]
fn equal_metadata_does_not_hide_other_bytes() {
    check("printf two > etc/new; touch -d @1600000000 etc/new", "file(3) 644 0:0 etc/new\n");
}

#[test]
fn a_hard_link_to_a_lower_file_is_a_copy_and_new_ones_are_links() {
    check(
        "ln etc/new etc/newer; echo x > q; ln q b; ln q usr/z",
        "file(2) 644 0:0 b\nfile(3) 644 0:0 etc/newer\nlink(b) 644 0:0 q\nlink(b) 644 0:0 usr/z\n",
    );
}

#[test]
fn directories_with_other_metadata_are_changes() {
    check(
        "chmod 700 etc/conf.d; chown 5 usr; touch tmp/x; rm tmp/x",
        "dir 700 0:0 etc/conf.d\ndir 755 5:0 usr\n",
    );
}

#[test]
fn capabilities_are_kept_and_other_attributes_are_not() {
    let script = "python3 -c \"import os; os.setxattr('app/run', 'user.x', b'1'); os.chown('etc/new', 3, 3)\
                  \nos.setxattr('etc/new', 'security.capability', bytes([1,0,0,2,0,4]+[0]*14))\
                  \nos.setxattr('etc/hosts', 'user.x', b'1')\"";
    check(script, "file(3) 644 3:3 etc/new +cap\n");
}

#[test]
fn a_socket_is_dropped() {
    check("python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('tmp/s')\"", "");
}

#[test]
fn a_directory_made_anew_is_opaque_in_an_overlay() {
    if !can_mount() {
        return;
    }
    let Some(base) = sample() else { return };
    // Over a lower directory, over a lower symlink, and where the parent has nothing.
    let script = "rm -r etc/conf.d; mkdir etc/conf.d; echo c > etc/conf.d/c; rm lib; mkdir lib; mkdir new";
    let snapshot = base.run(OverlayKind::Native, script);
    assert_eq!(
        listing(&base.changes(&snapshot)),
        "opaque etc/conf.d\nfile(2) 644 0:0 etc/conf.d/c\ndir 755 0:0 lib\ndir 755 0:0 new\n"
    );
}

#[test]
fn mount_points_made_for_the_step_are_no_change() {
    let Some(base) = sample() else { return };
    let script = "mkdir -p proc run/secrets etc; touch etc/resolv.conf run/kept run/secrets/id; mkdir dev; mkdir dev/x";
    let snapshot = base.run(OverlayKind::Copy, script);
    let stubs = ["/proc", "run", "run/secrets", "run/secrets/id", "etc/resolv.conf", "dev"];
    let job = snapshot.diff_job(stubs.map(PathBuf::from).to_vec(), Owners::OnDisk(IdMap::default()));
    let changes = diff(&job, &base.view).unwrap();
    assert_eq!(
        listing(&changes),
        "dir 755 0:0 dev\ndir 755 0:0 dev/x\ndir 755 0:0 run\nfile(0) 644 0:0 run/kept\n"
    );
}

#[test]
fn owners_are_translated_or_read_from_records() {
    let Some(base) = sample() else { return };
    let script = "echo x >> app/run; echo y > app/y; chown 100004:100005 app/y; chown 1000:1000 app app/run";
    let snapshot = base.run(OverlayKind::Copy, script);
    let ranges = vec![
        IdRange { inside: 0, outside: 1000, count: 1 },
        IdRange { inside: 1, outside: 100_000, count: 65_536 },
    ];
    let mut job = snapshot.diff_job(vec![], Owners::Recorded { special: Vec::new() });
    let link = job.root.join("app/link");
    std::os::unix::fs::symlink("y", &link).unwrap();
    let special = SpecialOwner { file: FileId::of(&link, false).unwrap(), uid: 7, gid: 8 };
    job.owners = Owners::Recorded { special: vec![special] };
    let record = |path: &str, text: &str| {
        let (path, flags) = (job.root.join(path), rustix::fs::XattrFlags::empty());
        rustix::fs::setxattr(path, OWNER_ATTRIBUTE, text.as_bytes(), flags).unwrap();
    };
    record("app", "33:0");
    record("app/run", "33:45");
    fs::write(job.root.join("app/null"), "").unwrap();
    record("app/null", "0:6:c:1:3");
    assert_eq!(
        listing(&diff(&job, &base.view).unwrap()),
        "dir 755 33:0 app\nsymlink(y) 777 7:8 app/link\nchar(1,3) 644 0:6 app/null\nfile(11) 755 33:45 app/run\n\
         file(2) 644 0:0 app/y\n"
    );
    fs::remove_file(link).unwrap();
    fs::remove_file(job.root.join("app/null")).unwrap();
    job.owners = Owners::OnDisk(IdMap { uids: ranges.clone(), gids: ranges });
    assert!(matches!(diff(&job, &base.view), Err(Error::UnmappedId { id: 0, .. })));
    job.root = job.root.join("app");
    let changes = diff(&job, &RootView::default()).unwrap();
    assert_eq!(listing(&changes), "file(11) 755 0:0 run\nfile(2) 644 5:6 y\n");
}

#[test]
fn an_upper_directory_in_memory() {
    if !can_mount() {
        return;
    }
    let Some(base) = sample() else { return };
    let snapshot = base.snapshot(OverlayKind::Memory);
    let dirs = snapshot.dirs();
    let tmpfs = dirs.tmpfs.as_ref().unwrap();
    // In this order, within the namespace that the step runs in.
    let script = format!(
        "set -e; mount -t tmpfs tmpfs {0}; mkdir {1} {2}; cd {3}\n\
         mount -t overlay overlay -o lowerdir={4},upperdir={1},workdir={2} {3}\n\
         rm {3}/etc/new; echo x > {3}/x; cp -a {1} {3}/../kept",
        tmpfs.display(),
        dirs.upper.display(),
        dirs.work.display(),
        dirs.merged.display(),
        base.lowers.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>().join(":"),
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut job = snapshot.diff_job(vec![], Owners::OnDisk(IdMap::default()));
    assert!(job.root.starts_with(tmpfs));
    job.root = dirs.merged.with_file_name("kept");
    assert_eq!(listing(&diff(&job, &base.view).unwrap()), "gone etc/new\nfile(2) 644 0:0 x\n");
}

/// Set for the copy of this program that runs in a user namespace.
const INNER: &str = "RBUILD_TEST_USER_NAMESPACE";

/// Runs again in a user namespace with a single id, where marks are `user.overlay.` and nothing can be given
/// to anyone else.
#[test]
fn in_a_user_namespace_with_a_single_id() {
    if std::env::var_os(INNER).is_some() {
        return single_id();
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "snapshot::diff::tests::in_a_user_namespace_with_a_single_id"]).env(INNER, "1");
    if Command::new("unshare").args(["--user", "--map-root-user", "true"]).status().is_ok_and(|s| s.success())
    {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

fn single_id() {
    let mut base = Base { mark: OpaqueMark::User, ..Base::new(vec![]) };
    let mut app = file("app/run", "run");
    (app.uid, app.gid) = (33, 44);
    // The kernel stores these with the id of the namespace's root, and hides it from those inside.
    app.xattrs.insert(CAPABILITY.into(), [&[1, 0, 0, 2, 0, 4][..], &[0; 14]].concat());
    let same = Entry { path: b"app/same".to_vec(), ..app.clone() };
    let mut home = dir("app");
    home.uid = 33;
    base.add(vec![home, app, same, dir("d"), file("d/x", "x"), file("gone", "")]);
    let script =
        "echo y > app/y; chmod 755 app/run; chmod 644 app/same; rm gone; rm -r d; mkdir d; echo z > d/z";
    let snapshot = base.run(OverlayKind::Native, script);
    let changes =
        diff(&snapshot.diff_job(vec![], Owners::Recorded { special: Vec::new() }), &base.view).unwrap();
    assert_eq!(
        listing(&changes),
        "opaque d\ngone gone\nfile(3) 755 33:44 app/run +cap\nfile(2) 644 0:0 app/y\nfile(2) 644 0:0 d/z\n"
    );
}

#[test]
fn many_directories_are_walked_by_many_threads() {
    if sample().is_none() {
        return;
    }
    let base = Base::new(vec![]);
    let script = "for i in $(seq 200); do mkdir $i; echo $i > $i/f; done; ln 7/f l; ln 9/f 150/l";
    let snapshot = base.run(OverlayKind::Copy, script);
    let changes = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| base.changes(&snapshot))
    };
    let one = changes(1).iter().map(line).collect::<Vec<_>>();
    assert_eq!(one.len(), 402);
    assert_eq!(changes(4).iter().map(line).collect::<Vec<_>>(), one);
}

#[test]
fn directories_nested_deeper_than_any_stack() {
    if sample().is_none() {
        return;
    }
    let base = Base::new(vec![]);
    let snapshot = base.run(OverlayKind::Copy, "");
    let mut path = snapshot.dirs().upper.clone();
    for _ in 0..1800 {
        path.push("d");
        fs::create_dir(&path).unwrap();
    }
    std::thread::scope(|scope| {
        let small = std::thread::Builder::new().stack_size(128 << 10);
        let changes = small.spawn_scoped(scope, || base.changes(&snapshot)).unwrap().join().unwrap();
        assert_eq!(changes.len(), 1800);
    });
}

/// What a tree holds, with times: for comparing trees.
fn tree_listing(root: &Path) -> Vec<String> {
    let walk = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name();
    walk.into_iter()
        .map(|found| {
            let found = found.unwrap();
            let meta = found.metadata().unwrap();
            let content = if meta.is_file() { fs::read(found.path()).unwrap() } else { vec![] };
            let mtime = if meta.is_dir() { 0 } else { meta.mtime() };
            let parent = Root::open(found.path().parent().unwrap()).unwrap();
            let parent = parent.folder(Path::new("."), Symlinks::Refuse).unwrap();
            let capability = files::xattr(&parent, found.file_name(), CAPABILITY).unwrap();
            format!(
                "{:?} {:o} {}:{} {mtime} {} {capability:?} {content:?} {:?}",
                found.path().strip_prefix(root).unwrap(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                if meta.is_dir() { 0 } else { meta.nlink() },
                fs::read_link(found.path()).ok()
            )
        })
        .collect()
}

#[test]
fn a_committed_layer_on_its_parent_gives_what_the_command_left() {
    let script = "echo more >> app/run; rm -r etc/conf.d; mkdir etc/conf.d; echo n > etc/conf.d/n; rm etc/new; \
                  ln etc/conf.d/n n2; mkdir -p deep/er; echo d > deep/er/f; chmod 2770 deep; chown -h 9:9 lib; \
                  mv usr/lib/x usr/y; find . -newermt @1700000000 -exec touch -h -d @1700000000 {} +";
    for kind in [OverlayKind::Native, OverlayKind::Copy] {
        if kind == OverlayKind::Native && !can_mount() {
            continue;
        }
        let Some(mut base) = sample() else { return };
        let snapshot = base.run(kind, &format!("{script}; cp -a . {}", "../left"));
        let left = snapshot.dirs().merged.parent().unwrap().join("left");
        let blob = base.dir.path().join("step");
        let job = CommitJob {
            diff: snapshot.diff_job(vec![], Owners::OnDisk(IdMap::default())),
            parents: base.indexes.clone(),
            compression: Compression::default(),
            blob: blob.clone(),
            index: base.dir.path().join("step.index"),
            watch: None,
        };
        let job: CommitJob = serde_json::from_str(&serde_json::to_string(&job).unwrap()).unwrap();
        let committed = commit(&job).unwrap();
        assert_eq!(fs::metadata(&blob).unwrap().len(), committed.size);
        base.push(&blob, committed.diff_id);
        // A parent kept from the last job is extended, or given up when it is another.
        let mut views = Views::default();
        for layers in [&base.indexes[..2], &base.indexes[..], &base.indexes[1..]] {
            let fresh = read_view(layers).unwrap();
            let paths = |view: &RootView| view.walk(b"").map(|e| e.path.to_vec()).collect::<Vec<_>>();
            assert_eq!(paths(&views.get(layers).unwrap()), paths(&fresh));
        }
        let again = base.run(OverlayKind::Copy, "");
        assert_eq!(tree_listing(&again.dirs().merged), tree_listing(&left), "{kind:?}");
        assert_eq!(listing(&base.changes(&again)), "");
    }
}

#[test]
fn a_copied_root_is_what_an_overlay_shows() {
    if !can_mount() {
        return;
    }
    let Some(base) = sample() else { return };
    let native = base.run(OverlayKind::Native, "cp -a . ../left");
    let left = native.dirs().merged.parent().unwrap().join("left");
    let copy = base.run(OverlayKind::Copy, "");
    assert_eq!(tree_listing(&copy.dirs().merged), tree_listing(&left));
}

#[test]
fn the_root_that_a_command_sees_has_mode_755() {
    let Some(base) = sample() else { return };
    let snapshot = base.snapshot(OverlayKind::Native);
    assert_eq!(fs::metadata(&snapshot.dirs().upper).unwrap().permissions().mode() & 0o7777, 0o755);
}
