//! Podman's files: `registries.conf`, version 2 (containers-registries.conf(5)).
//!
//! Keys that are about something else than finding images are not looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{self, Error};
use super::name;
use super::own::{is_full_name, is_short_name};
use super::registries::{Alias, Mirror, Registries, Serves};

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    registry: Vec<RegistryTable>,
    aliases: BTreeMap<String, String>,
    /// Of version 1.
    registries: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct RegistryTable {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<MirrorTable>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    insecure: bool,
    pull_from_mirror: PullFromMirror,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum PullFromMirror {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

/// What the files say together: of two that speak of the same thing the later one wins.
pub(super) fn load(files: &[PathBuf]) -> Result<Registries, Error> {
    let mut registries = Registries::default();
    for path in files {
        let Some((file, text)) = error::read_toml::<File>(path)? else { continue };
        if file.registries.is_some() {
            let reason = "this is version 1 of the format; `[[registry]]` is what version 2 has";
            return Err(Error::at(path, &text, text.find("[registries").map(|at| at..at + 1), reason));
        }
        add(&mut registries, file, path, &text)?;
    }
    registries.aliases.retain(|_, alias| !alias.name.is_empty());
    Ok(registries)
}

fn add(registries: &mut Registries, file: File, path: &Path, text: &str) -> Result<(), Error> {
    if let Some(search) = file.unqualified_search_registries {
        registries.search = search.iter().map(|host| name::canonical(host)).collect();
    }
    for table in file.registry {
        let prefix = if table.prefix.is_empty() { &table.location } else { &table.prefix };
        let bad = |what: &str, reason: &str| {
            let at = text.find(what).map(|at| at..at + what.len());
            Error::at(path, text, at, &format!("`{what}`: {reason}"))
        };
        if !name::is_host(prefix.split('/').next().unwrap_or("")) {
            return Err(bad(prefix, "write the registry as HOST[:PORT][/PATH]"));
        }
        let prefix = name::canonical(prefix);
        // A table replaces one of an earlier file.
        registries.rules.remove(&prefix);
        let rule = registries.rule(&prefix);
        rule.insecure = table.insecure.then_some(true);
        rule.blocked = table.blocked.then(|| (true, path.to_owned()));
        if !table.location.is_empty() {
            let (location, _) = name::location(&table.location).map_err(|e| bad(&table.location, &e))?;
            rule.location = Some(location).filter(|location| *location != prefix);
        }
        for mirror in table.mirror {
            let (location, http) = name::location(&mirror.location).map_err(|e| bad(&mirror.location, &e))?;
            let serves = match (table.mirror_by_digest_only, mirror.pull_from_mirror) {
                (true, _) | (false, PullFromMirror::DigestOnly) => Serves::Digests,
                (false, PullFromMirror::TagOnly) => Serves::Tags,
                (false, PullFromMirror::All) => Serves::All,
            };
            rule.mirrors.push(Mirror { location, insecure: mirror.insecure, http, serves });
        }
    }
    for (short, full) in file.aliases {
        let is_usable = is_short_name(&short) && (full.is_empty() || is_full_name(&full));
        if !is_usable {
            let at = text.find(&short).map(|at| at..at + short.len());
            let reason = format!("the alias `{short}` is not a short name for a full one without a tag");
            return Err(Error::at(path, text, at, &reason));
        }
        registries.aliases.insert(short, Alias { name: full, said_by: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn loaded(texts: &[&str]) -> Result<Registries, String> {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..texts.len()).map(|n| dir.path().join(format!("{n}.conf"))).collect();
        files.iter().zip(texts).for_each(|(path, text)| std::fs::write(path, text).unwrap());
        load(&files).map_err(|e| e.to_string())
    }

    fn places(registries: &Registries, name: &str) -> Vec<String> {
        let places = registries.places(&name.parse().unwrap()).unwrap();
        let show = |p: &super::super::Place| {
            let mark = if p.insecure { " insecure" } else { "" };
            format!("{}/{}{mark}", p.registry, p.repository)
        };
        places.iter().map(show).collect()
    }

    const FILE: &str = "
        unqualified-search-registries = ['a.example', 'docker.io']
        short-name-mode = 'permissive'
        [[registry]]
        prefix = 'example.com/foo'
        location = 'internal.example/bar'
        insecure = true
        [[registry.mirror]]
        location = 'mirror-0.example/for-foo'
        [[registry.mirror]]
        location = 'mirror-1.example/foo'
        insecure = true
        pull-from-mirror = 'digest-only'
        [[registry]]
        location = 'blocked.example'
        blocked = true
        [[registry]]
        prefix = '*.wild.example'
        insecure = true
        [aliases]
        'tools' = 'registry.example/tools'
    ";

    #[test]
    fn names_are_found_as_podman_finds_them() {
        let registries = loaded(&[FILE]).unwrap();
        assert_eq!(
            places(&registries, "example.com/foo/app:1"),
            ["mirror-0.example/for-foo/app", "internal.example/bar/app insecure"]
        );
        let by_digest = format!("example.com/foo@{}", crate::oci::Digest::of(b""));
        assert_eq!(
            places(&registries, &by_digest),
            ["mirror-0.example/for-foo", "mirror-1.example/foo insecure", "internal.example/bar insecure"]
        );
        assert_eq!(places(&registries, "example.com/foobar"), ["example.com/foobar"]);
        assert_eq!(places(&registries, "a.b.wild.example/x"), ["a.b.wild.example/x insecure"]);
        assert_eq!(places(&registries, "wild.example/x"), ["wild.example/x"]);
        let blocked = registries.places(&"blocked.example/x".parse().unwrap()).unwrap_err();
        assert!(blocked.ends_with("0.conf"));
        assert!(registries.place_to_push(&"blocked.example/x".parse().unwrap()).is_err());
    }

    #[test]
    fn short_names_mean_what_podman_takes_them_for() {
        let registries = loaded(&[FILE]).unwrap();
        let meant = |name: &str| -> Vec<String> {
            let found = registries.candidates(&name.parse().unwrap());
            found.iter().map(|(reference, _)| reference.full()).collect()
        };
        assert_eq!(meant("tools:2"), ["registry.example/tools:2"]);
        assert_eq!(meant("team/app"), ["a.example/team/app:latest", "docker.io/team/app:latest"]);
        assert_eq!(meant("debian:12"), ["a.example/debian:12", "docker.io/library/debian:12"]);
        assert_eq!(meant("docker.io/library/debian"), ["docker.io/library/debian:latest"]);
    }

    #[test]
    fn later_files_win() {
        let later = "unqualified-search-registries = ['b.example']\n[[registry]]\nlocation = 'example.com/foo'\n\
                     [aliases]\n'tools' = ''\n";
        let registries = loaded(&[FILE, later]).unwrap();
        assert_eq!(places(&registries, "example.com/foo/app"), ["example.com/foo/app"]);
        let found = registries.candidates(&"tools".parse().unwrap());
        assert_eq!(found[0].0.full(), "b.example/tools:latest");
    }

    #[test]
    fn faults_name_file_and_line() {
        for (text, expected) in [
            ("\n[registries.search]\nregistries = ['x']\n", "0.conf`, line 2: this is version 1"),
            ("[[registry]]\nlocation = 'a b'\n", "line 2: `a b`: write"),
            ("[[registry]]\nlocation = 1\n", "line 2: invalid type"),
        ] {
            let said = loaded(&[text]).unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
    }
}
