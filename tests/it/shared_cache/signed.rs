//! `sign=` and `verify=`: whose records are believed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::base::busybox_registry;

use super::Project;

/// A project with two keys, `a` and `b`.
fn project() -> Project {
    let project = Project::new();
    for name in ["a", "b"] {
        keygen(&project, &["-q", "-t", "ed25519", "-N", "", "-f", name]);
    }
    project
}

fn keygen(project: &Project, arguments: &[&str]) {
    let output = Command::new("ssh-keygen").current_dir(project.path()).args(arguments).output();
    let output = output.expect("needs the package openssh-client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn key(project: &Project, name: &str) -> String {
    project.path().join(name).display().to_string()
}

fn to(project: &Project, more: &str) -> String {
    format!("--cache-to=type=local,dest={}{more}", project.path().join("cache").display())
}

fn from(project: &Project, keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|name| key(project, &format!("{name}.pub"))).collect();
    let verify = if keys.is_empty() { String::new() } else { format!(",verify={}", keys.join(";")) };
    format!("--cache-from=type=local,src={}{verify}", project.path().join("cache").display())
}

fn head(project: &Project) -> PathBuf {
    project.path().join("cache/rbuild-cache/latest")
}

/// The lines before the packs, and the bytes of each pack.
fn parts(bytes: &[u8]) -> (Vec<serde_json::Value>, Vec<Vec<u8>>) {
    let rest = bytes.strip_prefix(b"rbuild-packs 1\n").expect("a head with signatures");
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
    let lines: Vec<serde_json::Value> = serde_json::from_slice(&rest[..end]).unwrap();
    let mut rest = &rest[end + 1..];
    let mut packs = Vec::new();
    for line in &lines {
        let (pack, more) = rest.split_at(usize::try_from(line["size"].as_u64().unwrap()).unwrap());
        packs.push(pack.to_vec());
        rest = more;
    }
    (lines, packs)
}

#[test]
fn what_a_trusted_key_signed_is_believed_and_nothing_else() {
    let project = project();
    project.built("one", &[&to(&project, &format!(",sign={}", key(&project, "a")))]);
    assert_eq!(project.built("two", &[&from(&project, &["a"])]).ran(), 0);
    assert_eq!(project.built("three", &[&from(&project, &["b", "a"])]).ran(), 0);
    assert_eq!(project.built("four", &[&from(&project, &[])]).ran(), 0);
    let refused = project.built("five", &[&from(&project, &["b"])]);
    assert_eq!(refused.ran(), 8, "{}", refused.stderr);
    let said = "has a pack that is not believed: the key that signed it is none of those that are trusted";
    assert_eq!(refused.stderr.matches(said).count(), 1, "{}", refused.stderr);
    assert!(refused.stderr.contains(&project.path().join("cache").display().to_string()));
}

#[test]
fn ssh_keygen_believes_it_too() {
    let project = project();
    project.built("one", &[&to(&project, &format!(",sign={}", key(&project, "a")))]);
    let (lines, packs) = parts(&fs::read(head(&project)).unwrap());
    let time = lines[0]["time"].as_i64().unwrap();
    let date = Command::new("date").args(["-u", "-d", &format!("@{time}"), "+%Y-%m-%dT%H:%M:%SZ"]).output();
    let date = String::from_utf8(date.unwrap().stdout).unwrap();
    fs::write(project.path().join("pack"), &packs[0]).unwrap();
    let sum = Command::new("sha256sum").current_dir(project.path()).arg("pack").output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let statement = format!(
        "rbuild shared cache 1\nplace: local:latest\ntime: {}\npack: sha256:{}\n",
        date.trim(),
        &sum[..64]
    );
    fs::write(project.path().join("statement"), statement).unwrap();
    fs::write(project.path().join("signature"), lines[0]["signature"].as_str().unwrap()).unwrap();
    let public = fs::read_to_string(project.path().join("a.pub")).unwrap();
    fs::write(project.path().join("allowed"), format!("ci {public}")).unwrap();
    let verified = Command::new("ssh-keygen")
        .current_dir(project.path())
        .args(["-Y", "verify", "-f", "allowed", "-I", "ci", "-n", "cache@rbuild", "-s", "signature"])
        .stdin(fs::File::open(project.path().join("statement")).unwrap())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[test]
fn each_writer_keeps_its_own_signature() {
    let project = project();
    let (sign_a, sign_b) = (format!(",sign={}", key(&project, "a")), format!(",sign={}", key(&project, "b")));
    project.built("one", &[&to(&project, &sign_a)]);
    let before = parts(&fs::read(head(&project)).unwrap());
    // Somebody who does not sign, and somebody with another key, who believes what is there and adds to it.
    project.write("a", "of nobody\n");
    project.built("two", &[&from(&project, &[]), &to(&project, "")]);
    project.write("a", "of b\n");
    let ran = project.built("three", &[&from(&project, &[]), &to(&project, &sign_b)]).ran();
    assert!(ran < 8, "{ran}");
    let after = parts(&fs::read(head(&project)).unwrap());
    assert_eq!(after.0.len(), 3);
    assert!(after.1.contains(&before.1[0]), "what others wrote stays as it is");
    // What b found in the packs of others, b did not sign.
    assert!(project.built("four", &[&from(&project, &["b"])]).ran() >= 8 - ran);
    let both = project.built("five", &[&from(&project, &["a", "b"])]);
    assert_eq!(both.ran(), 0, "{}", both.stderr);
    assert!(both.stderr.contains("not believed: it is not signed"), "{}", both.stderr);
    // a goes on, and its packs become one.
    project.write("a", "of a again\n");
    project.built("six", &[&from(&project, &["a"]), &to(&project, &sign_a)]);
    assert_eq!(parts(&fs::read(head(&project)).unwrap()).0.len(), 3);
    assert_eq!(project.built("seven", &[&from(&project, &["a"])]).ran(), 0);
    project.write("a", "a file\n");
    assert_eq!(project.built("eight", &[&from(&project, &["a"])]).ran(), 0);
    let nothing_new = project.built("six", &[&from(&project, &["a"]), &to(&project, &sign_a)]);
    let again = project.built("six", &[&from(&project, &["a"]), &to(&project, &sign_a)]);
    assert!(again.stderr.contains("has it all"), "{}{}", nothing_new.stderr, again.stderr);
}

#[test]
fn what_was_changed_or_carried_elsewhere_is_not_believed() {
    let project = project();
    project.built("one", &[&to(&project, &format!(",sign={}", key(&project, "a")))]);
    let good = fs::read(head(&project)).unwrap();
    let verify = from(&project, &["a"]);
    // Under another name.
    fs::write(project.path().join("cache/rbuild-cache/other"), &good).unwrap();
    let moved = project.built("two", &[&format!("{verify},tag=other")]);
    assert!(moved.ran() == 8 && moved.stderr.contains("not of what is there"), "{}", moved.stderr);
    // At another time.
    let (lines, packs) = parts(&good);
    let mut later = lines.clone();
    later[0]["time"] = (lines[0]["time"].as_i64().unwrap() + 1).into();
    let mut bytes = b"rbuild-packs 1\n".to_vec();
    bytes.extend(serde_json::to_vec(&later).unwrap());
    bytes.push(b'\n');
    bytes.extend(&packs[0]);
    fs::write(head(&project), bytes).unwrap();
    let changed = project.built("three", &[&verify]);
    assert!(changed.ran() == 8 && changed.stderr.contains("not of what is there"), "{}", changed.stderr);
    // Without the signature.
    fs::write(head(&project), &packs[0]).unwrap();
    let bare = project.built("four", &[&verify]);
    assert!(bare.ran() == 8 && bare.stderr.contains("it is not signed"), "{}", bare.stderr);
}

#[test]
fn keys_that_cannot_be_read_fail_the_build() {
    let project = project();
    let folder = project.path().join("cache").display().to_string();
    let absent = project.build("one", &[&format!("--cache-from=type=local,src={folder},verify=absent")]);
    assert!(absent.code == 1 && absent.stderr.contains("cannot read `absent`"), "{}", absent.stderr);
    // As where a variable of the pipeline is not set.
    let empty = project.build("one", &[&format!("--cache-from=type=local,src={folder},verify=")]);
    assert!(empty.code == 2 && empty.stderr.contains("`verify=` names no file"), "{}", empty.stderr);
    let public = key(&project, "a.pub");
    let wrong = project.build("one", &[&to(&project, &format!(",sign={public}"))]);
    assert!(wrong.code == 1 && wrong.stderr.contains("no key to sign with"), "{}", wrong.stderr);
}

#[test]
fn a_registry_keeps_signed_packs() {
    let registry = busybox_registry();
    let project = project();
    let cache = format!("type=registry,ref={}/app:cache", registry.host());
    project.built("one", &[&format!("--cache-to={cache},sign={}", key(&project, "a"))]);
    let verify = format!("--cache-from={cache},verify={}", key(&project, "a.pub"));
    assert_eq!(project.built("two", &[&verify]).ran(), 0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
    let output = command.args(["cache", "inspect", &cache]).output().unwrap();
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(listed.contains("SIGNED BY") && listed.contains("SHA256:"), "{listed}");
    // Prune has to sign, too.
    let prune = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        let output = command.args(["cache", "prune", "--max-size=100k", &cache]).args(more).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(prune(&[]).starts_with("0 steps dropped"));
    assert!(!prune(&["--sign", &key(&project, "a")]).starts_with("0 steps dropped"));
    assert!((1..8).contains(&project.built("three", &[&verify]).ran()));
}

#[test]
fn steps_with_secrets_are_left_out_on_request() {
    let project = project();
    let dockerfile = "FROM scratch
COPY busybox /bin/sh
RUN --mount=type=secret,id=s echo one > /very-secret
";
    project.write("Dockerfile", dockerfile);
    let secret = format!("--secret=id=s,src={}", key(&project, "a"));
    let folder = || {
        let blobs = fs::read_dir(project.path().join("cache/blobs/sha256")).unwrap();
        blobs.map(|blob| fs::read(blob.unwrap().path()).unwrap()).collect::<Vec<_>>()
    };
    project.built("one", &[&secret, &to(&project, ",secrets=skip")]);
    assert_eq!(folder().len(), 2, "the layer of COPY and its index");
    assert_eq!(project.built("two", &[&secret, &from(&project, &[])]).ran(), 1);
    project.built("one", &[&secret, &to(&project, "")]);
    assert_eq!(folder().len(), 4);
    assert_eq!(project.built("three", &[&secret, &from(&project, &[])]).ran(), 0);
}
