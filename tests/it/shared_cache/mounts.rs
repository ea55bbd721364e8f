//! Cache mounts that travel: what one machine's steps leave in them is there on the next.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rbuild::oci::Digest;
use rbuild::shared_cache::Pack;
use rbuild::shared_cache::mounts::{Entry, Kind, Manifest};

use super::{Project, Said};
use crate::support::accounts::Account;
use crate::support::is_root;
use crate::support::program::World;

/// Compiles what is new or has another content than what was compiled; leaves links, an empty folder and a file of its own mode.
const MAKE: &str = "set -e
B=/bin/busybox
count=0
$B mkdir -p /obj/empty
for source in /src/*.c; do
  object=/obj/${source##*/}.o
  sum=$($B sha256sum $source)
  old=
  if [ -e $object.sum ]; then read -r old < $object.sum; fi
  if [ \"$sum\" != \"$old\" ]; then
    $B cat $source $source > $object
    echo \"$sum\" > $object.sum
    count=$((count + 1))
  fi
done
if [ ! -e /obj/link ]; then
  $B ln -s 1.c.o /obj/link
  $B ln /obj/1.c.o /obj/another
  $B chmod 0600 /obj/2.c.o
fi
echo compiled $count
";

const STEP: &str = "FROM scratch
COPY busybox /bin/busybox
COPY make.sh /
COPY src /src
RUN --mount=type=cache,target=/obj [\"/bin/busybox\", \"sh\", \"/make.sh\"]
";

fn compiling(count: usize) -> Project {
    let project = Project::new();
    fs::create_dir(project.path().join("context/src")).unwrap();
    for number in 0..count {
        let line = format!("int f{number}(int x) {{ return x * {number}; }}\n");
        project.write(&format!("src/{number}.c"), line.repeat(20));
    }
    project.write("make.sh", MAKE);
    project.write("Dockerfile", STEP);
    project
}

/// A project whose step is this shell script with `/m` as a cache mount.
fn running(script: &str, options: &str) -> Project {
    let project = Project::new();
    step(&project, script, options);
    project
}

fn step(project: &Project, script: &str, options: &str) {
    let script = script.replace('"', "\\\"");
    project.write(
        "Dockerfile",
        format!(
            "FROM scratch\nCOPY busybox /bin/busybox\nARG N\n\
             RUN --mount=type=cache,target=/m{options} [\"/bin/busybox\", \"sh\", \"-c\", \"{script}\"]\n"
        ),
    );
}

fn options(project: &Project) -> (String, String) {
    let folder = project.path().join("cache").display().to_string();
    (format!("--cache-from=type=local,src={folder}"), format!("--cache-to=type=local,dest={folder}"))
}

/// The directories of cache mounts on a machine.
fn mounts(store: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(store.join("rbuild/cachemounts")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

/// Everything in a folder, with all that tools compare.
fn listing(folder: &Path) -> BTreeMap<String, String> {
    let mut listing = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let content = match meta.is_file() {
            true => Digest::of(&fs::read(entry.path()).unwrap()).short(),
            false => fs::read_link(entry.path()).map_or(String::new(), |to| to.display().to_string()),
        };
        let name = entry.path().strip_prefix(folder).unwrap().display().to_string();
        let (mtime, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
        let links = if meta.is_file() { meta.nlink() } else { 0 };
        let (uid, gid, mode) = (meta.uid(), meta.gid(), meta.mode());
        listing.insert(name, format!("{mode:o} {uid}:{gid} {mtime}.{nanoseconds:09} {links} {content}"));
    }
    listing
}

fn blobs(project: &Project) -> Vec<PathBuf> {
    let entries = fs::read_dir(project.path().join("cache/blobs/sha256")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn head(project: &Project) -> Pack {
    Pack::parse(&fs::read(project.path().join("cache/rbuild-cache/latest")).unwrap()).unwrap()
}

fn has_mount(said: &Said) -> bool {
    said.stderr.contains("the cache mount `/m` comes from")
        || said.stderr.contains("the cache mount `/obj` comes from")
}

#[test]
fn only_what_changed_is_compiled_on_another_machine() {
    let project = compiling(200);
    let (from, to) = options(&project);
    let first = project.built("one", &[&to]);
    assert!(
        first.stderr.contains("compiled 200") && first.stderr.contains("1 cache mount"),
        "{}",
        first.stderr
    );
    let before = listing(&mounts(&project.store("one"))[0]);

    // Nothing is fetched for a step that is cached.
    let cached = project.built("cached", &[&from, &to]);
    assert!(cached.ran() == 0 && !has_mount(&cached), "{}", cached.stderr);
    assert!(cached.stderr.contains("has it all"), "{}", cached.stderr);
    assert_eq!(mounts(&project.store("cached")), Vec::<PathBuf>::new());

    // Large enough to be worth a new snapshot.
    project.write("src/7.c", "changed\n".repeat(1000));
    let second = project.built("two", &[&from, &to]);
    assert!(has_mount(&second) && second.stderr.contains("compiled 1\n"), "{}", second.stderr);
    let after = listing(&mounts(&project.store("two"))[0]);
    let differs = |name: &&String| before.get(*name) != after.get(*name);
    let changed: Vec<&String> = after.keys().chain(before.keys()).filter(differs).collect();
    assert!(changed.iter().all(|name| name.starts_with("7.c.o")), "{changed:?}");

    project.write("src/8.c", "changed\n".repeat(100));
    let third = project.built("three", &[&from]);
    assert!(third.stderr.contains("compiled 1\n"), "{}", third.stderr);
}

#[test]
fn what_is_here_is_never_replaced() {
    let project = running("/bin/busybox cat /m/* ; echo $N > /m/file", "");
    let (from, to) = options(&project);
    project.built("one", &[&to, "--build-arg=N=theirs"]);
    project.built("two", &["--build-arg=N=mine"]);
    let second = project.built("two", &[&from, "--build-arg=N=other"]);
    assert!(second.stderr.contains(" mine\n") && !has_mount(&second), "{}", second.stderr);
    // An empty folder is no content; what was emptied on purpose stays empty.
    let third = project.build("three", &[&from, "--no-cache", "--build-arg=N=x"]);
    assert!(!has_mount(&third) && !third.stderr.contains(" theirs\n"), "{}", third.stderr);
    let mount = mounts(&project.store("three")).remove(0);
    fs::remove_file(mount.join("file")).unwrap();
    let third = project.built("three", &[&from, "--build-arg=N=y"]);
    assert!(has_mount(&third) && third.stderr.contains(" theirs\n"), "{}", third.stderr);
}

#[test]
fn mounts_stay_where_they_are_when_that_is_said() {
    let script = "/bin/busybox cat /m/* ; echo left by $N > /m/file";
    let project = running(script, "");
    let (from, to) = options(&project);
    for off in ["--cache-mounts=off", "--cache-mounts=ro"] {
        project.built(off, &[&to, off, "--build-arg=N=nobody"]);
        assert!(head(&project).mounts.is_empty());
    }
    project.built("one", &[&to, "--build-arg=N=one"]);
    let second = project.built("two", &[&from, "--cache-mounts=off", "--build-arg=N=two"]);
    assert!(!second.stderr.contains(" left by one"), "{}", second.stderr);
    // Without a place to write to, they are only read.
    let third = project.built("three", &[&from, "--build-arg=N=three"]);
    assert!(third.stderr.contains(" left by one"), "{}", third.stderr);
    assert_eq!(project.build("four", &["--cache-mounts=both"]).code, 2);
    // A private one belongs to nobody for long.
    step(&project, script, ",id=other,sharing=private");
    project.built("four", &[&to, "--build-arg=N=four"]);
    assert_eq!(head(&project).mounts.len(), 1);
}

#[test]
fn of_two_writers_one_whole_snapshot_stands() {
    let script = "/bin/busybox ls /m; for part in 1 2 3; do \
                  /bin/busybox head -c 500000 /bin/busybox > /m/$N.$part; done";
    let project = running(script, "");
    let (from, to) = options(&project);
    std::thread::scope(|scope| {
        for machine in ["one", "two"] {
            let (project, to) = (&project, &to);
            scope.spawn(move || project.built(machine, &[to, &format!("--build-arg=N={machine}")]));
        }
    });
    let third = project.built("three", &[&from, "--build-arg=N=three"]);
    let has = |name: &str| third.stderr.contains(&format!(" {name}\n"));
    let of = |machine: &str| (1..4).filter(|part| has(&format!("{machine}.{part}"))).count();
    assert!([(3, 0), (0, 3)].contains(&(of("one"), of("two"))), "{}", third.stderr);
}

#[test]
fn what_a_step_with_secrets_wrote_stays_here() {
    let script = "/bin/busybox cat /m/*; echo left by $N > /m/file";
    let project = Project::new();
    let (from, to) = options(&project);
    project.write("secret", "hush");
    let given = "--secret=id=s,src=secret";
    step(&project, script, " --mount=type=secret,id=s");
    // Not even by a later build whose steps have none.
    project.built("one", &[given, "--build-arg=N=first"]);
    step(&project, script, "");
    let said = project.built("one", &[&to, "--build-arg=N=second"]);
    assert!(said.stderr.contains("a step that had secrets wrote to it"), "{}", said.stderr);
    assert!(head(&project).mounts.is_empty());
    // Unless that is said; and then everybody knows.
    project.built("one", &[&to, "--cache-mounts=rw", "--build-arg=N=third"]);
    assert!(head(&project).mounts.values().all(|mount| mount.secrets) && head(&project).mounts.len() == 1);
    let said = project.built("two", &[&from, &to, "--build-arg=N=fourth"]);
    assert!(said.stderr.contains(" left by third"), "{}", said.stderr);
    assert!(said.stderr.contains("a step that had secrets wrote to it"), "{}", said.stderr);
    // What is thrown away is forgotten.
    project.built("two", &["--no-cache", "--build-arg=N=fifth"]);
    let said = project.built("two", &[&to, "--build-arg=N=sixth"]);
    assert!(!said.stderr.contains("secrets"), "{}", said.stderr);
    assert!(head(&project).mounts.values().all(|mount| !mount.secrets));
    // A secret that nobody gave is none.
    step(&project, script, ",id=b --mount=type=secret,id=s");
    project.built("three", &[&to, "--build-arg=N=x"]);
    assert_eq!(head(&project).mounts.len(), 2);
}

#[test]
fn what_is_damaged_or_hostile_is_no_mount() {
    let project = compiling(40);
    let (from, to) = options(&project);
    project.built("one", &[&to]);
    let good = head(&project);
    let (name, snapshot) = good.mounts.first_key_value().unwrap();
    let folder = project.path().join("cache/blobs/sha256");
    let manifest = Manifest::parse(&fs::read(folder.join(snapshot.manifest.hex())).unwrap()).unwrap();
    let file = manifest.entries.iter().position(|entry| entry.path == b"1.c.o.sum").unwrap();
    type Attack<'a> = (&'a str, &'a dyn Fn(&mut Manifest));
    let attacks: [Attack<'_>; 5] = [
        ("leads out", &|manifest| manifest.entries[file].path = b"../out".to_vec()),
        ("absolute", &|manifest| manifest.entries[file].path = b"/tmp/out".to_vec()),
        ("through a link", &|manifest| {
            manifest.entries[file].kind = Kind::Symlink(b"/".to_vec());
            let inside = Entry { path: b"1.c.o.sum/out".to_vec(), ..manifest.entries[0].clone() };
            manifest.entries.insert(file + 1, inside);
        }),
        ("too large", &|manifest| manifest.packs[0].raw = 1 << 40),
        ("other bytes", &|manifest| {
            let is_packed = |entry: &&mut Entry| matches!(entry.kind, Kind::Packed(..));
            let mut packed = manifest.entries.iter_mut().filter(is_packed);
            if let Some(Entry { kind: Kind::Packed(content, ..), .. }) = packed.next() {
                content.hash = [1; 32];
            }
        }),
    ];
    project.write("src/1.c", "changed\n");
    let build = |machine: &str, mount: Option<&Manifest>| {
        let mut pack = good.clone();
        if let Some(manifest) = mount {
            let bytes = manifest.to_bytes();
            let mount = pack.mounts.get_mut(name).unwrap();
            (mount.manifest, mount.size) = (Digest::of(&bytes), bytes.len() as u64);
            fs::write(folder.join(mount.manifest.hex()), bytes).unwrap();
        }
        fs::write(project.path().join("cache/rbuild-cache/latest"), pack.to_bytes()).unwrap();
        let said = project.built(machine, &[&from]);
        assert!(said.stderr.contains("it starts empty"), "{machine}: {}", said.stderr);
        assert!(said.stderr.contains("compiled 40\n"), "{machine}: {}", said.stderr);
        let left = fs::read_dir(project.store(machine).join("rbuild/trash")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{machine}");
    };
    for (attack, change) in attacks {
        let mut hostile = manifest.clone();
        change(&mut hostile);
        build(attack, Some(&hostile));
    }
    let pack = folder.join(snapshot.packs[0].digest.hex());
    fs::write(&pack, "other bytes").unwrap();
    build("damaged", None);
    fs::remove_file(&pack).unwrap();
    build("missing", None);
    // The next writer makes it whole again.
    project.write("src/2.c", "changed\n");
    let said = project.built("healer", &[&from, &to]);
    assert!(said.stderr.contains("compiled 40\n"), "{}", said.stderr);
    project.write("src/3.c", "changed\n");
    let said = project.built("healed", &[&from]);
    assert!(said.stderr.contains("compiled 1\n"), "{}", said.stderr);
}

#[test]
fn a_mount_that_is_too_large_stays_here() {
    let project = running("/bin/busybox head -c 500000 /bin/busybox > /m/$N", "");
    let (from, to) = options(&project);
    let said = project.built("one", &[&format!("{to},mount-max-size=400k"), "--build-arg=N=one"]);
    assert!(said.stderr.contains("more than the"), "{}", said.stderr);
    assert!(head(&project).mounts.is_empty());
    project.built("one", &[&to, "--build-arg=N=two"]);
    let said = project.built("two", &[&format!("{from},mount-max-size=400k"), "--build-arg=N=three"]);
    assert!(said.stderr.contains("it starts empty"), "{}", said.stderr);
    let named: u64 =
        head(&project).mounts.values().flat_map(|mount| &mount.packs).map(|pack| pack.size).sum();
    assert!(named > 100_000 && blobs(&project).len() > 2);
    project.built("one", &[&format!("{to},mounts-max-size=100k"), "--build-arg=N=four"]);
    assert!(head(&project).mounts.is_empty());
}

#[test]
fn who_is_killed_while_a_mount_comes_leaves_none_of_it() {
    let script = "i=0; if [ ! -e /m/1 ]; then while [ $i -lt 1000 ]; do i=$((i+1)); echo $i > /m/$i; done; fi; \
                  set -- /m/*; echo has $#";
    let project = running(script, "");
    let (from, to) = options(&project);
    project.built("one", &[&to, "--build-arg=N=one"]);
    let count = |path: &Path| fs::read_dir(path).map_or(0, Iterator::count);
    for some in [1, 500, 999] {
        let (machine, argument) = (format!("killed{some}"), format!("--build-arg=N={some}"));
        let store = project.store(&machine);
        let mut child = project.command(&machine, &[&from, &argument]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let coming = || {
            let all = walkdir::WalkDir::new(store.join("rbuild/tmp")).min_depth(3).max_depth(3);
            let mut folders = all.into_iter().flatten().filter(|entry| entry.file_name() == "cache");
            folders.next().map_or(0, |entry| count(entry.path()))
        };
        while coming() < some && mounts(&store).is_empty() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(mounts(&store).iter().all(|mount| count(mount) == 1000), "{machine}");
        let said = project.built(&machine, &[&from, "--build-arg=N=again"]);
        assert!(said.stderr.contains(" has 1000\n"), "{}", said.stderr);
    }
}

#[test]
fn owners_are_what_a_step_saw_on_each_rung() {
    let script = "cd /m; for f in * ; do busybox stat -c '%u:%g %a %F %n' $f; done; \
                  if [ ! -e file ]; then busybox echo one >file; busybox mkdir dir; busybox ln -s file link; \
                  busybox chown 7:8 file; busybox chown 9:10 dir; busybox chmod 4711 file; busybox chmod 2770 dir; \
                  else busybox echo two >>file; fi; echo $N";
    let busybox = fs::read("/bin/busybox").expect("needs the package busybox-static");
    let accounts = match is_root() {
        true => vec![Account::mine(), Account::with_ranges().unwrap(), Account::without_ranges()],
        false => vec![Account::mine()],
    };
    for account in accounts {
        let worlds = [World::of(account), World::of(account)];
        let cache = worlds[0].path().join("home/cache").display().to_string();
        let (from, to) =
            (format!("--cache-from=type=local,src={cache}"), format!("--cache-to=type=local,dest={cache}"));
        let build = |world: &World, argument: &str, caches: &[&str]| {
            world.file("busybox", &busybox).set_mode("busybox", 0o755);
            world.dockerfile(&format!(
                "FROM scratch\nCOPY busybox /bin/busybox\nENV PATH=/bin\nARG N\n\
                 RUN --mount=type=cache,target=/m [\"busybox\", \"sh\", \"-c\", \"{script}\"]\n"
            ));
            let build = world.build(caches).arg(format!("--build-arg=N={argument}"));
            build.remarks().run().stderr
        };
        build(&worlds[0], "first", &[&to]);
        let told = build(&worlds[1], "second", &[&from]);
        let lines = ["9:10 2770 directory dir", "7:8 4711 regular file file", "symbolic link link"];
        for line in lines {
            assert!(told.contains(line), "{account:?}: no `{line}` in {told}");
        }
    }
}
