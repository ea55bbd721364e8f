//! Git repositories, for ADD and as contexts, through the user's `git`, with its credentials and settings.
//!
//! Objects are kept in one bare repository for each remote; what is copied is a fresh checkout. Modes and
//! times do not depend on this machine: 0644 or 0755, and the time of the commit.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::super::secrets::{SecretError, Secrets};
use super::transfer::FileTree;
use crate::context::ignore;
use crate::context::{self, Context, path};

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
    /// The checkout cannot be read back.
    #[error(transparent)]
    Context(#[from] context::Error),
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

impl GitError {
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
            Self::Git { .. }
            | Self::NoGit(_)
            | Self::Url { .. }
            | Self::Checksum { .. }
            | Self::NoSubdirectory { .. }
            | Self::Io(_)
            | Self::Secret(_)
            | Self::Context(_) => None,
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
        if source.remote.starts_with('-') || source.reference.starts_with('-') {
            let problem = "a repository or ref cannot begin with `-`".to_owned();
            return Err(GitError::Url { url: shown(remote), problem });
        }
        Ok(source)
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
        let is_commit = |text: &str| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if self.checksum.is_some() || is_commit(&self.reference) {
            return None;
        }
        let reference = if self.reference.is_empty() { "HEAD" } else { &self.reference };
        Some(format!("{}#{reference}", shown(&self.remote)))
    }

    /// The same at a commit, which its reference may have left.
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

fn qualified(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// Fetches into the cache folder and checks out into `into`, which must be an empty folder; gives the commit, too.
pub fn checkout(source: &GitSource, cache: &Path, into: &Path) -> Result<(FileTree, String), GitError> {
    let (context, commit) = check_out(source, cache, into)?;
    Ok((FileTree::Context(context), commit))
}

/// [`checkout`] as a context.
pub fn check_out_context(source: &GitSource, cache: &Path, into: &Path) -> Result<Arc<Context>, GitError> {
    check_out(source, cache, into).map(|(context, _)| context)
}

fn check_out(source: &GitSource, cache: &Path, into: &Path) -> Result<(Arc<Context>, String), GitError> {
    let mirror = Mirror::open(source, cache)?;
    let commit = mirror.fetch()?;
    if let Some(expected) = source.checksum.as_ref().filter(|expected| !commit.starts_with(expected.as_str()))
    {
        return Err(GitError::Checksum {
            url: shown(&source.remote),
            expected: expected.clone(),
            actual: commit,
        });
    }
    let time: u64 = mirror.git(&["log", "-1", "--format=%ct", &commit])?.parse().unwrap_or(0);
    mirror.check_out(&commit, into)?;
    normalise(into, UNIX_EPOCH + Duration::from_secs(time))?;
    let subdirectory = path::below_root(source.subdirectory.as_bytes());
    let root = into.join(context::scan::as_path(&subdirectory));
    // A symlink in the repository must not lead out of it.
    let real = into.canonicalize()?;
    if !root.canonicalize().is_ok_and(|root| root.is_dir() && root.starts_with(&real)) {
        let subdirectory = source.subdirectory.clone();
        return Err(GitError::NoSubdirectory { url: shown(&source.remote), subdirectory });
    }
    let rules = if source.keep_git_dir { "" } else { ".git" };
    let ignore = ignore::parse(rules.as_bytes(), "git")?;
    Ok((Arc::new(Context::open(&root, Some(ignore), None)?), commit))
}

/// The bare repository that keeps what was fetched from one remote; locked while it is open.
struct Mirror<'s> {
    source: &'s GitSource,
    folder: PathBuf,
    _lock: File,
}

impl<'s> Mirror<'s> {
    fn open(source: &'s GitSource, cache: &Path) -> Result<Self, GitError> {
        let name = blake3::hash(source.remote.as_bytes()).to_hex();
        let folder = cache.join(format!("{}.git", &name[..32]));
        let lock = File::create(cache.join(format!("{}.lock", &name[..32])))?;
        lock.lock()?;
        let mirror = Self { source, folder, _lock: lock };
        if !mirror.folder.join("HEAD").exists() {
            std::fs::create_dir_all(&mirror.folder)?;
            mirror.git(&["init", "--quiet", "--bare", "--template="])?;
        }
        Ok(mirror)
    }

    /// Fetches the ref; its commit.
    fn fetch(&self) -> Result<String, GitError> {
        let reference = match self.source.reference.as_str() {
            "" => "HEAD",
            reference => reference,
        };
        let is_commit = reference.len() == 40 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_commit && self.commit(reference).is_ok() {
            return Ok(reference.to_owned());
        }
        let remote = self.source.remote.as_str();
        let shallow = ["fetch", "--quiet", "--no-tags", "--force", "--depth=1", "--", remote, reference];
        match self.git(&shallow) {
            Ok(_) => self.commit("FETCH_HEAD"),
            // Not every server hands out a single commit; then it is among all of them.
            Err(_) if is_commit => {
                self.git(&["fetch", "--quiet", "--force", "--", remote, "+refs/*:refs/remote/*"])?;
                self.commit(reference)
            }
            // A server of plain files has no shallow clones.
            Err(GitError::Git { output, .. }) if output.contains("does not support shallow") => {
                self.git(&["fetch", "--quiet", "--no-tags", "--force", "--", remote, reference])?;
                self.commit("FETCH_HEAD")
            }
            Err(error) => Err(error),
        }
    }

    fn commit(&self, name: &str) -> Result<String, GitError> {
        self.git(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")])
    }

    fn check_out(&self, commit: &str, into: &Path) -> Result<(), GitError> {
        let run = |arguments: &[&str]| self.run(into, arguments.iter().map(OsStr::new));
        run(&["init", "--quiet", "--template="])?;
        run(&["remote", "add", "origin", &shown(&self.source.remote)])?;
        // A local fetch takes any commit that the mirror has under a name.
        let name = format!("refs/rbuild/{commit}");
        self.git(&["update-ref", &name, commit])?;
        let mirror = self.folder.as_os_str();
        let fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", "--"].map(OsStr::new);
        self.run(into, fetch.into_iter().chain([mirror, OsStr::new(&name)]))?;
        run(&["checkout", "--quiet", "--detach", "FETCH_HEAD"])?;
        if self.source.submodules && into.join(".gitmodules").exists() {
            run(&["submodule", "update", "--quiet", "--init", "--recursive", "--depth=1"])?;
        }
        Ok(())
    }

    fn git(&self, arguments: &[&str]) -> Result<String, GitError> {
        self.run(&self.folder, arguments.iter().map(OsStr::new))
    }

    /// Runs git in `folder`; what it prints, trimmed.
    fn run<'a>(&self, folder: &Path, arguments: impl Iterator<Item = &'a OsStr>) -> Result<String, GitError> {
        let arguments: Vec<&OsStr> = arguments.collect();
        let mut command = Command::new("git");
        command.current_dir(folder).stdin(std::process::Stdio::null());
        // No prompt, no helper program as transport, no hook, no conversion of line ends.
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh");
        command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
        // Not as an argument, which every process of the machine could read.
        if let (Some(authorization), Some(server)) = (&self.source.authorization, self.source.server()) {
            let number = std::env::var("GIT_CONFIG_COUNT").ok().and_then(|count| count.parse().ok());
            let number: u32 = number.unwrap_or(0);
            command.env("GIT_CONFIG_COUNT", (number + 1).to_string());
            command.env(format!("GIT_CONFIG_KEY_{number}"), format!("http.{server}/.extraheader"));
            command.env(format!("GIT_CONFIG_VALUE_{number}"), format!("Authorization: {authorization}"));
        }
        command.args(["-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false", "-c", "gc.auto=0"]);
        let output = command.args(&arguments).output().map_err(GitError::NoGit)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr)
            .trim()
            .replace(&self.source.remote, &shown(&self.source.remote));
        Err(GitError::Git {
            url: shown(&self.source.remote),
            command: arguments.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            output: said,
        })
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

/// A URL without user info.
fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
            let (tree, _) = checkout(&source, cache.path(), &into.path().canonicalize().unwrap())?;
            let names = tree.list(b"").unwrap().into_iter().map(|(name, _)| String::from_utf8(name).unwrap());
            let text = std::fs::read_to_string(into.path().join("f")).unwrap();
            Ok::<_, GitError>((names.collect::<Vec<_>>().join(" "), text))
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
        let (tree, _) = checkout(&source, cache.path(), &into.path().canonicalize().unwrap()).unwrap();
        for (name, mode) in [("f", 0o644), ("ex", 0o755)] {
            let item = tree.entry(name.as_bytes()).unwrap().unwrap();
            assert_eq!((item.mode, item.mtime), (mode, 1_500_000_000), "{name}");
        }
        assert_eq!(tree.entry(b"l").unwrap().unwrap().mtime, 1_500_000_000);
    }
}
