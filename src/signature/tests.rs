#![allow(clippy::unwrap_used)]
//! Against the real `ssh-keygen`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

const NAMESPACE: &str = "test@rbuild";

fn keygen(folder: &Path, arguments: &[&str], input: Option<&str>) -> (bool, String) {
    let mut command = Command::new("ssh-keygen");
    command.current_dir(folder).args(arguments);
    if let Some(input) = input {
        fs::write(folder.join("input"), input).unwrap();
        command.stdin(fs::File::open(folder.join("input")).unwrap());
    }
    let output = command.output().expect("needs the package openssh-client");
    let all = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&all).into_owned())
}

fn key(folder: &Path, name: &str, more: &[&str]) -> PathBuf {
    let arguments = [&["-q", "-f", name], more].concat();
    let (made, said) = keygen(folder, &arguments, None);
    assert!(made, "{said}");
    folder.join(name)
}

fn signers(folder: &Path, text: &str) -> Result<Signers, Error> {
    fs::write(folder.join("signers"), text).unwrap();
    Signers::read(&[folder.join("signers")])
}

#[test]
fn what_one_signs_the_other_believes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = key(folder, "key", &["-t", "ed25519", "-N", "", "-C", "a comment"]);
    let public = fs::read_to_string(folder.join("key.pub")).unwrap();
    let own = SigningKey::read(&path).unwrap();
    let signature = own.sign(NAMESPACE, b"message").unwrap();
    assert!(is_sound(NAMESPACE, b"message", &signature) && !is_sound("other", b"message", &signature));
    assert!(own.has_signed(NAMESPACE, b"message", &signature));
    let (_, listed) = keygen(folder, &["-l", "-f", "key.pub"], None);
    assert!(listed.contains(&claimed(&signature).unwrap()), "{listed}");

    fs::write(folder.join("allowed"), format!("ci@example namespaces=\"{NAMESPACE}\" {public}")).unwrap();
    fs::write(folder.join("signature"), &signature).unwrap();
    let verify = ["-Y", "verify", "-f", "allowed", "-I", "ci@example", "-n", NAMESPACE, "-s", "signature"];
    let (good, said) = keygen(folder, &verify, Some("message"));
    assert!(good, "{said}");
    assert!(!keygen(folder, &verify, Some("another")).0);

    fs::write(folder.join("message"), "message").unwrap();
    let (signed, said) = keygen(folder, &["-Y", "sign", "-f", "key", "-n", NAMESPACE, "message"], None);
    assert!(signed, "{said}");
    let theirs = fs::read_to_string(folder.join("message.sig")).unwrap();
    let trusted = Signers::read(&[folder.join("allowed"), folder.join("key.pub")]).unwrap();
    assert_eq!(trusted.check(NAMESPACE, b"message", 0, &theirs), Ok(()));
    assert_eq!(trusted.check(NAMESPACE, b"another", 0, &theirs), Err(Refused::Wrong));
    assert_eq!(trusted.check(NAMESPACE, b"message", 0, "no signature"), Err(Refused::Unreadable));
    key(folder, "other", &["-t", "ed25519", "-N", ""]);
    let others = Signers::read(&[folder.join("other.pub")]).unwrap();
    assert_eq!(others.check(NAMESPACE, b"message", 0, &theirs), Err(Refused::Unknown));
}

#[test]
fn keys_are_trusted_for_what_their_line_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let own = SigningKey::read(&key(folder, "key", &["-t", "ed25519", "-N", ""])).unwrap();
    let public = fs::read_to_string(folder.join("key.pub")).unwrap();
    let signature = own.sign(NAMESPACE, b"message").unwrap();
    // 1 January 2026.
    let time = 1_767_225_600;
    for (options, is_trusted) in [
        ("", true),
        ("namespaces=\"git,test@rbuild\"", true),
        ("namespaces=\"git\"", false),
        ("valid-after=\"20260101\"", true),
        ("valid-after=\"20260101000001Z\"", false),
        ("valid-before=\"202601010000Z\"", false),
        ("namespaces=\"*\",valid-before=\"20260102Z\"", true),
    ] {
        let trusted = signers(folder, &format!("# comment\n\na@b,c {options} {public}")).unwrap();
        let checked = trusted.check(NAMESPACE, b"message", time, &signature);
        assert_eq!(checked.is_ok(), is_trusted, "{options}: {checked:?}");
    }
}

#[test]
fn files_that_are_no_keys_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let public = |name: &str| fs::read_to_string(folder.join(format!("{name}.pub"))).unwrap();
    let locked = key(folder, "locked", &["-t", "ed25519", "-N", "secret"]);
    let rsa = key(folder, "rsa", &["-t", "rsa", "-N", ""]);
    let said = |path: &Path| SigningKey::read(path).unwrap_err().to_string();
    assert!(said(&locked).contains("has a passphrase"));
    assert!(said(&rsa).contains("only ed25519"));
    assert!(said(&folder.join("rsa.pub")).contains("no private key of OpenSSH"));
    assert!(said(&folder.join("absent")).contains("cannot read"));
    for (text, expected) in [
        ("".to_owned(), "no key in it"),
        ("nonsense".to_owned(), "line 1: it is no public key"),
        (format!("{}{}", public("locked"), public("rsa")), "line 2: only ed25519"),
        (format!("a cert-authority {}", public("locked")), "certificates are not supported"),
        (format!("a frobnicate {}", public("locked")), "options are not understood"),
        (format!("a valid-after=\"soon\" {}", public("locked")), "its time is not of the form"),
    ] {
        let error = signers(folder, &text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
