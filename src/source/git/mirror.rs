//! The bare repository that keeps what was fetched from one remote, and checkouts from it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::command::{self, Login, Reach, Said, Told};
use super::submodules::{self, Place};
use super::{GitError, GitSource, is_commit, shown};

/// Deeper, and more of them all together, is an attack.
const DEEPEST_SUBMODULES: usize = 32;
const MOST_SUBMODULES: usize = 4096;

/// The other side of a fetch on this machine, which has no settings from here.
const UPLOAD_PACK: &str = "--upload-pack=git -c 'safe.directory=*' upload-pack";

/// Locked while it is open.
pub(super) struct Mirror<'s> {
    source: &'s GitSource,
    server: Option<String>,
    folder: PathBuf,
    /// Those of `SSL_CERT_FILE`, if git is told nothing else about them.
    authorities: Option<OsString>,
    _lock: File,
}

/// The hash of a repository's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    /// By the hex digits of an object's name.
    fn of_name(name: &str) -> Self {
        if name.len() == 64 { Self::Sha256 } else { Self::Sha1 }
    }
}

/// Submodules that are still to be looked at: of the checkout in `folder`, which came from `place`.
struct Level {
    folder: PathBuf,
    place: Place,
    depth: usize,
}

impl<'s> Mirror<'s> {
    pub(super) fn open(source: &'s GitSource, cache: &Path) -> Result<Self, GitError> {
        let name = blake3::hash(source.remote.as_bytes()).to_hex();
        let folder = cache.join(format!("{}.git", &name[..32]));
        let lock = cache.join(format!("{}.lock", &name[..32]));
        let lock = File::options().create(true).truncate(false).read(true).write(true).open(lock)?;
        lock.lock()?;
        let mut mirror = Self { source, server: source.server(), folder, authorities: None, _lock: lock };
        if !mirror.folder.join("HEAD").exists() {
            let is_long = is_commit(&source.reference) && source.reference.len() == 64;
            mirror.make(if is_long { Hash::Sha256 } else { Hash::Sha1 })?;
        }
        mirror.authorities = mirror.authorities()?;
        Ok(mirror)
    }

    /// Git's libraries do not look at `SSL_CERT_FILE`, which counts for everything else that rbuild fetches.
    fn authorities(&self) -> Result<Option<OsString>, GitError> {
        let is_told = std::env::var_os("GIT_SSL_CAINFO").is_some();
        let Some(file) = std::env::var_os("SSL_CERT_FILE").filter(|file| !(is_told || file.is_empty()))
        else {
            return Ok(None);
        };
        let config = ["config", "--name-only", "--get-regexp", r"^http\..*sslcainfo$"];
        let configured = self.say(&self.folder, Reach::ServersAndFiles, &[], &config)?;
        Ok(configured.output.is_empty().then_some(file))
    }

    fn make(&self, hash: Hash) -> Result<(), GitError> {
        std::fs::create_dir_all(&self.folder)?;
        self.init(&self.folder, hash, &["--bare"])
    }

    fn init(&self, folder: &Path, hash: Hash, options: &[&str]) -> Result<(), GitError> {
        // Git that does not know the option makes SHA-1.
        let format: &[&str] = if hash == Hash::Sha256 { &["--object-format=sha256"] } else { &[] };
        let arguments = [&["init", "--quiet", "--template="], options, format].concat();
        self.run(folder, Reach::Inside, &arguments).map(drop)
    }

    /// Fetches the ref; its commit.
    pub(super) fn fetch(&self) -> Result<String, GitError> {
        let reference = match self.source.reference.as_str() {
            "" => "HEAD",
            reference => reference,
        };
        if is_commit(reference)
            && let Ok(commit) = self.commit(reference)
        {
            return Ok(commit);
        }
        match self.fetch_ref(reference) {
            Ok(commit) => Ok(commit),
            // The words for a foreign hash differ from transport to transport, so the server is asked for it.
            Err(error) => match self.remote_hash() {
                Some(hash) if hash != self.hash()? => {
                    std::fs::remove_dir_all(&self.folder)?;
                    self.make(hash)?;
                    self.fetch_ref(reference)
                }
                Some(_) | None => Err(error),
            },
        }
    }

    fn fetch_ref(&self, reference: &str) -> Result<String, GitError> {
        let remote = self.source.remote.as_str();
        let fetch = |options: &[&str], what: &str| {
            let start = ["fetch", "--quiet", "--force"];
            let arguments = [&start[..], options, &["--", remote, what]].concat();
            self.run(&self.folder, Reach::ServersAndFiles, &arguments)
        };
        match fetch(&["--no-tags", "--depth=1"], reference) {
            Ok(_) => self.commit("FETCH_HEAD"),
            // Not every server hands out a single commit; then it is among all of them.
            Err(_) if is_commit(reference) => {
                fetch(&[], "+refs/*:refs/remote/*")?;
                self.commit(reference)
            }
            Err(error) if is_without_shallow(&error) => {
                fetch(&["--no-tags"], reference)?;
                self.commit("FETCH_HEAD")
            }
            Err(error) => Err(error),
        }
    }

    /// That of the mirror.
    fn hash(&self) -> Result<Hash, GitError> {
        // The tree without entries, which is not stored for that.
        let name = self.run(&self.folder, Reach::Inside, &["hash-object", "-t", "tree", "--stdin"])?;
        Ok(Hash::of_name(&name))
    }

    /// That of the remote, if it tells a ref.
    fn remote_hash(&self) -> Option<Hash> {
        let arguments = ["ls-remote", "--quiet", "--", &self.source.remote, "HEAD", "refs/heads/*"];
        let refs = self.run(&self.folder, Reach::ServersAndFiles, &arguments).ok()?;
        refs.split_ascii_whitespace().next().map(Hash::of_name)
    }

    fn commit(&self, name: &str) -> Result<String, GitError> {
        let name = format!("{name}^{{commit}}");
        self.run(
            &self.folder,
            Reach::Inside,
            &["rev-parse", "--verify", "--quiet", "--end-of-options", &name],
        )
    }

    /// When a commit was made, in seconds.
    pub(super) fn time(&self, commit: &str) -> Result<u64, GitError> {
        let time = self.run(&self.folder, Reach::Inside, &["log", "-1", "--format=%ct", commit])?;
        Ok(time.parse().unwrap_or(0))
    }

    pub(super) fn check_out(&self, commit: &str, into: &Path) -> Result<(), GitError> {
        let run = |arguments: &[&str]| self.run(into, Reach::Inside, arguments);
        self.init(into, Hash::of_name(commit), &[])?;
        run(&["remote", "add", "origin", &shown(&self.source.remote)])?;
        // A local fetch takes any commit that the mirror has under a name.
        let name = format!("refs/rbuild/{commit}");
        self.run(&self.folder, Reach::Inside, &["update-ref", &name, commit])?;
        let fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", UPLOAD_PACK, "--"].map(OsStr::new);
        let fetch = fetch.into_iter().chain([self.folder.as_os_str(), OsStr::new(&name)]);
        self.done(into, Reach::Inside, &[], fetch.collect())?;
        run(&["checkout", "--quiet", "--detach", "FETCH_HEAD"])?;
        // It names the mirror.
        std::fs::remove_file(into.join(".git/FETCH_HEAD"))?;
        if self.source.submodules { self.fetch_submodules(into) } else { Ok(()) }
    }

    /// Level by level, so that each URL is judged before git knows it.
    fn fetch_submodules(&self, into: &Path) -> Result<(), GitError> {
        let mut number = 0;
        let url = self.run(
            &self.folder,
            Reach::ServersAndFiles,
            &["ls-remote", "--get-url", "--", &self.source.remote],
        )?;
        let mut levels = vec![Level { folder: into.to_owned(), place: submodules::place(&url), depth: 0 }];
        let mut filters = None;
        while let Some(level) = levels.pop() {
            if !is_file(&level.folder.join(".gitmodules")) {
                continue;
            }
            let filters = match &mut filters {
                Some(filters) => filters,
                none => none.insert(self.filters()?),
            };
            self.update(&level, filters)?;
            let nested = self.nested(&level, into)?;
            number += nested.len();
            if level.depth >= DEEPEST_SUBMODULES || number > MOST_SUBMODULES {
                let problem = "there are too many, or they are nested too deeply";
                return Err(self.refused(&level.folder.display().to_string(), problem));
            }
            levels.extend(nested);
        }
        Ok(())
    }

    /// Checks out the submodules of one repository.
    fn update(&self, level: &Level, filters: &[OsString]) -> Result<(), GitError> {
        let Level { folder, place, .. } = level;
        self.run(folder, Reach::Inside, &["submodule", "--quiet", "init"])?;
        let config = ["config", "--local", "--null", "--get-regexp", r"^submodule\."];
        let listing = self.say(folder, Reach::Inside, &[], &config)?.output;
        for submodule in submodules::parse(&listing) {
            let refused = |problem| self.refused(&submodule.name, problem);
            submodules::judge(&submodule, *place).map_err(refused)?;
        }
        let reach = match place {
            Place::Server => Reach::Servers,
            Place::Here => Reach::ServersAndFiles,
        };
        let whole = ["submodule", "--quiet", "update", "--checkout"];
        let shallow = [&whole[..], &["--depth=1"]].concat();
        let update = |arguments: &[&str]| {
            self.done(folder, reach, filters, arguments.iter().map(OsStr::new).collect()).map(drop)
        };
        match update(&shallow) {
            Err(error) if is_without_shallow(&error) => update(&whole),
            result => result,
        }
    }

    /// What was checked out in a repository.
    fn nested(&self, level: &Level, root: &Path) -> Result<Vec<Level>, GitError> {
        let files = self.say(&level.folder, Reach::Inside, &[], &["ls-files", "--stage", "-z"])?.output;
        let mut nested = Vec::new();
        for path in submodules::links(&files) {
            let folder = level.folder.join(path);
            // Without an entry in `.gitmodules` it is an empty folder.
            if !is_file(&folder.join(".git")) || !folder.canonicalize()?.starts_with(root.canonicalize()?) {
                continue;
            }
            let url = self.run(&folder, Reach::ServersAndFiles, &["ls-remote", "--get-url"])?;
            nested.push(Level { folder, place: submodules::place(&url), depth: level.depth + 1 });
        }
        Ok(nested)
    }

    /// The filters that the machine's configuration has, which attributes of the repository could ask for.
    fn filters(&self) -> Result<Vec<OsString>, GitError> {
        let config = ["config", "--null", "--name-only", "--get-regexp", r"^filter\."];
        let said = self.say(&self.folder, Reach::ServersAndFiles, &[], &config)?;
        Ok(submodules::filters(&said.output))
    }

    fn refused(&self, name: &str, problem: &'static str) -> GitError {
        let name = name.escape_debug().to_string();
        GitError::Submodule { url: shown(&self.source.remote), name, problem }
    }

    /// Runs git in `folder`; what it prints, trimmed.
    fn run(&self, folder: &Path, reach: Reach, arguments: &[&str]) -> Result<String, GitError> {
        let output = self.done(folder, reach, &[], arguments.iter().map(OsStr::new).collect())?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    /// Runs git, which must succeed; what it prints.
    fn done(
        &self,
        folder: &Path,
        reach: Reach,
        filters: &[OsString],
        arguments: Vec<&OsStr>,
    ) -> Result<Vec<u8>, GitError> {
        let command = arguments.first().map(|name| name.to_string_lossy().into_owned());
        let said = command::run(folder, reach, self.told(filters), arguments.into_iter());
        let said = said.map_err(GitError::NoGit)?;
        if said.is_done {
            return Ok(said.output);
        }
        let remote = &self.source.remote;
        Err(GitError::Git {
            url: shown(remote),
            command: command.unwrap_or_default(),
            output: said.errors.replace(remote, &shown(remote)),
        })
    }

    /// Runs git, which fails where it has nothing to tell.
    fn say(
        &self,
        folder: &Path,
        reach: Reach,
        filters: &[OsString],
        arguments: &[&str],
    ) -> Result<Said, GitError> {
        command::run(folder, reach, self.told(filters), arguments.iter().map(OsStr::new))
            .map_err(GitError::NoGit)
    }

    fn told<'t>(&'t self, filters: &'t [OsString]) -> Told<'t> {
        Told { login: self.login(), authorities: self.authorities.as_deref(), filters }
    }

    fn login(&self) -> Option<Login<'_>> {
        let value = self.source.authorization.as_deref()?;
        Some(Login { server: self.server.as_deref()?, value })
    }
}

/// A server of plain files has no shallow clones.
fn is_without_shallow(error: &GitError) -> bool {
    matches!(error, GitError::Git { output, .. } if output.contains("does not support shallow"))
}

/// Not a link to one.
fn is_file(path: &Path) -> bool {
    let kind: io::Result<std::fs::Metadata> = path.symlink_metadata();
    kind.is_ok_and(|meta| meta.is_file())
}
