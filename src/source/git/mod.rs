//! Git repositories, for ADD and as contexts, through the user's `git`, with its credentials and settings.
//!
//! Objects are kept in one bare repository for each remote; what is copied is a fresh checkout. Modes and
//! times do not depend on this machine: 0644 or 0755, and the time of the commit. Of the machine's configuration only
//! counts what says how to reach servers (`command`), and what a repository says of its submodules is judged before git
//! acts on it (`submodules`).

mod command;
mod head;
pub mod here;
mod mirror;
pub mod submodules;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::context::path;
use crate::context::scan::as_path;
use crate::http::without_user_info as shown;
use crate::oci::Seconds;
use crate::secrets::{SecretError, Secrets};
use mirror::Mirror;

pub use head::{clean_top, clone, head_time, top};

/// Why a repository cannot be added. URLs are shown without user info.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// A part of the URL has no meaning.
    #[error("`{url}`: {problem}")]
    Url {
        /// The repository.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// `git` is not there, or cannot be started.
    #[error("cannot run git: {0}")]
    NoGit(#[source] io::Error),
    /// `git` failed.
    #[error("git {command} of `{url}` failed: {output}")]
    Git {
        /// The repository.
        url: String,
        /// `fetch`
        command: String,
        /// What it said.
        output: String,
    },
    /// A submodule that is not fetched.
    #[error("`{url}`: the submodule `{name}` is refused: {problem}")]
    Submodule {
        /// The repository.
        url: String,
        /// As `.gitmodules` has it.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The commit is not the one of `--checksum`.
    #[error("expected checksum of `{url}` to match {expected}, got {actual}")]
    Checksum {
        /// The repository.
        url: String,
        /// As written.
        expected: String,
        /// The commit.
        actual: String,
    },
    /// The subdirectory is not there.
    #[error("`{url}` has no directory `{subdirectory}`")]
    NoSubdirectory {
        /// The repository.
        url: String,
        /// As written.
        subdirectory: String,
    },
    /// The cache or the checkout cannot be written.
    #[error("cannot write the checkout: {0}")]
    Io(#[from] io::Error),
    /// The secret that should log in is not usable.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// A repository as ADD names it: `REMOTE[#REF[:SUBDIR]]`, or with `?ref=`, `?branch=`, `?tag=`, `?subdir=`,
/// `?checksum=`, `?keep-git-dir=` and `?submodules=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    remote: String,
    reference: String,
    subdirectory: String,
    checksum: Option<String>,
    keep_git_dir: bool,
    submodules: bool,
    /// For the server, as a header's value.
    authorization: Option<String>,
}

/// What git and curl say of a network or a server that may be back a little later.
const TRANSIENT: [&str; 12] = [
    "Could not resolve host",
    "Couldn't connect to server",
    "Failed to connect to",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "Operation timed out",
    "early EOF",
    "unexpected disconnect",
    "The requested URL returned error: 429",
    "The requested URL returned error: 5",
    "the remote end hung up unexpectedly",
];

impl GitError {
    /// Whether the same may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Git { output, .. } => TRANSIENT.iter().any(|words| output.contains(words)),
            Self::NoGit(_)
            | Self::Url { .. }
            | Self::Submodule { .. }
            | Self::Checksum { .. }
            | Self::NoSubdirectory { .. }
            | Self::Io(_)
            | Self::Secret(_) => false,
        }
    }

    /// How to go on.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NoGit(error) if error.kind() == io::ErrorKind::NotFound => {
                Some("repositories are fetched with the `git` program; install it")
            }
            Self::Git { output, .. } if output.contains("couldn't find remote ref") => {
                Some("check the branch, tag or commit behind `#`; `git ls-remote` lists those that there are")
            }
            Self::Git { output, .. } if output.contains("could not read Username") => Some(
                "the server wants a login: `--secret id=GIT_AUTH_TOKEN,src=FILE` gives one, and git's credential helpers are asked",
            ),
            Self::Submodule { .. } => Some("`?submodules=false` behind the URL leaves submodules out"),
            Self::Git { .. }
            | Self::NoGit(_)
            | Self::Url { .. }
            | Self::Checksum { .. }
            | Self::NoSubdirectory { .. }
            | Self::Io(_)
            | Self::Secret(_) => None,
        }
    }
}

impl GitSource {
    /// Parses the URL; `checksum` and `keep_git_dir` are those of the instruction's flags.
    pub fn new(url: &str, checksum: Option<&str>, keep_git_dir: bool) -> Result<Self, GitError> {
        let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
        let (remote, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let mut source = Self {
            remote: remote.to_owned(),
            reference: reference.to_owned(),
            subdirectory: subdirectory.to_owned(),
            checksum: checksum.map(str::to_owned),
            keep_git_dir,
            submodules: true,
            authorization: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            source.option(key, value).map_err(|problem| GitError::Url { url: shown(remote), problem })?;
        }
        source.check().map_err(|problem| GitError::Url { url: shown(remote), problem })?;
        Ok(source)
    }

    /// What git would take for something else: an option, a pattern, two refs.
    fn check(&self) -> Result<(), String> {
        let Self { remote, reference, checksum, .. } = self;
        if remote.starts_with('-') || reference.starts_with('-') {
            return Err("a repository or ref cannot begin with `-`".to_owned());
        }
        if remote.contains(char::is_control) {
            return Err("a repository's URL has no control characters".to_owned());
        }
        let is_special = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
        if reference.starts_with('+') || reference.contains(is_special) || reference.contains("..") {
            return Err(format!("`{}` cannot be the name of a ref", reference.escape_debug()));
        }
        match checksum {
            Some(checksum) if !is_hex(checksum) || checksum.len() > 64 => {
                Err(format!("invalid checksum `{checksum}`: it must be a commit in hex digits"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Logs in with the secret for the server, if it is asked by http and there is one.
    pub fn log_in(mut self, secrets: &Secrets) -> Result<Self, GitError> {
        if let Some(server) = self.server() {
            let host = server.rsplit('/').next().unwrap_or_default();
            self.authorization = secrets.git_authorization(host)?;
        }
        Ok(self)
    }

    /// `https://HOST[:PORT]`
    fn server(&self) -> Option<String> {
        let shown = shown(&self.remote);
        let (scheme, rest) = shown.split_once("://")?;
        let host = &rest[..rest.find('/').unwrap_or(rest.len())];
        matches!(scheme, "http" | "https").then(|| format!("{scheme}://{host}"))
    }

    /// Repository and reference, without user info, as a lock file names them; `None` for a commit, which does not move.
    pub fn movable_name(&self) -> Option<String> {
        if self.checksum.is_some() || is_commit(&self.reference) {
            return None;
        }
        let reference = if self.reference.is_empty() { "HEAD" } else { &self.reference };
        Some(format!("{}#{reference}", shown(&self.remote)))
    }

    /// Repository and reference as they were given, without user info: `https://h/x.git#v1`.
    pub fn name(&self) -> String {
        match self.reference.is_empty() {
            true => shown(&self.remote),
            false => format!("{}#{}", shown(&self.remote), self.reference),
        }
    }

    /// The repository at a commit, which its reference may have left.
    pub(crate) fn at_commit(mut self, commit: &str) -> Self {
        commit.clone_into(&mut self.reference);
        self
    }

    fn option(&mut self, key: &str, value: &str) -> Result<(), String> {
        let boolean = || match value {
            "" | "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            other => Err(format!("invalid {key} value: `{other}`")),
        };
        match key {
            "keep-git-dir" => self.keep_git_dir = boolean()?,
            "submodules" => self.submodules = boolean()?,
            "ref" | "branch" | "tag" | "subdir" | "checksum" | "commit" if value.is_empty() => {
                return Err(format!("query `{key}` has no value"));
            }
            "ref" => self.set_reference(value.to_owned())?,
            "branch" => self.set_reference(qualified("refs/heads/", value))?,
            "tag" => self.set_reference(qualified("refs/tags/", value))?,
            "subdir" => value.clone_into(&mut self.subdirectory),
            "checksum" | "commit" => self.checksum = Some(value.to_owned()),
            other => return Err(format!("unexpected query `{other}`")),
        }
        Ok(())
    }

    fn set_reference(&mut self, reference: String) -> Result<(), String> {
        if !self.reference.is_empty() && self.reference != reference {
            return Err(format!("ref conflicts: `{}` and `{reference}`", self.reference));
        }
        self.reference = reference;
        Ok(())
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A whole one, of SHA-1 or SHA-256.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hex(text)
}

fn qualified(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// The files of a repository at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The folder with the files: the one that was given to check out into, or below it the subdirectory that the URL
    /// names. It is inside of the given one, through whatever links the repository has.
    pub root: PathBuf,
    /// In hex digits.
    pub commit: String,
    /// When the commit was made, as its committer has it.
    pub time: Seconds,
}

/// Fetches into the cache folder and checks out into `into`, which must be an empty folder.
pub fn checkout(source: &GitSource, cache: &Path, into: &Path) -> Result<Checkout, GitError> {
    let (mirror, commit) = fetch(source, cache)?;
    let time = mirror.time(&commit)?;
    mirror.check_out(&commit, into)?;
    let root = root_in(source, into)?;
    if !source.keep_git_dir {
        remove_git_dir(&root)?;
    }
    normalise(into, UNIX_EPOCH + Duration::from_secs(time))?;
    Ok(Checkout { root, commit, time: seconds(time) })
}

/// Fetches into the cache folder; the time of the commit.
pub fn commit_time(source: &GitSource, cache: &Path) -> Result<Seconds, GitError> {
    let (mirror, commit) = fetch(source, cache)?;
    Ok(seconds(mirror.time(&commit)?))
}

fn seconds(time: u64) -> Seconds {
    Seconds::try_from(time).unwrap_or(Seconds::MAX)
}

fn fetch<'s>(source: &'s GitSource, cache: &Path) -> Result<(Mirror<'s>, String), GitError> {
    let mirror = Mirror::open(source, cache)?;
    let commit = mirror.fetch()?;
    let is_other = |expected: &&String| !commit.starts_with(&expected.to_ascii_lowercase());
    if let Some(expected) = source.checksum.as_ref().filter(is_other) {
        return Err(GitError::Checksum {
            url: shown(&source.remote),
            expected: expected.clone(),
            actual: commit,
        });
    }
    Ok((mirror, commit))
}

/// What is wanted of the checkout in `into`. A symlink in the repository must not lead out of it.
fn root_in(source: &GitSource, into: &Path) -> Result<PathBuf, GitError> {
    let root = into.join(as_path(&path::below_root(source.subdirectory.as_bytes())));
    let real = into.canonicalize()?;
    if root.canonicalize().is_ok_and(|root| root.is_dir() && root.starts_with(&real)) {
        return Ok(root);
    }
    let subdirectory = source.subdirectory.clone();
    Err(GitError::NoSubdirectory { url: shown(&source.remote), subdirectory })
}

/// Removes what git keeps beside the files: a folder, or in a submodule a file that names one.
fn remove_git_dir(root: &Path) -> io::Result<()> {
    let path = root.join(".git");
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Modes without the umask, and the commit's time.
fn normalise(folder: &Path, time: std::time::SystemTime) -> io::Result<()> {
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry?;
        let (is_dir, is_file) = (entry.file_type().is_dir(), entry.file_type().is_file());
        if is_dir || is_file {
            let is_executable = is_dir || entry.metadata()?.permissions().mode() & 0o100 != 0;
            let mode = if is_executable { 0o755 } else { 0o644 };
            std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode))?;
        }
        if !is_dir {
            set_time(entry.path(), time)?;
        }
    }
    Ok(())
}

/// Of the entry itself, also of a symlink.
fn set_time(path: &Path, time: std::time::SystemTime) -> io::Result<()> {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let stamp = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: stamp, last_modification: stamp };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn urls() {
        let parse = |url: &str| GitSource::new(url, None, false).unwrap();
        for (url, remote, reference, subdirectory) in [
            ("https://h/r.git", "https://h/r.git", "", ""),
            ("https://h/r.git#v1", "https://h/r.git", "v1", ""),
            ("https://h/r.git#main:sub/in", "https://h/r.git", "main", "sub/in"),
            ("https://h/r.git#:sub", "https://h/r.git", "", "sub"),
            ("https://h/r.git?branch=dev&subdir=sub", "https://h/r.git", "refs/heads/dev", "sub"),
            ("https://h/r.git?tag=v1", "https://h/r.git", "refs/tags/v1", ""),
            ("git@h:o/r.git#x", "git@h:o/r.git", "x", ""),
        ] {
            let source = parse(url);
            assert_eq!(
                (source.remote.as_str(), source.reference.as_str(), source.subdirectory.as_str()),
                (remote, reference, subdirectory),
                "{url}"
            );
        }
        for (url, expected) in [
            ("https://h/r.git?what=x", "`https://h/r.git`: unexpected query `what`"),
            ("https://h/r.git?branch=", "`https://h/r.git`: query `branch` has no value"),
            ("https://u:p@h/r.git?tag=a#b", "`https://h/r.git`: ref conflicts: `b` and `refs/tags/a`"),
            (
                "https://h/r.git#--upload-pack=x",
                "`https://h/r.git`: a repository or ref cannot begin with `-`",
            ),
            ("-u./x", "`-u./x`: a repository or ref cannot begin with `-`"),
            ("https://h/r.git?ref=-x", "`https://h/r.git`: a repository or ref cannot begin with `-`"),
            ("https://h/r.git?ref=+x", "`https://h/r.git`: `+x` cannot be the name of a ref"),
            (
                "https://h/r.git?ref=x:refs/heads/y",
                "`https://h/r.git`: `x:refs/heads/y` cannot be the name of a ref",
            ),
            ("https://h/r.git#refs/*", "`https://h/r.git`: `refs/*` cannot be the name of a ref"),
            ("https://h/r.git#a..b", "`https://h/r.git`: `a..b` cannot be the name of a ref"),
            ("https://h/r\n.git", "`https://h/r\n.git`: a repository's URL has no control characters"),
            (
                "https://h/r.git?commit=foobar",
                "`https://h/r.git`: invalid checksum `foobar`: it must be a commit in hex digits",
            ),
        ] {
            assert_eq!(GitSource::new(url, None, false).unwrap_err().to_string(), expected);
        }
    }

    /// A repository with two commits on `main`, a tag on the first, and a branch `dev`.
    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let script = "git init -q -b main . && echo one > f && mkdir -p sub/in && echo s > sub/in/s && \
             echo '#!/bin/sh' > ex && chmod 755 ex && ln -s f l && git add -A && git commit -qm one && git tag v1 && \
             echo two > f && git commit -qam two && git checkout -q -b dev && echo dev > f && \
             git commit -qam dev && git checkout -q main";
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(dir.path());
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "t").env(format!("GIT_{who}_EMAIL"), "t@example.com");
            command.env(format!("GIT_{who}_DATE"), "1500000000 +0000");
        }
        assert!(command.status().unwrap().success());
        dir
    }

    #[test]
    fn checks_out_refs_and_subdirectories() {
        let (repository, cache) = (repository(), tempfile::tempdir().unwrap());
        let remote = repository.path().to_str().unwrap();
        let fetch = |suffix: &str, checksum: Option<&str>, keep: bool| {
            let into = tempfile::tempdir().unwrap();
            let source = GitSource::new(&format!("{remote}{suffix}"), checksum, keep)?;
            let Checkout { root, .. } = checkout(&source, cache.path(), into.path())?;
            let name =
                |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
            let mut names: Vec<String> = std::fs::read_dir(root).unwrap().map(name).collect();
            names.sort();
            let text = std::fs::read_to_string(into.path().join("f")).unwrap();
            Ok::<_, GitError>((names.join(" "), text))
        };
        for (suffix, keep, names, text) in [
            ("", false, "ex f l sub", "two\n"),
            ("#v1", true, ".git ex f l sub", "one\n"),
            ("#dev", false, "ex f l sub", "dev\n"),
            ("#main:sub", false, "in", "two\n"),
            ("?branch=dev&subdir=sub", false, "in", "dev\n"),
        ] {
            assert_eq!(fetch(suffix, None, keep).unwrap(), (names.to_owned(), text.to_owned()), "{suffix}");
        }
        for (suffix, checksum, expected) in [
            ("#nosuch", None, "nosuch"),
            ("#v1", Some("0123456789012345678901234567890123456789"), "expected checksum"),
            ("#main:none", None, "has no directory `none`"),
        ] {
            let error = fetch(suffix, checksum, false).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn modes_and_times_are_those_of_the_commit() {
        let (repository, cache) = (repository(), tempfile::tempdir().unwrap());
        let into = tempfile::tempdir().unwrap();
        let source = GitSource::new(repository.path().to_str().unwrap(), None, false).unwrap();
        let Checkout { root, commit, time } = checkout(&source, cache.path(), into.path()).unwrap();
        assert!(is_commit(&commit) && time == 1_500_000_000);
        for (name, mode) in [("f", Some(0o644)), ("ex", Some(0o755)), ("l", None)] {
            let found = root.join(name).symlink_metadata().unwrap();
            assert_eq!(found.mtime(), 1_500_000_000, "{name}");
            assert!(mode.is_none_or(|mode| found.mode() & 0o7777 == mode), "{name}: {:o}", found.mode());
        }
    }
}
