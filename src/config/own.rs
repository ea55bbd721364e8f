//! rbuild's own file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::error::{self, Error};
use super::kubernetes::{Kubernetes, KubernetesTable};
use super::name;
use super::policy::{Policy, PolicyTable};
use super::registries::{Alias, Mirror, Registries, Serves};
use crate::text::size;

/// What rbuild's own file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// What the store may hold, in bytes; `None` for no limit.
    pub store_quota_bytes: Option<u64>,
    /// What holds where the command line says nothing.
    pub defaults: Defaults,
    /// What is kept of builds.
    pub history: History,
    /// Mirrors, certificates, names.
    pub registries: Registries,
    /// What builds may take from elsewhere; everything when absent.
    pub policy: Option<Policy>,
    /// What jobs of Kubernetes are made of, by names that `--on` says.
    pub kubernetes: BTreeMap<String, Kubernetes>,
}

/// What holds where the command line says nothing; each as the option of that name has it, and checked like that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Defaults {
    /// `--progress`
    pub progress: Option<String>,
    /// `--platform`
    pub platform: Option<String>,
    /// `--network`
    pub network: Option<String>,
    /// `--reproducible`
    pub reproducible: Option<bool>,
    /// `--advice`
    pub advice: Option<bool>,
    /// `--cache-from`
    #[serde(default)]
    pub cache_from: Vec<String>,
    /// `--cache-to`
    #[serde(default)]
    pub cache_to: Vec<String>,
}

/// What `rbuild history` keeps of builds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct History {
    /// Whether builds are recorded; they are if nothing is said.
    pub records: Option<bool>,
    /// Whether values of build arguments are; they are not if nothing is said.
    pub argument_values: Option<bool>,
}

/// The file as it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct File {
    store: StoreTable,
    defaults: Defaults,
    history: History,
    registry: BTreeMap<Spanned<String>, RegistryTable>,
    unqualified_search_registries: Vec<Spanned<String>>,
    aliases: BTreeMap<Spanned<String>, Spanned<String>>,
    policy: Option<PolicyTable>,
    kubernetes: BTreeMap<String, KubernetesTable>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct StoreTable {
    quota: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct RegistryTable {
    mirrors: Vec<Spanned<String>>,
    insecure: Option<bool>,
    http: Option<bool>,
    ca: Vec<PathBuf>,
    blocked: Option<bool>,
}

impl Config {
    /// Reads the file; one that is not there says nothing, unless somebody named it.
    ///
    /// # Errors
    /// [`Error::Bad`] with the line, also for keys that nobody knows.
    pub fn load(files: &super::Files) -> Result<Self, Error> {
        let Some(path) = &files.own else { return Ok(Self::default()) };
        match error::read_toml::<File>(path)? {
            Some((file, text)) => Reading { path, text: &text }.config(file),
            None if files.own_is_named => {
                let reason = "$RBUILD_CONFIG names it, but it is not there".to_owned();
                Err(Error::Unreadable { path: path.clone(), reason })
            }
            None => Ok(Self::default()),
        }
    }
}

/// A file that is being read.
struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reading<'_> {
    fn config(&self, file: File) -> Result<Config, Error> {
        let File {
            store,
            defaults,
            history,
            registry,
            unqualified_search_registries,
            aliases,
            policy,
            kubernetes,
        } = file;
        let mut registries = Registries::default();
        for (prefix, table) in registry {
            self.registry(&mut registries, &prefix, table)?;
        }
        for host in unqualified_search_registries {
            if !name::is_host(host.as_ref()) {
                return Err(self.bad(&host, "write it as HOST[:PORT]"));
            }
            registries.search.push(name::canonical(host.as_ref()));
        }
        for (short, full) in aliases {
            let alias = self.alias(&short, &full)?;
            registries.aliases.insert(short.into_inner(), alias);
        }
        let policy = policy.map(|table| Policy::of(table, self.path, self.text)).transpose()?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let template = |(name, table): (String, KubernetesTable)| match table.into_template(folder) {
            Ok(template) => Ok((name, template)),
            Err((place, reason)) => Err(Error::at(self.path, self.text, Some(place), &reason)),
        };
        let kubernetes = kubernetes.into_iter().map(template).collect::<Result<_, Error>>()?;
        let store_quota_bytes = self.quota(store.quota)?;
        Ok(Config { store_quota_bytes, defaults, history, registries, policy, kubernetes })
    }

    fn quota(&self, text: Option<Spanned<String>>) -> Result<Option<u64>, Error> {
        let Some(text) = text else { return Ok(None) };
        match size::parse(text.as_ref().trim()) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(self.bad(&text, "write it as a number with k, m, g or t, such as \"50g\"")),
        }
    }

    fn registry(
        &self,
        registries: &mut Registries,
        prefix: &Spanned<String>,
        table: RegistryTable,
    ) -> Result<(), Error> {
        let host = prefix.as_ref().split('/').next().unwrap_or("");
        if !name::is_host(host) {
            return Err(self.bad(prefix, "write the registry as HOST[:PORT][/PATH]"));
        }
        let RegistryTable { mirrors, insecure, http, ca, blocked } = table;
        let rule = registries.rule(&name::canonical(prefix.as_ref()));
        for mirror in mirrors {
            let (location, http) =
                name::location(mirror.as_ref()).map_err(|reason| self.bad(&mirror, &reason))?;
            rule.mirrors.push(Mirror { location, insecure: false, http, serves: Serves::All });
        }
        rule.insecure = insecure;
        rule.http = http;
        // Beside the file, so that the two can be moved together.
        let folder = self.path.parent().unwrap_or(Path::new("."));
        rule.ca = ca.iter().map(|file| folder.join(file)).collect();
        rule.blocked = blocked.map(|blocked| (blocked, self.path.to_owned()));
        Ok(())
    }

    fn alias(&self, short: &Spanned<String>, full: &Spanned<String>) -> Result<Alias, Error> {
        if !is_short_name(short.as_ref()) {
            return Err(self.bad(short, "a short name has neither registry nor tag"));
        }
        if !is_full_name(full.as_ref()) {
            return Err(self.bad(full, "write a full name: REGISTRY/REPOSITORY, without a tag"));
        }
        Ok(Alias { name: full.as_ref().clone(), said_by: self.path.to_owned() })
    }

    fn bad(&self, at: &Spanned<String>, reason: &str) -> Error {
        Error::at(self.path, self.text, Some(at.span()), reason)
    }
}

/// Whether a text names a repository without a registry, a tag or a digest.
pub(super) fn is_short_name(text: &str) -> bool {
    let reference = text.parse::<crate::oci::Reference>();
    reference.is_ok_and(|r| r.is_short() && r.tag().is_none() && r.digest().is_none())
}

/// Whether a text names a registry and a repository, without a tag or a digest.
pub(super) fn is_full_name(text: &str) -> bool {
    let reference = text.parse::<crate::oci::Reference>();
    reference.is_ok_and(|r| !r.is_short() && r.tag().is_none() && r.digest().is_none())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let files = super::super::Files { own: Some(path.clone()), ..Default::default() };
        Config::load(&files).map_err(|e| e.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn everything_can_be_said() {
        let config = load(
            "unqualified-search-registries = ['registry.example.org']\n\
             [store]\nquota = '50GB'\n[defaults]\nprogress = 'plain'\n[history]\nargument-values = true\n\
             [registry.'docker.io']\nmirrors = ['mirror.example.org', 'http://localhost:5000/hub']\n\
             [registry.'mirror.example.org']\nca = ['ca.crt']\n\
             [registry.'bad.example.org']\nblocked = true\n[aliases]\nbase = 'registry.example.org/team/base'\n",
        )
        .unwrap();
        assert_eq!(config.store_quota_bytes, Some(50 << 30));
        assert_eq!(config.defaults.progress.as_deref(), Some("plain"));
        assert_eq!(config.history, History { records: None, argument_values: Some(true) });
        let places = config.registries.places(&"debian:12".parse().unwrap()).unwrap();
        let shown: Vec<String> = places.iter().map(|p| format!("{}/{}", p.registry, p.repository)).collect();
        assert_eq!(
            shown,
            [
                "mirror.example.org/library/debian",
                "localhost:5000/hub/library/debian",
                "docker.io/library/debian"
            ]
        );
        assert!(places[0].ca[0].ends_with("ca.crt") && places[0].ca[0].is_absolute());
        assert!(places[1].http && !places[0].http && !places[2].is_mirror);
        assert!(config.registries.places(&"bad.example.org/x".parse().unwrap()).is_err());
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, expected) in [
            ("[store]\nqota = '1g'\n", "`FILE`, line 2: unknown field `qota`, expected `quota`"),
            ("[store]\nquota = 'much'\n", "line 2: write it as a number"),
            ("\n[registry.'a b']\n", "line 2: write the registry as HOST"),
            ("[registry.x]\nmirrors = [\n 'ftp://x']\n", "line 3: `ftp` is neither http nor https"),
            ("[registry.x]\nmirrors = ['https://u:p@x']\n", "a login does not belong there"),
            ("[aliases]\n'a/b:1' = 'x.y/z'\n", "line 2: a short name has neither registry nor tag"),
            ("[aliases]\na = 'b'\n", "line 2: write a full name"),
            ("a = \n", "line 1"),
            ("[defaults]\nprogress = 3\n", "line 2: invalid type: integer `3`, expected a string"),
        ] {
            let said = load(text).unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
        assert_eq!(load("").unwrap(), Config::default());
    }
}
