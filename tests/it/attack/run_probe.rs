//! What a RUN may do at each rung, beside Docker's default container.
//!
//! A static program of some 800 checks (`testdata/probe/*.c`) runs in a RUN as root, with ranges of ids and with one id. It tells
//! for each check what came of it for root and for user 1000. `testdata/probe/{docker,root,ranges,one-id}.txt` are what was
//! recorded; `differs.txt` says why a rung differs from Docker. A rung must be as recorded, and nothing that is recorded may
//! be allowed that Docker refuses but for what `differs.txt` gives a reason for. The long form asks a dockerd of this machine,
//! where there is one; `RBUILD_BLESS=1` writes the files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::accounts::Account;
use crate::support::attack::{Tally, is_long};
use crate::support::dockerd::Dockerd;
use crate::support::program::World;
use crate::support::{is_root, skip, tools};

/// What came of a check as root, and as another user.
type Answers = [String; 2];
type Listing = BTreeMap<String, Answers>;

const DOCKERFILE: &str = "FROM scratch\nCOPY --chmod=755 probe /bin/\nCOPY --chmod=1777 empty /tmp\nCOPY passwd /etc/\n\
    ARG ABSTRACT NAMESPACES\nRUN [\"/bin/probe\", \"/result\"]\n";

#[test]
fn nothing_is_allowed_that_docker_refuses() {
    if !cfg!(target_arch = "x86_64") {
        skip!("the probe makes calls of x86-64 and i386");
    }
    let machine = Machine::new();
    let mut rungs = Vec::new();
    if is_root() {
        rungs.push(("root", Account::mine()));
        rungs.push(("one-id", Account::without_ranges()));
    }
    match Account::with_ranges() {
        Ok(account) => rungs.push(("ranges", account)),
        Err(why) => skip!("{why}"),
    }
    std::thread::scope(|scope| {
        for (rung, account) in rungs {
            let machine = &machine;
            scope.spawn(move || {
                let got = machine.in_a_run(account);
                compare(rung, &got);
            });
        }
    });
}

#[test]
fn what_differs_from_docker_has_a_reason() {
    let docker = recorded("docker");
    let reasons = reasons();
    let mut used = BTreeSet::new();
    let mut unexplained = String::new();
    for rung in ["root", "ranges", "one-id"] {
        for (check, answers) in recorded(rung) {
            for who in 0..2 {
                let theirs = docker.get(&check).map_or(["absent"; 2], |[root, user]| [root, user]);
                let ours = answers[who].as_str();
                let Some(mut kind) = difference(ours, theirs[who]) else { continue };
                if rung == "one-id" && who == 1 {
                    // Every process is root of its namespace there, and is measured by Docker's root, too.
                    match difference(ours, theirs[0]) {
                        Some(by_root) if kind == "more" => kind = by_root,
                        _ => continue,
                    }
                }
                let Some(at) = reasons.iter().position(|reason| reason.covers(kind, rung, &check)) else {
                    let theirs = theirs[who];
                    unexplained += &format!("{kind} {rung} {check} {who}: {ours}, docker {theirs}\n");
                    continue;
                };
                used.insert(at);
            }
        }
    }
    assert!(unexplained.is_empty(), "{unexplained}");
    let stale: Vec<_> = (0..reasons.len()).filter(|at| !used.contains(at)).map(|at| &reasons[at]).collect();
    assert!(stale.is_empty(), "nothing differs by {stale:#?}");
}

#[test]
fn docker_is_as_it_was_recorded() {
    if !is_long() {
        return;
    }
    if !is_root() || !tools::has("dockerd") || !tools::has("docker") {
        println!("no dockerd of root here: what was recorded is the oracle");
        return;
    }
    compare("docker", &Machine::new().in_docker());
}

/// How an answer of ours differs from Docker's: allowed beyond it, refused beyond it, or another value.
fn difference(ours: &str, theirs: &str) -> Option<&'static str> {
    if ours == theirs || [ours, theirs].contains(&"absent") {
        return None;
    }
    match (Answer::of(ours), Answer::of(theirs)) {
        (Answer::Allowed, Answer::Allowed) | (Answer::Refused, Answer::Refused) => None,
        (Answer::Allowed, Answer::Refused) => Some("more"),
        (Answer::Refused, Answer::Allowed) => Some("less"),
        _ => Some("other"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Allowed,
    Refused,
    Value,
}

impl Answer {
    fn of(text: &str) -> Self {
        // Names of errors have capital letters and digits alone; a mask shows nothing.
        let is_error =
            text.starts_with('E') && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        match text {
            "ok" | "reached" => Self::Allowed,
            "not-made" | "stand-in" | "empty" | "zeros" => Self::Refused,
            _ if is_error => Self::Refused,
            _ => Self::Value,
        }
    }
}

/// A line of `differs.txt`: kind, rungs, check (which may end in `*`), and the reason.
#[derive(Debug)]
struct Reason {
    kind: String,
    rungs: String,
    check: String,
}

impl Reason {
    fn covers(&self, kind: &str, rung: &str, check: &str) -> bool {
        let is_check = match self.check.strip_suffix('*') {
            Some(start) => check.starts_with(start),
            None => self.check == check,
        };
        self.kind == kind && self.rungs.split(',').any(|one| one == rung) && is_check
    }
}

fn reasons() -> Vec<Reason> {
    let text = fs::read_to_string(folder().join("differs.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(words.len() > 3, "no reason in `{line}`");
            Reason { kind: words[0].into(), rungs: words[1].into(), check: words[2].into() }
        })
        .collect()
}

/// What this machine has not cannot be compared. Which error refuses may differ from kernel to kernel.
fn compare(name: &str, got: &Listing) {
    let file = folder().join(format!("{name}.txt"));
    if std::env::var_os("RBUILD_BLESS").is_some() {
        let lines = got.iter().map(|(check, [root, user])| format!("{check} {root} {user}\n"));
        // Another test may read it meanwhile.
        let new = file.with_extension("new");
        fs::write(&new, lines.collect::<String>()).unwrap();
        fs::rename(new, &file).unwrap();
    }
    let expected = recorded(name);
    let mut tally = Tally::of(&format!("RUN probe: {name}"));
    let mut changed = String::new();
    assert!(got.keys().eq(expected.keys()), "{}: other checks than the probe has", file.display());
    for (check, answers) in got {
        for who in 0..2 {
            let (is, was) = (answers[who].as_str(), expected[check][who].as_str());
            tally.count(match Answer::of(is) {
                Answer::Allowed => "allowed",
                Answer::Refused => "refused",
                Answer::Value => "as recorded",
            });
            let is_new = was == "absent" && Answer::of(is) == Answer::Allowed && is_never_allowed(check);
            let is_by_yama = traces_others(check) && difference(is, was) == Some("less") && has_yama();
            if (is_new && name != "docker") || (difference(is, was).is_some() && !is_by_yama) {
                changed += &format!("{name} {check} {}: {is}, recorded {was}\n", ["root", "user"][who]);
            }
        }
    }
    assert!(changed.is_empty(), "{changed}(RBUILD_BLESS=1 writes what it got)");
}

/// What Yama refuses where it is in force, as on Ubuntu: to trace what is no child.
fn traces_others(check: &str) -> bool {
    ["ptrace", "process-vm", "pidfd-getfd", "/proc/1/"].iter().any(|part| check.contains(part))
}

fn has_yama() -> bool {
    fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").is_ok_and(|scope| scope.trim() != "0")
}

/// What is refused on any machine that has it, although the one that recorded had it not.
fn is_never_allowed(check: &str) -> bool {
    const MASKED: [&str; 9] = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/latency_stats",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ];
    ["write.", "make.", "device."].iter().any(|kind| check.starts_with(kind))
        || check.strip_prefix("read.").is_some_and(|path| MASKED.contains(&path))
}

fn recorded(name: &str) -> Listing {
    parse(&fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap_or_default())
}

fn parse(text: &str) -> Listing {
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [check, root, user] = words.as_slice() else { panic!("`{line}`") };
        ((*check).to_owned(), [(*root).to_owned(), (*user).to_owned()])
    });
    lines.collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/probe")
}

/// The probe, and what of this machine it looks for.
struct Machine {
    directory: tempfile::TempDir,
    abstract_name: String,
    _listener: UnixListener,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sources = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
        let sources: Vec<_> =
            sources.filter(|path| path.extension().is_some_and(|kind| kind == "c")).collect();
        let program = directory.path().join("probe");
        let output =
            Command::new("gcc").args(["-std=gnu17", "-static", "-o"]).arg(&program).args(sources).output();
        let output = output.expect("gcc is missing; `tests/run` installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let abstract_name = format!("rbuild-probe-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        Self { directory, abstract_name, _listener: UnixListener::bind_addr(&address).unwrap() }
    }

    /// The namespaces of this machine, for the probe to find its own different.
    fn namespaces() -> String {
        let names = ["mnt", "uts", "ipc", "pid", "net", "user", "cgroup", "time"];
        let links = names.map(|name| fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default());
        links.map(|link| link.display().to_string()).join(",")
    }

    fn in_a_run(&self, account: Account) -> Listing {
        let world = World::of(account);
        world.file("probe", fs::read(self.directory.path().join("probe")).unwrap());
        world.file("empty/x", "").file("passwd", "root:x:0:0::/:/\n").dockerfile(DOCKERFILE);
        let of = |name: &str, value: &str| format!("--build-arg={name}={value}");
        let args = [of("ABSTRACT", &self.abstract_name), of("NAMESPACES", &Self::namespaces())];
        let built = world.build(args).remarks().run();
        let files = world.images().image(&built.digest()).files();
        parse(std::str::from_utf8(&files["result"].content).unwrap())
    }

    fn in_docker(&self) -> Listing {
        let root = self.directory.path().join("root");
        for folder in ["bin", "etc", "tmp"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::copy(self.directory.path().join("probe"), root.join("bin/probe")).unwrap();
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/\n").unwrap();
        tools::run("chmod", ["1777", root.join("tmp").to_str().unwrap()]);
        let tar = self.directory.path().join("root.tar");
        tools::run("tar", ["-C", root.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]);
        let daemon = Dockerd::start(self.directory.path());
        daemon.docker(&["import", tar.to_str().unwrap(), "probe"]);
        let variables =
            [format!("ABSTRACT={}", self.abstract_name), format!("NAMESPACES={}", Self::namespaces())];
        let [a, b] = &variables;
        parse(&daemon.docker(&["run", "--rm", "--network=host", "-e", a, "-e", b, "probe", "/bin/probe"]))
    }
}
