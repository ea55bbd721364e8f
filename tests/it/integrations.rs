//! What other programs call rbuild by: the action for GitHub, the component for GitLab, the hook of pre-commit, and the repository's own
//! workflows. Their scripts are run as a runner would run them; no runner was asked.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::kaniko::digest_at;
use crate::support::base::busybox;
use crate::support::program::World;
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::{tools, write_program};

fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A project, and a place for rbuild and for what a runner keeps.
struct Runner(World);

impl Runner {
    fn new(dockerfile: &str) -> Self {
        let world = World::new();
        world.dockerfile(dockerfile);
        fs::create_dir_all(world.path().join("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_rbuild"), world.path().join("bin/rbuild")).unwrap();
        Self(world)
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    /// A program in the project, with rbuild in its path.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:{}", self.at("bin"), std::env::var("PATH").unwrap());
        command.current_dir(self.0.context()).env_clear().env("PATH", path).env("HOME", self.at("home"));
        command.env("RBUILD_ROOT", self.0.store());
        command
    }

    /// The action with these inputs: whether it ended well, and what it said.
    fn action(&self, event: &str, inputs: &[(&str, &str)]) -> (bool, String) {
        self.action_with(event, inputs, &[])
    }

    fn action_with(
        &self,
        event: &str,
        inputs: &[(&str, &str)],
        variables: &[(&str, &str)],
    ) -> (bool, String) {
        let action = repository("packaging/github-actions/setup");
        let described = &tools::yaml(&action.join("action.yml"))[0];
        let step = &described["runs"]["steps"][1];
        assert_eq!(step["run"], "sh \"$GITHUB_ACTION_PATH/run.sh\"");
        let mut command = self.command(Path::new("sh"));
        command.arg(action.join("run.sh")).env("GITHUB_EVENT_NAME", event);
        for (name, default) in described["inputs"].as_object().unwrap() {
            let variable = format!("INPUT_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(step["env"][&variable], format!("${{{{ inputs.{name} }}}}"));
            let given = inputs.iter().find(|(given, _)| given == name).map(|(_, value)| *value);
            command.env(variable, given.unwrap_or(default["default"].as_str().unwrap()));
        }
        for name in ["ENV", "PATH", "OUTPUT", "STEP_SUMMARY"] {
            command.env(format!("GITHUB_{name}"), self.at(&format!("github-{name}")));
        }
        let output = command.envs(variables.iter().copied()).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    }
}

#[test]
fn the_action_logs_in_builds_and_tells() {
    let registry = Registry::start_with_login();
    let host = registry.host();
    registry.push(&busybox(), "busybox", "latest");
    let runner = Runner::new(&format!(
        "FROM {host}/busybox AS one\nARG SAID\nENV SAID=\"$SAID\"\nFROM one AS two\nENV A=1\n"
    ));
    let tags = format!("{host}/app:1\n{host}/app:latest\n");
    let cache = format!("{host}/app:cache");
    let inputs = [
        ("registry", host.as_str()),
        ("username", USER),
        ("password", PASSWORD),
        ("context", "."),
        ("tags", &tags),
        ("push", "true"),
        ("target", "one"),
        ("build-args", "SAID=two words\nOTHER=$HOME *"),
        ("options", "--label=a=b c"),
        ("cache", &cache),
    ];
    let (well, told) = runner.action("push", &inputs);
    assert!(well, "{told}");
    let digest = digest_at(&host, "app:1");
    assert_eq!(digest_at(&host, "app:latest"), digest);
    assert_eq!(runner.read("github-OUTPUT"), format!("digest={digest}\n"));
    assert!(
        runner
            .read("github-STEP_SUMMARY")
            .contains(&format!("| digest | `{digest}` |\n| name | `{host}/app:1` |"))
    );
    assert!(told.contains("::add-matcher::"), "{told}");
    assert!(runner.read("github-ENV").contains(&format!("RBUILD_CACHE_TO={cache}")));
    let shown = runner.0.rbuild(["inspect", &format!("{host}/app:1")]).any_stdout().run().stdout;
    assert!(shown.contains("SAID=two words") && shown.contains("b c"), "{shown}");
    // What a pull request made is read by nobody else.
    let request = Runner::new("FROM scratch\nENV A=1\n");
    let (well, told) = request.action("pull_request", &[("context", "."), ("cache", &cache)]);
    let env = request.read("github-ENV");
    assert!(well && env.contains("RBUILD_CACHE_FROM=") && !env.contains("RBUILD_CACHE_TO="), "{told}{env}");
}

#[test]
fn the_action_annotates_what_checks_find() {
    let runner = Runner::new("FROM scratch\nMAINTAINER me\nENV A=1\n");
    let (well, told) = runner.action("push", &[("context", ".")]);
    assert!(well, "{told}");
    assert_eq!(matched(&told), [("warning".to_owned(), "Dockerfile".to_owned(), 2)], "{told}");
    let (well, told) = runner.action("push", &[("context", "."), ("check", "error")]);
    assert!(!well && !told.contains("built sha256"), "{told}");
    let broken = Runner::new("FROM scratch\nCOPY --chwon=33 a b\n");
    let (well, told) = broken.action("push", &[("context", ".")]);
    assert!(!well);
    assert_eq!(matched(&told), [("error".to_owned(), "Dockerfile".to_owned(), 2)], "{told}");
    // A letter does not make a build that pushes and checks nothing.
    for (input, value) in [("push", "True"), ("check", "Error"), ("cache", "a\nRBUILD_TLS=x")] {
        let (well, told) = runner.action("push", &[("context", "."), (input, value)]);
        assert!(!well && told.contains(&format!("::error::`{input}` is")), "{told}");
    }
    // Where AppArmor keeps user namespaces from programs that it does not know, it gets to know the one that was installed.
    let (release, temporary) = (runner.0.path().join("release"), runner.at("run ner"));
    fs::create_dir(&release).unwrap();
    fs::write(release.join("install.sh"), "mkdir -p \"$2/bin\"\n").unwrap();
    let sudo = runner.0.path().join("bin/sudo");
    for (script, warns) in [("echo \"sudo $*\" >>../sudo; cat >>../sudo", false), ("exit 1", true)] {
        write_program(&sudo, format!("#!/bin/sh\n{script}\n").as_bytes());
        let from = [("from", release.to_str().unwrap())];
        let (well, told) = runner.action_with(
            "push",
            &from,
            &[("RBUILD_ACTION_RESTRICTED", "1"), ("RUNNER_TEMP", temporary.as_str())],
        );
        assert!(well && told.contains("::warning::RUN may not work") == warns, "{told}");
    }
    let loaded = runner.read("sudo");
    assert!(
        loaded.starts_with("sudo -n apparmor_parser --replace\n")
            && loaded.contains(&format!("profile rbuild-action \"{temporary}/rbuild/bin/rbuild\" ")),
        "{loaded}"
    );
    fs::remove_file(sudo).unwrap();
    // Nothing to build: only the program and the matcher are there for later steps.
    let (well, told) = runner.action("push", &[]);
    assert!(well && told.starts_with("::add-matcher::"), "{told}");
}

/// What the problem matcher finds: how bad, in which file, at which line.
fn matched(told: &str) -> Vec<(String, String, u64)> {
    let matcher = repository("packaging/github-actions/setup/problem-matcher.json");
    let script = "
import json, re, sys
first, second = (re.compile(p['regexp']) for p in json.load(open(sys.argv[1]))['problemMatcher'][0]['pattern'])
lines, found = sys.argv[2].splitlines(), []
for one, two in zip(lines, lines[1:]):
    if (a := first.search(one)) and (b := second.search(two)):
        found.append([a[1], b[1], int(b[2])])
print(json.dumps(found))";
    let found = tools::json("python3", ["-c", script, matcher.to_str().unwrap(), told]);
    serde_json::from_value(found).unwrap()
}

#[test]
fn the_component_of_gitlab_builds_and_pushes() {
    let registry = Registry::start_with_login();
    let host = registry.host();
    let runner = Runner::new("FROM scratch\nCOPY Dockerfile /\n");
    let documents = tools::yaml(&repository("packaging/gitlab-ci/templates/rbuild.yml"));
    let inputs = documents[0]["spec"]["inputs"].as_object().unwrap();
    let filled = |text: &str| {
        inputs.iter().fold(text.to_owned(), |text, (name, input)| {
            text.replace(&format!("$[[ inputs.{name} ]]"), input["default"].as_str().unwrap())
        })
    };
    let job = &documents[1]["$[[ inputs.job ]]"];
    let script: Vec<String> =
        job["script"].as_array().unwrap().iter().map(|line| filled(line.as_str().unwrap())).collect();
    assert!(script.iter().all(|line| !line.contains("$[[")), "{script:?}");
    let variables: String = job["variables"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| format!("export {name}=\"{}\"\n", filled(value.as_str().unwrap())))
        .collect();
    for expected in ["1 step ran", "nothing to do, all from the cache"] {
        let mut command = runner.command(Path::new("sh"));
        command.args(["-euc", &format!("{variables}{}", script.join("\n"))]);
        for (name, value) in [
            ("CI_REGISTRY", host.as_str()),
            ("CI_REGISTRY_USER", USER),
            ("CI_REGISTRY_PASSWORD", PASSWORD),
            ("CI_REGISTRY_IMAGE", &format!("{host}/group/app")),
            ("CI_COMMIT_SHA", "0123abc"),
            ("CI_COMMIT_REF_SLUG", "topic"),
            ("CI_DEFAULT_BRANCH", "main"),
        ] {
            command.env(name, value);
        }
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.contains(expected), "{told}");
        digest_at(&host, "group/app:0123abc");
    }
}

#[test]
fn the_hook_of_pre_commit_checks_each_dockerfile() {
    let hook = &tools::yaml(&repository(".pre-commit-hooks.yaml"))[0][0];
    let runner = Runner::new("FROM scratch\nENV A=1\n");
    runner.0.file("api/worker.Dockerfile", "FROM scratch\nMAINTAINER me\n");
    let check = |words: &[&str]| {
        let output =
            runner.command(&repository(hook["entry"].as_str().unwrap())).args(words).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    assert_eq!(check(&["Dockerfile"]).0, Some(0));
    let (code, told) = check(&["api/worker.Dockerfile", "Dockerfile"]);
    assert!(code == Some(1) && told.contains("worker.Dockerfile:2"), "{told}");
    // Options are one word each, whatever is in them.
    runner.0.file("arg/Dockerfile", "FROM scratch\nARG A\nARG B\nENV C=$A D=$B\n");
    assert_eq!(check(&["--build-arg=A=two words", "--build-arg=B=*", "arg/Dockerfile"]).0, Some(0));
    let (code, told) = check(&["--build-arg", "A=1", "arg/Dockerfile"]);
    assert!(code == Some(1) && told.contains("write `--option=value`"), "{told}");
    // As pre-commit looks for files.
    let script = "import json, re, sys; print(json.dumps([n for n in sys.argv[3:] if re.search(sys.argv[1], n) and not re.search(sys.argv[2], n)]))";
    let names = [
        "Dockerfile",
        "a/Containerfile",
        "Dockerfile.dev",
        "x.Dockerfile",
        "Dockerfile.dockerignore",
        "docs/Dockerfiles.md",
    ];
    let pattern = |key: &str| hook[key].as_str().unwrap();
    let chosen =
        tools::json("python3", [&["-c", script, pattern("files"), pattern("exclude")][..], &names].concat());
    assert_eq!(chosen, serde_json::json!(names[..4]));
}

/// The repository's own workflows call scripts that are there, and so does every file of packaging that names one.
#[test]
fn workflows_call_what_is_there() {
    for entry in fs::read_dir(repository(".github/workflows")).unwrap() {
        let path = entry.unwrap().path();
        let workflow = &tools::yaml(&path)[0];
        for (_, job) in workflow["jobs"].as_object().unwrap() {
            assert!(job["timeout-minutes"].is_u64(), "{}: a job without an end", path.display());
            for step in job["steps"].as_array().unwrap() {
                let line = step["run"].as_str().unwrap_or("");
                let program = line.split_whitespace().next().unwrap_or("");
                let is_ours = program.contains('/');
                assert!(!is_ours || repository(program).is_file(), "{}: {program}", path.display());
            }
        }
        assert_ne!(workflow["permissions"], Value::Null, "{}: what may it do?", path.display());
    }
}
