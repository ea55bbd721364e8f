//! `rbuild.lock`: bases, URLs and git references stay what they were until somebody says otherwise.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::support::http::{Reply, Server};
use crate::support::image::{TestImage, TestLayer};
use crate::support::registry::Registry;
use crate::support::tools;

/// A context whose Dockerfile takes everything from elsewhere, and what it takes.
struct Bench {
    dir: tempfile::TempDir,
    registry: Registry,
    content: Arc<Mutex<&'static str>>,
    server: Server,
}

impl Bench {
    fn new() -> Self {
        let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
        let content = Arc::new(Mutex::new("first"));
        let its_content = Arc::clone(&content);
        let server = Server::start(move |_| Reply::new(200, *its_content.lock().unwrap()));
        let bench = Self { dir, registry, content, server };
        fs::create_dir(bench.context()).unwrap();
        fs::create_dir(bench.repository()).unwrap();
        bench.git(&["init", "--quiet", "--initial-branch=main"]);
        bench.move_on("first");
        let dockerfile = format!(
            "FROM {registry}/base:1 AS app\nADD http://{server}/file /file\nADD {git}#main /git\n\
             FROM {registry}/other:1 AS test\n\
             FROM app\nCOPY --from={registry}/tool:1 /is /tool\n",
            registry = bench.registry.host(),
            server = bench.server.host(),
            git = format_args!("file://{}", bench.repository().display()),
        );
        // A local repository counts as a git source when it is written as a URL that ends in .git.
        fs::write(bench.context().join("Dockerfile"), dockerfile.replace("file://", "git@localhost:"))
            .unwrap();
        bench
    }

    fn context(&self) -> PathBuf {
        self.dir.path().join("context")
    }

    fn repository(&self) -> PathBuf {
        self.dir.path().join("x.git")
    }

    fn lock_file(&self) -> PathBuf {
        self.context().join("rbuild.lock")
    }

    fn git(&self, arguments: &[&str]) {
        let author = ["-c", "user.name=n", "-c", "user.email=e@localhost"];
        let repository = self.repository().display().to_string();
        tools::run("git", ["-C", &repository].iter().chain(&author).chain(arguments));
    }

    /// Everything elsewhere becomes something else.
    fn move_on(&self, to: &'static str) {
        for name in ["base", "other", "tool"] {
            let image = TestImage::new("linux/amd64", vec![TestLayer::files(&[("is", to)])]);
            self.registry.push(&image, name, "1");
        }
        *self.content.lock().unwrap() = to;
        fs::write(self.repository().join("is"), to).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "-m", to]);
    }

    /// Exit code and all output.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        // What looks like ssh is a folder of this machine.
        let instead = format!("url.file://{}/.insteadOf", self.dir.path().display());
        command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", instead);
        command.env("GIT_CONFIG_VALUE_0", format!("git@localhost:{}/", self.dir.path().display()));
        let store = self.dir.path().join("store");
        let output =
            command.current_dir(self.context()).arg("--root").arg(store).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8(text).unwrap())
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let (code, text) = self.run(arguments);
        assert_eq!(code, 0, "{text}");
        text
    }

    /// What a build gets from each place.
    fn built(&self, arguments: &[&str]) -> [String; 4] {
        let files = self.dir.path().join("files");
        let _ = fs::remove_dir_all(&files);
        self.ok(&[arguments, &["-o", files.to_str().unwrap(), "."]].concat());
        ["is", "file", "git/is", "tool"].map(|name| fs::read_to_string(files.join(name)).unwrap())
    }
}

#[test]
fn what_is_locked_stays_until_it_is_updated() {
    let bench = Bench::new();
    let (code, text) = bench.run(&["--locked", "."]);
    assert!(code == 1 && text.contains("there is no `./rbuild.lock`"), "{text}");

    assert_eq!(bench.built(&["--lock"]), ["first"; 4]);
    let text = fs::read_to_string(bench.lock_file()).unwrap();
    // Base, tool, URL, reference; the stage `test` was not built.
    assert_eq!(text.lines().filter(|line| line.starts_with('"')).count(), 4, "{text}");
    bench.move_on("second");
    let (code, refused) = bench.run(&["."]);
    assert!(code == 1 && refused.contains("changed: the lock file says sha256:"), "{refused}");
    assert!(refused.contains("rbuild lock --update"), "{refused}");
    *bench.content.lock().unwrap() = "first";
    assert_eq!(bench.built(&["--locked"]), ["first"; 4]);
    assert_eq!(fs::read_to_string(bench.lock_file()).unwrap(), text);
    *bench.content.lock().unwrap() = "second";

    let moved = bench.ok(&["lock", "--update", "."]);
    assert_eq!(moved.matches("moved ").count(), 4, "{moved}");
    assert_eq!(moved.matches("  new ").count(), 1, "the image of the stage `test`: {moved}");
    assert_eq!(bench.built(&["--locked"]), ["second"; 4]);
    assert!(bench.ok(&["lock", "--update", "."]).contains("nothing changed"));
}

#[test]
fn what_is_missing_is_refused_only_if_asked() {
    let bench = Bench::new();
    bench.ok(&["lock", "."]);
    let text = fs::read_to_string(bench.lock_file()).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with('"')).count(), 5, "{text}");
    for what in ["base:1", "/file", "x.git#main", "tool:1"] {
        let without: Vec<&str> = text.lines().filter(|line| !line.contains(what)).collect();
        fs::write(bench.lock_file(), without.join("\n")).unwrap();
        let (code, refused) = bench.run(&["--locked", "."]);
        assert!(
            code == 1 && refused.contains(what) && refused.contains("is not in the lock file"),
            "{refused}"
        );
        assert!(refused.contains("--> Dockerfile:"), "{refused}");
    }
    // Without the flag it is taken as it is, and the file stays.
    let before = fs::read_to_string(bench.lock_file()).unwrap();
    assert_eq!(bench.built(&[]), ["first"; 4]);
    assert_eq!(fs::read_to_string(bench.lock_file()).unwrap(), before);
    bench.ok(&["lock", "."]);
    assert_eq!(fs::read_to_string(bench.lock_file()).unwrap(), text);
}

/// What would change nothing is refused, and nothing is pinned.
#[test]
fn options_about_results_are_refused() {
    let bench = Bench::new();
    for option in ["--push", "--tag=app", "--check", "--quiet", "--locked", "--no-cache"] {
        let (code, refused) = bench.run(&["lock", option, "."]);
        let name = option.split('=').next().unwrap();
        let expected = format!("`{name}` means nothing to `rbuild lock`");
        assert!(code == 2 && refused.contains(&expected), "{refused}");
    }
    assert!(!bench.lock_file().exists());
}

#[test]
fn a_bad_lock_file_and_a_bad_place_for_one() {
    let bench = Bench::new();
    fs::write(bench.lock_file(), "version = 1\n[image]\n").unwrap();
    let (code, text) = bench.run(&["."]);
    assert!(code == 1 && text.contains("rbuild.lock:2"), "{text}");
    let (code, text) = bench.run(&["--lock", "-"]);
    assert!(code == 2 && text.contains("needs a folder as context"), "{text}");
    let (code, _) = bench.run(&["--lock", "--locked", "."]);
    assert_eq!(code, 2);
}

#[test]
fn a_locked_build_needs_no_network_for_what_is_here() {
    let bench = Bench::new();
    fs::write(bench.context().join("Dockerfile"), format!("FROM {}/base:1\n", bench.registry.host()))
        .unwrap();
    bench.ok(&["--lock", "."]);
    let host = bench.registry.host();
    drop(bench.registry);
    let bench = Bench { registry: Registry::start(), ..bench };
    assert_ne!(bench.registry.host(), host);
    bench.ok(&["--locked", "."]);
    bench.ok(&["--locked", "--offline", "."]);
}
