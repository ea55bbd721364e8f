//! What is configured about registries, whichever file it comes from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// Rules by the names that they are for. What an earlier source says goes before what a later one says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// By prefix of full image names, such as `docker.io`, `docker.io/library` or `*.example.org`.
    pub(super) rules: BTreeMap<String, Rule>,
    /// Addresses of registries that need no valid certificate.
    pub(super) insecure_networks: Vec<(IpAddr, u8)>,
    /// Where an image without a registry in its name is looked for, in this order; empty for docker's way.
    pub(super) search: Vec<String>,
    /// Full names for short ones, and the file that says so.
    pub(super) aliases: BTreeMap<String, Alias>,
}

/// A full name, without a tag, for a short one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alias {
    pub(super) name: String,
    /// The file it is from.
    pub(super) said_by: PathBuf,
}

/// What is configured about one prefix; `None` and empty where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rule {
    /// Where the images really are: `host[:port][/path]` in the prefix's place.
    pub(super) location: Option<String>,
    /// Asked before the place itself, in this order.
    pub(super) mirrors: Vec<Mirror>,
    /// Any certificate will do, and http when there is no TLS.
    pub(super) insecure: Option<bool>,
    /// Only http is spoken.
    pub(super) http: Option<bool>,
    /// Files and folders of certificates that are trusted besides the system's.
    pub(super) ca: Vec<PathBuf>,
    /// What is shown to the registry: files of a certificate and of its key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
    /// Where there are mirrors, the place itself is not asked.
    pub(super) only_mirrors: bool,
    /// Nothing is to be had from there, and the file that says so.
    pub(super) blocked: Option<(bool, PathBuf)>,
}

/// A place that may have copies of the images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    /// `host[:port][/path]` in the prefix's place.
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) http: bool,
    pub(super) serves: Serves,
}

/// For which names a mirror is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Serves {
    #[default]
    All,
    /// Those with a digest: a mirror cannot lie about them, nor be behind.
    Digests,
    /// Those with a tag.
    Tags,
}

impl Registries {
    /// The rule for a prefix, to be filled in.
    pub(super) fn rule(&mut self, prefix: &str) -> &mut Rule {
        self.rules.entry(prefix.to_owned()).or_default()
    }

    /// All of it as pairs of a key and a value, for people.
    pub(super) fn told(&self) -> Vec<(String, String)> {
        let mut told = Vec::new();
        for (prefix, rule) in &self.rules {
            let Rule { location, mirrors, insecure, http, ca, blocked, client, only_mirrors } = rule;
            let mut tell = |key: &str, value: String| told.push((format!("registry.{prefix}.{key}"), value));
            location.iter().for_each(|place| tell("location", place.clone()));
            mirrors.iter().for_each(|mirror| tell("mirror", mirror.location.clone()));
            insecure.iter().for_each(|is| tell("insecure", is.to_string()));
            http.iter().for_each(|is| tell("http", is.to_string()));
            ca.iter().for_each(|file| tell("ca", file.display().to_string()));
            blocked.iter().for_each(|(is, _)| tell("blocked", is.to_string()));
            client.iter().for_each(|(shown, _)| tell("client", shown.display().to_string()));
            if *only_mirrors {
                tell("only-mirrors", true.to_string());
            }
        }
        let networks = self.insecure_networks.iter().map(|(ip, bits)| format!("{ip}/{bits}"));
        told.extend(networks.map(|network| ("insecure-network".to_owned(), network)));
        told.extend(self.search.iter().map(|host| ("search".to_owned(), host.clone())));
        told.extend(self.aliases.iter().map(|(name, alias)| (format!("alias.{name}"), alias.name.clone())));
        told
    }

    /// Adds what a source says that counts less: it fills in what is still open.
    pub(super) fn fill(&mut self, later: Registries) {
        for (prefix, rule) in later.rules {
            self.rules.entry(prefix).or_default().fill(rule);
        }
        self.insecure_networks.extend(later.insecure_networks);
        if self.search.is_empty() {
            self.search = later.search;
        }
        for (name, alias) in later.aliases {
            self.aliases.entry(name).or_insert(alias);
        }
    }
}

impl Rule {
    fn fill(&mut self, later: Rule) {
        let Rule { location, mirrors, insecure, http, ca, client, only_mirrors, blocked } = later;
        self.location = self.location.take().or(location);
        if self.mirrors.is_empty() {
            self.mirrors = mirrors;
        }
        self.insecure = self.insecure.or(insecure);
        self.http = self.http.or(http);
        self.ca.extend(ca);
        self.client = self.client.take().or(client);
        self.only_mirrors |= only_mirrors;
        self.blocked = self.blocked.take().or(blocked);
    }
}
