//! What counts for the cache: the fields of every operation, and that no two operations have the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use rbuild::cache::{Fields, Preimage};
use rbuild::key::files::{self, FileKind, FileState};
use rbuild::key::{self, CacheIdentity, LayerOptions, Owners, Shown};
use rbuild::layer::Compression;
use rbuild::oci::{ChainId, DiffId, Digest, Platform};
use rbuild::plan::graph::{
    CacheOwner, Chmod, CopyKind, CopyOp, CopySource, ExecOp, Mount, MountKind, Network, Security, Sharing,
    StepId, WorkdirOp,
};

use crate::support::golden;

fn chain(name: &str) -> ChainId {
    ChainId::of(&[DiffId(Digest::of(name.as_bytes()))])
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// `RUN ["true"]` and nothing more.
fn bare_run() -> ExecOp<Shown> {
    ExecOp {
        args: vec![text("true")],
        env: Arc::default(),
        arguments: Arc::default(),
        proxy_env: Vec::new(),
        cwd: text("/"),
        user: String::new(),
        mounts: Vec::new(),
        pipes: Vec::new(),
        network: Network::Default,
        security: Security::Sandbox,
        hostname: text("buildkitsandbox"),
        extra_hosts: Vec::new(),
        shm_size_bytes: 0,
        ulimits: Vec::new(),
        platform: Platform::new("linux", "amd64"),
    }
}

/// RUN with everything that there is.
fn whole_run() -> ExecOp<Shown> {
    let [bind, cache] = shown();
    let mount = |target: &str, kind| Mount { target: text(target), kind, span: None };
    ExecOp {
        args: ["/bin/sh", "-c", "make \"all\"\n"].map(text).to_vec(),
        env: Arc::new(vec![(text("PATH"), text("/bin")), (text("V"), text("1"))]),
        arguments: Arc::new(BTreeSet::from([text("V")])),
        proxy_env: vec![(text("HTTP_PROXY"), text("http://me:pw@proxy"))],
        cwd: text("/src"),
        user: text("app:staff"),
        mounts: vec![
            mount("/b", MountKind::Bind { from: bind, source: text("/d"), writable: true }),
            mount("/c", whole_cache(cache)),
            mount("/t", MountKind::Tmpfs { size_bytes: 4096 }),
            mount("/s", whole_secret()),
            mount("/a", MountKind::Ssh { id: text("default"), required: true, mode: 0o600, uid: 1, gid: 2 }),
        ],
        pipes: vec![(text("EOF"), text("#!/bin/sh\necho\n"))],
        network: Network::None,
        security: Security::Insecure,
        hostname: text("builder"),
        extra_hosts: vec![(text("db"), text("10.0.0.1"))],
        shm_size_bytes: 1 << 20,
        ulimits: vec![(text("nofile"), 1024, -1)],
        platform: Platform {
            os_version: Some(text("10")),
            os_features: vec![text("win32k")],
            variant: Some(text("v7")),
            ..Platform::new("linux", "arm")
        },
    }
}

fn whole_cache(from: Shown) -> MountKind<Shown> {
    MountKind::Cache {
        id: text("ns/go mod"),
        sharing: Sharing::Locked,
        from: Some((from, text("/go"))),
        readonly: true,
        owner: Some(CacheOwner { mode: 0o700, uid: 3, gid: 4 }),
    }
}

fn whole_secret() -> MountKind<Shown> {
    MountKind::Secret {
        id: text("token"),
        file: true,
        env: Some(text("TOKEN")),
        required: true,
        mode: 0o400,
        uid: 5,
        gid: 6,
    }
}

/// What the mounts of [`whole_run`] read.
fn shown() -> [Shown; 2] {
    [Shown::Files(files::context("/d").key()), Shown::Root(chain("go"))]
}

fn run_key(op: &ExecOp<Shown>) -> Preimage {
    key::run(op, chain("parent"), Owners::Kept)
}

/// `COPY a /d`.
fn bare_copy() -> CopyOp {
    CopyOp {
        kind: CopyKind::Copy,
        sources: vec![CopySource::Path { from: StepId(0), pattern: text("a"), span: None }],
        destination: text("/d"),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        excludes: Vec::new(),
        unpack: None,
        checksum: None,
        keep_git_dir: false,
        epoch: None,
    }
}

/// ADD with everything that there is.
fn whole_add() -> CopyOp {
    CopyOp {
        kind: CopyKind::Add,
        sources: vec![
            CopySource::Path { from: StepId(0), pattern: text("src/*.c"), span: None },
            CopySource::Url { url: text("https://me:pw@host/x.tar"), span: None },
            CopySource::Git { url: text("https://host/r.git#main"), span: None },
            CopySource::Inline { name: text("motd"), content: text("hello\n") },
        ],
        destination: text("/d/"),
        chown: Some(text("app:app")),
        chmod: Some(Chmod::Octal(0o755)),
        link: true,
        parents: true,
        excludes: vec![text("*.md"), text("x y")],
        unpack: Some(true),
        checksum: Some(text("sha256:aa")),
        keep_git_dir: true,
        epoch: Some(7),
    }
}

fn copy_key(op: &CopyOp) -> Preimage {
    key::copy(op, chain("parent"))
}

fn workdir() -> WorkdirOp {
    WorkdirOp { path: text("/src"), user: text("app"), epoch: Some(7) }
}

fn workdir_key(op: &WorkdirOp) -> Preimage {
    key::workdir(op, chain("parent"))
}

/// A preimage to read: a line for each field, and the key.
fn listing(title: &str, preimage: &Preimage) -> String {
    let mut out = format!("# {title}\n");
    for field in preimage.fields() {
        writeln!(out, "{} = {:?}", field.name, field.value).unwrap();
    }
    out + &format!("key {}\n", preimage.key().hex())
}

/// Renaming a field, or giving a value another form, runs every step of every user again: that must be meant, and then the
/// operation's tag gets a new version.
#[test]
fn the_fields_of_every_operation_are_as_written_down() {
    let recorded = key::run(&bare_run(), chain("parent"), Owners::Recorded);
    let run = listing("RUN without options", &run_key(&bare_run()))
        + &listing("with every option", &run_key(&whole_run()))
        + &listing("in a user namespace of one id", &recorded);
    golden::check_file("testdata/keys/run.txt", &run);

    let mut quick = copy_key(&bare_copy());
    key::push_from(&mut quick, chain("from"));
    let symbolic = CopyOp { chmod: Some(Chmod::Symbolic(text("u+x"))), ..bare_copy() };
    let copy = listing("COPY without options, by the root that it takes from", &quick)
        + &listing("with symbolic modes", &copy_key(&symbolic))
        + &listing("ADD with every option", &copy_key(&whole_add()));
    golden::check_file("testdata/keys/copy.txt", &copy);

    let bare = WorkdirOp { user: String::new(), epoch: None, ..workdir() };
    let workdirs =
        listing("WORKDIR", &workdir_key(&bare)) + &listing("with everything", &workdir_key(&workdir()));
    golden::check_file("testdata/keys/workdir.txt", &workdirs);

    golden::check_file("testdata/keys/files.txt", &listing("what a context mounts", &selected()));

    let mut usual = Preimage::new("x/1");
    LayerOptions::default().push_to(&mut usual);
    let mut other = Preimage::new("x/1");
    LayerOptions { compression: Compression::Zstd { level: 9 }, newest: Some(7) }.push_to(&mut other);
    let layer = Digest::of(b"layer");
    let form = listing("layers as usual", &usual)
        + &listing("others", &other)
        + &listing("a layer compressed anew", &key::recompress(&layer, Compression::Gzip { level: 9 }));
    golden::check_file("testdata/keys/layer_options.txt", &form);
}

/// A path, what is there, and its owner.
type Found<'f> = (&'f [u8], FileKind<'f>, Option<(u32, u32)>);

/// One file of every type.
fn selected() -> Preimage {
    let digest = [0xab; 32];
    let file = |capability, first_name| FileKind::File { digest: &digest, capability, first_name };
    let kinds: [Found<'_>; 10] = [
        (b"", FileKind::Directory { only_as_parent: false }, None),
        (b"f", file(None, None), Some((0, 0))),
        (b"ping", file(Some(b"\x01\x02"), None), Some((0, 0))),
        (b"g", file(None, Some(b"f")), Some((1000, 50))),
        (b"d", FileKind::Directory { only_as_parent: true }, Some((0, 0))),
        (b"l", FileKind::Symlink(b"../a b"), Some((0, 0))),
        (b"fifo", FileKind::Fifo, Some((0, 0))),
        (b"null", FileKind::CharDevice(1, 3), Some((0, 0))),
        (b"sda", FileKind::BlockDevice(8, 0), Some((0, 0))),
        ("gr\u{fc}n\\\u{ff}".as_bytes(), FileKind::Symlink(b"\xff"), Some((0, 0))),
    ];
    let mut preimage = files::context("/src");
    let mut fields = Fields::default();
    for (path, kind, owner) in kinds {
        let (mut name, mut value) = (String::new(), String::new());
        files::push_name(&mut name, &[b"src", path]);
        FileState { kind, mode: 0o4755, owner }.push_to(&mut value);
        fields.push(&name, &value);
    }
    fields.push("file:x.tar", &files::archive(&digest));
    fields.push("file:all", files::CONTENTS);
    files::push_end(&mut fields);
    preimage.append(&fields);
    preimage
}

/// A change of one field.
type Change<T> = (&'static str, fn(&mut T));

/// Every one of `changes` must give another key than all others.
#[track_caller]
fn every_change_counts<T: Clone>(op: &T, key: fn(&T) -> Preimage, changes: &[Change<T>]) {
    let mut seen = vec![("nothing", key(op).key())];
    for (name, change) in changes {
        let mut changed = op.clone();
        change(&mut changed);
        let key = key(&changed).key();
        for (other, known) in &seen {
            assert!(key != *known, "`{name}` and `{other}` give one key");
        }
        seen.push((name, key));
    }
}

#[track_caller]
fn no_change_counts<T: Clone>(op: &T, key: fn(&T) -> Preimage, changes: &[Change<T>]) {
    for (name, change) in changes {
        let mut changed = op.clone();
        change(&mut changed);
        assert_eq!(key(&changed), key(op), "{name}");
    }
}

#[test]
fn every_field_of_run_counts() {
    let op = whole_run();
    // Without `..`: a new field gets its rows below, or among those that do not count.
    let ExecOp {
        args: _,
        env: _,
        arguments: _,
        proxy_env: _,
        cwd: _,
        user: _,
        mounts: _,
        pipes: _,
        network: _,
        security: _,
        hostname: _,
        extra_hosts: _,
        shm_size_bytes: _,
        ulimits: _,
        platform: _,
    } = &op;
    every_change_counts(
        &op,
        run_key,
        &[
            ("another shell", |op| op.args[0] = text("/bin/bash")),
            ("another command", |op| op.args[2].push('x')),
            ("another argument", |op| op.args.push(String::new())),
            ("one argument less", |op| drop(op.args.pop())),
            ("another variable", |op| Arc::make_mut(&mut op.env).push((text("A"), text("b")))),
            ("the order of variables", |op| Arc::make_mut(&mut op.env).reverse()),
            ("a variable's value", |op| Arc::make_mut(&mut op.env)[0].1.push('x')),
            ("ENV instead of ARG", |op| op.arguments = Arc::default()),
            ("the working directory", |op| op.cwd.push('x')),
            ("the user", |op| op.user = text("root")),
            ("a here-document's name", |op| op.pipes[0].0.push('x')),
            ("a here-document", |op| op.pipes[0].1.push('x')),
            ("no here-document", |op| op.pipes.clear()),
            ("the host's network", |op| op.network = Network::Host),
            ("the usual network", |op| op.network = Network::Default),
            ("a network of its own", |op| op.network = Network::Pasta),
            ("security", |op| op.security = Security::Sandbox),
            ("the host name", |op| op.hostname.push('x')),
            ("the name of a host", |op| op.extra_hosts[0].0.push('x')),
            ("the address of a host", |op| op.extra_hosts[0].1.push('x')),
            ("no host", |op| op.extra_hosts.clear()),
            ("the size of /dev/shm", |op| op.shm_size_bytes += 1),
            ("the name of a limit", |op| op.ulimits[0].0 = text("nproc")),
            ("a soft limit", |op| op.ulimits[0].1 += 1),
            ("a hard limit", |op| op.ulimits[0].2 = 2048),
            ("no limit", |op| op.ulimits.clear()),
            ("the operating system", |op| op.platform.os = text("freebsd")),
            ("the architecture", |op| op.platform.architecture = text("arm64")),
            ("the variant", |op| op.platform.variant = None),
            ("the system's version", |op| op.platform.os_version = None),
            ("the system's features", |op| op.platform.os_features.clear()),
            ("the order of mounts", |op| op.mounts.swap(2, 3)),
            ("no mount", |op| drop(op.mounts.pop())),
            ("a mount's target", |op| op.mounts[2].target.push('x')),
        ],
    );
    no_change_counts(
        &op,
        run_key,
        &[
            ("an undeclared proxy", |op| op.proxy_env.clear()),
            ("an ARG that is in no environment", |op| {
                op.arguments = Arc::new(BTreeSet::from([text("V"), text("W")]));
            }),
        ],
    );
    let [bind, cache] = shown();
    let with = |shown: [Shown; 2], parent, owners| {
        let mut shown = shown.into_iter();
        let op = op.map(|_| shown.next().expect("two of its mounts show something"));
        key::run(&op, chain(parent), owners).key()
    };
    let keys = BTreeSet::from([
        with([bind, cache], "parent", Owners::Kept),
        with([bind, cache], "parent", Owners::Recorded),
        with([bind, cache], "other parent", Owners::Kept),
        with([cache, cache], "parent", Owners::Kept),
        with([bind, bind], "parent", Owners::Kept),
        with([cache, bind], "parent", Owners::Kept),
    ]);
    assert_eq!(keys.len(), 6, "the parent, owners, and what each mount reads");
}

#[test]
fn every_option_of_a_mount_counts() {
    fn with(kind: &MountKind<Shown>) -> Preimage {
        let mount = Mount { target: text("/m"), kind: kind.clone(), span: None };
        run_key(&ExecOp { mounts: vec![mount], ..bare_run() })
    }
    // The type does not compile with another option until it is in one of the rows.
    let every = |kind: &MountKind<Shown>| match kind {
        MountKind::Bind { from: _, source: _, writable: _ } => {}
        MountKind::Cache { id: _, sharing: _, from: _, readonly: _, owner: _ } => {}
        MountKind::Tmpfs { size_bytes: _ } => {}
        MountKind::Secret { id: _, file: _, env: _, required: _, mode: _, uid: _, gid: _ } => {}
        MountKind::Ssh { id: _, required: _, mode: _, uid: _, gid: _ } => {}
    };
    let root = Shown::Root(ChainId::EMPTY);
    let bind = |source: &str, writable| MountKind::Bind { from: root, source: text(source), writable };
    let cache = |id: &str, sharing, from: Option<&str>, readonly, owner: Option<(u32, u32, u32)>| {
        let from = from.map(|source| (root, text(source)));
        let owner = owner.map(|(mode, uid, gid)| CacheOwner { mode, uid, gid });
        MountKind::Cache { id: text(id), sharing, from, readonly, owner }
    };
    let secret = |id: &str, file, env: Option<&str>, required, (mode, uid, gid): (u32, u32, u32)| {
        MountKind::Secret { id: text(id), file, env: env.map(text), required, mode, uid, gid }
    };
    let ssh = |id: &str, required, (mode, uid, gid): (u32, u32, u32)| MountKind::Ssh {
        id: text(id),
        required,
        mode,
        uid,
        gid,
    };
    use Sharing::{Locked, Private, Shared};
    let kinds = [
        bind("/", false),
        bind("/", true),
        bind("/d", false),
        // What imitates the options behind it.
        bind("/d writable=true", false),
        cache("c", Shared, None, false, None),
        cache("c", Private, None, false, None),
        cache("c", Locked, None, false, None),
        cache("c", Shared, None, true, None),
        cache("c", Shared, None, false, Some((0o755, 0, 0))),
        cache("c", Shared, None, false, Some((0o700, 0, 0))),
        cache("c", Shared, None, false, Some((0o755, 1, 0))),
        cache("c", Shared, None, false, Some((0o755, 0, 1))),
        cache("c", Shared, Some("/"), false, None),
        cache("c", Shared, Some("/d"), false, None),
        cache("c sharing=private", Shared, None, false, None),
        MountKind::Tmpfs { size_bytes: 0 },
        MountKind::Tmpfs { size_bytes: 1 },
        secret("s", true, None, true, (0o400, 0, 0)),
        secret("s", false, None, true, (0o400, 0, 0)),
        secret("s", true, Some(""), true, (0o400, 0, 0)),
        secret("s", true, Some("S"), true, (0o400, 0, 0)),
        secret("s", true, None, false, (0o400, 0, 0)),
        secret("s", true, None, true, (0o444, 0, 0)),
        secret("s", true, None, true, (0o400, 1, 0)),
        secret("s", true, None, true, (0o400, 0, 1)),
        secret("s file=true", true, None, true, (0o400, 0, 0)),
        ssh("s", true, (0o600, 0, 0)),
        ssh("s", false, (0o600, 0, 0)),
        ssh("s", true, (0o666, 0, 0)),
        ssh("s", true, (0o600, 1, 0)),
        ssh("s", true, (0o600, 0, 1)),
        ssh("t", true, (0o600, 0, 0)),
    ];
    kinds.iter().for_each(every);
    for (at, kind) in kinds.iter().enumerate() {
        for other in &kinds[..at] {
            assert!(with(kind).key() != with(other).key(), "{kind:?} and {other:?} give one key");
        }
    }
}

#[test]
fn every_field_of_copy_counts() {
    let op = whole_add();
    // Without `..`, as above.
    let CopyOp {
        kind: _,
        sources: _,
        destination: _,
        chown: _,
        chmod: _,
        link: _,
        parents: _,
        excludes: _,
        unpack: _,
        checksum: _,
        keep_git_dir: _,
        epoch: _,
    } = &op;
    every_change_counts(
        &op,
        copy_key,
        &[
            ("COPY instead of ADD", |op| op.kind = CopyKind::Copy),
            ("a path", |op| {
                op.sources[0] = CopySource::Path { from: StepId(0), pattern: text("src"), span: None };
            }),
            ("a path that looks like the URL", |op| {
                let pattern = text("https://host/x.tar");
                op.sources[1] = CopySource::Path { from: StepId(0), pattern, span: None };
            }),
            ("a URL", |op| op.sources[1] = CopySource::Url { url: text("https://host/y"), span: None }),
            ("a repository", |op| {
                op.sources[2] = CopySource::Git { url: text("https://host/r.git"), span: None };
            }),
            ("a here-document's name", |op| {
                op.sources[3] = CopySource::Inline { name: text("issue"), content: text("hello\n") };
            }),
            ("a here-document", |op| {
                op.sources[3] = CopySource::Inline { name: text("motd"), content: text("bye\n") };
            }),
            ("the order of sources", |op| op.sources.reverse()),
            ("one source less", |op| drop(op.sources.pop())),
            ("the destination", |op| op.destination.push('x')),
            ("--chown", |op| op.chown = Some(text("root"))),
            ("--chown that looks like none", |op| op.chown = Some(text("-"))),
            ("no --chown", |op| op.chown = None),
            ("--chmod", |op| op.chmod = Some(Chmod::Octal(0o644))),
            ("symbolic --chmod", |op| op.chmod = Some(Chmod::Symbolic(text("u+x")))),
            ("no --chmod", |op| op.chmod = None),
            ("--link", |op| op.link = false),
            ("--parents", |op| op.parents = false),
            ("--exclude", |op| op.excludes[0].push('x')),
            ("the order of --exclude", |op| op.excludes.reverse()),
            ("no --exclude", |op| op.excludes.clear()),
            ("--unpack=false", |op| op.unpack = Some(false)),
            ("no --unpack", |op| op.unpack = None),
            ("--checksum", |op| op.checksum = Some(text("sha256:bb"))),
            ("no --checksum", |op| op.checksum = None),
            ("--keep-git-dir", |op| op.keep_git_dir = false),
            ("SOURCE_DATE_EPOCH", |op| op.epoch = Some(8)),
            ("no SOURCE_DATE_EPOCH", |op| op.epoch = None),
        ],
    );
    no_change_counts(
        &op,
        copy_key,
        &[
            ("another password", |op| {
                op.sources[1] = CopySource::Url { url: text("https://you:x@host/x.tar"), span: None };
            }),
            ("another number of the same step", |op| {
                op.sources[0] = CopySource::Path { from: StepId(5), pattern: text("src/*.c"), span: None };
            }),
        ],
    );
    assert_ne!(copy_key(&op), key::copy(&op, chain("other parent")));
    let repository = CopyOp { sources: op.sources[2..3].to_vec(), ..whole_add() };
    no_change_counts(&repository, copy_key, &[("the checksum of a repository", |op| op.checksum = None)]);
}

#[test]
fn every_field_of_workdir_and_of_a_form_counts() {
    let WorkdirOp { path: _, user: _, epoch: _ } = workdir();
    every_change_counts(
        &workdir(),
        workdir_key,
        &[
            ("the path", |op| op.path.push('x')),
            ("the user", |op| op.user.clear()),
            ("SOURCE_DATE_EPOCH", |op| op.epoch = Some(8)),
            ("no SOURCE_DATE_EPOCH", |op| op.epoch = None),
        ],
    );
    assert_ne!(workdir_key(&workdir()), key::workdir(&workdir(), chain("other parent")));
    fn in_form(form: &LayerOptions) -> Preimage {
        let mut key = workdir_key(&workdir());
        form.push_to(&mut key);
        key
    }
    let LayerOptions { compression: _, newest: _ } = LayerOptions::default();
    every_change_counts(
        &LayerOptions::default(),
        in_form,
        &[
            ("not compressed", |form| form.compression = Compression::None),
            ("gzip -9", |form| form.compression = Compression::Gzip { level: 9 }),
            ("zstd", |form| form.compression = Compression::Zstd { level: 3 }),
            ("estargz", |form| form.compression = Compression::Estargz { level: 1 }),
            ("the newest time", |form| form.newest = Some(0)),
        ],
    );
}

#[test]
fn every_property_of_a_file_counts() {
    let digest = [1; 32];
    let file = |digest, capability, first_name| FileKind::File { digest, capability, first_name };
    let state = |kind, mode, owner| FileState { kind, mode, owner };
    let states = [
        state(file(&digest, None, None), 0o644, Some((0, 0))),
        state(file(&[2; 32], None, None), 0o644, Some((0, 0))),
        state(file(&digest, None, None), 0o4644, Some((0, 0))),
        state(file(&digest, None, None), 0o644, Some((1, 0))),
        state(file(&digest, None, None), 0o644, Some((0, 1))),
        state(file(&digest, None, None), 0o644, None),
        state(file(&digest, Some(b""), None), 0o644, Some((0, 0))),
        state(file(&digest, Some(&[1]), None), 0o644, Some((0, 0))),
        state(file(&digest, None, Some(b"a")), 0o644, Some((0, 0))),
        state(file(&digest, None, Some(b"a capability=01")), 0o644, Some((0, 0))),
        state(FileKind::Directory { only_as_parent: false }, 0o644, Some((0, 0))),
        state(FileKind::Directory { only_as_parent: true }, 0o644, Some((0, 0))),
        state(FileKind::Symlink(b"a"), 0o644, Some((0, 0))),
        state(FileKind::Symlink(b"\xff"), 0o644, Some((0, 0))),
        state(FileKind::Symlink(b"\\xff"), 0o644, Some((0, 0))),
        state(FileKind::Symlink(b"\\\\xff"), 0o644, Some((0, 0))),
        state(FileKind::Fifo, 0o644, Some((0, 0))),
        state(FileKind::CharDevice(1, 3), 0o644, Some((0, 0))),
        state(FileKind::CharDevice(1, 4), 0o644, Some((0, 0))),
        state(FileKind::CharDevice(2, 3), 0o644, Some((0, 0))),
        state(FileKind::BlockDevice(1, 3), 0o644, Some((0, 0))),
    ];
    let value = |state: &FileState<'_>| {
        let mut value = String::new();
        state.push_to(&mut value);
        value
    };
    let values: BTreeSet<String> = states.iter().map(value).collect();
    assert_eq!(values.len(), states.len(), "{values:#?}");
}

/// Words that are made to look like the beginning, the end or the next part of something.
fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "",
        "a",
        "b",
        "\u{1f}",
        "a\u{1f}b",
        ":",
        "a:b",
        "/a",
        "/a:from",
        " ",
        "a b",
        "-",
        "1:a",
        "source=1:/",
        "=",
    ])
    .prop_map(text)
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(word(), 0..3)
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((word(), word()), 0..2)
}

fn mount() -> impl Strategy<Value = Mount<Shown>> {
    let small = || 0..2_u32;
    let kind = prop_oneof![
        (word(), any::<bool>()).prop_map(|(source, writable)| MountKind::Bind {
            from: Shown::Root(ChainId::EMPTY),
            source,
            writable
        }),
        (word(), prop::option::of(word()), any::<bool>(), prop::option::of(small())).prop_map(
            |(id, from, readonly, owner)| {
                let from = from.map(|source| (Shown::Root(ChainId::EMPTY), source));
                let owner = owner.map(|uid| CacheOwner { uid, ..CacheOwner::default() });
                MountKind::Cache { id, sharing: Sharing::Shared, from, readonly, owner }
            }
        ),
        (word(), any::<bool>(), prop::option::of(word()), small()).prop_map(|(id, file, env, gid)| {
            MountKind::Secret { id, file, env, required: true, mode: 0, uid: 0, gid }
        }),
        (word(), any::<bool>()).prop_map(|(id, required)| MountKind::Ssh {
            id,
            required,
            mode: 0,
            uid: 0,
            gid: 0
        }),
        (0..12_u64).prop_map(|size_bytes| MountKind::Tmpfs { size_bytes }),
    ];
    (word(), kind).prop_map(|(target, kind)| Mount { target, kind, span: None })
}

fn any_run() -> impl Strategy<Value = ExecOp<Shown>> {
    let mounts = prop::collection::vec(mount(), 0..3);
    let limits = prop::collection::vec((word(), -1..12_i64, -1..12_i64), 0..2);
    let arguments = words().prop_map(|words| words.into_iter().collect::<BTreeSet<_>>());
    (words(), pairs(), arguments, word(), word(), mounts, pairs(), pairs(), limits).prop_map(
        |(args, env, arguments, cwd, user, mounts, pipes, extra_hosts, ulimits)| {
            // Of those that nothing sets nobody can tell.
            let is_set = |name: &String| env.iter().any(|(set, _)| set == name);
            let arguments = arguments.into_iter().filter(is_set).collect();
            let (env, arguments) = (Arc::new(env), Arc::new(arguments));
            ExecOp { args, env, arguments, cwd, user, mounts, pipes, extra_hosts, ulimits, ..bare_run() }
        },
    )
}

fn any_copy() -> impl Strategy<Value = CopyOp> {
    let source = prop_oneof![
        word().prop_map(|pattern| CopySource::Path { from: StepId(0), pattern, span: None }),
        (word(), word()).prop_map(|(name, content)| CopySource::Inline { name, content }),
        word().prop_map(|url| CopySource::Url { url, span: None }),
        word().prop_map(|url| CopySource::Git { url, span: None }),
    ];
    let chmod =
        prop_oneof![(0..9_u32).prop_map(Chmod::Octal), word().prop_map(Chmod::Symbolic)].prop_map(Some);
    let sources = prop::collection::vec(source, 0..3);
    let option = || prop::option::of(word());
    (sources, word(), option(), prop_oneof![Just(None), chmod], words(), option(), any::<bool>()).prop_map(
        |(sources, destination, chown, chmod, excludes, checksum, link)| {
            // That of a repository does not count.
            let checksum = checksum.filter(|_| !matches!(sources.as_slice(), [CopySource::Git { .. }]));
            CopyOp { sources, destination, chown, chmod, excludes, checksum, link, ..bare_copy() }
        },
    )
}

/// Takes a part of an operation from another one.
type Taking = fn(&mut ExecOp<Shown>, &ExecOp<Shown>);

/// All operations have keys of their own. One is compared with what chance makes of it: with some of another's fields.
#[test]
fn no_two_operations_have_equal_fields() {
    let config = ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(one in any_run(), other in any_run(), take in any::<[bool; 7]>())| {
        let mut mixed = one.clone();
        let fields: [Taking; 7] = [
            |op, other| op.args.clone_from(&other.args),
            |op, other| (op.env, op.arguments) = (Arc::clone(&other.env), Arc::clone(&other.arguments)),
            |op, other| (op.cwd, op.user) = (other.cwd.clone(), other.user.clone()),
            |op, other| op.mounts.clone_from(&other.mounts),
            |op, other| op.pipes.clone_from(&other.pipes),
            |op, other| op.extra_hosts.clone_from(&other.extra_hosts),
            |op, other| op.ulimits.clone_from(&other.ulimits),
        ];
        for (_, field) in take.iter().zip(fields).filter(|(take, _)| **take) {
            field(&mut mixed, &other);
        }
        prop_assert_eq!(format!("{one:?}") == format!("{mixed:?}"), run_key(&one) == run_key(&mixed));
    });
    let config = ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(one in any_copy(), other in any_copy(), take in any::<[bool; 5]>())| {
        let mut mixed = one.clone();
        let fields: [fn(&mut CopyOp, &CopyOp); 5] = [
            |op, other| (op.sources, op.checksum) = (other.sources.clone(), other.checksum.clone()),
            |op, other| op.destination.clone_from(&other.destination),
            |op, other| op.chown.clone_from(&other.chown),
            |op, other| op.chmod.clone_from(&other.chmod),
            |op, other| op.excludes.clone_from(&other.excludes),
        ];
        for (_, field) in take.iter().zip(fields).filter(|(take, _)| **take) {
            field(&mut mixed, &other);
        }
        prop_assert_eq!(format!("{one:?}") == format!("{mixed:?}"), copy_key(&one) == copy_key(&mixed));
    });
}

#[test]
fn arguments_are_not_joined() {
    let run =
        |args: &[&str]| run_key(&ExecOp { args: args.iter().copied().map(text).collect(), ..bare_run() });
    assert_ne!(run(&["a\u{1f}b"]).key(), run(&["a", "b"]).key());
    assert_ne!(run(&["a b"]).key(), run(&["a", "b"]).key());
    assert_ne!(run(&[]).key(), run(&[""]).key());
}

/// What tells caches apart is what does in BuildKit; those that say only an id have the names that they always had.
#[test]
fn a_cache_mount_is_another_by_what_it_starts_as() {
    let own = |mode, uid, gid| Some(CacheOwner { mode, uid, gid });
    let (root, other) = (chain("a"), chain("b"));
    let identities = [
        ("c", None, None),
        ("d", None, None),
        ("c", None, own(0o755, 0, 0)),
        ("c", None, own(0o700, 0, 0)),
        ("c", None, own(0o755, 1, 0)),
        ("c", None, own(0o755, 0, 1)),
        ("c", Some((root, "/")), None),
        ("c", Some((other, "/")), None),
        ("c", Some((root, "/d")), None),
        ("c", Some((root, "/cache")), own(0o755, 0, 0)),
    ];
    let name =
        |(id, from, owner), owners| key::cache_directory(&CacheIdentity { id, from, owner }, owners).hex();
    let names: BTreeSet<String> = identities
        .iter()
        .flat_map(|identity| ["root", "user"].map(|owners| name(*identity, owners)))
        .collect();
    assert_eq!(names.len(), 2 * identities.len());
    let mut plain = Preimage::new("cache-mount/1");
    plain.push("id", "c");
    plain.push("owners", "root");
    assert_eq!(name(identities[0], "root"), plain.key().hex());
}
