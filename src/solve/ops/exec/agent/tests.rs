#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

use super::*;

fn keygen(folder: &Path, arguments: &[&str]) -> Output {
    let output = Command::new("ssh-keygen").args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    output.expect("needs the package openssh-client")
}

fn key(folder: &Path, kind: &str, passphrase: &str) -> PathBuf {
    let made = keygen(folder, &["-q", "-t", kind, "-N", passphrase, "-C", kind, "-f", kind]);
    assert!(made.status.success(), "{made:?}");
    folder.join(kind)
}

/// Signs with OpenSSH's own client, through the agent, and has OpenSSH check it.
fn sign_and_check(folder: &Path, socket: &Path, kind: &str) {
    std::fs::write(folder.join("text"), "signed").unwrap();
    let public = format!("{kind}.pub");
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", "test", "-U", "-f", &public, "text"])
        .env("SSH_AUTH_SOCK", socket)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(signed.status.success(), "{kind}: {}", String::from_utf8_lossy(&signed.stderr));
    let text = std::fs::File::open(folder.join("text")).unwrap();
    let checked = Command::new("ssh-keygen")
        .args(["-Y", "check-novalidate", "-n", "test", "-s", "text.sig"])
        .stdin(text)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{kind}: {}", String::from_utf8_lossy(&checked.stderr));
    std::fs::remove_file(folder.join("text.sig")).unwrap();
}

#[test]
fn keys_of_files_sign() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = ["ed25519", "ecdsa", "rsa"];
    let keys = kinds.map(|kind| key(folder.path(), kind, ""));
    let agent = Agent::start(&SshSource::Keys(keys.to_vec()), folder.path()).unwrap();
    for kind in kinds {
        sign_and_check(folder.path(), &agent.path, kind);
    }
    let path = agent.path.clone();
    drop(agent);
    assert!(UnixStream::connect(path).is_err(), "nobody listens any more");
}

#[test]
fn an_agent_is_forwarded_for_signing_only() {
    let (outer, inner) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keys = SshSource::Keys(vec![key(outer.path(), "ed25519", "")]);
    let user = Agent::start(&keys, outer.path()).unwrap();
    let agent = Agent::start(&SshSource::Agent(user.path.clone()), inner.path()).unwrap();
    sign_and_check(outer.path(), &agent.path, "ed25519");
    let client = UnixStream::connect(&agent.path).unwrap();
    // Remove all keys, lock, add an empty key, an extension, nothing.
    for request in [&[19][..], &[22, 0, 0, 0, 0], &[17], &[27], &[]] {
        write(&client, request).unwrap();
        assert_eq!(read(&client).unwrap(), Some(refusal()), "{request:?}");
    }
    sign_and_check(outer.path(), &agent.path, "ed25519");
}

#[test]
fn what_is_no_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text"), "no key").unwrap();
    let locked = key(folder.path(), "ed25519", "secret");
    for (path, expected) in [
        (folder.path().join("text"), "cannot use the key"),
        (locked, "it has a passphrase"),
        (folder.path().join("none"), "No such file"),
    ] {
        let error = Agent::start(&SshSource::Keys(vec![path]), folder.path()).err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let gone = SshSource::Agent(folder.path().join("gone"));
    assert!(matches!(Agent::start(&gone, folder.path()), Err(AgentError::Unreachable { .. })));
}
