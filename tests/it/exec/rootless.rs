//! All the steps and owners again as an ordinary user: with the ranges of ids that `useradd` gives, and without any.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::{copy_of_this_program, copy_program, is_root, skip};

/// A user of this machine for the length of a test.
struct TemporaryUser(String);

impl TemporaryUser {
    fn new(name: &str, flags: &[&str]) -> Self {
        let name = format!("rb{name}{}", std::process::id());
        let status = Command::new("useradd").args(flags).arg("--no-create-home").arg(&name).status().unwrap();
        assert!(status.success());
        Self(name)
    }
}

impl Drop for TemporaryUser {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.0).output();
    }
}

/// Runs `super::steps`, `super::owners`, `super::escapes` and `super::own_program` as that user, through another program if need be.
fn run_steps_as(user: &TemporaryUser, wrapper: &[&str]) {
    let directory = tempfile::Builder::new().prefix("rbuild-user-").tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let (program, tests) = (directory.path().join("rbuild"), directory.path().join("tests"));
    copy_program(Path::new(env!("CARGO_BIN_EXE_rbuild")), &program);
    copy_of_this_program(&tests);
    let output = Command::new("runuser")
        .args(["-u", &user.0, "--"])
        .args(wrapper)
        .arg(&tests)
        .args(["exec::steps", "exec::owners", "exec::escapes", "exec::own_program"])
        .env("RBUILD_TEST_PROGRAM", &program)
        .env("TMPDIR", directory.path())
        .env("RUST_BACKTRACE", "0")
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn steps_run_with_ranges_of_ids() {
    if !is_root() {
        skip!("only root can be another user");
    }
    run_steps_as(&TemporaryUser::new("ranges", &[]), &[]);
}

#[test]
fn steps_run_with_a_single_id() {
    if !is_root() {
        skip!("only root can be another user");
    }
    run_steps_as(&TemporaryUser::new("single", &["--system"]), &[]);
}

#[test]
fn steps_run_as_root_of_a_container() {
    if !is_root() {
        skip!("only root can be another user");
    }
    let wrapper = ["unshare", "--user", "--map-root-user", "--map-auto"];
    run_steps_as(&TemporaryUser::new("nested", &[]), &wrapper);
}
