//! What people expect of a program of theirs: completions, manual pages, a version, and to see what is configured.

use std::process::Command;

use serde_json::Value;

use crate::support::program::World;

/// What is offered for the last word of a line.
fn offered(world: &World, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let index = (words.len() - 1).to_string();
    let asked = world.rbuild(["__complete", index.as_str()]).args(&words).env("RBUILD_ROOT", world.store());
    let shown = asked.any_stdout().run().stdout;
    shown.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

fn world() -> World {
    let world = World::new();
    world.dockerfile("FROM scratch AS build\nCOPY Dockerfile /\nFROM build AS test\n");
    world.build(["-t", "localhost:5000/team/app:1", "-t", "other"]).run();
    world
}

#[test]
fn words_complete() {
    let world = world();
    for (line, expected) in [
        ("rbuild im", "images"),
        ("rbuild --no-cache-f", "--no-cache-filter"),
        ("rbuild build --progress ra", "rawjson"),
        ("rbuild build --progress=ra", "--progress=rawjson"),
        ("rbuild inspect local", "localhost:5000/team/app:1"),
        ("rbuild tag oth", "other:latest"),
        ("rbuild --target t", "test"),
        ("rbuild build --target ", "build"),
        ("rbuild sessions r", "rm"),
        ("rbuild completions nu", "nushell"),
        ("rbuild build Docker", "Dockerfile"),
    ] {
        let found = offered(&world, line);
        // A context is a word of no kind; the shell's own files complete there.
        let is_file = expected == "Dockerfile" && found.is_empty();
        assert!(is_file || found.iter().any(|word| word == expected), "{line}: {found:?}");
    }
    assert!(!offered(&world, "rbuild ").contains(&"__complete".to_owned()));
    assert_eq!(offered(&world, "rbuild inspect nothing-of-that-name"), [""; 0]);
    // Where there is no store none is made.
    let empty = World::new();
    assert!(offered(&empty, "rbuild inspect ").iter().all(|word| word.starts_with('-')));
    assert!(!empty.store().exists());
}

/// A shell with rbuild in its path, and what it prints.
fn shell(world: &World, program: &str, script: &str) -> String {
    let folder = world.program().parent().unwrap().display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", world.path().join("home"))
        .env("RBUILD_ROOT", world.store());
    let output = command.args(["-c", script]).current_dir(world.context()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install {program}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bash_completes() {
    let world = world();
    let complete = |line: &str| {
        let script = format!(
            "source <(rbuild completions bash); COMP_LINE='{line}' COMP_POINT=${{#COMP_LINE}}; COMP_POINT={}; \
             _rbuild 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            line.len()
        );
        shell(&world, "bash", &script)
    };
    assert_eq!(complete("rbuild imag"), "images\n");
    // Readline puts what is offered behind the last colon.
    assert_eq!(complete("rbuild inspect localhost:5"), "5000/team/app:1\n");
    assert_eq!(complete("rbuild build --progress=ra"), "rawjson\n");
    assert!(complete("rbuild build --target ").contains("test\n"));
}

#[test]
fn other_shells_take_their_scripts() {
    let world = world();
    let found = shell(
        &world,
        "fish",
        "rbuild completions fish | source; complete --do-complete 'rbuild inspect oth'",
    );
    assert!(found.starts_with("other:latest\t"), "{found}");
    shell(&world, "zsh", "rbuild completions zsh > script && zsh -n script");
    let loaded =
        "autoload -U compinit && compinit -u -D && source <(rbuild completions zsh) && print $_comps[rbuild]";
    assert_eq!(shell(&world, "zsh", loaded), "_rbuild\n");
    let script = world.rbuild(["completions", "nushell"]).any_stdout().run().stdout;
    assert!(
        script.contains("^rbuild __complete") && script.matches('{').count() == script.matches('}').count()
    );
}

#[test]
fn manual_pages_say_what_help_says() {
    let world = World::new();
    let folder = world.path().join("man1");
    world.rbuild(["man", "--dir", folder.to_str().unwrap()]).run();
    let names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in ["rbuild.1", "rbuild-build.1", "rbuild-inspect.1", "rbuild-self.1"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("__complete")), "{names:?}");
    let page = world.rbuild(["man", "build"]).any_stdout().run().stdout;
    assert_eq!(page, std::fs::read_to_string(folder.join("rbuild-build.1")).unwrap());
    assert!(page.starts_with(".ie") || page.contains(".TH rbuild-build 1"), "{page}");
    assert!(page.contains("no\\-cache\\-filter") && page.contains("Run every step of this stage again"));
    let ran = world.rbuild(["man", "nothing"]).status(2).run();
    assert!(ran.stderr.contains("rbuild has no command `nothing`"), "{}", ran.stderr);
}

#[test]
fn versions() {
    let world = World::new();
    let long = world.rbuild(["--version"]).any_stdout().run().stdout;
    assert!(
        long.starts_with(concat!("rbuild ", env!("CARGO_PKG_VERSION"), " (")) && long.contains("-linux-"),
        "{long}"
    );
    assert_eq!(world.rbuild(["version"]).any_stdout().run().stdout, long);
    let json = world.rbuild(["version", "--format", "json"]).any_stdout().run().stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["Version"], env!("CARGO_PKG_VERSION"));
    assert!(long.contains(json["Target"].as_str().unwrap()));
    let words = ["version", "-f", "{{.Version}}"];
    world.rbuild(words).stdout(concat!(env!("CARGO_PKG_VERSION"), "\n")).run();
}

#[test]
fn what_is_configured_and_where() {
    let world = World::new();
    let file = world.path().join("config.toml");
    let text = "[store]\nquota = '2g'\n[defaults]\nprogress = 'plain'\nnetwork = 'none'\n\
                [registry.'docker.io']\nmirrors = ['mirror.example.org']\n[aliases]\nbase = 'h.example.org/base'\n";
    std::fs::write(&file, text).unwrap();
    let home = world.path().join("home/.config/containers");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("registries.conf"), "[[registry]]\nprefix = 'p.example.org'\ninsecure = true\n")
        .unwrap();
    let asked = |format: &str| {
        let asked = world.rbuild(["config", "--format", format]).env("RBUILD_CONFIG", &file);
        asked.env("BUILDKIT_PROGRESS", "tty").env("RBUILD_JOBS", "3").any_stdout().run().stdout
    };
    let shown = asked("{{.Key}}|{{.Value}}|{{.From}}");
    let file = file.display().to_string();
    for line in [
        format!("store.root|{}|--root", world.store().display()),
        format!("store.quota|2.1 GB|{file}"),
        "defaults.progress|tty|$BUILDKIT_PROGRESS".to_owned(),
        format!("defaults.network|none|{file}"),
        "defaults.cache-from|none|default".to_owned(),
        "jobs|3|$RBUILD_JOBS".to_owned(),
        format!("file.own|{file}|{file}"),
        format!("registry.docker.io.mirror|mirror.example.org|{file}"),
        format!("alias.base|h.example.org/base|{file}"),
        format!("registry.p.example.org.insecure|true|{}", home.join("registries.conf").display()),
    ] {
        assert!(shown.lines().any(|known| known == line), "{line}\n{shown}");
    }
    assert!(asked("json").lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    let ran = world.rbuild(["config"]).env("RBUILD_CONFIG", "/nowhere").status(2).run();
    assert!(ran.stderr.contains("it is not there"), "{}", ran.stderr);
}

#[test]
fn proxies_of_docker_reach_commands() {
    let world = World::new();
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    world.file("busybox", busybox).set_mode("busybox", 0o755);
    let folder = world.path().join("home/.docker");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("config.json"),
        r#"{"proxies":{"default":{"httpProxy":"http://127.0.0.1:9"}}}"#,
    )
    .unwrap();
    let dockerfile = "FROM scratch\nCOPY busybox /bin/sh\nRUN [\"/bin/sh\", \"-c\", \"echo $http_proxy and $HTTP_PROXY\"]\n";
    world.dockerfile(dockerfile);
    let ran = world.build(["--no-cache"]).run();
    assert!(ran.stderr.contains("http://127.0.0.1:9 and http://127.0.0.1:9"), "{}", ran.stderr);
    // What is given goes before it.
    let ran = world.build(["--no-cache", "--build-arg", "http_proxy=http://127.0.0.2:9"]).run();
    assert!(ran.stderr.contains("http://127.0.0.2:9 and"), "{}", ran.stderr);
}
