//! Docker's daemon with its old store.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{LARGE, LITTLE, lose_large_layer, world};
use crate::support::dockerd::Dockerd;
use crate::support::program::World;
use crate::support::tap::Tap;
use crate::support::tools;
use crate::support::{is_root, skip, tls, write_program};

struct Docker {
    daemon: Dockerd,
    tap: Tap,
    folder: tempfile::TempDir,
}

impl Docker {
    fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Dockerd::start_with(folder.path(), more);
        let tap = Tap::new(folder.path().join("tap.sock"), &folder.path().join("docker.sock"));
        Self { daemon, tap, folder }
    }

    fn host(&self) -> String {
        format!("unix://{}", self.tap.socket().display())
    }

    #[track_caller]
    fn run(&self, image: &str) -> String {
        self.daemon.docker(&["run", "--rm", "--network=none", image])
    }

    fn id(&self, image: &str) -> String {
        self.daemon.docker(&["image", "inspect", "--format", "{{.Id}}", image])
    }

    #[track_caller]
    fn build(&self, world: &World, words: &[&str]) -> String {
        world.build(words).env("DOCKER_HOST", self.host()).remarks().any_stdout().run().stdout
    }
}

fn is_possible() -> bool {
    is_root() && tools::has("dockerd") && tools::has("docker")
}

#[test]
fn docker_gets_what_it_lacks() {
    if !is_possible() {
        skip!("no dockerd of root here");
    }
    let (docker, world) = (Docker::start(&[]), world());
    let large = LARGE as u64;
    docker.build(&world, &["--load", "-t", "app:1", "-t", "registry.example/app:2"]);
    assert!(docker.tap.sent() > large);
    assert_eq!(docker.run("app:1"), "first\n");
    assert_eq!(docker.id("app:1"), docker.id("registry.example/app:2"));
    // Nothing changed, and one more name.
    let id = docker.build(&world, &["--load=docker", "-q", "-t", "app:1"]);
    assert_eq!((id, docker.tap.sent() < LITTLE), (docker.id("app:1"), true));
    docker.build(&world, &["-o", "type=docker", "-t", "app:3"]);
    assert!(docker.tap.sent() < LITTLE);
    assert_eq!(docker.run("app:3"), "first\n");
    // One small layer, under another name: it is other images that tell of the layers.
    world.file("small", "second\n");
    docker.build(&world, &["--load", "-t", "other"]);
    assert!(docker.tap.sent() < LITTLE);
    assert_eq!((docker.run("other"), docker.run("app:1")), ("second\n".to_owned(), "first\n".to_owned()));
    // A name moves on.
    docker.build(&world, &["--load", "-t", "app:1"]);
    assert!(docker.tap.sent() < LITTLE);
    assert_eq!(docker.run("app:1"), "second\n");
    // Without a name, as `docker run $(docker build -q .)` has it.
    world.file("small", "third\n");
    let id = docker.build(&world, &["--load", "-q"]);
    assert!(docker.tap.sent() < LITTLE);
    assert_eq!(docker.run(id.trim()), "third\n");
    // What is gone there is sent again.
    docker.daemon.docker(&["system", "prune", "--all", "--force"]);
    docker.build(&world, &["--load", "-t", "app:1"]);
    assert!(docker.tap.sent() > large);
    assert_eq!(docker.run("app:1"), "third\n");
}

#[test]
fn images_are_copied_in_and_out() {
    if !is_possible() {
        skip!("no dockerd of root here");
    }
    let (docker, world) = (Docker::start(&[]), world());
    let host = docker.host();
    world.build(["-t", "app:1"]).run();
    let copy =
        |from: &str, to: &str| world.rbuild(["copy", from, to]).env("DOCKER_HOST", &host).any_stdout().run();
    copy("app:1", "docker-daemon:app:1");
    assert_eq!(docker.run("app:1"), "first\n");
    // What docker has is not even read.
    docker.tap.sent();
    lose_large_layer(&world);
    copy("app:1", "docker-daemon:copied");
    assert!(docker.tap.sent() < LITTLE);
    assert_eq!(docker.id("copied"), docker.id("app:1"));
    world.rbuild(["rmi", "app:1"]).any_stdout().run();
    // And back: the id is the same, and every layer is what its diff id says.
    copy("docker-daemon:copied", "store:back");
    let config = world.rbuild(["inspect", "-f", "{{.Manifest.config.digest}}", "back"]).any_stdout().run();
    assert_eq!(config.stdout, docker.id("app:1"));
    copy(&format!("docker-daemon:{}", docker.id("app:1").trim()), "store:by-id");
    let ran =
        world.rbuild(["copy", "docker-daemon:missing", "store:x"]).env("DOCKER_HOST", &host).status(1).run();
    assert!(ran.stderr.contains("docker has no image `missing`"), "{}", ran.stderr);
}

#[test]
fn docker_takes_the_platform_of_the_machine() {
    if !is_possible() {
        skip!("no dockerd of root here");
    }
    let (docker, world) = (Docker::start(&[]), world());
    let ran = world
        .build(["--load", "--platform", "linux/amd64,linux/arm64,linux/s390x", "-t", "app"])
        .env("DOCKER_HOST", docker.host())
        .remarks()
        .run();
    assert!(
        ran.stderr.contains("docker's store takes one platform, and has got that for linux/"),
        "{}",
        ran.stderr
    );
    assert_eq!(docker.run("app"), "first\n");
    // One that is built for another machine alone is loaded.
    docker.build(&world, &["--load", "--platform", "linux/s390x", "-t", "foreign"]);
    assert_eq!(docker.daemon.docker(&["image", "inspect", "-f", "{{.Architecture}}", "foreign"]), "s390x\n");
    let ran = world
        .build(["--load", "--platform", "linux/riscv64,linux/s390x", "-t", "none"])
        .env("DOCKER_HOST", docker.host())
        .status(1)
        .remarks()
        .run();
    assert!(ran.stderr.contains("choose with `--platform`"), "{}", ran.stderr);
}

/// `docker build` leaves the image where `docker run` finds it.
#[test]
fn docker_build_and_docker_run() {
    if !is_possible() {
        skip!("no dockerd of root here");
    }
    let (docker, world) = (Docker::start(&[]), world());
    let config = world.path().join("docker");
    fs::create_dir(&config).unwrap();
    let command = |program: &Path, words: &[&str]| {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", world.path().join("home"));
        command
            .env("DOCKER_CONFIG", &config)
            .env("RBUILD_ROOT", world.store())
            .env("DOCKER_HOST", docker.host());
        command.args(words).current_dir(world.context());
        command
    };
    let ok = |program: &Path, words: &[&str]| {
        let output = command(program, words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    ok(world.program(), &["self", "install-docker-plugin", "--alias"]);
    let docker_cli = PathBuf::from("docker");
    ok(&docker_cli, &["build", "-t", "x", "."]);
    assert_eq!(ok(&docker_cli, &["run", "--rm", "--network=none", "x"]), "first\n");
    world.file("small", "second\n");
    let id = ok(&docker_cli, &["build", "-q", "."]);
    assert_eq!(ok(&docker_cli, &["run", "--rm", "--network=none", id.trim()]), "second\n");
    let metadata = world.path().join("metadata.json");
    ok(
        &docker_cli,
        &["buildx", "build", "--load", "--metadata-file", metadata.to_str().unwrap(), "-t", "y", "."],
    );
    let metadata: serde_json::Value = serde_json::from_slice(&fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], docker.id("y").trim());
    // What goes elsewhere by name does not go to docker.
    world.file("small", "third\n");
    ok(&docker_cli, &["buildx", "build", "-o", "type=oci,dest=../x.tar", "-t", "z", "."]);
    assert!(!docker.daemon.command(&["image", "inspect", "z"]).output().unwrap().status.success());
    ok(&docker_cli, &["buildx", "build", "--load=false", "-o", "type=cacheonly", "."]);
    // Without a daemon the image is built, and one line says where it is.
    let output = command(&docker_cli, &["build", "-t", "w", "."])
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success()
            && told.contains("the image will be in rbuild's own store only: there is no docker at"),
        "{told}"
    );
}

#[test]
fn daemons_behind_tls_and_ssh() {
    if !is_possible() {
        skip!("no dockerd of root here");
    }
    let certificates = tempfile::tempdir().unwrap();
    tls::certificates(certificates.path());
    let of = |name: &str| certificates.path().join(name).display().to_string();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let docker = Docker::start(&[
        "-H",
        &format!("tcp://127.0.0.1:{port}"),
        "--tlsverify",
        "--tlscacert",
        &of("ca.crt"),
        "--tlscert",
        &of("tls.crt"),
        "--tlskey",
        &of("tls.key"),
    ]);
    let world = world();
    let own = world.path().join("certificates");
    fs::create_dir(&own).unwrap();
    for (from, to) in [("ca.crt", "ca.pem"), ("tls.crt", "cert.pem"), ("tls.key", "key.pem")] {
        fs::copy(of(from), own.join(to)).unwrap();
    }
    let host = format!("tcp://localhost:{port}");
    let secured = |words: &[&str]| {
        world
            .build(words)
            .env("DOCKER_HOST", &host)
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", &own)
    };
    secured(&["--load", "-t", "tls"]).run();
    assert_eq!(docker.run("tls"), "first\n");
    fs::remove_file(own.join("cert.pem")).unwrap();
    let ran = secured(&["--load", "-t", "tls"]).status(1).run();
    assert!(ran.stderr.to_lowercase().contains("certificate"), "{}", ran.stderr);
    // What `ssh` would do on the other machine, on this one.
    let bin = docker.folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = \"-l me -- far docker system dial-stdio\" ] || exit 9\nexec docker -H unix://{}/docker.sock system dial-stdio\n",
        docker.folder.path().display()
    );
    write_program(&bin.join("ssh"), script.as_bytes());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    world.build(["--load", "-t", "ssh"]).env("PATH", path).env("DOCKER_HOST", "ssh://me@far").run();
    assert_eq!(docker.run("ssh"), "first\n");
}

/// Two loads of the same at once.
#[test]
fn loads_beside_each_other() {
    if !is_possible() {
        skip!("no dockerd of root here");
    }
    let (docker, world) = (Docker::start(&[]), world());
    world.build(["-t", "app"]).run();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let (docker, world) = (&docker, &world);
            scope.spawn(move || docker.build(world, &["--load", "-t", name]));
        }
    });
    for name in ["a", "b", "c"] {
        assert_eq!(docker.run(name), "first\n");
    }
}

/// Images that docker has, and nobody else.
#[test]
fn builds_from_images_of_docker() {
    if !is_possible() {
        skip!("no dockerd of root here");
    }
    let (docker, world) = (Docker::start(&[]), world());
    docker.build(&world, &["--load", "-t", "local/base:1"]);
    let other = World::new();
    other.dockerfile(
        "FROM docker-daemon:local/base:1 AS one\nCOPY Dockerfile /added\n\
         FROM scratch\nCOPY --from=docker-daemon:local/base:1 /small /a\nCOPY --from=named /small /b\nCOPY --from=one /small /added /c/\n",
    );
    let build = |words: &[&str]| {
        other
            .build(words)
            .env("DOCKER_HOST", docker.host())
            .args(["--build-context", "named=docker-daemon:local/base:1"])
            .any_status()
            .run()
    };
    let ran = build(&["--target=one", "--load", "-t", "on-top"]);
    assert_eq!((ran.status, docker.run("on-top")), (Some(0), "first\n".to_owned()), "{}", ran.stderr);
    let ran = build(&["-o", "type=local,dest=../files"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    for name in ["a", "b", "c/small"] {
        assert_eq!(fs::read_to_string(other.path().join("files").join(name)).unwrap(), "first\n", "{name}");
    }
    // The name moves on, and so does the build; what is the same is not asked for again.
    let ran = build(&["-o", "type=cacheonly"]);
    assert!(ran.stderr.contains("nothing to do, all from the cache"), "{}", ran.stderr);
    world.file("small", "second\n");
    docker.build(&world, &["--load", "-t", "local/base:1"]);
    build(&["-o", "type=local,dest=../files"]);
    assert_eq!(fs::read_to_string(other.path().join("files/a")).unwrap(), "second\n");
    docker.daemon.docker(&["rmi", "-f", "local/base:1"]);
    let ran = build(&[]);
    assert_eq!(ran.status, Some(1));
    assert!(
        ran.stderr.contains("docker has no image `local/base:1`") && ran.stderr.contains("Dockerfile:1"),
        "{}",
        ran.stderr
    );
}

/// What a shared cache promises comes only where the engine lacks it.
#[test]
fn promised_layers_stay_where_they_are() {
    if !is_possible() {
        skip!("no dockerd of root here");
    }
    let (docker, world) = (Docker::start(&[]), world());
    world.dockerfile(
        "FROM scratch\nCOPY busybox /busybox\nRUN [\"/busybox\", \"dd\", \"if=/dev/urandom\", \"of=/large\", \"bs=1M\", \"count=8\"]\n\
         CMD [\"/busybox\", \"echo\", \"first\"]\n",
    );
    let cache = world.path().join("cache");
    let cache_to = format!("type=local,dest={}", cache.display());
    docker.build(&world, &["--load", "-t", "app", "--cache-to", &cache_to]);
    let has_large = |store: &Path| {
        let blobs = fs::read_dir(store.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap());
        blobs.into_iter().any(|blob| blob.metadata().unwrap().len() > (LARGE as u64) / 2)
    };
    let plugin = world.path().join("docker-buildx");
    std::os::unix::fs::symlink(world.program(), &plugin).unwrap();
    let (store, own) = (world.path().join("other"), world.path().join("own"));
    let cache_from = format!("type=local,src={}", cache.display());
    let build = |program: &Path, store: &Path, words: &[&str]| {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", world.path().join("home"));
        command.env("RBUILD_ROOT", store).env("DOCKER_HOST", docker.host()).current_dir(world.context());
        let output =
            command.args(["build", "--cache-from", &cache_from]).args(words).arg(".").output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        told
    };
    let face = |name: &str| build(&plugin, &store, &["-t", name]);
    let told = face("again");
    assert!(told.contains("has no name in rbuild's own store") && !has_large(&store), "{told}");
    assert_eq!(docker.run("again"), "first\n");
    // rbuild's own store has images as a whole.
    build(world.program(), &own, &["--load", "-t", "own"]);
    assert!(has_large(&own));
    // Where docker lacks it, it comes.
    docker.daemon.docker(&["system", "prune", "--all", "--force"]);
    face("new");
    assert_eq!((docker.run("new"), has_large(&store)), ("first\n".to_owned(), true));
}
