//! Secrets of a build, searched in everything that it leaves: every file of the store, layers unpacked, outputs, progress, logs.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;

use super::{attempt, is_success};
use crate::support::attack::{Chance, Tally, rounds};
use crate::support::base::busybox;
use crate::support::http::{Reply, Server};
use crate::support::program::World;
use crate::support::registry::{PASSWORD, Registry, USER};

/// A secret, and all forms in which it could lie somewhere.
struct Secret {
    what: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn of(what: &'static str, value: &str) -> Self {
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![value.as_bytes().to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
        for engine in [base64::engine::general_purpose::STANDARD, base64::engine::general_purpose::URL_SAFE] {
            for before in 0..3_usize {
                // Only those letters that the secret alone determines, wherever in a text it stands.
                let text = engine.encode([&vec![0; before], value.as_bytes()].concat());
                let (from, to) = ((before * 8).div_ceil(6), (before + value.len()) * 8 / 6);
                forms.push(text.as_bytes()[from..to].to_vec());
            }
        }
        Self { what, forms }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| memchr(bytes, form))
    }
}

fn memchr(bytes: &[u8], form: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == form[0]) {
        if rest[at..].starts_with(form) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

#[test]
fn no_secret_stays_anywhere() {
    let mut chance = Chance::of("secrets");
    let mut tally = Tally::of("searches for secrets");
    let (world, registry) = (World::new(), Registry::start_with_login());
    registry.push(&busybox(), "busybox", "latest");
    let value = |chance: &mut Chance, what: &str| format!("{what}-{:016x}", chance.next());
    let (file, env) = (value(&mut chance, "file"), value(&mut chance, "env"));
    let (url, proxy) = (value(&mut chance, "url"), value(&mut chance, "proxy"));
    let server = Server::start(|request| match request.header("authorization") {
        Some(_) => Reply::new(200, "fetched\n"),
        None => Reply::new(401, ""),
    });
    let key = world.path().join("key");
    let (key_words, key_path) = (["-q", "-t", "ed25519", "-N", "", "-f"], key.to_str().unwrap().to_owned());
    crate::support::tools::run("ssh-keygen", key_words.iter().copied().chain([key_path.as_str()]));
    let private = fs::read_to_string(&key).unwrap();
    let secrets = [
        Secret::of("the secret in a file", &file),
        Secret::of("the secret in the environment", &env),
        Secret::of("the password in a URL", &url),
        Secret::of("the password of a proxy", &proxy),
        Secret::of("the login of the registry", &format!("{USER}:{PASSWORD}")),
        Secret::of("the password of the registry", PASSWORD),
        Secret::of("the private key", private.lines().nth(3).unwrap()),
    ];
    let login = ["login", "--username", USER, "--password-stdin", &registry.host()];
    world.rbuild(login).stdin(format!("{PASSWORD}\n")).any_stdout().run();
    let secret_file = world.path().join("secret");
    fs::write(&secret_file, format!("{file}\n")).unwrap();
    let steps = |ending: &str| {
        format!(
            "FROM {}/busybox\nADD http://me:{url}@{}/file /fetched\n\
             RUN --mount=type=secret,id=f --mount=type=secret,id=e,env=E --mount=type=ssh \
             wc -c </run/secrets/f >/length; test -n \"$E$SSH_AUTH_SOCK$HTTP_PROXY\"; usleep 50000; {ending}\n",
            registry.host(),
            server.host()
        )
    };
    let refused = format!("true\nADD http://me:{url}@localhost:1/nothing /");
    let (given_file, given_ssh) =
        (format!("id=f,src={}", secret_file.display()), format!("default={key_path}"));
    let proxied = format!("HTTP_PROXY=http://me:{proxy}@127.0.0.1:9/");
    let out = world.path().join("out.tar");
    let dest = format!("type=oci,dest={}", out.display());
    let words = |progress: &'static str| {
        let mut words = vec![progress, "--no-cache", "-t", "app", "-o", &dest, "--secret", &given_file];
        words.extend(["--secret", "id=e,env=E", "--ssh", &given_ssh, "--build-arg", &proxied]);
        words.push(".");
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for round in 0..rounds(2, 24) {
        for how in ["succeeds", "fails", "is killed", "is refused"] {
            let told = format!("round {round}: a build that {how}");
            let progress = *chance.pick(&["--progress=plain", "--progress=json", "--progress=quiet"]);
            world.dockerfile(&steps(match how {
                "fails" => "echo no >&2; exit 3",
                "is refused" => &refused,
                _ => "true",
            }));
            let words = words(progress);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut told_by_it = Vec::new();
            if how == "is killed" {
                let mut child = world.rbuild(&words).env("E", &env).spawn();
                std::thread::sleep(Duration::from_millis(400).mul_f64(chance.fraction()));
                let _ = child.kill();
                child.wait().unwrap();
            } else {
                let ran = attempt(&world, &words).env("E", &env).run();
                let succeeded = is_success(&ran, &told);
                assert_eq!(succeeded, how == "succeeds", "{told}: {}", ran.stderr);
                told_by_it.push(("standard error", ran.stderr.into_bytes()));
                told_by_it.push(("standard output", ran.stdout.into_bytes()));
            }
            for shown in
                [&["history", "--no-trunc", "app"][..], &["inspect", "app"], &["sessions"], &["logs"]]
            {
                let ran = attempt(&world, shown).run();
                told_by_it.push(("a listing", [ran.stdout, ran.stderr].concat().into_bytes()));
            }
            for secret in &secrets {
                for (place, bytes) in &told_by_it {
                    let text = String::from_utf8_lossy(bytes);
                    assert!(!secret.is_in(bytes), "{told}: {} is in {place}: {text}", secret.what);
                }
            }
            let searched = search(&world.store(), &secrets, &told)
                + search(&world.path().join("out.tar"), &secrets, &told);
            assert!(searched > 0);
            tally.count("nothing found");
            let _ = fs::remove_file(&out);
        }
    }
}

/// Looks into every file of a folder, and what is compressed in it; gives the number of files.
#[track_caller]
fn search(path: &Path, secrets: &[Secret], told: &str) -> usize {
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    let name = path.display().to_string();
    for secret in secrets {
        assert!(!secret.is_in(name.as_bytes()), "{told}: {} is the name `{name}`", secret.what);
    }
    if meta.is_dir() {
        return fs::read_dir(path).unwrap().map(|entry| search(&entry.unwrap().path(), secrets, told)).sum();
    }
    // The programs of the base are many megabytes, and always the same.
    if !meta.is_file() || path.ends_with("bin/busybox") {
        return 0;
    }
    let bytes = fs::read(path).unwrap();
    let mut plain = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let _ = flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain);
    }
    for secret in secrets {
        assert!(!secret.is_in(&bytes), "{told}: {} is in `{name}`", secret.what);
        assert!(!secret.is_in(&plain), "{told}: {} is compressed in `{name}`", secret.what);
    }
    1
}
