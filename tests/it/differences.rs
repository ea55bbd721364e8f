//! What differs in two images, building again, and images that are the same bytes for the same commit.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::base::busybox_registry;
use crate::support::program::{Ran, World};
use crate::support::registry::Registry;

struct Project {
    world: World,
    registry: Registry,
}

impl Project {
    fn new() -> Self {
        Self { world: World::new(), registry: busybox_registry() }
    }

    fn with(&self, steps: &str) -> &Self {
        self.world.dockerfile(&format!("FROM {}/busybox\n{steps}\n", self.registry.host()));
        self
    }

    fn build(&self, name: &str, more: &[&str]) -> String {
        self.world.build(["-t", name].iter().chain(more)).remarks().run().digest()
    }

    fn diff(&self, words: &[&str], status: i32) -> Ran {
        // What differs is the answer, and no error.
        let ran = self.world.rbuild(["diff"].iter().chain(words)).any_stdout().any_status().run();
        assert_eq!(ran.status, Some(status), "{}{}", ran.stdout, ran.stderr);
        ran
    }
}

#[test]
fn each_kind_of_difference_is_told_by_step_and_path() {
    let project = Project::new();
    project.world.file("same", "same").file("words", "the first words\n").set_mtime("same", 1_000);
    project.world.set_mtime("words", 1_000);
    let steps = "COPY same /\nCOPY words /srv/\nENV A=1\n\
                 RUN mkdir /d && touch -d @5 /d/a /d/b && ln -s a /d/l && chmod 600 /d/b";
    project.with(steps).build("one", &[]);
    project.world.file("words", "the first worse\n");
    project.world.set_mtime("words", 2_000);
    let other = "COPY same /\nCOPY words /srv/\nENV A=2\n\
                 RUN mkdir /d && touch -d @6 /d/a && touch -d @5 /d/c && ln -s b /d/l && chown 7 /d/a";
    project.with(other).build("two", &[]);
    let told = project.diff(&["one", "two"], 1).stdout;
    for words in [
        "configuration\n",
        "  field       /config/Env/1  A=1 → A=2\n",
        "layer 3: COPY words /srv/",
        "  content     /srv/words  16 bytes\n              at byte 13:\n              - the first words\\n\n              \
         + the first worse\\n\n",
        "  time        /srv/words  1970-01-01T00:16:40Z → 1970-01-01T00:33:20Z\n",
        "layer 4: RUN /bin/sh -c mkdir /d",
        "  time        /d/a  1970-01-01T00:00:05Z → 1970-01-01T00:00:06Z\n",
        "  owner       /d/a  0:0 → 7:0\n",
        "  target      /d/l  a → b\n",
        "  file        /d/b  - a file\n",
        "  file        /d/c  + a file\n",
        "`--reproducible` sets times",
    ] {
        assert!(told.contains(words), "{words}:\n{told}");
    }
    assert!(!told.contains("/same"), "{told}");
    let lines = project.diff(&["--format", "json", "one", "two"], 1).stdout;
    let objects: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let content = objects.iter().find(|object| object["kind"] == "content").unwrap();
    assert_eq!(
        (&content["layer"], &content["path"], &content["offset"]),
        (&3.into(), &"srv/words".into(), &13.into())
    );
    let same = project.diff(&["one", "one"], 0).stdout;
    assert!(same.ends_with("\nidentical\n"), "{same}");
}

#[test]
fn images_of_archives_and_registries_can_be_compared_and_leave_no_name() {
    let project = Project::new();
    project.world.file("a", "a");
    project.with("COPY a /");
    let archive = project.world.path().join("one.tar");
    let (dest, name) =
        (format!("type=oci,dest={}", archive.display()), format!("{}/two", project.registry.host()));
    project.build("one", &["-o", &dest]);
    project.build(&name, &["-o", "type=registry,compression=zstd,force-compression=true"]);
    let places = (format!("oci-archive:{}", archive.display()), format!("docker://{name}"));
    let told = project.diff(&[&places.0, &places.1], 1).stdout;
    assert!(told.contains("compression   application/vnd.oci.image.layer.v1.tar+gzip,"), "{told}");
    assert!(told.contains("force-compression=true"), "{told}");
    assert!(!project.world.rbuild(["images"]).any_stdout().run().stdout.contains("rbuild.invalid"));
    let missing = project.diff(&["nothing", "one"], 1).stderr;
    assert!(missing.contains("nothing"), "{missing}");
}

/// Another number of layers: what both have is still compared with itself.
#[test]
fn a_layer_that_one_image_lacks_is_told_as_one() {
    let project = Project::new();
    project.world.file("a", "a").file("b", "b");
    project.with("COPY a /\nCOPY b /").build("one", &[]);
    project.with("COPY b /").build("two", &[]);
    let told = project.diff(&["one", "two"], 1).stdout;
    assert!(told.contains("layer 2: COPY a /\n  file          - a layer of "), "{told}");
    assert!(!told.contains("layer 3"), "{told}");
}

fn git(folder: &Path, script: &str) {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(folder);
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "t").env(format!("GIT_{who}_EMAIL"), "t@example.com");
        command.env(format!("GIT_{who}_DATE"), "1600000000 +0000");
    }
    assert!(command.status().unwrap().success(), "{script}");
}

const STEPS: &str = "COPY . /src/\nRUN date +%N >/dev/null; echo \"$SOURCE_DATE_EPOCH\" >/epoch; mkdir -p /made && touch /made/a";

#[test]
fn two_fresh_clones_of_one_commit_give_one_digest() {
    let project = Project::new();
    project.with(STEPS);
    project.world.file("sub/a", "a").file(".dockerignore", ".git\n");
    let context = project.world.context();
    git(&context, "git init -q . && git add . && git commit -q -m one");
    let one = project.build("one", &["--reproducible"]);
    let clone = project.world.path().join("clone");
    git(project.world.path(), &format!("git clone -q {} clone", context.display()));
    let other = World::new();
    let words = ["build", "--reproducible=true", "-t", "two"];
    let ran = other.rbuild(words).arg(&clone).run();
    let two = ran.digest();
    assert_eq!(one, two);
    let image = project.world.images().image(&one);
    let files = image.files();
    assert_eq!(files["epoch"].content, b"1600000000\n");
    let config = serde_json::to_string(&image.config).unwrap();
    assert!(config.contains("2020-09-13T12:26:40Z"), "the time of the commit: {config}");
    // Nothing of it is in the history, which holds what was declared.
    assert!(!config.contains("SOURCE_DATE_EPOCH="));
}

#[test]
fn who_names_a_time_has_that_and_who_has_no_repository_has_1970() {
    let project = Project::new();
    project.with(STEPS);
    let built = |more: &[&str]| {
        let digest = project.build("app", more);
        let content = project.world.images().image(&digest).files()["epoch"].content.clone();
        String::from_utf8(content).unwrap()
    };
    assert_eq!(built(&["--reproducible"]), "0\n");
    assert_eq!(built(&["--reproducible", "--build-arg", "SOURCE_DATE_EPOCH=77"]), "77\n");
    assert_eq!(built(&[]), "\n");
    let config = project.world.path().join("config.toml");
    fs::write(&config, "[defaults]\nreproducible = true\n").unwrap();
    let ran = project.world.build(["-t", "app"]).env("RBUILD_CONFIG", &config).run();
    assert_eq!(project.world.images().image(&ran.digest()).files()["epoch"].content, b"0\n");
    let ran = project.world.build(["-t", "app"]).env("RBUILD_REPRODUCIBLE", "maybe").status(2).run();
    assert!(ran.stderr.contains("`RBUILD_REPRODUCIBLE=maybe`: it is `true` or `false`"), "{}", ran.stderr);
}

#[test]
fn building_again_proves_it_or_shows_what_differs() {
    let project = Project::new();
    let reproduce = |more: &[&str]| {
        let words = ["reproduce", "--progress=quiet"].into_iter().chain(more.iter().copied());
        project.world.rbuild(words).arg(project.world.context()).any_stdout().any_status().run()
    };
    let reproduce = |more: &[&str], status: i32| {
        let ran = reproduce(more);
        assert_eq!(ran.status, Some(status), "{}{}", ran.stdout, ran.stderr);
        ran
    };
    project.with("RUN cat /proc/sys/kernel/random/uuid >/id; echo same >/same");
    let told = reproduce(&[], 1).stdout;
    assert!(told.contains("layer 2: RUN") && told.contains("content     /id  37 bytes\n"), "{told}");
    assert!(!told.contains("content     /same"), "{told}");

    project.with(STEPS);
    project.world.file("sub/a", "a").file(".dockerignore", ".git\n");
    git(&project.world.context(), "git init -q . && git add . && git commit -q -m one");
    // A fresh clone has other times, and a later build, too.
    let told = reproduce(&[], 1).stdout;
    assert!(told.contains("time        /src/sub/a"), "{told}");
    let told = reproduce(&["--reproducible", "-t", "app"], 0);
    assert!(
        told.stdout.contains("identical\n") && told.stdout.contains("from a fresh clone"),
        "{}",
        told.stdout
    );
    assert!(!project.world.rbuild(["images"]).any_stdout().run().stdout.contains("app"));

    project.build("app", &["--reproducible"]);
    let told = reproduce(&["--reproducible", "--against", "app"], 0).stdout;
    assert!(told.starts_with("app           sha256:"), "{told}");
    fs::write(project.world.context().join("sub/a"), "changed").unwrap();
    let told = reproduce(&["--reproducible", "--against", "app"], 1).stdout;
    assert!(told.contains("content     /src/sub/a  1 bytes → 7 bytes"), "{told}");
    let told = reproduce(&["--check"], 2).stderr;
    assert!(told.contains("`--check` means nothing to `rbuild reproduce`"), "{told}");
}

/// The name of an image is enough on the machine that built it: its record has the rest.
#[test]
fn an_image_is_built_again_by_its_record() {
    let project = Project::new();
    let reproduce = |words: &[&str], status: i32| {
        let words = ["reproduce", "--progress=quiet"].into_iter().chain(words.iter().copied());
        let ran = project.world.rbuild(words).any_stdout().any_status().run();
        assert_eq!(ran.status, Some(status), "{}{}", ran.stdout, ran.stderr);
        ran
    };
    let stages = "ARG WHAT=none\nRUN echo $WHAT >/what; touch -d @5 /what\nCOPY sub /src/\n\
                  FROM scratch AS other\nCOPY sub /other/";
    project.world.dockerfile(&format!("FROM {}/busybox AS app\n{stages}\n", project.registry.host()));
    project.world.file("sub/a", "a").file(".dockerignore", ".git\n");
    git(&project.world.context(), "git init -q . && git add . && git commit -q -m one");
    let more = ["--reproducible", "--target=app", "--label=l=v", "--record-build-args", "--build-arg=WHAT=x"];
    let outputs =
        ["--annotation=k=v", "-o=type=image,compression=zstd,compression-level=5,oci-mediatypes=true"];
    project.build("app", &[&more[..], &outputs].concat());
    let told = reproduce(&["app"], 0).stdout;
    assert!(told.starts_with("app           sha256:") && told.contains("identical\n"), "{told}");

    // The Dockerfile and the folder are at something else now; and another commit is checked out.
    project.with("RUN exit 1").world.file("sub/a", "b");
    git(&project.world.context(), "git add . && git commit -q -m two");
    reproduce(&["app"], 0);
    let ran = project.world.rbuild(["reproduce", "--same-context", "app"]).any_stdout().any_status().run();
    assert!(ran.stdout.contains("content     /src/a  1 bytes"), "{}", ran.stdout);
    assert!(ran.stderr.contains("and is at another now: its files are taken as they are"), "{}", ran.stderr);

    // What a record does not have has to be said, and what it says is not said again.
    project.with("ARG WHAT\nRUN --mount=type=secret,id=key true");
    let secret = project.world.path().join("key");
    fs::write(&secret, "a-long-secret").unwrap();
    let secret = format!("--secret=id=key,src={}", secret.display());
    project.build("app", &["--reproducible", "--build-arg=WHAT=x", &secret]);
    let told = reproduce(&["app"], 1).stderr;
    assert!(told.contains("it does not have the value of the build argument `WHAT`"), "{told}");
    let told = reproduce(&["--build-arg=WHAT=x", "app"], 1).stderr;
    assert!(told.contains("give it: `--secret id=key,src=FILE`"), "{told}");
    reproduce(&["--build-arg=WHAT=x", &secret, "app"], 0);
    for said in
        ["--squash", "--timestamp=5", "--locked", "--add-host=a:1.2.3.4", "--network=none", "--shm-size=64m"]
    {
        let told = reproduce(&[said, "app"], 2).stderr;
        assert!(told.contains("is built again as its record says"), "{said}: {told}");
    }
    let told = reproduce(&["--target=x", "app"], 2).stderr;
    assert!(told.contains("built again as its record says, so `--target` means nothing"), "{told}");
    let told = reproduce(&["ap"], 1).stderr;
    assert!(told.contains("`ap` is neither a folder nor an image of the local store"), "{told}");

    project.world.rbuild(["history", "rm", "--all"]).any_stdout().run();
    let told = reproduce(&["app"], 1).stderr;
    assert!(told.contains("there is no record of a build that made `app`"), "{told}");
    assert!(told.contains("`rbuild reproduce CONTEXT --against app`"), "{told}");
}
