//! Where configurations are, and in which order they count.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::error::Error;
use super::registries::{Mirror, Registries, Serves};
use super::{containers, docker, name};

/// The files that are looked at; those that are not there say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// rbuild's own.
    pub own: Option<PathBuf>,
    /// `$RBUILD_CONFIG` names rbuild's own file: then it must be there.
    pub own_is_named: bool,
    /// Podman's `registries.conf` and what is in its `registries.conf.d`; later ones win.
    pub containers: Vec<PathBuf>,
    /// Docker's `daemon.json`.
    pub docker: Option<PathBuf>,
}

impl Files {
    /// Those of this process and machine.
    pub fn from_process() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = variable("HOME");
        let user = variable("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        let named = variable("RBUILD_CONFIG");
        let own_is_named = named.is_some();
        let candidates = user.iter().map(|folder| folder.join("rbuild/config.toml"));
        let mut candidates = candidates.chain([PathBuf::from("/etc/rbuild/config.toml")]);
        let named_by_podman = variable("CONTAINERS_REGISTRIES_CONF");
        Self {
            own: named.or_else(|| candidates.find(|path| path.exists())),
            own_is_named,
            // Podman looks in $HOME only, whatever XDG_CONFIG_HOME says.
            containers: podmans(named_by_podman, home.as_deref()),
            // A daemon of the user's own has its file in the user's folder.
            docker: user
                .map(|folder| folder.join("docker/daemon.json"))
                .filter(|path| path.exists())
                .or_else(|| Some(PathBuf::from("/etc/docker/daemon.json"))),
        }
    }
}

/// The user's file stands for the system's; drop-ins are the system's, then the user's; last what the user chose when
/// podman asked what a short name means.
fn podmans(named: Option<PathBuf>, home: Option<&Path>) -> Vec<PathBuf> {
    let system = Path::new("/etc/containers");
    let user = home.map(|home| home.join(".config/containers"));
    let user = user.as_deref();
    let cache = match rustix::process::geteuid().is_root() {
        true => Some(PathBuf::from("/var/cache")),
        false => home.map(|home| home.join(".cache")),
    };
    let chosen = cache.map(|cache| cache.join("containers/short-name-aliases.conf"));
    let users = user.map(|folder| folder.join("registries.conf")).filter(|path| path.exists());
    let main = named.or(users).unwrap_or_else(|| system.join("registries.conf"));
    let folders = [Some(system), user];
    let drop_ins =
        folders.into_iter().flatten().flat_map(|folder| drop_ins(&folder.join("registries.conf.d")));
    [main].into_iter().chain(drop_ins).chain(chosen).collect()
}

fn drop_ins(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "conf")).collect();
    files.sort();
    files
}

/// What the files say about registries, each pair of key and value with its file, the file that counts most first; and which files are
/// looked at: `own`, `podman`, `docker`.
///
/// # Errors
/// That of a file that is no configuration.
pub fn told(files: &Files, own: &Registries) -> Result<Vec<(String, String, PathBuf)>, Error> {
    let mut told = Vec::new();
    let mut tell = |kind: &str, path: &Path, says: &Registries| {
        if path.exists() {
            told.push((format!("file.{kind}"), path.display().to_string(), path.to_owned()));
        }
        told.extend(says.told().into_iter().map(|(key, value)| (key, value, path.to_owned())));
    };
    if let Some(path) = &files.own {
        tell("own", path, own);
    }
    for path in &files.containers {
        tell("podman", path, &containers::load(std::slice::from_ref(path))?);
    }
    if let Some(path) = &files.docker {
        tell("docker", path, &docker::load(path)?);
    }
    Ok(told)
}

/// What the command line says about registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--registry-mirror`: mirrors of Docker Hub.
    pub mirrors: Vec<String>,
    /// `--insecure-registry`: registries or networks that need no valid certificate.
    pub insecure: Vec<String>,
    /// `--tls-verify=false`: no registry needs one; `--tls-verify` or `=true`: every one does.
    pub tls_verify: Option<bool>,
    /// `--cert-dir`: a folder of `*.crt`, `*.cert` and `*.key` for every registry.
    pub cert_dir: Option<PathBuf>,
    /// What only other programs' command lines can say.
    pub foreign: Foreign,
}

/// What other programs' command lines say about registries, and rbuild's own says in its file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreign {
    /// `REGISTRY[/PATH]`, and a place that is asked before it.
    pub maps: Vec<(String, String)>,
    /// What has such a place, or a mirror, is had from there alone.
    pub only_mirrors: bool,
    /// Files of certificates that are trusted, by registry.
    pub ca: Vec<(String, PathBuf)>,
    /// Files of a certificate and its key that are shown, by registry.
    pub client: Vec<(String, PathBuf, PathBuf)>,
    /// No registry needs a valid certificate when it is read from.
    pub insecure_pull: bool,
    /// None does when it is written to.
    pub insecure_push: bool,
}

/// Everything that is configured about registries. Cheap to clone; docker's and podman's files are read when it is asked
/// for, and once.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    flags: Flags,
    own: Registries,
    files: Files,
    all: Arc<OnceLock<Result<Registries, Error>>>,
}

impl Sources {
    /// The flags count most, then rbuild's own file, podman's, docker's.
    ///
    /// # Errors
    /// [`Error::Flag`] for a flag with a bad value.
    pub fn new(flags: Flags, own: Registries, files: Files) -> Result<Self, Error> {
        from_flags(&flags)?;
        Ok(Self { flags, own, files, all: Arc::default() })
    }

    /// All of it together.
    ///
    /// # Errors
    /// That of a file that is no configuration.
    pub fn registries(&self) -> Result<&Registries, Error> {
        self.all.get_or_init(|| self.load()).as_ref().map_err(Clone::clone)
    }

    /// `--tls-verify`
    pub fn tls_verify(&self) -> Option<bool> {
        self.flags.tls_verify
    }

    /// Whether no registry that is read from, or written to, needs a valid certificate.
    pub fn insecure(&self, is_push: bool) -> bool {
        let Foreign { insecure_pull, insecure_push, .. } = self.flags.foreign;
        if is_push { insecure_push } else { insecure_pull }
    }

    /// `--cert-dir`
    pub fn cert_dir(&self) -> Option<&Path> {
        self.flags.cert_dir.as_deref()
    }

    fn load(&self) -> Result<Registries, Error> {
        let mut all = from_flags(&self.flags)?;
        all.fill(self.own.clone());
        all.fill(containers::load(&self.files.containers)?);
        if let Some(path) = &self.files.docker {
            all.fill(docker::load(path)?);
        }
        Ok(all)
    }
}

fn from_flags(flags: &Flags) -> Result<Registries, Error> {
    let mut registries = Registries::default();
    for value in &flags.mirrors {
        docker::add_mirror(&mut registries, value)
            .map_err(|reason| bad("--registry-mirror", value, reason))?;
    }
    for value in &flags.insecure {
        docker::add_insecure(&mut registries, value)
            .map_err(|reason| bad("--insecure-registry", value, reason))?;
    }
    flags.foreign.fill(&mut registries)?;
    Ok(registries)
}

impl Foreign {
    fn fill(&self, registries: &mut Registries) -> Result<(), Error> {
        let Foreign { maps, only_mirrors, ca, client, insecure_pull: _, insecure_push: _ } = self;
        for (from, to) in maps {
            let say = |reason: String| bad("--registry-map", &format!("{from}={to}"), reason);
            let (from, _) = name::location(from).map_err(say)?;
            let (location, http) = name::location(to).map_err(say)?;
            registries.rule(&from).mirrors.push(Mirror {
                location,
                insecure: false,
                http,
                serves: Serves::All,
            });
        }
        for rule in registries.rules.values_mut().filter(|rule| !rule.mirrors.is_empty()) {
            rule.only_mirrors = *only_mirrors;
        }
        for (host, file) in ca {
            let say = |reason: String| bad("--registry-certificate", host, reason);
            registries.rule(&name::location(host).map_err(say)?.0).ca.push(file.clone());
        }
        for (host, certificate, key) in client {
            let say = |reason: String| bad("--registry-client-cert", host, reason);
            let shown = (certificate.clone(), key.clone());
            registries.rule(&name::location(host).map_err(say)?.0).client = Some(shown);
        }
        Ok(())
    }
}

fn bad(option: &'static str, value: &str, reason: String) -> Error {
    Error::Flag { option, value: value.to_owned(), reason }
}
