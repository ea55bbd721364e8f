//! rbuild as a plugin of docker's command line, with the real one.

use std::fs;
use std::io::Read as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::program::World;

/// Docker's command lines on this machine: that in the path, and Debian's.
fn dockers() -> Vec<PathBuf> {
    let found = Command::new("sh").args(["-c", "command -v docker"]).output().unwrap();
    let first = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    assert!(first.is_file(), "docker is missing; apt-get install docker.io");
    let debians = PathBuf::from("/usr/bin/docker");
    if debians.is_file() && debians != first { vec![first, debians] } else { vec![first] }
}

/// A folder of docker's, in a world.
struct Docker {
    world: World,
}

impl Docker {
    fn new() -> Self {
        let world = World::new();
        world.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
        fs::create_dir(world.path().join("docker")).unwrap();
        Self { world }
    }

    fn folder(&self) -> PathBuf {
        self.world.path().join("docker")
    }

    fn link(&self, name: &str) -> PathBuf {
        self.folder().join("cli-plugins").join(name)
    }

    /// Without a daemon, and with the world's store.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.world.path().join("home"));
        command.env("DOCKER_CONFIG", self.folder()).env("RBUILD_ROOT", self.world.store());
        command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env("BUILDKIT_PROGRESS", "plain");
        command.current_dir(self.world.context()).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, program: &Path, words: &[&str]) -> Output {
        self.command(program).args(words).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, program: &Path, words: &[&str]) -> String {
        let output = self.run(program, words);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{} {words:?}: {told}", program.display());
        String::from_utf8(output.stdout).unwrap()
    }

    fn own(&self, words: &[&str]) -> String {
        self.ok(self.world.program(), words)
    }
}

#[test]
fn docker_build_is_rbuild() {
    let docker = Docker::new();
    let told = docker.own(&["self", "install-docker-plugin", "--alias"]);
    assert!(told.contains("docker-buildx leads to ") && told.contains("`docker build` is"), "{told}");
    for program in dockers() {
        let version = docker.ok(&program, &["buildx", "version"]);
        assert!(version.starts_with("rbuild/buildx v0."), "{version}");
        let output = docker.run(&program, &["build", "-t", "app:1", "."]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && told.contains("built sha256:"), "{told}");
        let digest = docker.own(&["inspect", "-f", "{{.Id}}", "app:1"]);
        // The id is docker's: that of the configuration.
        let config = docker.own(&["inspect", "-f", "{{.Manifest.config.digest}}", "app:1"]);
        for words in [
            &["build", "-q", "."][..],
            &["buildx", "build", "--quiet", "--builder", "default", "."],
            &["buildx", "build", "--progress=quiet", "."],
            &["--debug", "buildx", "b", "-q", "."],
        ] {
            assert_eq!(docker.ok(&program, words), config, "{words:?}");
        }
        assert_ne!(config, digest);
        assert_eq!(docker.own(&["inspect", "-f", "{{.Id}}", config.trim()]), digest);
        // What fails, fails with its code.
        let output = docker.run(&program, &["build", "-f", "missing", "."]);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(docker.ok(&program, &["buildx", "ls"]).contains("running"));
        let pruned = docker.ok(&program, &["builder", "prune", "-f", "--filter", "until=24h"]);
        assert!(pruned.contains("freed"), "{pruned}");
    }
    let told = docker.own(&["self", "uninstall-docker-plugin"]);
    assert!(told.contains("is removed") && told.contains("docker's own again"), "{told}");
    assert!(!docker.link("docker-buildx").exists());
    assert_eq!(fs::read_to_string(docker.folder().join("config.json")).unwrap().trim(), "{}");
    assert!(docker.own(&["self", "uninstall-docker-plugin"]).contains("no plugin"));
}

#[test]
fn beside_a_buildx_that_is_there() {
    let docker = Docker::new();
    let config = docker.folder().join("config.json");
    fs::write(&config, "{\"auths\": {\"h\": {\"auth\": \"eDp5\"}}, \"aliases\": {}}").unwrap();
    fs::create_dir(docker.folder().join("cli-plugins")).unwrap();
    fs::write(docker.link("docker-buildx"), "#!/bin/sh\necho other\n").unwrap();
    let output = docker.run(docker.world.program(), &["self", "install-docker-plugin"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && told.contains("is another plugin") && told.contains("--as rbuild"),
        "{told}"
    );
    docker.own(&["self", "install-docker-plugin", "--as", "rbuild", "--alias"]);
    docker.own(&["self", "install-docker-plugin", "--as", "rbuild", "--alias"]);
    let settings: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    assert_eq!(settings["aliases"]["builder"], "rbuild");
    assert_eq!(settings["auths"]["h"]["auth"], "eDp5");
    for program in dockers() {
        docker.ok(&program, &["build", "-t", "app:2", "."]);
        assert!(docker.ok(&program, &["rbuild", "images"]).contains("app"));
        assert!(docker.ok(&program, &["rbuild", "version"]).contains("rbuild"));
    }
    docker.own(&["self", "uninstall-docker-plugin"]);
    assert!(docker.link("docker-buildx").exists() && !docker.link("docker-rbuild").exists());
    let settings: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    assert!(settings.get("aliases").is_none() && settings["auths"]["h"]["auth"] == "eDp5");
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let docker = Docker::new();
    let run = |config: &str| {
        let mut command = docker.command(docker.world.program());
        command.env("DOCKER_CONFIG", config).args(["self", "install-docker-plugin", "--alias"]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, told) = run("/dev/null/docker");
    assert!(
        status == Some(1) && told.contains("cannot make the folder `/dev/null/docker/cli-plugins`"),
        "{told}"
    );
    fs::write(docker.folder().join("config.json"), "{").unwrap();
    let (status, told) = run(docker.folder().to_str().unwrap());
    assert!(status == Some(1) && told.contains("is no object of JSON"), "{told}");
    // A docker that knows no plugins.
    let old = docker.world.path().join("bin");
    fs::create_dir(&old).unwrap();
    crate::support::write_program(
        &old.join("docker"),
        b"#!/bin/sh\necho 'Docker version 18.09.1, build x'\n",
    );
    let mut command = docker.command(docker.world.program());
    let path = format!("{}:{}", old.display(), std::env::var("PATH").unwrap());
    let output = command.env("PATH", path).args(["self", "install-docker-plugin"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && told.contains("docker 18.09 knows no plugins"), "{told}");
}

/// A link by which rbuild is called.
fn named(docker: &Docker, name: &str) -> PathBuf {
    let link = docker.world.path().join(name);
    std::os::unix::fs::symlink(docker.world.program(), &link).unwrap();
    link
}

#[test]
fn the_protocol_of_plugins() {
    let docker = Docker::new();
    let plugin = named(&docker, "docker-buildx");
    let metadata: Value = serde_json::from_str(&docker.ok(&plugin, &["docker-cli-plugin-metadata"])).unwrap();
    assert_eq!(
        (metadata["SchemaVersion"].as_str(), metadata["Vendor"].as_str()),
        (Some("0.1.0"), Some("rbuild"))
    );
    assert_eq!(docker.ok(&plugin, &["docker-cli-plugin-hooks", "{}"]), "");
    // Docker's global options come first, and its configuration is that of `--config`.
    let other = docker.world.path().join("other");
    fs::create_dir(&other).unwrap();
    let words = [
        "--config",
        other.to_str().unwrap(),
        "-H",
        "tcp://127.0.0.1:1",
        "buildx",
        "inspect",
        "--bootstrap",
        "mine",
    ];
    let shown = docker.ok(&plugin, &words);
    assert!(shown.starts_with("Name:   mine\n") && shown.contains("Status:           running"), "{shown}");
    // Without the plugin's name, as compose and GitHub's actions call it.
    let buildx = named(&docker, "buildx");
    docker.ok(&buildx, &["build", "-t", "x", "."]);
    let listed: Value = serde_json::from_str(&docker.ok(&buildx, &["ls", "--format=json"])).unwrap();
    assert_eq!(listed["Nodes"][0]["Status"], "running");
    assert_eq!(docker.ok(&buildx, &["ls", "--format", "{{.Name}}"]), "default\ndefault\n");
    assert_eq!(
        docker
            .ok(&buildx, &["create", "--name", "b", "--driver", "docker-container", "--use", "--bootstrap"]),
        "b\n"
    );
    for words in [&["use", "b"][..], &["rm", "--keep-state", "b"], &["stop"]] {
        let output = docker.run(&buildx, words);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && told.starts_with("note: ") && told.contains("changes nothing"),
            "{told}"
        );
    }
    let output = docker.run(&buildx, &["imagetools", "create", "--dry-run"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("the index has no sources"));
    assert!(docker.ok(&buildx, &["imagetools", "inspect", "--help"]).contains("--raw"));
    assert!(docker.ok(&buildx, &["du"]).contains("total"));
    assert!(docker.ok(&buildx, &["prune", "-a", "-f", "--max-used-space", "10gb"]).contains("freed"));
    let listed =
        docker.ok(&buildx, &["history", "--builder", "b", "ls", "--builder=b", "-D", "--format", "{{.Ref}}"]);
    let id = listed.lines().next().unwrap_or_default();
    assert!(
        docker.ok(&buildx, &["history", "inspect", "--format", "json", "--builder", "b", id]).contains(id)
    );
    assert!(docker.ok(&buildx, &["history"]).contains("Commands, for builds"));
    for (words, help) in [
        (&["dial-stdio"][..], "no BuildKit daemon"),
        (&["install"], "--alias"),
        (&["history", "open"], "rbuild history inspect"),
        (&["history", "app"], "has no command `app`"),
        (&["dap", "build"], "rbuild shell --at"),
        (&["prune", "--filter", "type=x"], "is no filter here"),
        (&["nonsense"], "unrecognized subcommand 'nonsense'"),
    ] {
        let output = docker.run(&buildx, words);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && told.contains(help), "{words:?}: {told}");
    }
    assert!(docker.ok(&buildx, &[]).contains("Usage: docker buildx"));
    assert!(docker.ok(&buildx, &["build", "--help"]).contains("--metadata-file"));
}

#[test]
fn docker_hangs_up_to_cancel() {
    let docker = Docker::new();
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
    docker.world.file("busybox", busybox).set_mode("busybox", 0o755);
    docker.world.dockerfile(
        "FROM scratch\nCOPY busybox /bin/sh\nRUN [\"/bin/sh\", \"-c\", \"echo begun; sleep 600\"]\n",
    );
    let name = format!("rbuild-test-{}", std::process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut command = docker.command(named(&docker, "docker-buildx"));
    command.args(["buildx", "build", "."]).env("DOCKER_CLI_PLUGIN_SOCKET", format!("@{name}"));
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let (socket, _) = listener.accept().unwrap();
    let mut told = Vec::new();
    let mut stderr = child.stderr.take().unwrap();
    let mut byte = [0];
    while !String::from_utf8_lossy(&told).lines().any(|line| line.ends_with(" begun")) {
        assert_eq!(stderr.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&told));
        told.push(byte[0]);
    }
    drop(socket);
    stderr.read_to_end(&mut told).unwrap();
    let told = String::from_utf8_lossy(&told);
    assert_eq!(child.wait().unwrap().code(), Some(130), "{told}");
    assert!(told.contains("interrupted"), "{told}");
}

#[test]
fn caches_are_dockers_behind_its_face() {
    let docker = Docker::new();
    docker.world.dockerfile("FROM scratch AS a\nCOPY Dockerfile /a\nFROM scratch\nCOPY --from=a /a /b\n");
    let buildx = named(&docker, "buildx");
    let layers = |folder: &str| {
        let blobs = fs::read_dir(docker.world.context().join(folder).join("blobs/sha256"));
        blobs.map_or(0, Iterator::count)
    };
    docker.ok(&buildx, &["build", "--cache-to", "type=local,dest=min", "."]);
    docker.ok(&buildx, &["build", "--cache-to", "type=local,dest=max,mode=max", "."]);
    docker.own(&["build", "--cache-to", "type=local,dest=own", "."]);
    assert!(layers("min") < layers("max"), "{} {}", layers("min"), layers("max"));
    assert_eq!(layers("own"), layers("max"));
}

/// As with buildx, but that nobody gets provenance without asking.
#[test]
fn attestations_are_in_the_index() {
    let docker = Docker::new();
    docker.own(&["self", "install-docker-plugin", "--alias"]);
    let program = &dockers()[0];
    for (flag, predicates) in [
        ("--provenance=false", ""),
        ("--provenance=true", "https://slsa.dev/provenance/v1\n"),
        ("--sbom=true", "https://spdx.dev/Document\n"),
    ] {
        let output = docker.run(program, &["buildx", "build", flag, "-t", "app:1", "."]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !told.contains("no attestations"), "{told}");
        assert_eq!(docker.own(&["attest", "ls", "--format={{.Predicate}}", "app:1"]), predicates, "{flag}");
        let raw: serde_json::Value =
            serde_json::from_str(&docker.own(&["inspect", "--raw", "app:1"])).unwrap();
        let entries = raw["manifests"].as_array().map_or(0, Vec::len);
        assert_eq!(entries, if predicates.is_empty() { 0 } else { 2 }, "{raw}");
        // Its id is that of the configuration, as before.
        let id = docker.own(&["inspect", "-f", "{{.Id}}", "app:1"]);
        assert!(id.starts_with("sha256:"), "{id}");
    }
}
