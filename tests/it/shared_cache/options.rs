//! What `--cache-from` and `--cache-to` say when they are wrong.

use super::Project;
use crate::support::golden;

#[test]
fn what_is_wrong_is_said_without_credentials() {
    let project = Project::new();
    for (name, option) in [
        ("cache-key", "--cache-to=type=s3,bucket=b,access_key_id=abc,secret-access_key=def"),
        ("cache-secret", "--cache-from=type=s3,bucket=b,access_key_id=hidden"),
        ("cache-password", "--cache-from=type=http,url=ftp://me:hidden@cache.example"),
        ("cache-type", "--cache-to=type=azblob,account_url=https://a.example"),
        ("cache-direction", "--cache-from=type=local,dest=/cache"),
    ] {
        let said = project.build("one", &[option]);
        assert_eq!(said.code, 2, "{}", said.stderr);
        assert!(!said.stderr.contains("hidden"), "{}", said.stderr);
        golden::check(&format!("bad/{name}"), &said.stderr);
    }
}

#[test]
fn keys_that_mean_nothing_are_noted_once() {
    let project = Project::new();
    let folder = project.path().join("cache").display().to_string();
    let to = format!("--cache-to=type=local,dest={folder},compression=zstd,image-manifest=true");
    let said = project.built("one", &[&to, &to]);
    for word in ["`compression` means nothing here", "`image-manifest` means nothing here"] {
        assert_eq!(said.stderr.matches(word).count(), 1, "{}", said.stderr);
    }
}
