//! What `packaging/` holds: the image of rbuild is built by rbuild, and what the recipes run is run in it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kaniko::{digest_at, script_of};
use crate::support::base::{DebianRegistry, busybox};
use crate::support::dockerd::Dockerd;
use crate::support::program::World;
use crate::support::registry::{PASSWORD, Registry, USER, basic};
use crate::support::{copy_program, is_root, skip, tools};

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// The recipes, where in each the image of rbuild is named, and the rung that it gets.
const RECIPES: [(&str, &str, u8); 6] = [
    ("gitlab-ci/kaniko.yml", "/image/image/name", 4),
    ("gitlab-ci/rbuild.yml", "/image/image/name", 4),
    ("kubernetes/job.yml", "/spec/template/spec/containers/0/image", 4),
    ("kubernetes/job-host-users.yml", "/spec/template/spec/containers/0/image", 2),
    ("github-actions/container.yml", "/jobs/image/container/image", 4),
    ("tekton/task.yml", "/spec/steps/0/image", 4),
];

#[test]
fn recipes_for_kubernetes_are_objects_of_its_api() {
    let mut command = std::process::Command::new("python3");
    let here = |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    command
        .arg(here("tests/kubernetes_node.py"))
        .arg("--schema")
        .arg(here("testdata/kubernetes/schema.json"));
    command.arg("--check");
    for file in ["job.yml", "job-host-users.yml", "on.yml", "sticky.yml"] {
        command.arg(packaging("kubernetes").join(file));
    }
    let checked = command.output().unwrap();
    let told = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && told.matches(": good").count() == 7, "{told}");
}

#[test]
fn every_recipe_names_an_image_that_there_is_and_its_rung() {
    let dockerfile = fs::read_to_string(packaging("image/Dockerfile")).unwrap();
    let mut known: Vec<String> = Vec::new();
    for (file, at, rung) in RECIPES {
        let documents = tools::yaml(&packaging(file));
        assert_eq!(documents.as_array().unwrap().len(), 1, "{file}");
        let image =
            documents[0].pointer(at).and_then(Value::as_str).unwrap_or_else(|| panic!("{file}: {at}"));
        let (name, tag) = image.split_once(':').unwrap_or((image, "rbuild"));
        assert_eq!(name, "registry.example/rbuild", "{file}");
        assert!(dockerfile.contains(&format!(" AS {tag}\n")), "{file}: no target `{tag}`");
        let text = fs::read_to_string(packaging(file)).unwrap();
        assert!(text.contains(&format!("rung {rung} ")), "{file}: which rung?");
        known.push(file.to_owned());
    }
    // None is left out.
    for folder in ["gitlab-ci", "kubernetes", "github-actions", "tekton"] {
        for entry in fs::read_dir(packaging(folder)).unwrap() {
            let name = format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap());
            // tests/it/integrations.rs has the first two, and the others are no single pod.
            let others =
                ["gitlab-ci/templates", "github-actions/setup", "kubernetes/on.yml", "kubernetes/sticky.yml"];
            if others.contains(&name.as_str()) {
                continue;
            }
            assert!(known.contains(&name), "{name} is no recipe of these tests");
        }
    }
}

/// The program with the libraries that it needs, for the stage `program`.
fn program(folder: &Path) {
    let built = env!("CARGO_BIN_EXE_rbuild");
    let place = folder.join("usr/bin");
    fs::create_dir_all(&place).unwrap();
    tools::run("strip", ["-o", place.join("rbuild").to_str().unwrap(), built]);
    for library in tools::run("ldd", [built]).split_whitespace().filter(|word| word.starts_with('/')) {
        let to = folder.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        copy_program(Path::new(library), &to);
    }
}

/// A Docker that has the images.
struct Bench {
    daemon: Dockerd,
    world: World,
}

impl Bench {
    fn new() -> Self {
        let world = World::new();
        let at = |name: &str| world.path().join(name);
        program(&at("program"));
        let daemon = Dockerd::start(world.path());
        let debian = DebianRegistry::start();
        let dockerfile = packaging("image/Dockerfile").display().to_string();
        for target in ["debug", "executor", "rbuild"] {
            let archive = at(&format!("{target}.tar")).display().to_string();
            let words = [
                "--progress=plain",
                "-f",
                &dockerfile,
                "--target",
                target,
                "--build-context",
                &format!("program={}", at("program").display()),
                "--build-arg",
                &format!("DEBIAN={}", debian.debian()),
                "-t",
                &format!("rbuild:{target}"),
                "-o",
                &format!("type=docker,dest={archive}"),
                &packaging("image").display().to_string(),
            ];
            world.rbuild(words).run();
            daemon.docker(&["load", "-i", &archive]);
        }
        daemon.docker(&["tag", "rbuild:rbuild", "rbuild"]);
        Self { daemon, world }
    }

    fn at(&self, name: &str) -> String {
        self.world.path().join(name).display().to_string()
    }

    /// A folder in the world, for everybody.
    fn folder(&self, name: &str) -> String {
        let path = self.at(name);
        fs::create_dir_all(&path).unwrap();
        tools::run("chmod", ["777", &path]);
        path
    }

    /// `docker run --rm --network host …`: exit code and standard error.
    fn run(&self, words: &[&str]) -> (i32, String) {
        let mut command = self.daemon.command(&["run", "--rm", "--network", "host"]);
        let output = command.args(words).output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&told).into_owned())
    }

    #[track_caller]
    fn runs(&self, words: &[&str]) -> String {
        let (code, told) = self.run(words);
        assert_eq!(code, 0, "{words:?}: {told}");
        told
    }
}

#[test]
fn the_image_does_what_recipes_ask_of_it() {
    if !is_root() || !tools::has("dockerd") || !tools::has("docker") {
        skip!("no dockerd of root here");
    }
    let registry = Registry::start_with_login();
    let host = registry.host();
    registry.push(&busybox(), "busybox", "latest");
    let bench = Bench::new();
    let context = bench.folder("app");
    let dockerfile = format!("FROM {host}/busybox\nARG VERSION=none\nRUN echo \"said $VERSION\" >/said\n");
    fs::write(Path::new(&context).join("Dockerfile"), &dockerfile).unwrap();
    let login = bench.folder("login");
    let auth = basic(USER, PASSWORD).replace("Basic ", "");
    let config = format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{auth}\"}}}}}}");
    fs::write(Path::new(&login).join("config.json"), &config).unwrap();
    let held = format!("DOCKER_AUTH_CONFIG={config}");
    let mounted = |folder: &str, at: &str| format!("{folder}:{at}");

    // The line of the README.
    let told = bench.runs(&[
        "-e",
        &held,
        "-v",
        &mounted(&context, "/w"),
        "rbuild",
        "--progress=plain",
        "-t",
        "x",
        "/w",
    ]);
    assert!(told.contains("this container allows no namespaces") && told.contains("1 step ran"), "{told}");

    gitlab(&bench, &host, &context);
    kubernetes(&bench, &host, [&context, &login]);
    tekton(&bench, &host, [&context, &login]);

    // Pods that have kaniko's arguments and nothing else.
    let args = ["--context=dir:///workspace", &format!("--destination={host}/kaniko:1")];
    let volumes = ["-v", &mounted(&context, "/workspace"), "-v", &mounted(&login, "/kaniko/.docker")];
    bench.runs(&[&volumes[..], &["rbuild:executor"], &args].concat());
    digest_at(&host, "kaniko:1");

    // As the standard `restricted` has it: all but RUN.
    let bare =
        ["--user=1000", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only", "--tmpfs=/tmp"];
    let build =
        ["-e", "HOME=/tmp", "-e", &held, "-v", &mounted(&context, "/w"), "rbuild", "--progress=plain", "/w"];
    let (code, told) = bench.run(&[&bare[..], &build].concat());
    assert!(code == 1 && told.contains("Dockerfile:3") && !told.contains("#1"), "{told}");
    assert!(told.contains("help: the least that lets RUN work here: `"), "{told}");
    fs::write(Path::new(&context).join("Dockerfile"), format!("FROM {host}/busybox\nCOPY Dockerfile /\n"))
        .unwrap();
    bench.runs(&[&bare[..], &build].concat());
}

/// The jobs of GitLab, as a runner starts them.
fn gitlab(bench: &Bench, host: &str, context: &str) {
    for file in ["kaniko.yml", "rbuild.yml"] {
        let script = script_of(file, "image", Path::new("/kaniko"));
        let job = &tools::yaml(&packaging("gitlab-ci").join(file))[0]["image"];
        let mut variables: Vec<(String, String)> = [
            ("CI_REGISTRY", host),
            ("CI_REGISTRY_USER", USER),
            ("CI_REGISTRY_PASSWORD", PASSWORD),
            ("CI_REGISTRY_IMAGE", &format!("{host}/group/{}", file.replace('.', "-"))),
            ("CI_COMMIT_TAG", "v1"),
            ("CI_COMMIT_SHA", "0123abc"),
            ("CI_COMMIT_REF_SLUG", "topic"),
            ("CI_DEFAULT_BRANCH", "main"),
            ("CI_PROJECT_DIR", "/builds/app"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        for (name, value) in job["variables"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap().to_owned();
            // The longest name first: others begin like it.
            let mut known = variables.clone();
            known.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
            let value =
                known.iter().fold(value, |text, (name, value)| text.replace(&format!("${name}"), value));
            variables.push((name.clone(), value));
        }
        let variables: Vec<String> =
            variables.iter().map(|(name, value)| format!("-e{name}={value}")).collect();
        let mut words: Vec<&str> = variables.iter().map(String::as_str).collect();
        let volume = format!("{context}:/builds/app");
        let entry = job["image"]["entrypoint"][0].as_str().unwrap();
        words.extend(["-v", &volume, "-w", "/builds/app", "--entrypoint", entry, "rbuild:debug"]);
        words.extend(["/busybox/sh", "-euc", &script]);
        let told = bench.runs(&words);
        assert!(told.contains("this container allows no namespaces"), "{file}: {told}");
        match file {
            "kaniko.yml" => {
                let digest = fs::read_to_string(Path::new(context).join("digest")).unwrap();
                assert_eq!(digest_at(host, "group/kaniko-yml:v1"), digest);
            }
            _ => {
                assert!(told.contains("RUN works here, as root of an ordinary container"), "{told}");
                digest_at(host, "group/rbuild-yml:0123abc");
                // The next pipeline has it from the cache.
                assert!(bench.runs(&words).contains("; nothing to do, all from the cache"));
            }
        }
    }
}

/// The pods of Kubernetes: what the container runs, with the volumes and rights that it has.
fn kubernetes(bench: &Bench, host: &str, [context, login]: [&str; 2]) {
    for (file, rights, who) in [
        ("job.yml", &[][..], "this container allows no namespaces"),
        (
            "job-host-users.yml",
            &["--security-opt=seccomp=unconfined", "--security-opt=systempaths=unconfined"],
            "RUN runs in a user namespace with ranges of ids",
        ),
    ] {
        let pod = &tools::yaml(&packaging("kubernetes").join(file))[0]["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let store = bench.folder(&format!("store-{file}"));
        let mut words: Vec<String> = rights.iter().map(|right| (*right).to_owned()).collect();
        for mount in container["volumeMounts"].as_array().unwrap() {
            let folder = match mount["name"].as_str().unwrap() {
                "workspace" => context,
                "store" => &store,
                "login" => login,
                other => panic!("{file}: {other}"),
            };
            words.extend(["-v".to_owned(), format!("{folder}:{}", mount["mountPath"].as_str().unwrap())]);
        }
        words.push("rbuild".to_owned());
        let name = format!("{host}/pod/{}", file.replace('.', "-"));
        for arg in container["args"].as_array().unwrap() {
            words.push(arg.as_str().unwrap().replace("registry.example/team/app", &name));
        }
        let told = bench.runs(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(told.contains(who), "{file}: {told}");
        digest_at(host, &format!("pod/{}:1", file.replace('.', "-")));
    }
}

/// The step of the task, with parameters, workspaces and results in their places.
fn tekton(bench: &Bench, host: &str, [context, login]: [&str; 2]) {
    let task = &tools::yaml(&packaging("tekton/task.yml"))[0]["spec"];
    let step = &task["steps"][0];
    let results = bench.folder("results");
    let store = bench.folder("store-tekton");
    let filled = |text: &Value| {
        let text = text.as_str().unwrap().replace("$(workspaces.source.path)", "/source");
        let text = text.replace("$(results.IMAGE_DIGEST.path)", "/results/digest");
        let text = text.replace("$(params.IMAGE)", &format!("{host}/task:1"));
        ["CONTEXT", "DOCKERFILE"].iter().fold(text, |text, name| {
            let params = task["params"].as_array().unwrap();
            let param = params.iter().find(|param| param["name"] == **name).unwrap();
            text.replace(&format!("$(params.{name})"), param["default"].as_str().unwrap())
        })
    };
    let at = task["workspaces"][1]["mountPath"].as_str().unwrap();
    let mut words = vec!["-w".to_owned(), filled(&step["workingDir"])];
    for (folder, at) in
        [(context, "/source"), (login, at), (&results, "/results"), (&store, "/var/lib/rbuild")]
    {
        words.extend(["-v".to_owned(), format!("{folder}:{at}")]);
    }
    words.push("rbuild".to_owned());
    words.extend(step["args"].as_array().unwrap().iter().map(filled));
    assert!(words.iter().all(|word| !word.contains("$(")), "{words:?}");
    bench.runs(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let digest = fs::read_to_string(Path::new(&results).join("digest")).unwrap();
    assert_eq!(digest_at(host, "task:1"), digest);
}
