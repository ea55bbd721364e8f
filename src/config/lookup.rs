//! From a name to the places where it may be had.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::registries::{Registries, Rule, Serves};
use crate::oci::Reference;

/// A repository in a registry, and how to talk to that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `host[:port]`
    pub registry: String,
    /// The repository in it.
    pub repository: String,
    /// Any certificate will do, and http when there is no TLS.
    pub insecure: bool,
    /// Only http is spoken.
    pub http: bool,
    /// Files and folders of certificates that are trusted besides the system's.
    pub ca: Vec<PathBuf>,
    /// What is shown to it: files of a certificate and of its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether others are asked when it fails; the last place is none, and mostly the registry itself.
    pub is_mirror: bool,
}

impl Registries {
    /// Where the image may be had, in the order in which to ask. `Err` is the file that blocks it.
    pub fn places(&self, reference: &Reference) -> Result<Vec<Place>, &Path> {
        let home = format!("{}/{}", reference.registry(), reference.repository());
        let rule = self.longest(reference);
        if let Some((true, file)) = rule.and_then(|(_, rule)| rule.blocked.as_ref()) {
            return Err(file);
        }
        let Some((prefix, rule)) = rule else { return Ok(vec![self.place(&home)]) };
        let fits = |serves: Serves| match serves {
            Serves::All => true,
            Serves::Digests => reference.digest().is_some(),
            Serves::Tags => reference.digest().is_none(),
        };
        let mirrors = rule.mirrors.iter().filter(|mirror| fits(mirror.serves)).map(|mirror| {
            let place = self.place(&moved(&home, prefix, &mirror.location));
            let (insecure, http) = (place.insecure || mirror.insecure, place.http || mirror.http);
            Place { insecure, http, is_mirror: true, ..place }
        });
        let mut mirrors: Vec<Place> = mirrors.collect();
        match mirrors.last_mut().filter(|_| rule.only_mirrors) {
            Some(last) => last.is_mirror = false,
            None => mirrors.push(self.own_place(&home, prefix, rule)),
        }
        Ok(mirrors)
    }

    /// Where the image goes: mirrors and locations are for reading only, as with podman. `Err` is the file that blocks it.
    pub fn place_to_push(&self, reference: &Reference) -> Result<Place, &Path> {
        if let Some((true, file)) = self.longest(reference).and_then(|(_, rule)| rule.blocked.as_ref()) {
            return Err(file);
        }
        Ok(self.place(&format!("{}/{}", reference.registry(), reference.repository())))
    }

    /// What a name may mean, in the order in which to look, and the file that says so if it is not docker's way. Only a
    /// name that was written without a registry can mean something else than it says.
    pub fn candidates(&self, reference: &Reference) -> Vec<(Reference, Option<PathBuf>)> {
        if !reference.is_short() {
            return vec![(reference.clone(), None)];
        }
        let written = reference.short_name();
        if let Some(alias) = self.aliases.get(written)
            && let Some(meant) = reference.renamed(&alias.name)
        {
            return vec![(meant, Some(alias.said_by.clone()))];
        }
        let found: Vec<(Reference, Option<PathBuf>)> = self
            .search
            .iter()
            .filter_map(|registry| Some((reference.renamed(&format!("{registry}/{written}"))?, None)))
            .collect();
        if found.is_empty() { vec![(reference.clone(), None)] } else { found }
    }

    /// The registry itself, where its rule says that it is. What is said of the name holds there, too.
    fn own_place(&self, home: &str, prefix: &str, rule: &Rule) -> Place {
        let named = self.place(home);
        let Some(location) = &rule.location else { return named };
        let there = self.place(&moved(home, prefix, location));
        Place {
            insecure: there.insecure || named.insecure,
            http: there.http || named.http,
            ca: there.ca.into_iter().chain(named.ca).collect(),
            client: there.client.or(named.client),
            ..there
        }
    }

    /// The rule with the longest prefix.
    fn longest(&self, reference: &Reference) -> Option<(&str, &Rule)> {
        let name = reference.full();
        let matching = self.rules.iter().filter(|(prefix, _)| covers(prefix, &name));
        let longest = matching.max_by_key(|(prefix, _)| (!prefix.starts_with('*'), prefix.len()));
        longest.map(|(prefix, rule)| (prefix.as_str(), rule))
    }

    /// A place by its name; what is said of it under any prefix holds, the longest first.
    fn place(&self, name: &str) -> Place {
        let (registry, repository) = name.split_once('/').unwrap_or((name, ""));
        let mut rules: Vec<(&String, &Rule)> =
            self.rules.iter().filter(|(prefix, _)| covers(prefix, name)).collect();
        rules.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let insecure = rules.iter().find_map(|(_, rule)| rule.insecure);
        Place {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            insecure: insecure.unwrap_or_else(|| self.is_in_insecure_network(registry)),
            http: rules.iter().find_map(|(_, rule)| rule.http).unwrap_or(false),
            ca: rules.iter().flat_map(|(_, rule)| rule.ca.iter().cloned()).collect(),
            client: rules.iter().find_map(|(_, rule)| rule.client.clone()),
            is_mirror: false,
        }
    }

    fn is_in_insecure_network(&self, registry: &str) -> bool {
        let host = match registry.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => registry,
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let Ok(ip) = bare.parse() else { return false };
        self.insecure_networks.iter().any(|(network, bits)| contains(*network, *bits, ip))
    }
}

/// Whether a prefix covers a full name: up to one of its borders, or with `*.` any host below a domain.
fn covers(prefix: &str, name: &str) -> bool {
    if let Some(domain) = prefix.strip_prefix("*.") {
        let host = name.split('/').next().unwrap_or(name);
        let host = host.split(':').next().unwrap_or(host);
        return host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
    }
    let rest = name.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
}

/// The name with `location` in the place of `prefix`; a name under a wildcard keeps its path. A prefix that is longer
/// than the repository, because it names a tag, leaves nothing.
fn moved(name: &str, prefix: &str, location: &str) -> String {
    let rest = match prefix.starts_with("*.") {
        true => name.find('/').map_or("", |at| &name[at..]),
        false => name.get(prefix.len()..).unwrap_or(""),
    };
    format!("{location}{rest}")
}

fn contains(network: IpAddr, bits: u8, ip: IpAddr) -> bool {
    let bits = u32::from(bits);
    match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(bits)).unwrap_or(0);
            (network.to_bits() ^ ip.to_bits()) & mask == 0
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(bits)).unwrap_or(0);
            (network.to_bits() ^ ip.to_bits()) & mask == 0
        }
        _ => false,
    }
}
