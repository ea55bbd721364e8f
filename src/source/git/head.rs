//! The commit that is checked out in a folder of this machine.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::oci::Seconds;

/// What names another repository than the folder's.
const NAMES_ANOTHER: [&str; 6] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
];

/// git in a folder that its user named, whoever owns it. Nothing is fetched.
fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false"]).current_dir(folder);
    for name in NAMES_ANOTHER {
        command.env_remove(name);
    }
    command.env("GIT_NO_REPLACE_OBJECTS", "1").env("GIT_NO_LAZY_FETCH", "1").env("LC_ALL", "C");
    command.env("GIT_OPTIONAL_LOCKS", "0").stdin(Stdio::null());
    command
}

/// What git says, if it succeeds.
fn told(command: &mut Command) -> Option<Vec<u8>> {
    let told = command.stderr(Stdio::null()).output().ok()?;
    told.status.success().then_some(told.stdout)
}

/// The time of the commit that is checked out in `folder`, or in the repository around it; `None` where there is none, or no git.
/// Nothing is run that the repository names.
pub fn head_time(folder: &Path) -> Option<Seconds> {
    committed(&told(git(folder).args(["cat-file", "commit", "HEAD"]))?)
}

/// The folder of the repository that `folder` is in, if all files below `folder` are as the commit has them, and a clone has all of them;
/// `None` else.
pub fn clean_top(folder: &Path) -> Option<PathBuf> {
    let top = top(folder)?;
    let changed = told(git(folder).args([
        "status",
        "--porcelain",
        "--untracked-files=normal",
        "--ignored",
        "--",
        ".",
    ]))?;
    let has_modules = top.join(".gitmodules").symlink_metadata().is_ok();
    (changed.is_empty() && !has_modules).then_some(top)
}

/// The folder of the repository that `folder` is in.
pub fn top(folder: &Path) -> Option<PathBuf> {
    let top = told(git(folder).args(["rev-parse", "--show-toplevel"]))?;
    Some(PathBuf::from(OsStr::from_bytes(top.trim_ascii_end())))
}

/// Clones what is checked out in `top`, or another commit of it.
///
/// # Errors
/// What git says.
pub fn clone(top: &Path, commit: Option<&str>, into: &Path) -> io::Result<()> {
    run(git(top).args(["clone", "--quiet", "--no-tags", "--"]).arg(top).arg(into))?;
    match commit {
        None => Ok(()),
        Some(commit) if commit.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            run(git(into).args(["checkout", "--quiet", "--detach", commit]))
        }
        Some(other) => Err(io::Error::other(format!("`{other}` is no commit"))),
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let said = command.output()?;
    match said.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&said.stderr).trim().to_owned())),
    }
}

/// `committer NAME <MAIL> SECONDS ZONE`, before the first empty line (git-fast-import(1) has the format).
fn committed(commit: &[u8]) -> Option<Seconds> {
    let text = String::from_utf8_lossy(commit);
    let line =
        text.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix("committer "))?;
    let seconds = line.rsplit(' ').nth(1)?;
    seconds.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_commit() {
        let commit = b"tree 1\nauthor A <a@b> 5 +0000\ncommitter C D <c@d> 1700000000 +0100\n\ncommitter no <x> 7 +0000\n";
        assert_eq!(committed(commit), Some(1_700_000_000));
        assert_eq!(committed(b"tree 1\n\ncommitter no <x> 7 +0000\n"), None);
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(head_time(folder.path()), None);
    }
}
