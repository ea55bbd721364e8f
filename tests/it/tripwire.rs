//! A secret that was given to a build, and what becomes of it when it would get into the image.

use std::fs;

use base64::Engine as _;

use crate::support::accounts::Account;
use crate::support::base::busybox_registry;
use crate::support::program::{Ran, World};
use crate::support::registry::Registry;

const VALUE: &str = "hunter2/with?signs-and-length";

struct Project {
    world: World,
    registry: Registry,
}

impl Project {
    fn of(account: Account) -> Self {
        let project = Self { world: World::of(account), registry: busybox_registry() };
        fs::write(project.world.path().join("value"), format!("{VALUE}\n")).unwrap();
        project
    }

    fn new() -> Self {
        Self::of(Account::mine())
    }

    /// Builds this on busybox with the secret `token`.
    fn build(&self, steps: &str, more: &[&str], status: i32) -> Ran {
        self.world.dockerfile(&format!("FROM {}/busybox\n{steps}\n", self.registry.host()));
        let secret = format!("id=token,src={}", self.world.path().join("value").display());
        let words = ["-t", "app", "--secret", &secret].into_iter().chain(more.iter().copied());
        let ran = self.world.build(words).any_stdout().remarks().status(status).run();
        assert!(!ran.stderr.contains(VALUE) && !ran.stdout.contains(VALUE), "{}", ran.stderr);
        ran
    }

    /// Builds, and is refused, with these words.
    fn refused(&self, steps: &str, more: &[&str], expected: &[&str]) {
        let ran = self.build(steps, more, 1);
        for words in expected {
            assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        }
        assert!(!self.world.rbuild(["images"]).any_stdout().run().stdout.contains("app"));
        assert!(!self.is_in_the_store(), "{steps}");
    }

    /// Whether the value lies in a file of the store, or in a layer that can be unpacked.
    fn is_in_the_store(&self) -> bool {
        walk(&self.world.store()).iter().any(|file| {
            let bytes = fs::read(file).unwrap_or_default();
            let has = |bytes: &[u8]| bytes.windows(VALUE.len()).any(|part| part == VALUE.as_bytes());
            let mut unpacked = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(bytes.as_slice());
            let is_packed = std::io::Read::read_to_end(&mut decoder, &mut unpacked).is_ok();
            has(&bytes) || is_packed && has(&unpacked)
        })
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(walk(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

const MOUNTED: &str = "RUN --mount=type=secret,id=token ";

#[test]
fn a_command_that_keeps_a_secret_ends_the_build() {
    for account in [Account::mine(), Account::without_ranges()] {
        let project = Project::of(account);
        project.refused(
            &format!("RUN true\n{MOUNTED}mkdir -p /root/a && cp /run/secrets/token /root/a/npmrc"),
            &[],
            &[
                "the layer of this step holds the secret `token` (in `/root/a/npmrc`)",
                "Dockerfile:3",
                "tripwire=off",
            ],
        );
        project.refused(
            &format!("{MOUNTED}(echo -n me:; cat /run/secrets/token) | base64 >/auth"),
            &[],
            &["the secret `token`, in base64 (in `/auth`)"],
        );
        // A secret that is used and not kept is what mounts are for.
        project.build(&format!("{MOUNTED}wc -c </run/secrets/token >/length"), &[], 0);
        assert!(!project.is_in_the_store());
    }
}

#[test]
fn a_file_of_the_context_that_holds_a_secret_ends_the_build() {
    let project = Project::new();
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("user:{VALUE}"));
    project
        .world
        .file("src/.docker/config.json", format!("{{\"auths\":{{\"host\":{{\"auth\":\"{auth}\"}}}}}}"));
    project.world.file("src/main.py", "print(1)\n");
    project.refused(
        "COPY src /src/",
        &[],
        &["the secret `token`, in base64 (in `/src/.docker/config.json`)"],
    );
    project.world.file("src/.docker/config.json", "{}");
    project.build("COPY src /src/", &[], 0);
}

#[test]
fn a_configuration_that_holds_a_secret_ends_the_build() {
    let project = Project::new();
    let argument = format!("TOKEN={VALUE}");
    project.refused(
        "ARG TOKEN\nENV HEADER=\"Bearer ${TOKEN}\"",
        &["--build-arg", &argument],
        &["the configuration of the image holds the secret `token`"],
    );
    // In the history. What a step was given as an argument stands in its key, as no secret.
    let ran = project.build("ARG TOKEN\nRUN true", &["--build-arg", &argument], 1);
    assert!(ran.stderr.contains("the configuration of the image holds the secret `token`"), "{}", ran.stderr);
}

/// In the lines that tools break their output into.
#[test]
fn long_secrets_are_found_as_tools_print_them() {
    let project = Project::new();
    let long: String = (0..93u8).map(|n| char::from(b'!' + n)).collect();
    fs::write(project.world.path().join("value"), &long).unwrap();
    for (command, form) in [
        ("base64 /run/secrets/token", "base64"),
        ("(echo user:; cat /run/secrets/token) | base64", "base64"),
        ("xxd -p /run/secrets/token", "hexadecimal"),
    ] {
        project.refused(
            &format!("{MOUNTED}{command} >/kept"),
            &[],
            &[&format!("the secret `token`, in {form} (in `/kept`)")],
        );
    }
}

#[test]
fn annotations_are_searched_wherever_they_stand() {
    let project = Project::new();
    let out = project.world.path().join("out.tar");
    for (level, place) in [
        ("index", "the index of the image"),
        ("index-descriptor", "the descriptor of the image's index"),
        ("manifest-descriptor", "the descriptor of the image's manifest"),
        ("manifest", "its manifest"),
    ] {
        let annotation = format!("{level}:x={VALUE}");
        project.refused(
            "RUN true",
            &["--annotation", &annotation],
            &[&format!("{place} holds the secret `token`")],
        );
        let output = format!("type=oci,dest={},annotation-{level}.x={VALUE}", out.display());
        project.refused("RUN true", &["-o", &output], &[&format!("{place} holds the secret `token`")]);
        assert!(!out.exists());
    }
    let annotation = format!("manifest-descriptor:x={VALUE}");
    let told = project.build("RUN true", &["--tripwire", "warn", "--annotation", &annotation], 0).stderr;
    assert!(told.contains("the descriptor of the image's manifest holds the secret `token`"), "{told}");
}

#[test]
fn who_says_so_is_only_told_or_not_even_that() {
    let steps = format!("{MOUNTED}cp /run/secrets/token /kept");
    let project = Project::new();
    let told = "the layer of this step holds the secret `token` (in `/kept`)";
    let ran = project.build(&steps, &["--tripwire", "warn"], 0);
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    let ran = project.build(&steps, &["--no-cache", "--tripwire", "off"], 0);
    assert!(!ran.stderr.contains(told), "{}", ran.stderr);
    let ran = project.build(&steps, &["--no-cache", "--tripwire", "perhaps"], 2);
    assert!(ran.stderr.contains("`--tripwire=perhaps`: it is `stop`, `warn` or `off`"), "{}", ran.stderr);

    project.world.dockerfile(&format!("FROM {}/busybox\n{steps}\n", project.registry.host()));
    let secret = format!("id=token,src={},tripwire=off", project.world.path().join("value").display());
    let exempt = ["--no-cache", "-t", "app", "--secret", &secret];
    let ran = project.world.build(exempt).any_stdout().remarks().run();
    assert!(!ran.stderr.contains("holds the secret"), "{}", ran.stderr);
}

#[test]
fn docker_is_told_and_goes_on() {
    let project = Project::new();
    let steps = format!("FROM {}/busybox\n{MOUNTED}cp /run/secrets/token /kept\n", project.registry.host());
    project.world.dockerfile(&steps);
    let link = project.world.path().join("docker-buildx");
    std::os::unix::fs::symlink(project.world.program(), &link).unwrap();
    let secret = format!("id=token,src={}", project.world.path().join("value").display());
    let context = project.world.context();
    let words = ["buildx", "build", "--secret", &secret, "-o", "type=cacheonly", "--progress=plain"];
    let out = std::process::Command::new(&link)
        .args(words)
        .arg(&context)
        .env("RBUILD_ROOT", project.world.store())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && told.contains("holds the secret `token`"), "{told}");
}

/// A path may be made of a secret, in any form, and no message repeats it.
#[test]
fn a_path_that_has_a_secret_is_told_without_it() {
    const PLAIN: &str = "hunter2-secret-value";
    const HEX: &str = "68756e746572322d7365637265742d76616c7565";
    let project = Project::new();
    fs::write(project.world.path().join("value"), format!("{PLAIN}\n")).unwrap();
    project.world.file("id", private_key());
    let steps = [
        "echo x >/f_$(cat /run/secrets/token)",
        "echo x >/f_$(printf %s $(cat /run/secrets/token) | od -An -tx1 | tr -d ' \\n')",
        "cp /id /k_$(cat /run/secrets/token)",
    ];
    for (step, more, status) in steps.iter().flat_map(|step| {
        [
            (step, &["--progress=plain"][..], 1),
            (step, &["--progress=json"], 1),
            (step, &["--progress=rawjson"], 1),
            (step, &["--progress=plain", "--tripwire=warn", "--no-cache"], 0),
            (step, &["--progress=json", "--tripwire=warn", "--no-cache"], 0),
        ]
    }) {
        let host = project.registry.host();
        project.world.dockerfile(&format!("FROM {host}/busybox\nCOPY id /id\n{MOUNTED}{step}\n"));
        let secret = format!("id=token,src={}", project.world.path().join("value").display());
        let words = ["-t", "app", "--secret", &secret].into_iter().chain(more.iter().copied());
        // In JSON no line begins with `error: `.
        let ran = project.world.build(words).any_stdout().any_status().run();
        assert_eq!(ran.status, Some(status), "{more:?} {step}: {}", ran.stderr);
        let told = format!("{more:?} {step}: {}", ran.stderr);
        assert!(!ran.stderr.contains(PLAIN) && !ran.stderr.contains(HEX), "{told}");
        assert!(!ran.stderr.contains(&HEX[32..]), "nor a piece of it: {told}");
        assert!(ran.stderr.contains("[the secret `token`]`"), "{told}");
    }
}

#[test]
fn output_has_the_name_of_a_secret_in_its_place() {
    let project = Project::new();
    let ran = project.build(
        &format!("{MOUNTED}echo \"got $(cat /run/secrets/token)!\""),
        &["--progress=plain", "--no-cache"],
        0,
    );
    assert!(ran.stderr.contains("got [the secret `token`]!"), "{}", ran.stderr);
    assert!(!project.is_in_the_store(), "logs are kept without it");
    let ran = project.build(&format!("{MOUNTED}cat /run/secrets/token /nothing"), &["--progress=plain"], 1);
    assert!(ran.stderr.contains("[the secret `token`]"), "{}", ran.stderr);
}

fn private_key() -> String {
    let body = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAAB".repeat(4);
    format!("-----BEGIN OPENSSH {}-----\n{body}\n", "PRIVATE KEY")
}

#[test]
fn a_key_that_was_given_to_no_one_is_told() {
    let project = Project::new();
    let key = private_key();
    project.world.file("id_ed25519", &key).file("lib/tests/key.pem", &key);
    let ran = project.build("COPY id_ed25519 /root/.ssh/\nCOPY lib /lib2/", &[], 0);
    let told = "everybody who gets the image gets what looks like a private key (in `/root/.ssh/id_ed25519`)";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    // Libraries bring keys for their tests.
    assert!(!ran.stderr.contains("key.pem"), "{}", ran.stderr);
}

/// A process substitution can be read once, and several steps want it.
#[test]
fn a_secret_from_a_pipe_is_read_once_and_watched_from_then_on() {
    let project = Project::new();
    let steps = format!(
        "FROM {}/busybox\n{MOUNTED}wc -c </run/secrets/token\n{MOUNTED}cp /run/secrets/token /kept\n",
        project.registry.host()
    );
    project.world.dockerfile(&steps);
    let script = format!(
        "exec \"$0\" --root \"$1\" --progress=plain --secret id=token,src=<(echo '{VALUE}') -t app \"$2\""
    );
    let out = std::process::Command::new("bash")
        .args(["-c", &script])
        .arg(project.world.program())
        .arg(project.world.store())
        .arg(project.world.context())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{told}");
    assert!(told.contains("holds the secret `token` (in `/kept`)"), "{told}");
}
