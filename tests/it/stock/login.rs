//! `login` and `logout`, with a registry that wants a login.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::world;
use crate::support::program::World;
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::tools;

fn login<'w>(world: &'w World, registry: &Registry, password: &str) -> crate::support::program::Rbuild<'w> {
    let words = ["login", "--username", USER, "--password-stdin", &registry.host()];
    world.rbuild(words).stdin(format!("{password}\n"))
}

#[test]
fn a_password_on_the_command_line_is_refused_with_a_way_on() {
    for words in [["-u", "me", "-p", "hunter2"], ["-u", "me", "--password", "hunter2"]] {
        let ran = World::new().rbuild(["login"]).args(words).arg("localhost:1").status(2).run();
        assert!(ran.stderr.contains("--password-stdin") && !ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
}

#[test]
fn a_login_is_tried_kept_and_used() {
    let (world, registry) = (world(), Registry::start_with_login());
    let name = format!("{}/app:1", registry.host());
    world.build(["-t", &name]).run();
    let ran = world.rbuild(["push", "-q", &name]).status(1).run();
    assert!(ran.stderr.contains(&format!("`rbuild login {}`", registry.host())), "{}", ran.stderr);
    let file = world.path().join("home/.docker/config.json");

    let ran = login(&world, &registry, "wrong").status(1).run();
    assert!(
        ran.stderr.contains("does not take this login") && ran.stderr.contains("nothing was kept"),
        "{}",
        ran.stderr
    );
    assert!(!file.exists());

    let ran = login(&world, &registry, PASSWORD).any_stdout().run();
    assert_eq!(ran.stdout, format!("Login succeeded; it is kept in `{}`\n", file.display()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!ran.stdout.contains(PASSWORD) && !ran.stderr.contains(PASSWORD));
    world.rbuild(["push", "-q", &name]).any_stdout().run();
    // skopeo reads it, too.
    let args =
        ["inspect", "--tls-verify=false", "--authfile", file.to_str().unwrap(), &format!("docker://{name}")];
    tools::run("skopeo", args);

    world
        .rbuild(["logout", &registry.host()])
        .stdout(format!("Removed the login for {}\n", registry.host()))
        .run();
    world
        .rbuild(["logout", &registry.host()])
        .stdout(format!("Not logged in to {}\n", registry.host()))
        .run();
    world.rbuild(["pull", "-q", &name]).status(1).run();
}

#[test]
fn other_entries_and_files() {
    let (world, registry) = (World::new(), Registry::start_with_login());
    let own = world.path().join("auth.json");
    fs::write(&own, r#"{"auths":{"other.example":{"auth":"dTpw"}},"more":true}"#).unwrap();
    login(&world, &registry, PASSWORD).env("REGISTRY_AUTH_FILE", &own).any_stdout().run();
    let text = fs::read_to_string(&own).unwrap();
    assert!(
        text.contains("other.example") && text.contains("\"more\"") && text.contains(&registry.host()),
        "{text}"
    );
    let docker = world.path().join("docker");
    login(&world, &registry, PASSWORD).env("DOCKER_CONFIG", &docker).any_stdout().run();
    assert!(docker.join("config.json").exists());
    fs::write(&own, "not json").unwrap();
    let ran = login(&world, &registry, PASSWORD).env("REGISTRY_AUTH_FILE", &own).status(1).run();
    assert!(ran.stderr.contains("is no configuration of docker's"), "{}", ran.stderr);
}

/// A helper as docker has them: it keeps in a file what it is given.
#[test]
fn a_credential_helper_keeps_the_login() {
    let (world, registry) = (World::new(), Registry::start_with_login());
    let bin = world.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let kept = world.path().join("kept");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat > {0} ;;\nget) cat {0} ;;\nerase) rm {0} ;;\nesac\n",
        kept.display()
    );
    fs::write(bin.join("docker-credential-test"), script).unwrap();
    fs::set_permissions(bin.join("docker-credential-test"), fs::Permissions::from_mode(0o755)).unwrap();
    let docker = world.path().join("docker");
    fs::create_dir(&docker).unwrap();
    fs::write(docker.join("config.json"), r#"{"credsStore":"test"}"#).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let ran = login(&world, &registry, PASSWORD)
        .env("DOCKER_CONFIG", &docker)
        .env("PATH", &path)
        .any_stdout()
        .run();
    assert!(ran.stdout.contains("docker-credential-test"), "{}", ran.stdout);
    let stored = fs::read_to_string(&kept).unwrap();
    assert!(stored.contains(PASSWORD) && stored.contains(&registry.host()), "{stored}");
    assert!(!fs::read_to_string(docker.join("config.json")).unwrap().contains("auth\":"));
    let out = world.rbuild(["logout", &registry.host()]).env("DOCKER_CONFIG", &docker).env("PATH", &path);
    out.any_stdout().run();
    assert!(!kept.exists());
}

#[test]
fn bad_usage() {
    let world = World::new();
    for (words, expected) in [
        (vec!["login", "localhost:1"], "no terminal"),
        (vec!["login", "-u", "a:b", "--password-stdin", "localhost:1"], "has a `:` in it"),
        (vec!["login", "-u", "a", "--password-stdin", "localhost:1"], "the password is empty"),
        (vec!["login", "-u", "a", "--password-stdin", "no registry"], "is no registry"),
        (vec!["logout", "user/x"], "is no registry"),
    ] {
        let ran = world.rbuild(&words).status(2).run();
        assert!(ran.stderr.contains(expected), "{words:?}: {}", ran.stderr);
    }
    let ran = world
        .rbuild(["login", "-u", "a", "--password-stdin", "localhost:1"])
        .stdin("secret")
        .status(75)
        .run();
    assert!(ran.stderr.contains("cannot reach") && !ran.stderr.contains("secret"), "{}", ran.stderr);
}

#[test]
fn a_registry_that_asks_nobody() {
    let (world, registry) = (World::new(), Registry::start());
    let ran = login(&world, &registry, "any").any_stdout().run();
    assert!(ran.stdout.contains("asks nobody for a login"), "{}", ran.stdout);
}
