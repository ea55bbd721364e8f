//! `--on`: builds that BuildGrid's workers do, and pods of Kubernetes.

mod kubernetes;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::buildgrid::BuildGrid;
use crate::support::casd::Casd;
use crate::support::is_root;
use crate::support::program::records_in;
use crate::support::registry::{PASSWORD, Registry, USER, basic};

/// A context, and machines that build it.
struct Project {
    dir: tempfile::TempDir,
}

struct Said {
    code: i32,
    stderr: String,
}

const RUNS: &str = "FROM scratch AS base
COPY busybox /bin/sh
RUN echo made > /made
FROM base AS b
COPY src /src
RUN read x < /src/a; echo $x; echo $x > /copied
FROM base
ARG WHO
COPY --from=b /copied /copied
RUN --mount=type=bind,source=src,target=/in read x < /in/a; echo $x $WHO > /said
";

const COPIES: &str = "FROM scratch AS one
COPY src /src
WORKDIR /w
FROM scratch
COPY --from=one /src /from-stage
COPY --chown=7:8 src/a /a
COPY link/a /through-a-link
";

impl Project {
    fn new() -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        let context = project.context();
        fs::create_dir_all(context.join("src/inner")).unwrap();
        let busybox = fs::read("/bin/busybox").expect("needs the package busybox-static");
        project.write("busybox", busybox);
        fs::set_permissions(context.join("busybox"), fs::Permissions::from_mode(0o755)).unwrap();
        project.write("src/a", "a file\n");
        project.write("src/inner/run", "#!/bin/sh\n");
        fs::set_permissions(context.join("src/inner/run"), fs::Permissions::from_mode(0o750)).unwrap();
        std::os::unix::fs::symlink("inner/run", context.join("src/link")).unwrap();
        std::os::unix::fs::symlink("src", context.join("link")).unwrap();
        project.write("unused", "nobody copies this\n");
        project.write("Dockerfile", RUNS);
        project.write("Copies", COPIES);
        project
    }

    fn context(&self) -> PathBuf {
        self.dir.path().join("context")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.context().join(name), content).unwrap();
    }

    fn command(&self, machine: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        command.current_dir(self.context()).arg("--root").arg(self.dir.path().join(machine));
        command.args(arguments);
        command
    }

    fn build(&self, machine: &str, arguments: &[&str]) -> Said {
        let arguments = [&["build", "--progress=plain"], arguments, &["."]].concat();
        let output = self.command(machine, &arguments).output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn built(&self, machine: &str, arguments: &[&str]) -> Said {
        let said = self.build(machine, arguments);
        assert_eq!(said.code, 0, "{}", said.stderr);
        said
    }
}

impl Project {
    fn bake(&self, machine: &str, file: &str, more: &[&str]) -> String {
        let file = format!("--file={file}");
        let words = [&["bake", "--progress=plain", &file], more].concat();
        let baked = self.command(machine, &words).output().unwrap();
        let told = String::from_utf8_lossy(&baked.stderr).into_owned();
        assert!(baked.status.success(), "{told}");
        told
    }

    /// In what is recorded of its builds.
    fn say_that_steps_took(&self, machine: &str, ms: &str) {
        let folder = self.dir.path().join(machine).join("rbuild/history");
        for (name, mut record) in records_in(&folder) {
            for step in record["steps"].as_array_mut().unwrap() {
                for time in ["took_ms", "took_then_ms"] {
                    if step.get(time).is_some() {
                        step[time] = ms.parse::<u64>().unwrap().into();
                    }
                }
            }
            fs::write(folder.join(format!("{name}.json")), record.to_string()).unwrap();
        }
        // What was a line there is a file now.
        let _ = fs::remove_file(folder.join("recent"));
    }
}

impl Said {
    fn digest(&self) -> &str {
        let line = self.stderr.lines().rev().find_map(|line| line.strip_prefix("built sha256:"));
        line.expect("a digest at the end").trim()
    }

    /// What the last lines say, without what workers said.
    fn summary(&self) -> &str {
        self.stderr.rsplit("\nbuilt sha256:").next().unwrap()
    }

    fn has(&self, text: &str) -> bool {
        self.stderr.contains(text)
    }
}

#[test]
fn workers_make_what_this_machine_makes() {
    let (project, grid) = (Project::new(), BuildGrid::start());
    let (one, two) = (grid.worker("one", false), grid.worker("two", false));
    let on = format!("--on=reapi://{},platform.OSFamily=linux", grid.host());
    // Without RUN each byte is the same.
    let copies = ["--file=Copies", &on];
    let there = project.built("far", &copies);
    let here = project.built("near", &copies[..1]);
    assert_eq!(there.digest(), here.digest(), "{}", there.stderr);
    assert!(there.has("nothing to do, all from the cache"), "{}", there.stderr);
    // Who can read it is said, and only what is copied goes: two files, however many are in the context.
    assert!(there.has("2 files of the context (17 B) go to `reapi://"), "{}", there.stderr);
    assert!(there.has("where all who use its CAS can read them"), "{}", there.stderr);
    assert!(there.has("built on `reapi://") && there.has("worker `"), "{}", there.stderr);
    // With RUN, and what the image holds.
    let runs = ["--build-arg=WHO=me", &on, "--output=type=local,dest=../files", "-t=placed"];
    let first = project.built("far", &runs);
    assert!(first.summary().contains("steps cached") && !first.summary().contains("ran"), "{}", first.stderr);
    let files = project.dir.path().join("files");
    assert_eq!(fs::read_to_string(files.join("said")).unwrap(), "a file me\n");
    assert!(first.has("worker: ") && first.has("a file"), "{}", first.stderr);
    // The time is in RUN's environment there as it is here.
    project.write("Timed", "FROM scratch\nCOPY busybox /bin/sh\nRUN echo $SOURCE_DATE_EPOCH > /time\n");
    let timed = ["--file=Timed", "--reproducible", "--build-arg=SOURCE_DATE_EPOCH=1", &on];
    let timed = project.built("far", &timed);
    assert!(timed.has("built on `reapi://") && !timed.summary().contains("ran"), "{}", timed.stderr);
    // Nothing is placed for what is known.
    one.said("");
    two.said("");
    let again = project.built("far", &runs);
    assert!(again.has("all is in the cache: nothing was placed"), "{}", again.stderr);
    assert!(!one.said("began") && !two.said("began"));
    // Also where layers of other stages never came here, as nobody needed their bytes.
    project.write("Stages", "FROM scratch AS one\nCOPY busybox /bin/sh\nRUN echo $((6*7)) > /made; echo not needed > /other\nFROM scratch\nCOPY --from=one /made /\n");
    for is_placed in [true, false] {
        let staged = project.built("far", &["--file=Stages", &on]);
        assert_eq!(staged.has("built on `reapi://"), is_placed, "{}", staged.stderr);
        assert!(!staged.summary().contains("ran"), "{}", staged.stderr);
        one.said("");
        two.said("");
    }
    // One file that changed is one action, and little that travels.
    project.write("src/a", "another\n");
    let changed = project.built("far", &runs);
    assert_eq!(u32::from(one.said("began")) + u32::from(two.said("began")), 1, "{}", changed.stderr);
    assert_eq!(fs::read_to_string(files.join("said")).unwrap(), "another me\n");
    // What is known here goes along, so the worker went on with it, and nothing was left to do here.
    assert!(
        changed.has("layers of earlier builds") && !changed.summary().contains("ran"),
        "{}",
        changed.stderr
    );
    assert!(changed.has("note: worker: #4 CACHED"), "{}", changed.stderr);
    // A base is the one that was found here, and is fetched by the worker.
    let registry = Registry::start();
    let base = format!("{}/base:1", registry.host());
    project.built("near", &["--file=Copies", &format!("--tag={base}"), "--push"]);
    project.write("Based", format!("FROM {base}\nCOPY src/a /b\n"));
    let there = project.built("far", &["--file=Based", &on]);
    let here = project.built("near", &["--file=Based"]);
    assert!(there.has("built on `reapi://"), "{}", there.stderr);
    assert_eq!(there.digest(), here.digest(), "{}", there.stderr);
}

/// What a single id leaves is another step's result than what ranges of ids, or root, leave (docs/cache.md), so an ordinary user's worker is for ordinary
/// users. Of builds without RUN it is everybody's.
#[test]
fn ordinary_users_work_too() {
    let (project, grid) = (Project::new(), BuildGrid::start());
    let worker = grid.worker("one", is_root());
    let on = format!("--on=reapi://{}", grid.host());
    let there = project.built("far", &["--file=Copies", &on]);
    assert_eq!(there.digest(), project.built("near", &["--file=Copies"]).digest(), "{}", there.stderr);
    worker.wait_for("ended 0");
    let ran = project.built("far", &["--build-arg=WHO=me", &on, "--output=type=local,dest=../files"]);
    assert!(ran.has("built on `reapi://") && ran.has(" a file"), "{}", ran.stderr);
    worker.wait_for("ended 0");
    // Root makes its own of it.
    assert!(!is_root() || ran.summary().contains(" ran"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(project.dir.path().join("files/said")).unwrap(), "a file me\n");
}

/// Of eight targets, each of which copies a file of its own.
const TARGETS: &str = "FROM scratch
ARG N
COPY file$N /file
COPY src /src
";

#[test]
fn eight_targets_are_what_one_machine_makes_of_them() {
    let (project, grid) = (Project::new(), BuildGrid::start());
    let (one, two) = (grid.worker("one", false), grid.worker("two", false));
    let on = format!("--on=reapi://{}", grid.host());
    project.write("Dockerfile", TARGETS);
    let mut definition = String::new();
    for n in 0..8 {
        project.write(&format!("file{n}"), format!("{n}\n"));
        definition
            .push_str(&format!("target \"t{n}\" {{\n args = {{ N = \"{n}\" }}\n tags = [\"t{n}\"]\n}}\n"));
    }
    let names = (0..8).map(|n| format!("\"t{n}\"")).collect::<Vec<String>>().join(", ");
    project.write("bake.hcl", format!("group \"default\" {{ targets = [{names}] }}\n{definition}"));
    let bake = |machine: &str, more: &[&str]| project.bake(machine, "bake.hcl", more);
    let placed = |told: &str| told.matches("built on `reapi://").count();
    let first = bake("far", &[&on]);
    assert_eq!(placed(&first), 8, "{first}");
    assert!(one.said("began") && two.said("began"), "{first}");
    bake("near", &[]);
    let manifest =
        |machine: &str, name: &str| project.command(machine, &["inspect", "--raw", name]).output().unwrap();
    for n in 0..8 {
        let (there, here) = (manifest("far", &format!("t{n}")), manifest("near", &format!("t{n}")));
        assert!(there.status.success() && there.stdout == here.stdout, "{n}: {there:?} {here:?}");
    }
    let second = bake("far", &[&on]);
    assert_eq!((placed(&second), second.matches("nothing was placed").count()), (0, 8), "{second}");
    project.write("file3", "changed\n");
    let third = bake("far", &[&on]);
    assert_eq!((placed(&third), third.matches("nothing was placed").count()), (1, 7), "{third}");
    // By now it is known what placing costs, and that all of them together are not worth it: those that changed are one action.
    let change = |to: &str| (0..2).for_each(|n| project.write(&format!("file{n}"), format!("{n}{to}\n")));
    change("small");
    let together = bake("far", &[&on]);
    assert!(together.contains("`t0`, `t1` are placed together"), "{together}");
    assert_eq!((placed(&together), together.matches("nothing was placed").count()), (1, 6), "{together}");
    bake("near", &[]);
    let is_same = |name: &str| {
        let (there, here) = (manifest("far", name), manifest("near", name));
        assert!(there.status.success() && there.stdout == here.stdout, "{name}: {there:?} {here:?}");
    };
    (0..2).for_each(|n| is_same(&format!("t{n}")));
    // Each is, if its steps take an hour.
    project.say_that_steps_took("far", "3600000");
    change("large");
    assert_eq!(placed(&bake("far", &[&on])), 2);
    // And none is if they take no time.
    project.say_that_steps_took("far", "0");
    change("none");
    assert_eq!(placed(&bake("far", &[&on])), 1);
    // Somebody may say so, too.
    change("said");
    assert_eq!(placed(&bake("far", &[&format!("{on},grain=build")])), 1);
    // What is linked, and what lacks the same command, is made by one worker, whatever is known.
    project.write("linked.hcl", LINKED);
    let linked = project.bake("far", "linked.hcl", &[&on]);
    assert_eq!(placed(&linked), 2, "{linked}");
    assert!(linked.contains("`one`, `two` are placed together"), "{linked}");
    let numbers = |is_meant: &dyn Fn(&str) -> bool| -> BTreeSet<&str> {
        let meant = linked.lines().filter(|line| line.starts_with('#') && is_meant(line));
        meant.filter_map(|line| line.split(' ').next()).collect()
    };
    let commands = numbers(&|line| line.contains("] RUN "));
    let cached = numbers(&|line| line.ends_with(" CACHED"));
    assert!(!commands.is_empty() && commands.is_subset(&cached), "{linked}");
    project.bake("near", "linked.hcl", &[]);
    is_same("app");
}

/// `app` and `ran` stand on what `lib` makes; `one` and `two` share a command.
const LINKED: &str = r#"
group "default" { targets = ["app", "ran", "one", "two"] }
target "lib" {
  dockerfile-inline = "FROM scratch\nCOPY src /src\n"
  tags = ["lib"]
}
target "app" {
  contexts = { base = "target:lib" }
  dockerfile-inline = "FROM base\nCOPY --from=base /src/a /b\nCOPY file0 /file\n"
  tags = ["app"]
}
target "ran" {
  contexts = { base = "target:lib" }
  dockerfile-inline = "FROM base\nCOPY busybox /bin/sh\nRUN read x < /src/a; echo $x > /ran\n"
}
target "one" {
  dockerfile-inline = "FROM scratch\nCOPY busybox /bin/sh\nRUN echo shared > /shared\nCOPY file1 /one\n"
}
target "two" {
  dockerfile-inline = "FROM scratch\nCOPY busybox /bin/sh\nRUN echo shared > /shared\nRUN echo two > /two\n"
}
"#;

#[test]
fn what_fails_there_fails_here_and_secrets_stay_where_they_are() {
    let (project, grid) = (Project::new(), BuildGrid::start());
    let worker = grid.worker("one", false);
    let on = format!("--on=reapi://{}", grid.host());
    project
        .write("Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nRUN echo words of the command; exit 7\n");
    let failed = project.build("far", &[&on]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(
        failed.has("words of the command") && failed.has("the build failed on `reapi://"),
        "{}",
        failed.stderr
    );
    // What RUN finds there, as it is said here.
    let doctor = |more: &[&str]| project.command("far", &[&["doctor", &on], more].concat()).output().unwrap();
    let told = doctor(&[]);
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success() && text.contains("worker `one` of `reapi://"), "{told:?}");
    assert!(text.contains("RUN works here, ") && text.contains("(rung "), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&doctor(&["--format=json"]).stdout).unwrap();
    assert_eq!(json["works"], true, "{json}");
    // A step that takes too long.
    project.write("Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nRUN while :; do :; done\n");
    let late = project.build("far", &[&format!("{on},timeout=1s")]);
    assert_eq!(late.code, 1, "{}", late.stderr);
    // Nothing of what is secret is sent, and a build that needs it is refused by a worker that has none.
    project.write("Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nRUN --mount=type=secret,id=key,required read x < /run/secrets/key\n");
    let refused = project.build("far", &[&on, "--secret=id=key,src=src/a"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.has("`--secret` or `--ssh` does not go with `--on`"), "{}", refused.stderr);
    let refused = project.build("far", &[&on]);
    assert!(
        refused.has("the build needs the secret `key`, which this worker does not have"),
        "{}",
        refused.stderr
    );
    assert!(refused.has("refuses the build"), "{}", refused.stderr);
    drop(worker);
    let (secrets, store) = (project.dir.path().join("secrets"), project.dir.path().join("kept"));
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("key"), "words that nobody sees\n").unwrap();
    let (registry, logins) = (Registry::start_with_login(), project.dir.path().join("logins"));
    fs::create_dir(&logins).unwrap();
    let login = basic(USER, PASSWORD);
    let auths = serde_json::json!({"auths": {registry.host(): {"auth": login.trim_start_matches("Basic ")}}});
    fs::write(logins.join("config.json"), auths.to_string()).unwrap();
    let variables = [
        ("RBUILD_WORKER_SECRETS", secrets.as_path()),
        ("RBUILD_ROOT", store.as_path()),
        ("DOCKER_CONFIG", logins.as_path()),
    ];
    let _worker = grid.worker_with("two", false, &variables);
    let secret = "FROM scratch\nCOPY busybox /bin/sh\nRUN --mount=type=secret,id=key,required read x < /run/secrets/key; echo ${#x} > /length\n";
    project.write("Dockerfile", secret);
    let files = project.dir.path().join("files");
    project.built("far", &[&on, "--output=type=local,dest=../files"]);
    assert_eq!(fs::read_to_string(files.join("length")).unwrap(), "22\n");
    assert!(grid.has_bytes(b"/run/secrets/key") && !grid.has_bytes(b"words that nobody sees"));
    // A worker whose store stays does again only what changed.
    project.write("Dockerfile", format!("{secret}RUN echo more > /more\n"));
    let more = project.built("farther", &[&on]);
    assert!(
        more.stderr.lines().any(|line| line.starts_with("note: worker: #") && line.ends_with(" CACHED")),
        "{}",
        more.stderr
    );
    // A worker that has a login for the registry brings the layers there: they never come here.
    project.write("Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nRUN echo $((6*7)) > /pushed\n");
    let image = format!("{}/app:1", registry.host());
    let pushes = |machine: &str, words: &[&str]| {
        let output = project.command(machine, words).env("DOCKER_CONFIG", &logins).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    };
    let pushed = pushes("pushing", &["build", "--progress=plain", &on, "--push", "--tag", &image, "."]);
    let told = String::from_utf8_lossy(&pushed.stderr);
    assert!(
        told.contains("note: worker: #")
            && told.contains(&format!(" upload layers to {}/app\n", registry.host())),
        "{told}"
    );
    let manifest: serde_json::Value =
        serde_json::from_slice(&pushes("pushing", &["inspect", "--raw", &image]).stdout).unwrap();
    let layer = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap();
    let blob = |machine: &str| project.dir.path().join(machine).join("blobs").join(layer.replace(':', "/"));
    assert!(!blob("pushing").exists(), "{told}");
    pushes("pulling", &["pull", &image]);
    assert!(blob("pulling").exists());
    // What does not travel is named.
    rustix::fs::mkfifoat(rustix::fs::CWD, project.context().join("src/pipe"), rustix::fs::Mode::RUSR)
        .unwrap();
    project.write("Dockerfile", "FROM scratch\nCOPY src /\n");
    let refused = project.build("far", &[&on]);
    assert!(refused.has("`src/pipe` does not go with `--on`: it is no file"), "{}", refused.stderr);
    for (option, what) in
        [("--memory=1g", "a limit of memory"), ("--offline", "`--offline`"), ("--no-cache", "`--no-cache`")]
    {
        let refused = project.build("far", &[&on, option]);
        assert!(refused.code == 1 && refused.has(what), "{option}: {}", refused.stderr);
    }
}

#[test]
fn a_worker_that_is_killed_loses_nothing() {
    let (project, grid) = (Project::new(), BuildGrid::start());
    let mut first = grid.worker("first", false);
    // The step ends some seconds from now, whoever runs it: after the first worker is gone, and before the second has it.
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let end = uptime.split('.').next().unwrap().parse::<u64>().unwrap() + 20;
    let wait = format!(
        "RUN echo words of the command; while read x < /proc/uptime; [ ${{x%%.*}} -lt {end} ]; do :; done\n"
    );
    project.write("Dockerfile", format!("FROM scratch\nCOPY busybox /bin/sh\n{wait}"));
    let on = format!("--on=reapi://{}", grid.host());
    let arguments = ["build", "--progress=plain", &on, "."];
    let mut build = project.command("far", &arguments).stderr(Stdio::piped()).spawn().unwrap();
    first.wait_for("began");
    // What a worker says is heard while it runs, though this engine has no streams.
    let mut stderr = BufReader::new(build.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("words of the command\n") {
        assert!(stderr.read_line(&mut told).unwrap() > 0, "{told}");
    }
    first.kill();
    let second = grid.worker("second", false);
    second.wait_for("began");
    stderr.read_to_string(&mut told).unwrap();
    assert!(build.wait().unwrap().success(), "{told}");
    assert!(told.contains("worker `second`"), "{told}");
    // What the second one said is told whole, and what was heard of it is not told again.
    assert_eq!(told.matches("worker: note: cached to ").count(), 1, "{told}");
    let words = |line: &&str| line.starts_with("note: worker: #") && line.ends_with(" words of the command");
    assert!((1..=2).contains(&told.lines().filter(words).count()), "{told}");
}

#[test]
fn who_is_interrupted_cancels_the_action() {
    let (project, grid) = (Project::new(), BuildGrid::start());
    let worker = grid.worker("one", false);
    project.write("Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nRUN while :; do :; done\n");
    let on = format!("--on=reapi://{}", grid.host());
    let arguments = ["build", "--progress=plain", &on, "."];
    let build = project.command("far", &arguments).stderr(Stdio::piped()).spawn().unwrap();
    worker.wait_for("began");
    kill_process(Pid::from_raw(build.id() as i32).unwrap(), Signal::INT).unwrap();
    let output = build.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{told}");
    worker.wait_for("cancelled");
}

#[test]
fn an_engine_that_cannot_is_told_or_done_without() {
    let project = Project::new();
    // Nobody is there.
    let down = project.build("far", &["--on=reapi://127.0.0.1:1"]);
    assert_eq!(down.code, 75, "{}", down.stderr);
    assert!(
        down.has("cannot be placed on `reapi://127.0.0.1:1`") && down.has("connection refused"),
        "{}",
        down.stderr
    );
    assert!(down.has("`--on …,fallback=local`"), "{}", down.stderr);
    let here = project.built("far", &["--on=reapi://127.0.0.1:1,fallback=local"]);
    assert!(here.has("the build is done here (`fallback=local`)"), "{}", here.stderr);
    assert!(here.summary().contains("6 steps ran"), "{}", here.stderr);
    // Standard input is there once, however often the Dockerfile is looked at.
    let words = ["build", "--progress=plain", "--file=-", "--on=reapi://127.0.0.1:1,fallback=local", "."];
    let file = fs::File::open(project.context().join("Copies")).unwrap();
    let read = project.command("far", &words).stdin(file).output().unwrap();
    let told = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success() && told.contains("the build is done here"), "{told}");
    // One that keeps results, and runs nothing.
    let casd = Casd::start_in(&project.dir.path().join("casd"), "2G");
    project.write("src/a", "other\n");
    let keeps = project.build("far", &[&format!("--on=reapi://{}", casd.host())]);
    assert!(keeps.code == 1 && keeps.has("keeps results, and runs no actions"), "{}", keeps.stderr);
    let nobody = project.command("far", &["doctor", "--on=reapi://127.0.0.1:1"]).output().unwrap();
    assert!(
        !nobody.status.success()
            && String::from_utf8_lossy(&nobody.stderr).contains("nothing can be tried on")
    );
    for command in ["plan", "lock", "reproduce"] {
        let refused = project.command("far", &[command, "--on=reapi://127.0.0.1:1", "."]).output().unwrap();
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(
            refused.status.code() == Some(2) && told.contains("`--on` means nothing to `rbuild "),
            "{told}"
        );
    }
    let shell = project.build("far", &["--on=reapi://127.0.0.1:1", "--on-fail=shell"]);
    assert!(shell.code == 2 && shell.has("`--on-fail=shell` opens no shell with `--on`"), "{}", shell.stderr);
    for (option, expected) in [
        ("reapi://127.0.0.1", "it begins with `reapi://HOST:PORT`"),
        ("reapi://h:1,token=hidden", "tokens do not travel in plain text"),
        ("reapi://h:1,colour=red", "`colour` is unknown"),
    ] {
        let wrong = project.build("far", &[&format!("--on={option}")]);
        assert!(wrong.code == 2 && wrong.has(expected) && !wrong.has("hidden"), "{}", wrong.stderr);
    }
}
