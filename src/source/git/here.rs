//! Which repository a folder of this machine lies in, and what is checked out: read from its `.git`, without running git.
//!
//! Only says where something came from, so whatever is not as usual is not known, and no error.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::shown;

/// No file of interest is longer.
const LIMIT: u64 = 4 << 20;
/// As many references may point to each other.
const DEPTH: usize = 5;

/// A checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// The URL of `origin`, without user info; none of a folder of this machine, which names nothing to others.
    pub remote: Option<String>,
    /// The commit that is checked out; files may have been changed since.
    pub commit: Option<String>,
    /// Where the folder is in it; empty for all of it.
    pub path: PathBuf,
}

/// The checkout that `folder` lies in.
pub fn here(folder: &Path) -> Option<Here> {
    at(&fs::canonicalize(folder).ok()?)
}

/// The same of a folder whose path is absolute and goes through no link.
pub fn at(folder: &Path) -> Option<Here> {
    let top = folder.ancestors().find(|path| path.join(".git").symlink_metadata().is_ok())?;
    let git = git_folder(&top.join(".git"))?;
    // The configuration and most references of a worktree are those of the repository that it is of.
    let common = match read(&git.join("commondir")) {
        Some(path) => git.join(path.trim()),
        None => git.clone(),
    };
    let remote = read(&common.join("config")).as_deref().and_then(origin);
    Some(Here { remote, commit: commit(&git, &common), path: folder.strip_prefix(top).ok()?.to_owned() })
}

/// `.git` may be a file that says where the folder is: of a worktree, of a submodule.
fn git_folder(path: &Path) -> Option<PathBuf> {
    match path.is_dir() {
        true => Some(path.to_owned()),
        false => Some(path.parent()?.join(read(path)?.strip_prefix("gitdir:")?.trim())),
    }
}

fn commit(git: &Path, common: &Path) -> Option<String> {
    let mut text = read(&git.join("HEAD"))?;
    for _ in 0..DEPTH {
        let Some(name) = text.strip_prefix("ref:").map(str::trim) else { break };
        let is_plain =
            name.starts_with("refs/") && !name.split('/').any(|part| matches!(part, "" | "." | ".."));
        if !is_plain {
            return None;
        }
        text = read(&git.join(name)).or_else(|| read(&common.join(name))).or_else(|| packed(common, name))?;
    }
    let text = text.trim();
    (matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| text.to_owned())
}

fn packed(common: &Path, name: &str) -> Option<String> {
    let text = read(&common.join("packed-refs"))?;
    let found = text.lines().filter_map(|line| line.split_once(' ')).find(|(_, known)| *known == name);
    found.map(|(commit, _)| commit.to_owned())
}

fn origin(config: &str) -> Option<String> {
    let lines = config.lines().map(str::trim).skip_while(|line| *line != "[remote \"origin\"]").skip(1);
    let mut own = lines.take_while(|line| !line.starts_with('['));
    let url = own.find_map(|line| line.strip_prefix("url")?.trim_start().strip_prefix('='))?;
    let url = url.trim();
    // `host:path` is ssh's, as git reads it: no slash before the first colon.
    let is_elsewhere = match url.split_once("://") {
        Some((scheme, _)) => scheme != "file",
        None => url.split_once(':').is_some_and(|(host, _)| !host.is_empty() && !host.contains('/')),
    };
    is_elsewhere.then(|| shown(url))
}

fn read(path: &Path) -> Option<String> {
    let file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|meta| meta.is_file()))?;
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_checkout_is_known_by_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let (top, sub) = (dir.path().join("r"), dir.path().join("r/a/b"));
        fs::create_dir_all(&sub).unwrap();
        assert_eq!(here(&sub).map(|here| here.path), None);
        let git = top.join(".git");
        fs::create_dir_all(git.join("refs/heads")).unwrap();
        let commit = "ab".repeat(20);
        fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(
            git.join("config"),
            "[core]\n\turl = x\n[remote \"origin\"]\n\turl = https://me:pw@h/r.git\n",
        )
        .unwrap();
        let found = here(&sub).unwrap();
        assert_eq!((found.commit, found.path), (None, PathBuf::from("a/b")));
        assert!(found.remote.as_deref().is_some_and(|url| url.ends_with("h/r.git") && !url.contains("pw")));
        for (url, is_told) in [
            ("git@h:r.git", true),
            ("ssh://h/r", true),
            ("/srv/r", false),
            ("../r", false),
            ("./a:b", false),
            ("file:///srv/r", false),
        ] {
            fs::write(git.join("config"), format!("[remote \"origin\"]\n\turl = {url}\n")).unwrap();
            assert_eq!(here(&top).unwrap().remote.is_some(), is_told, "{url}");
        }
        fs::write(git.join("config"), "[remote \"origin\"]\n\turl = https://h/r.git\n").unwrap();
        fs::write(git.join("packed-refs"), format!("# x\n{commit} refs/heads/main\n")).unwrap();
        assert_eq!(here(&top).unwrap().commit, Some(commit.clone()));
        let other = "cd".repeat(20);
        fs::write(git.join("refs/heads/main"), format!("{other}\n")).unwrap();
        assert_eq!(here(&top).unwrap().commit, Some(other));
        // A worktree of it.
        let tree = dir.path().join("w");
        fs::create_dir_all(git.join("worktrees/w")).unwrap();
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join(".git"), format!("gitdir: {}\n", git.join("worktrees/w").display())).unwrap();
        fs::write(git.join("worktrees/w/HEAD"), format!("{commit}\n")).unwrap();
        fs::write(git.join("worktrees/w/commondir"), "../..\n").unwrap();
        let found = here(&tree).unwrap();
        assert!(found.commit == Some(commit) && found.remote.is_some());
        for hostile in ["ref: ../../x", "ref: refs/heads/../../../x", "ref: refs/heads/main\0"] {
            fs::write(git.join("HEAD"), hostile).unwrap();
            assert_eq!(here(&top).unwrap().commit, None, "{hostile}");
        }
    }
}
