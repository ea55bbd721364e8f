//! Every option of `docker buildx build`, hidden ones too, by the list of its own source (`commands/build.go`).

use crate::support::program::World;

/// What becomes of an option.
enum Fate {
    /// It has its meaning, or has nothing to say here, as with buildx.
    Taken,
    /// It changes nothing, and that is said.
    Noted(&'static str),
    /// It is an error that says how to go on.
    Refused(&'static str),
}
use Fate::{Noted, Refused, Taken};

const FLAGS: &[(&str, Fate)] = &[
    ("--add-host a:10.0.0.1,b:10.0.0.2", Taken),
    ("--allow network.host", Taken),
    ("--allow buildx.local.delete", Taken),
    ("--allow fs.read=/", Taken),
    ("--allow device", Refused("there are no devices for a RUN")),
    ("--annotation k=v", Taken),
    ("--build-arg HTTP_PROXY=http://127.0.0.1:9", Taken),
    ("--cache-from type=local,src=cache", Taken),
    ("--cache-to type=local,dest=cache", Noted("cached to `cache`")),
    ("--cgroup-parent /x", Noted("`--cgroup-parent` changes nothing")),
    ("--build-context a=.", Taken),
    ("-f Dockerfile", Taken),
    ("--file=Dockerfile", Taken),
    ("--iidfile id", Taken),
    ("--label a=b", Taken),
    // What it does is in `engines`.
    ("--load=false", Taken),
    ("--network none", Taken),
    ("--no-cache-filter base", Taken),
    ("-o type=cacheonly", Taken),
    ("--output=type=image", Taken),
    ("--platform linux/amd64,linux/arm64", Taken),
    ("--policy disabled=true", Taken),
    ("--policy filename=p.rego", Refused("would not be heeded: rbuild evaluates no Rego")),
    ("--push=false", Taken),
    ("--push", Refused("name it with `-t REGISTRY/REPOSITORY:TAG`")),
    ("--secret id=a,src=Dockerfile", Taken),
    ("--shm-size 64m", Taken),
    ("--ssh default=Dockerfile", Taken),
    ("-t a", Taken),
    ("--tag=b:1", Taken),
    ("--target base", Taken),
    ("--ulimit nofile=10:20", Taken),
    ("--resource memory=64m --resource cpu-quota=50000", Taken),
    ("--attest type=provenance,disabled=true", Taken),
    (
        "--attest type=provenance,mode=max,builder-id=https://example.org/1",
        Noted("nothing is kept beside an image without a name"),
    ),
    ("--sbom=false", Taken),
    ("--sbom=true", Noted("nothing is kept beside an image without a name")),
    ("--provenance=false", Taken),
    ("--provenance false --sbom false", Taken),
    ("--provenance=mode=min,inline-only=true", Noted("nothing is kept beside an image without a name")),
    ("--provenance layout=buildkit", Taken),
    ("--call build", Taken),
    ("--call=targets", Taken),
    ("--check", Taken),
    ("--check=false", Taken),
    // Hidden.
    ("--print targets", Taken),
    ("-m 64m", Taken),
    ("--memory=64m --memory-swap=-1", Taken),
    ("-c 512", Taken),
    ("--cpu-shares=512", Taken),
    ("--cpu-period 100000 --cpu-quota 50000", Taken),
    ("--cpuset-cpus 0", Taken),
    ("--cpuset-mems 0", Taken),
    ("--compress", Taken),
    ("--isolation default", Noted("`--isolation` changes nothing")),
    ("--security-opt seccomp=unconfined", Noted("`--security-opt` changes nothing")),
    ("--squash", Taken),
    ("--rm", Taken),
    ("--rm=false", Taken),
    ("--force-rm", Taken),
    // Of all of buildx's commands that build, and of all of its commands.
    ("--no-cache", Taken),
    ("--no-cache=true", Taken),
    ("--progress none", Taken),
    ("--progress plain --progress tty --progress rawjson", Taken),
    ("--pull=false", Taken),
    ("--metadata-file metadata", Taken),
    ("--builder other", Noted("`--builder` changes nothing")),
    ("-D", Noted("`--debug` changes nothing")),
    // Of docker's own build of before.
    ("--disable-content-trust", Taken),
    ("--disable-content-trust=false", Noted("`--disable-content-trust=false` changes nothing")),
];

#[test]
fn every_option_of_buildx() {
    let world = World::new();
    world.dockerfile("FROM scratch AS base\nCOPY Dockerfile /\n");
    for (line, fate) in FLAGS {
        let words = || line.split(' ').chain(["."]);
        let ran = world.rbuild(words()).any_status().any_stdout().run();
        let told = format!("{line}: {}", ran.stderr);
        let notes: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("note: ")).collect();
        match fate {
            Taken => assert!(ran.status == Some(0) && notes.is_empty(), "{told}"),
            Noted(note) => {
                assert!(ran.status == Some(0) && notes.len() == 1 && notes[0].contains(note), "{told}");
            }
            Refused(error) => assert!(ran.status == Some(2) && ran.stderr.contains(error), "{told}"),
        }
    }
}

#[test]
fn the_last_of_several_counts() {
    let world = World::new();
    world
        .dockerfile("FROM scratch AS a\nCOPY one /\nFROM scratch AS b\nCOPY two /\n")
        .file("one", "")
        .file("two", "");
    world.build(["--target", "a", "-t", "a"]).run();
    let digest = world.build(["--target", "b", "-t", "b"]).run().digest();
    let words =
        ["--target=a", "--progress=tty", "--progress=plain", "-q", "--quiet=false", "--target=b", "."];
    assert_eq!(world.rbuild(words).run().digest(), digest);
}

#[test]
fn a_policy_beside_the_dockerfile_is_not_passed_over() {
    let world = World::new();
    world.dockerfile("FROM scratch\n").file("Dockerfile.rego", "package docker\n");
    let ran = world.build([""; 0]).status(2).run();
    assert!(ran.stderr.contains("Dockerfile.rego` would not be heeded"), "{}", ran.stderr);
    world.build(["--policy", "disabled=true"]).run();
    let ran = world
        .build(["-f", "Dockerfile", "--policy=disabled=true"])
        .env("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "p.json");
    assert!(ran.status(2).run().stderr.contains("`rbuild lock`"));
}
