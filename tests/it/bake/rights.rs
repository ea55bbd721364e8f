//! What a definition may not do by itself.

use crate::support::program::World;

const BASE: &str = "FROM scratch\nCOPY file /\n";

fn world() -> World {
    let world = World::new();
    world
        .file("work/Dockerfile", BASE)
        .file("work/file", "x")
        .file("outside/secret", "s")
        .file("outside/Dockerfile", BASE);
    world.file("outside/file", "y");
    world
}

/// Runs in `work`.
fn bake(world: &World, text: &str, args: &[&str]) -> (Option<i32>, String) {
    world.file("work/docker-bake.hcl", text);
    let folder = world.context().join("work").display().to_string();
    let args = ["bake", "--progress=plain"].iter().chain(args);
    let ran = world.through(&["env", "-C", &folder], args).any_status().any_stdout().remarks().run();
    (ran.status, ran.stderr)
}

#[test]
fn paths_outside_of_the_folder_are_asked_for() {
    let world = world();
    for (field, right) in [
        ("context = \"../outside\"", "fs.read=../outside"),
        ("dockerfile = \"../outside/Dockerfile\"", "fs.read=../outside/Dockerfile"),
        ("contexts = { x = \"../outside\" }", "fs.read=../outside"),
        ("secret = [\"id=s,src=../outside/secret\"]", "fs.read=../outside/secret"),
        ("ssh = [\"default=../outside/secret\"]", "fs.read=../outside/secret"),
        ("output = [\"type=local,dest=../outside/out\"]", "fs.write=../outside"),
        ("output = [\"../outside/out\"]", "fs.write=../outside"),
        ("cache-from = [\"type=local,src=../outside/cache\"]", "fs.read=../outside"),
        ("cache-to = [\"type=local,dest=../outside/cache\"]", "fs.write=../outside"),
    ] {
        let text = format!("target \"default\" {{\n  {field}\n}}\n");
        let (status, told) = bake(&world, &text, &[]);
        assert_eq!(status, Some(1), "{field}: {told}");
        assert!(told.contains(&format!("--allow={right}")), "{field}: {told}");
        let (_, told) = bake(&world, &text, &["--allow", right]);
        assert!(!told.contains("asks for more than it may"), "{field}: {told}");
    }
    // A link leads out as well.
    std::os::unix::fs::symlink("../outside", world.context().join("work/link")).expect("a link");
    let (status, told) = bake(&world, "target \"default\" { context = \"link\" }\n", &[]);
    assert!(status == Some(1) && told.contains("fs.read=../outside"), "{told}");
    for all in ["fs.read=*", "fs=*", "fs=../outside"] {
        let (status, told) =
            bake(&world, "target \"default\" { context = \"../outside\" }\n", &["--allow", all]);
        assert_eq!(status, Some(0), "{told}");
    }
    // What the command line names is allowed by that.
    let text = "target \"default\" {}\n";
    let set = ["--set", "*.output=type=local,dest=../outside/out"];
    let (status, told) = bake(&world, text, &set);
    assert_eq!(status, Some(0), "{told}");
    assert!(world.context().join("outside/out/file").exists());
}

#[test]
fn other_rights() {
    let world = world();
    for (field, right) in [
        ("entitlements = [\"network.host\"]", "network.host"),
        ("network = \"host\"", "network.host"),
        ("entitlements = [\"security.insecure\"]", "security.insecure"),
        ("ssh = [\"default\"]", "ssh"),
    ] {
        let text = format!("target \"default\" {{\n  {field}\n}}\n");
        let (status, told) = bake(&world, &text, &[]);
        assert!(status == Some(1) && told.contains(&format!("--allow={right}")), "{field}: {told}");
    }
    let (status, told) =
        bake(&world, "target \"default\" { network = \"host\" }\n", &["--allow", "network.host"]);
    assert_eq!(status, Some(0), "{told}");
    let (status, _) = bake(&world, "target \"default\" {}\n", &["--allow", "netwrok.host"]);
    assert_eq!(status, Some(2));
}
