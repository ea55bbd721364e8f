//! `images`, `history`, `inspect`, `tag`.

use super::world;
use crate::support::accounts::Account;
use crate::support::is_root;
use crate::support::mounts::Mount;
use crate::support::program::World;
use crate::support::registry::Registry;
use crate::support::tools;

#[test]
fn templates_and_json() {
    let world = world();
    let digest = world.build(["-t", "app:1", "-t", "localhost:5000/team/app"]).run().digest();
    let short = &digest["sha256:".len()..][..12];
    world
        .rbuild(["images", "--format", "{{.Repository}}|{{.Tag}}|{{.ID}}|{{.Digest}}|{{.Platforms}}|{{.Labels}}"])
        .stdout(format!(
            "app|1|{short}|{digest}|linux/amd64|x.y=z\nlocalhost:5000/team/app|latest|{short}|{digest}|linux/amd64|x.y=z\n"
        ))
        .run();
    let lines = world.rbuild(["images", "--format", "json"]).any_stdout().run().stdout;
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["Repository"], &first["Tag"]), (&"app".into(), &"1".into()));
    let table =
        world.rbuild(["images", "--format", "table {{.Tag}}\\t{{.CreatedSince}}"]).any_stdout().run().stdout;
    assert!(table.starts_with("TAG     CREATED SINCE\n1       just now\n"), "{table}");
    let ran = world.rbuild(["images", "--format", "{{.Tga}}"]).status(2).run();
    assert!(ran.stderr.contains("there is no field `Tga`; did you mean `Tag`?"), "{}", ran.stderr);
}

/// Commands that only list print what they printed before, now that nothing can be written. Others are refused, saying `why`.
#[track_caller]
fn assert_listed(world: &World, listed: &[String], why: &str) {
    let times = || tools::run("find", [world.store().as_os_str(), "-printf".as_ref(), "%p %T@\n".as_ref()]);
    let before = times();
    assert_eq!(listings(world), listed);
    assert_eq!(times(), before);
    let ran = world.rbuild(["tag", "app:1", "app:2"]).status(1).run();
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
}

/// What the commands that only list print.
fn listings(world: &World) -> Vec<String> {
    let words = ["sessions", "images -a", "history app:1", "inspect app:1", "du", "prune --dry-run"];
    words.map(|words| world.rbuild(words.split(' ')).any_stdout().run().stdout).into()
}

#[test]
fn a_store_that_its_mode_protects_is_listed() {
    let world = World::of(Account::without_ranges());
    world.file("a", "").dockerfile("FROM scratch\nCOPY a /\n").build(["-t", "app:1"]).run();
    let chmod = |mode: &str| tools::run("chmod", ["-R".as_ref(), mode.as_ref(), world.store().as_os_str()]);
    let listed = listings(&world);
    chmod("a-w");
    assert_listed(&world, &listed, "is yours, but its mode does not allow it");
    chmod("u+w");
}

#[test]
fn a_store_on_a_read_only_file_system_is_listed() {
    if !is_root() {
        return;
    }
    let world = world();
    world.build(["-t", "app:1"]).run();
    let listed = listings(&world);
    std::fs::remove_file(world.store().join("rbuild/door")).unwrap();
    let store = world.store().display().to_string();
    let _mount = Mount::new(&["--bind", &store], &world.store());
    tools::run("mount", ["-o", "remount,bind,ro", &store]);
    assert_listed(&world, &listed, "is on a read-only file system");
}

#[test]
fn filters() {
    let world = world();
    world.build(["-t", "old:1"]).env("SOURCE_DATE_EPOCH", "1000000000").run();
    world.dockerfile("FROM scratch\nCOPY a /\nLABEL colour=red\n");
    world.build(["-t", "new:1", "-t", "localhost:5000/new:2"]).env("SOURCE_DATE_EPOCH", "1500000000").run();
    world.dockerfile("FROM scratch\nCOPY b /\n");
    let unnamed = world.build([""; 0]).run().digest();
    let listed = |args: &[&str]| {
        let words = [&["images", "--format", "{{.Repository}}:{{.Tag}}"], args].concat();
        world.rbuild(words).any_stdout().run().stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(listed(&[]), "localhost:5000/new:2 new:1 old:1");
    assert_eq!(listed(&["new"]), "new:1");
    assert_eq!(listed(&["*:1"]), "new:1 old:1");
    assert_eq!(listed(&["--filter", "reference=localhost:5000/*"]), "localhost:5000/new:2");
    assert_eq!(listed(&["--filter", "label=colour"]), "localhost:5000/new:2 new:1");
    assert_eq!(listed(&["--filter", "label=colour=blue"]), "");
    assert_eq!(listed(&["--filter", "before=new:1"]), "old:1");
    assert_eq!(listed(&["--filter", "since=old:1"]), "localhost:5000/new:2 new:1");
    assert_eq!(listed(&["--filter", "until=2005-01-01"]), "old:1");
    assert_eq!(listed(&["--filter", "dangling=true"]), "<none>:<none>");
    assert_eq!(listed(&["-a"]), "<none>:<none> localhost:5000/new:2 new:1 old:1");
    let digest = format!("{unnamed}\n");
    world.rbuild(["images", "-q", "--no-trunc", "--filter", "dangling=true"]).stdout(digest).run();
    let ran = world.rbuild(["images", "--filter", "colour=red"]).status(2).run();
    assert!(ran.stderr.contains("`colour=red` is no filter"), "{}", ran.stderr);
}

#[test]
fn sizes_tell_what_is_shared() {
    let world = world();
    world.build(["-t", "two"]).run();
    world.rbuild(["images", "--format", "{{.SharedSize}}"]).stdout("0 B\n").run();
    world.dockerfile("FROM scratch\nCOPY a /\n");
    world.build(["-t", "one"]).run();
    let layer = |name: &str| {
        let shown =
            world.rbuild(["inspect", "-f", "{{(index .Manifest.layers 0).size}}", name]).any_stdout().run();
        shown.stdout.trim().to_owned()
    };
    let shared = format!("{} B", layer("one"));
    assert_eq!(layer("one"), layer("two"));
    world.rbuild(["images", "--format", "{{.SharedSize}}"]).stdout(format!("{shared}\n{shared}\n")).run();
}

#[test]
fn history_tells_what_was_cached() {
    let world = world();
    let told = |world: &crate::support::program::World| {
        let shown =
            world.rbuild(["history", "app", "--format", "{{.CreatedBy}} {{.Cached}} {{.Took}}"]).any_stdout();
        shown.run().stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    world.build(["-t", "app"]).run();
    let first = told(&world);
    assert!(first[0].ends_with("CMD [\"/a\"] - -") && first[3].starts_with("COPY a / no 0."), "{first:?}");
    world.build(["-t", "app"]).run();
    let second = told(&world);
    assert!(
        second[2].starts_with("COPY b / yes 0.") && second[3].starts_with("COPY a / yes 0."),
        "{second:?}"
    );
    // Nothing is known of an image that was built elsewhere.
    std::fs::remove_dir_all(world.store().join("rbuild/builds")).unwrap();
    assert!(told(&world).iter().all(|line| line.ends_with("- -")));
}

#[test]
fn inspect_has_the_fields_of_docker_and_skopeo() {
    let world = world();
    let digest = world.build(["-t", "app:1", "-t", "app:2"]).run().digest();
    let shown = world.rbuild(["inspect", "app:1", "app:2"]).any_stdout().run().stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown.as_array().unwrap().len(), 2);
    let name = format!("oci:{}:docker.io/library/app:1", world.store().display());
    let skopeo = tools::json("skopeo", ["inspect", &name]);
    let config = tools::json("skopeo", ["inspect", "--config", &name]);
    assert_eq!(shown[0]["Digest"], skopeo["Digest"]);
    assert_eq!(shown[0]["RepoTags"], serde_json::json!(["app:1", "app:2"]));
    assert_eq!(shown[0]["RepoDigests"], serde_json::json!([format!("app@{digest}")]));
    assert_eq!(shown[0]["Config"], config["config"]);
    assert_eq!(shown[0]["RootFS"]["Layers"], config["rootfs"]["diff_ids"]);
    assert_eq!(shown[0]["ImageConfig"]["history"], config["history"]);
    assert_eq!(shown[0]["Created"], skopeo["Created"]);
    world
        .rbuild(["inspect", "-f", "{{.Config.Cmd}} {{.Os}}/{{.Architecture}}", "app:1"])
        .stdout("[/a] linux/amd64\n")
        .run();
}

#[test]
fn tags_are_re_pointed_at_once() {
    let world = world();
    let first = world.build(["-t", "app:1"]).run().digest();
    world.dockerfile("FROM scratch\nCOPY b /\n");
    let second = world.build(["-t", "app:2"]).run().digest();
    world.rbuild(["tag", "app:1", "live", "localhost:5000/live:1"]).run();
    assert_eq!(
        world.rbuild(["images", "-q", "--no-trunc", "live"]).any_stdout().run().stdout,
        format!("{first}\n")
    );
    world.rbuild(["tag", &second["sha256:".len()..][..12], "live"]).run();
    assert_eq!(
        world.rbuild(["images", "-q", "--no-trunc", "live"]).any_stdout().run().stdout,
        format!("{second}\n")
    );
    tools::skopeo_inspect(&world.store(), "docker.io/library/live:latest");
    tools::run("umoci", ["stat", "--image", &format!("{}:localhost:5000/live:1", world.store().display())]);
    for (words, message) in [
        (["tag", "nothing", "x"], "no image `nothing` in the local store"),
        (["tag", "docker://h.example/a", "x"], "`rbuild pull h.example/a`, then without"),
        (["tag", "app:1", "Bad"], "must be lower case"),
    ] {
        let ran = world.rbuild(words).any_status().run();
        assert!(ran.stderr.contains(message), "{}", ran.stderr);
    }
}

#[test]
fn a_misspelt_command() {
    for (typed, meant) in [("imgaes", "images"), ("rim", "rmi"), ("purne", "prune"), ("verfy", "verify")] {
        let ran = world().rbuild([typed]).status(2).run();
        assert!(ran.stderr.contains(&format!("did you mean `rbuild {meant}`?")), "{}", ran.stderr);
    }
}

/// A base that a build has fetched is no image of the user's.
#[test]
fn fetched_bases_are_not_listed() {
    let registry = Registry::start();
    let world = world();
    let image = crate::support::image::TestImage::new(
        "linux/amd64",
        vec![crate::support::image::TestLayer::files(&[("etc/x", "x")])],
    );
    registry.push(&image, "base", "1");
    world.dockerfile(&format!("FROM {}/base:1\nCOPY a /\n", registry.host()));
    world.build(["-t", "app"]).run();
    assert_eq!(
        world.rbuild(["images", "-a", "--format", "{{.Repository}}"]).any_stdout().run().stdout,
        "app\n"
    );
}

#[test]
fn images_without_a_name_are_called_by_their_first_digits() {
    let world = world();
    let (first, second) = {
        let first = world.build([""; 0]).run().digest();
        world.dockerfile("FROM scratch\nCOPY b /\nLABEL a=b\n");
        (first, world.build([""; 0]).run().digest())
    };
    let listed = world.rbuild(["images", "-q", "--filter", "dangling=true"]).any_stdout().run().stdout;
    let mut ids: Vec<&str> = listed.split_whitespace().collect();
    ids.sort_by_key(|id| first["sha256:".len()..].starts_with(id));
    let [other, id] = ids[..] else { panic!("two images: {listed}") };
    assert!(
        second["sha256:".len()..].starts_with(other) && first["sha256:".len()..].starts_with(id),
        "{listed}"
    );
    world.rbuild(["inspect", "-f", "{{.Id}}", id]).any_stdout().run();
    world.rbuild(["history", id]).any_stdout().run();
    world.rbuild(["tag", id, "named:1"]).any_stdout().run();
    world.rbuild(["save", "-o", "/dev/null", other]).any_stdout().run();
    world.rbuild(["rmi", "named:1", other]).any_stdout().run();
    world.rbuild(["images", "-q", "--filter", "dangling=true"]).stdout("").run();
    let gone = world.rbuild(["rmi", other]).status(1).run();
    assert!(gone.stderr.contains(&format!("no image `{other}` in the local store")), "{}", gone.stderr);
}
