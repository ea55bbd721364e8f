//! Definitions on other machines.

use std::path::Path;
use std::process::Command;

use crate::support::http::{Reply, Server};
use crate::support::program::World;

/// Makes a repository of a folder, with what a plain web server needs.
fn repository(folder: &Path) {
    let script = "git init -q -b main . && git add -A && git -c user.name=t -c user.email=t@example.com commit -qm one && git update-server-info";
    let made = Command::new("sh")
        .args(["-euc", script])
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .status();
    assert!(made.expect("git").success());
}

fn serve(root: &Path) -> Server {
    let root = root.to_owned();
    Server::start(move |request| {
        let path = request.path.split('?').next().unwrap_or_default().trim_start_matches('/');
        // A repository with files is served as one without.
        let path = path.replacen("x.git/", "x/.git/", 1);
        match std::fs::read(root.join(path)) {
            Ok(bytes) => Reply::new(200, bytes),
            Err(_) => Reply::new(404, ""),
        }
    })
}

#[test]
fn in_a_repository_with_its_contexts() {
    let (world, served) = (World::new(), World::new());
    served
        .file("x/docker-bake.hcl", "target \"default\" {\n  context = \"app\"\n  args = { HERE = BAKE_CMD_CONTEXT }\n  output = [\"out\"]\n}\ntarget \"here\" {\n  context = \"cwd://local\"\n  dockerfile-inline = \"FROM scratch\\nCOPY file /\\n\"\n  output = [\"here\"]\n}\n")
        .file("x/other.hcl", "target \"default\" { description = \"other\" }\n")
        .file("x/app/Dockerfile", "FROM scratch\nCOPY data /\n")
        .file("x/app/data", "from the repository");
    repository(&served.context().join("x"));
    world.file("local/file", "from here");
    let server = serve(&served.context());
    let url = format!("http://{}/x.git#main", server.host());
    let printed = world.rbuild(["bake", &url, "--print", "default", "here"]).any_stdout().run().stdout;
    let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(printed["target"]["default"]["context"], format!("{url}:app"));
    assert_eq!(printed["target"]["default"]["args"]["HERE"], "cwd://");
    assert_eq!(printed["target"]["here"]["context"], "local");
    world.rbuild(["bake", &url, "default", "here"]).remarks().run();
    let read = |name: &str| std::fs::read_to_string(world.context().join(name)).unwrap_or_default();
    assert_eq!((read("out/data").as_str(), read("here/file").as_str()), ("from the repository", "from here"));
    let args = ["bake", &url, "-f", "other.hcl", "--list", "targets"];
    assert!(world.rbuild(args).any_stdout().run().stdout.contains("other"));
    let ran = world.rbuild(["bake", &url, "-f", "none.hcl"]).status(1).run();
    assert!(
        ran.stderr.contains("cannot read `none.hcl`") && ran.stderr.contains("it is not there"),
        "{}",
        ran.stderr
    );
    let ran = world.rbuild(["bake", "--offline", &url]).status(2).run();
    assert!(ran.stderr.contains("`--offline` forbids that"), "{}", ran.stderr);
}

#[test]
fn a_plain_file_whose_contexts_are_here() {
    let (world, served) = (World::new(), World::new());
    served
        .file("bake.json", r#"{"target": {"default": {"output": ["out"]}}}"#)
        .file("broken.hcl", "target {");
    served.file("x.tar", archive());
    world.dockerfile("FROM scratch\nCOPY Dockerfile /copied\n");
    let server = serve(&served.context());
    let url = |name: &str| format!("http://{}/{name}", server.host());
    world.rbuild(["bake", &url("bake.json")]).remarks().run();
    assert!(world.context().join("out/copied").exists());
    let ran = world.rbuild(["bake", &url("broken.hcl"), "--print"]).status(1).run();
    assert!(ran.stderr.contains("broken HCL") && ran.stderr.contains("broken.hcl:1:"), "{}", ran.stderr);
    for (name, message) in [("x.tar", "is an archive"), ("none.hcl", "404")] {
        let ran = world.rbuild(["bake", &url(name), "--print"]).status(1).run();
        assert!(ran.stderr.contains(message), "{name}: {}", ran.stderr);
    }
}

/// A tar of one file.
fn archive() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("docker-bake.hcl"), "target \"default\" {}\n").expect("a file");
    let made = Command::new("tar").args(["-cf", "-", "docker-bake.hcl"]).current_dir(folder.path()).output();
    made.expect("tar").stdout
}
