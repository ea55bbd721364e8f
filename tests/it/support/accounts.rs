//! Who runs the program: root, an ordinary user with ranges of ids, or one without any.

use std::fs::{self, File};
use std::process::Command;

use super::is_root;

/// The ordinary user that a test run of root makes once, and keeps.
const NAME: &str = "rbuildtest";

/// A user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

impl Account {
    /// Whoever runs the tests.
    pub fn mine() -> Self {
        Self { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    /// An ordinary user with ranges of ids in /etc/subuid and /etc/subgid: root makes one, everybody else is
    /// one, or gets to know what is missing.
    pub fn with_ranges() -> Result<Self, String> {
        if is_root() {
            return Ok(made_by_root());
        }
        let name = user_name();
        match has_range("/etc/subuid", &name) && has_range("/etc/subgid", &name) {
            true => Ok(Self::mine()),
            false => Err(format!("{name} has no ranges in /etc/subuid and /etc/subgid")),
        }
    }

    /// A user without ranges of ids: `nobody` for root, else whoever runs the tests.
    pub fn without_ranges() -> Self {
        if is_root() { Self { uid: 65534, gid: 65534 } } else { Self::mine() }
    }
}

/// Tests run at the same time, and `useradd` does not wait for long: only one of them makes the user.
fn made_by_root() -> Account {
    let lock = File::create(std::env::temp_dir().join("rbuild-tests-user.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if account(NAME).is_none() {
        run("useradd", &["--no-create-home", "--shell", "/bin/sh", NAME]);
    }
    for (file, flag) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        if !has_range(file, NAME) {
            // Where this machine gives no ranges by itself: far above those that it may give later.
            run("usermod", &[flag, "1879048192-1879113727", NAME]);
        }
    }
    account(NAME).expect("useradd made it")
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn account(name: &str) -> Option<Account> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let fields: Vec<&str> = line.split(':').collect();
    Some(Account { uid: fields[2].parse().unwrap(), gid: fields[3].parse().unwrap() })
}

fn user_name() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn has_range(file: &str, name: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().any(|line| line.split(':').next() == Some(name))
}
