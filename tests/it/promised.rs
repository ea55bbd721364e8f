//! Images that were pushed while layers of them stayed where they were: what every command does about them.

use std::fs;
use std::process::Command;

use crate::support::base::busybox_registry;
use crate::support::http::Server;
use crate::support::layout::Layout;
use crate::support::registry::Registry;

/// A store with an image `app:1` whose base's layer is in the registry alone.
struct Bench {
    dir: tempfile::TempDir,
    server: Server,
    _registry: Registry,
}

/// What a command said.
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn new() -> Self {
        let registry = busybox_registry();
        let server = Server::between(registry.host(), |_, reply| reply);
        let bench = Self { dir: tempfile::tempdir().unwrap(), server, _registry: registry };
        let dockerfile = format!("FROM {}\nCOPY --link <<x /\ncontent\nx\nENV A=1\n", bench.name("busybox"));
        bench.dockerfile(&dockerfile);
        bench.done(&["--push", "-t", &bench.name("app:1"), "."]);
        assert!(bench.names().is_empty());
        bench
    }

    fn dockerfile(&self, text: &str) {
        fs::write(self.dir.path().join("Dockerfile"), text).unwrap();
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.server.host())
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        command.current_dir(self.dir.path()).arg("--root").arg(self.dir.path().join("store"));
        let output = command.args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Said { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    fn done(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {}{}", said.stdout, said.stderr);
        said.stdout
    }

    /// The names in the store's `index.json`: those of images that are all here.
    fn names(&self) -> Vec<String> {
        Layout::at(&self.dir.path().join("store")).names()
    }

    /// GETs of layers since the beginning.
    fn fetched(&self) -> usize {
        let is_layer = |request: &&String| request.starts_with("GET") && request.contains("/app/blobs/");
        self.server.requests().iter().filter(is_layer).count()
    }
}

#[test]
fn lists_say_what_is_not_here() {
    let bench = Bench::new();
    let app = bench.name("app:1");
    let listed = bench.done(&["images"]);
    assert!(listed.contains("NOT HERE") && listed.contains("MB"), "{listed}");
    assert_ne!(bench.done(&["images", "--format", "{{.Promised}}"]), "\n");
    let id = bench.done(&["images", "-q"]);
    for name in [app.as_str(), id.trim()] {
        let inspected = bench.done(&["inspect", "--format", "{{json .Promised}}", name]);
        assert!(inspected.contains(&format!("\"By\":[\"{app}\"]")), "{inspected}");
        assert_eq!(inspected.matches("sha256:").count(), 1, "{inspected}");
        let history = bench.done(&["history", "--format", "{{.Here}}", name]);
        assert_eq!(history, "-\nyes\nno\n");
    }
    let verified = bench.done(&["verify"]);
    assert!(verified.contains("1 layers of pushed images are not here"), "{verified}");
    assert!(bench.done(&["du"]).contains("1 layers of pushed images ("));
    // What is here of it is needed; without the cache it is still an image.
    bench.done(&["prune", "--all", "--force"]);
    assert!(bench.done(&["verify"]).contains("1 layers of pushed images are not here"));
    assert_eq!(bench.fetched(), 0, "{:#?}", bench.server.requests());
    bench.done(&["rmi", &app]);
    assert_eq!(bench.done(&["images", "-q"]), "");
    bench.done(&["verify"]);
}

#[test]
fn whoever_needs_the_layers_has_them_fetched() {
    let bench = Bench::new();
    let (app, id) = (bench.name("app:1"), bench.done(&["images", "-q"]));
    let (app, id) = (app.as_str(), id.trim());
    let (docker, file) = (bench.name("other:1"), bench.dir.path().join("saved.tar"));
    let (docker, file) = (format!("docker://{docker}"), file.display().to_string());
    let build = format!("FROM {app}\nRUN test -e /x && test -e /bin/busybox\n");
    let ways: &[&[&str]] = &[
        &["save", "-o", &file, app],
        &["save", "--format", "oci-archive", "-o", &file, id],
        &["tag", app, "again:1"],
        &["tag", id, "again:1"],
        &["copy", &format!("store:{app}"), &format!("oci:{file}.layout")],
        &["copy", &format!("store:{id}"), "store:again:1"],
        &["run", "--rm", app, "test", "-e", "/x"],
        &["run", "--rm", id, "test", "-e", "/x"],
        &["build", "-o", "type=tar,dest=files.tar", "."],
        &["build", "-t", "again:1", "."],
        &["build", "-o", &format!("type=oci,dest={file}"), "."],
    ];
    for way in ways {
        // As it was at first.
        bench
            .dockerfile(&format!("FROM {}\nCOPY --link <<x /\ncontent\nx\nENV A=1\n", bench.name("busybox")));
        fs::remove_dir_all(bench.dir.path().join("store")).unwrap();
        bench.done(&["--push", "-t", app, "."]);
        assert!(bench.names().is_empty(), "{way:?}");
        bench.dockerfile(&build);
        bench.done(way);
        assert!(bench.names().iter().any(|name| name == app), "{way:?}: {:?}", bench.names());
        assert!(!bench.done(&["images"]).contains("NOT HERE"), "{way:?}");
        bench.done(&["verify"]);
    }
    // To its own registry it moves without passing here.
    fs::remove_dir_all(bench.dir.path().join("store")).unwrap();
    bench.dockerfile(&format!("FROM {}\nCOPY --link <<x /\ncontent\nx\nENV A=1\n", bench.name("busybox")));
    bench.done(&["--push", "-t", app, "."]);
    let before = bench.fetched();
    bench.done(&["push", app]);
    assert_eq!(bench.fetched(), before);
    bench.done(&["copy", &format!("store:{app}"), &docker]);
    let other = Registry::start();
    bench.done(&["copy", &format!("store:{app}"), &format!("docker://{}/far:1", other.host())]);
    assert_eq!(bench.names(), [app]);
    fs::remove_dir_all(bench.dir.path().join("store")).unwrap();
    bench.dockerfile(&format!("FROM {}/far:1\nRUN test -e /x\n", other.host()));
    bench.done(&["."]);
}

#[test]
fn nobody_is_asked_where_that_is_forbidden() {
    let bench = Bench::new();
    let (app, id) = (bench.name("app:1"), bench.done(&["images", "-q"]));
    bench.dockerfile(&format!("FROM {app}\nRUN true\n"));
    let ways: &[&[&str]] = &[
        &["build", "--offline", "."],
        &["build", "--pull=never", "."],
        &["run", "--pull=never", &app, "true"],
        &["run", "--pull=never", id.trim(), "true"],
    ];
    for way in ways {
        let said = bench.run(way);
        assert!(
            said.code != 0 && said.stderr.contains("not all of its layers are in the local store"),
            "{}",
            said.stderr
        );
    }
    assert_eq!(bench.fetched(), 0);
}

#[test]
fn a_registry_that_is_gone_is_named() {
    let bench = Bench::new();
    let app = bench.name("app:1");
    let host = bench.server.host().to_owned();
    let Bench { dir, server, _registry } = bench;
    drop((server, _registry));
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
    command.current_dir(dir.path()).arg("--root").arg(dir.path().join("store"));
    let output = command.args(["save", "-o", "saved.tar", &app]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(host.split(':').next().unwrap()), "{said}");
    assert!(!dir.path().join("saved.tar").exists());
}
