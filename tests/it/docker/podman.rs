//! Options of `podman build` and `buildah build`, and those of docker's that change an image's layers.

use std::fs;

use serde_json::Value;

use crate::support::accounts::Account;
use crate::support::image::TestImage;
use crate::support::program::World;
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::tools;

/// What scripts pass that says nothing here, or means what docker's option of another name does.
const ACCEPTED: &[&str] = &[
    "--layers",
    "--layers=false",
    "--rm --force-rm",
    "--format oci",
    "--compress",
    "--stdin",
    "--disable-compression",
    "--squash",
    "--squash-all",
    "--retry 3 --retry-delay 2s",
    "--arch arm64 --os linux --variant v8",
    "--timestamp 0",
    "--source-date-epoch 100 --rewrite-timestamp",
    "--manifest list",
    "--all-platforms",
    "--metadata-file m",
    "--jobs 2 --pull=missing --tls-verify=false",
    "--cpu-shares 512 --cpuset-cpus 0 --dns 127.0.0.1 --shm-size 1m --ulimit nofile=10",
];

#[test]
fn options_of_podman_are_taken() {
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    for line in ACCEPTED {
        let ran = world.rbuild(line.split(' ').chain(["."])).any_status().any_stdout().run();
        assert!(ran.status == Some(0) && !ran.stderr.contains("note: "), "{line}: {}", ran.stderr);
    }
    for (line, told) in [
        ("--authfile nowhere", "there is no such file"),
        ("--creds secretword", "write it as USER:PASSWORD"),
        ("--retry-delay soon", "write it as 2s"),
        ("--format v3", "invalid value 'v3'"),
        ("-v nowhere/at/all:/x", "No such file"),
        ("-v .:/x:exec", "only `ro`, `rw` and `z` may follow"),
        ("--ignorefile nowhere", "cannot read `nowhere`"),
        ("--timestamp 1 --source-date-epoch 1", "cannot be used with"),
    ] {
        let ran = world.rbuild(line.split(' ').chain(["."])).any_status().run();
        assert!(ran.status != Some(0) && ran.stderr.contains(told), "{line}: {}", ran.stderr);
        assert!(!ran.stderr.contains("secretword"), "{}", ran.stderr);
    }
}

/// Type, mode and path of everything in an image, and what files hold.
fn files(world: &World, name: &str, folder: &str) -> String {
    let tar = world.path().join(format!("{folder}.tar"));
    world.file(&format!("{folder}/Dockerfile"), format!("FROM {name}\n"));
    let output = format!("type=tar,dest={}", tar.display());
    world.rbuild(["-o", &output, folder]).any_stdout().run();
    tools::run("tar", ["--numeric-owner", "-tvf", tar.to_str().unwrap()])
}

#[test]
fn squash_makes_one_layer_of_the_new_ones() {
    let world = World::new();
    world.file("big", "x".repeat(5000)).file("a", "1").file("b", "2").file("c/d", "3");
    world.file("base/Dockerfile", "FROM scratch\nCOPY a /keep/a\nCOPY b /gone/b\nCOPY c /dir\nCOPY b /one\n");
    world.rbuild(["-t", "base", "-f", "base/Dockerfile", "."]).any_stdout().run();
    // Whiteouts, files in the place of folders, files that come and go, and hard links need commands.
    let text = "FROM base\nCOPY big /tmp/big\nCOPY a /new/a\nENV A=1\nCOPY --from=base /keep /copy\nCOPY c /one.d\nCOPY b /new/a\n";
    world.dockerfile(text);
    world.build(["-t", "plain"]).run();
    let ran = world.build(["-t", "squashed", "--squash"]).remarks().run();
    assert!(ran.stderr.contains("making one layer of 5, for --squash"), "{}", ran.stderr);
    let of = |name: &str, field: &str| {
        let format = format!("{{{{json {field}}}}}");
        let text = world.rbuild(["inspect", "-f", &format, name]).any_stdout().run().stdout;
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let layers = |name: &str| of(name, ".RootFS.Layers").as_array().unwrap().clone();
    assert_eq!((layers("plain").len(), layers("squashed").len()), (9, 5));
    assert_eq!(layers("squashed")[..4], layers("base")[..]);
    assert_eq!(of("squashed", ".Config"), of("plain", ".Config"));
    assert_eq!(files(&world, "squashed", "f1"), files(&world, "plain", "f2"));
    let history = of("squashed", ".ImageConfig.history");
    let full = history.as_array().unwrap().iter().filter(|entry| entry["empty_layer"] != true).count();
    assert_eq!(
        (full, history.as_array().unwrap().len()),
        (5, of("plain", ".ImageConfig.history").as_array().unwrap().len())
    );
    // It is found again, and `--squash-all` leaves one.
    let again = world.build(["--squash"]).run();
    assert_eq!(again.digest(), ran.digest());
    world.build(["-t", "all", "--squash-all"]).remarks().run();
    assert_eq!(layers("all").len(), 1);
    assert_eq!(files(&world, "all", "f3"), files(&world, "plain", "f4"));
    // What came with one layer and was replaced by a later one is in no layer of the result.
    let history = world.rbuild(["history", "squashed", "--format", "{{.Size}}"]).any_stdout().run().stdout;
    assert!(!history.is_empty());
}

#[test]
fn squash_keeps_what_is_gone_gone() {
    let world = World::new();
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
    world.file("busybox", busybox).set_mode("busybox", 0o755);
    let base = "FROM scratch\nCOPY busybox /bin/sh\nSHELL [\"/bin/sh\", \"-c\"]\n\
                RUN mkdir -p /a/b /links && echo 1 >/a/b/one && echo 2 >/a/two && echo x >/file && mkdir /folder && echo y >/folder/y && echo l >/links/l\n";
    world.file("base/Dockerfile", base);
    world.rbuild(["-t", "base", "-f", "base/Dockerfile", "."]).any_stdout().run();
    world.dockerfile(
        "FROM base\nRUN rm -r /a/b && echo tmp >/temporary\nRUN rm /temporary && rm -r /folder && echo f >/folder\n\
         RUN rm /file && mkdir /file && echo z >/file/z\nRUN ln /links/l /links/m && ln -s m /links/n && chmod 700 /a\nRUN rm -r /a && mkdir /a && echo 3 >/a/three\n",
    );
    world.build(["-t", "plain"]).run();
    world.build(["-t", "squashed", "--squash"]).remarks().run();
    world.build(["-t", "all", "--squash-all"]).remarks().run();
    let plain = files(&world, "plain", "f1");
    assert_eq!(files(&world, "squashed", "f2"), plain);
    assert_eq!(files(&world, "all", "f3"), plain);
    assert!(plain.contains("a/three") && !plain.contains("temporary") && !plain.contains("a/two"), "{plain}");
    // Other readers of layers agree.
    let bundle = world.path().join("bundle");
    let image = format!("{}:docker.io/library/squashed:latest", world.store().display());
    let mut words = vec!["unpack", "--image", &image, bundle.to_str().unwrap()];
    if !crate::support::is_root() {
        words.insert(1, "--rootless");
    }
    tools::run("umoci", words);
    let root = bundle.join("rootfs");
    assert!(!root.join("a/b").exists() && !root.join("a/two").exists() && root.join("a/three").exists());
    assert_eq!(fs::read_to_string(root.join("file/z")).unwrap(), "z\n");
    assert_eq!(fs::read_to_string(root.join("folder")).unwrap(), "f\n");
}

#[test]
fn a_stage_runs_again_without_its_cache() {
    let world = World::new();
    world.file("one", "").file("two", "");
    world.dockerfile("FROM scratch AS a\nCOPY one /\nFROM scratch AS b\nCOPY two /\nFROM scratch\nCOPY --from=a /one /\nCOPY --from=b /two /\n");
    world.build([""; 0]).run();
    let ran = world.build(["--no-cache-filter", "B"]).run();
    assert_eq!(ran.outcome("COPY one /"), "CACHED");
    assert_eq!(ran.miss("COPY two /"), Some("--no-cache-filter"));
    assert_eq!(ran.outcome("COPY --from=b /two /"), "CACHED");
    let ran = world.build(["--no-cache-filter=a,2"]).run();
    assert!(ran.miss("COPY one /").is_some() && ran.miss("COPY --from=a /one /").is_some());
    assert_eq!(ran.outcome("COPY two /"), "CACHED");
    let plan = world.rbuild(["plan", "--no-cache-filter=b", "."]).any_stdout().run().stdout;
    assert!(plan.contains("--no-cache-filter"), "{plan}");
    let ran = world.build(["--no-cache-filter=nothing"]).remarks().run();
    assert!(ran.stderr.contains("no stage is named so"), "{}", ran.stderr);
}

#[test]
fn volumes_are_in_every_run_and_not_in_the_image() {
    for account in [Account::mine(), Account::without_ranges()] {
        volumes(&World::of(account));
    }
}

fn volumes(world: &World) {
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
    world.file("busybox", busybox).set_mode("busybox", 0o755);
    world.file("data/in", "brought\n").file("out/keep", "");
    world.dockerfile("FROM scratch\nCOPY busybox /bin/sh\nSHELL [\"/bin/sh\", \"-c\"]\nRUN read x </data/in && echo \"$x\" >/got && echo back >/out/back\n");
    let words = ["-v", "./data:/data:ro,z", "--volume=./out:/out", "-t", "a"];
    let ran = world.build(words).run();
    assert_eq!(fs::read_to_string(world.context().join("out/back")).unwrap(), "back\n");
    let listing = files(world, "a", "f");
    assert!(listing.contains("got") && !listing.contains("data") && !listing.contains("out/"), "{listing}");
    // Where they come from counts; what they hold does not.
    world.file("data/in", "other\n");
    assert_eq!(world.build(words).run().digest(), ran.digest());
    let ran = world.build(["-v", "./out:/data", "-v", "./out:/out"]).any_status().run();
    assert!(ran.stderr.contains("#4") && ran.status == Some(1), "{}", ran.stderr);
}

#[test]
fn another_ignore_file() {
    let world = World::new();
    world
        .dockerfile("FROM scratch\nCOPY . /\n")
        .file("a", "")
        .file("b", "")
        .file(".dockerignore", "a\n")
        .file("mine", "b\n");
    world.build(["-t", "x", "--ignorefile=mine"]).run();
    let listing = files(&world, "x", "f");
    assert!(
        listing.lines().any(|line| line.ends_with(" a")) && !listing.lines().any(|line| line.ends_with(" b")),
        "{listing}"
    );
}

#[test]
fn an_index_grows() {
    let world = World::new();
    world.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n");
    for (platform, expected) in [
        ("amd64", "linux/amd64 "),
        ("arm64", "linux/amd64 linux/arm64 "),
        ("amd64", "linux/arm64 linux/amd64 "),
    ] {
        world.build(["--manifest", "list:1", "--arch", platform]).run();
        let words = ["inspect", "-f", "{{range .Platforms}}{{.Platform}} {{end}}", "list:1"];
        world.rbuild(words).stdout(format!("{expected}\n")).run();
    }
}

#[test]
fn all_platforms_are_those_of_the_bases() {
    let registry = Registry::start();
    let world = World::new();
    let push = |architecture: &str| {
        let image = TestImage::new(&format!("linux/{architecture}"), Vec::new());
        let mut descriptor = registry.push(&image, "team/base", architecture);
        descriptor.platform = Some(format!("linux/{architecture}").parse().unwrap());
        descriptor
    };
    let (amd64, arm64, s390x) = (push("amd64"), push("arm64"), push("s390x"));
    registry.push_index(vec![amd64.clone(), arm64.clone()], "team/base", "two");
    registry.push_index(vec![s390x, arm64, amd64], "team/base", "three");
    let host = registry.host();
    world.dockerfile(&format!(
        "FROM {host}/team/base:three AS a\nFROM {host}/team/base:two\nCOPY --from=a / /\n"
    ));
    world.build(["--all-platforms", "-t", "x"]).run();
    let words = ["inspect", "-f", "{{range .Platforms}}{{.Platform}} {{end}}", "x"];
    let shown = world.rbuild(words).any_stdout().run().stdout;
    assert!(shown == "linux/arm64 linux/amd64 \n" || shown == "linux/amd64 linux/arm64 \n", "{shown}");
}

#[test]
fn logins_by_option() {
    let registry = Registry::start_with_login();
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let name = format!("{}/team/app:1", registry.host());
    let push = ["--push", "-t", &name];
    world.build(push).status(1).run();
    let creds = format!("{USER}:{PASSWORD}");
    world.build(push).args(["--creds", &creds]).run();
    let auth = world.path().join("auth.json");
    fs::write(
        &auth,
        format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{}\"}}}}}}", registry.host(), encoded(&creds)),
    )
    .unwrap();
    world.build(push).args(["--authfile", auth.to_str().unwrap()]).run();
}

fn encoded(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn a_time_for_everything() {
    let world = World::new();
    world.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    world.build(["-t", "a", "--timestamp=86400"]).run();
    world.rbuild(["inspect", "-f", "{{.Created}}", "a"]).stdout("1970-01-02T00:00:00Z\n").run();
    assert!(files(&world, "a", "f").contains("1970-01-02 00:00 Dockerfile"), "{}", files(&world, "a", "f"));
    let digest = world.build(["--timestamp=86400"]).run().digest();
    world.set_mtime("Dockerfile", 1_700_000_000);
    assert_eq!(world.build(["--source-date-epoch=86400", "--rewrite-timestamp"]).run().digest(), digest);
    let ran = world.build(["--format=docker", "-t", "d"]).run();
    let words = ["inspect", "-f", "{{.MediaType}}", "d"];
    world.rbuild(words).stdout("application/vnd.docker.distribution.manifest.v2+json\n").run();
    assert_ne!(ran.digest(), digest);
}
