//! The library of docker's actions for GitHub, as the client.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::skip;
use crate::support::tools::toolkit;

#[test]
fn build_push_action_builds_and_reads_back() {
    let Some((toolkit, node)) = toolkit() else {
        skip!("@docker/actions-toolkit is not below target/; tests/run installs it");
    };
    let registry = Registry::start();
    let world = World::new();
    world.dockerfile("FROM scratch AS Base\nCOPY Dockerfile /\n");
    let (bin, config) = (world.path().join("bin"), world.path().join("docker/cli-plugins"));
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(&config).unwrap();
    std::os::unix::fs::symlink(world.program(), bin.join("buildx")).unwrap();
    std::os::unix::fs::symlink(world.program(), config.join("docker-buildx")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/actions/build.mjs");
    for how in ["standalone", "plugin"] {
        let name = format!("{}/team/{how}:1", registry.host());
        let mut command = Command::new(&node);
        command.arg(&script).arg(&toolkit).args([how, &name, "."]);
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", world.path().join("home"))
            .env("RUNNER_TEMP", world.path());
        command.env("RBUILD_ROOT", world.store()).env("DOCKER_CONFIG", world.path().join("docker"));
        command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env("BUILDX_METADATA_WARNINGS", "true");
        command
            .env("GITHUB_REPOSITORY", "team/app")
            .env("GITHUB_REF", "refs/heads/main")
            .env("GITHUB_SHA", "0".repeat(40));
        let output = command.current_dir(world.context()).output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{how}: {stdout}{stderr}");
        let told: Value = serde_json::from_str(stdout.lines().last().unwrap()).expect(&stdout);
        assert_eq!(
            (&told["available"], &told["newEnough"], &told["exists"]),
            (&true.into(), &true.into(), &true.into()),
            "{told}"
        );
        let node = &told["builder"]["nodes"][0];
        assert_eq!(
            (told["builder"]["name"].as_str(), node["status"].as_str()),
            (Some("builder-1234"), Some("running")),
            "{told}"
        );
        assert!(
            node["platforms"].as_str().unwrap().contains("linux/")
                && node["buildkit"].as_str().unwrap().starts_with('v'),
            "{told}"
        );
        assert_eq!(told["exitCode"], 0, "{told}");
        // The action asks for provenance by itself, and finds it in the image's index.
        let remote = format!("docker://{name}");
        let words = ["attest", "ls", "--format={{.Predicate}} {{.Platform}}", &remote];
        let listed = world.rbuild(words).any_stdout().run().stdout;
        assert!(listed.starts_with("https://slsa.dev/provenance/v1 linux/"), "{listed}");
        assert_eq!(told["name"], name);
        let shown = |field: &str| {
            let words = ["inspect", "-f", field, &name];
            world.rbuild(words).any_stdout().run().stdout.trim().to_owned()
        };
        assert_eq!(told["digest"], shown("{{.Digest}}"));
        assert_eq!(told["imageID"], shown("{{.Manifest.config.digest}}"));
        assert_eq!(told["warnings"][0]["sourceInfo"]["filename"], "Dockerfile", "{told}");
        // The action's last step exports the record of the build, and tells of it in the summary.
        let id =
            told["ref"].as_str().and_then(|reference| reference.strip_prefix("default/default/")).unwrap();
        assert!(told["record"]["size"].as_u64().unwrap() > 0, "{told}");
        let summary = &told["record"]["summary"];
        assert_eq!((&summary["status"], &summary["error"]), (&"completed".into(), &"".into()), "{told}");
        assert_eq!(summary["numCompletedSteps"], summary["numTotalSteps"], "{told}");
        let seen = world.rbuild(["history", "inspect", id, "--format", "{{.Ref}}"]).any_stdout().run().stdout;
        assert_eq!(seen.trim(), id);
    }
}
