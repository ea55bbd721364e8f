//! Docker's `daemon.json`: `registry-mirrors`, which are those of Docker Hub, and `insecure-registries`.
//!
//! Keys that are about something else are not looked at.

use std::path::Path;

use serde::Deserialize;

use super::error::{self, Error};
use super::name;
use super::registries::{Mirror, Registries, Serves};

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    registry_mirrors: Vec<String>,
    insecure_registries: Vec<String>,
}

/// What the file says; nothing when it is not there.
pub(super) fn load(path: &Path) -> Result<Registries, Error> {
    let mut registries = Registries::default();
    let Some(text) = error::read(path)? else { return Ok(registries) };
    // dockerd starts with an empty file, too.
    if text.trim().is_empty() {
        return Ok(registries);
    }
    let file: File = serde_json::from_str(&text).map_err(|e| {
        let at: usize = text.lines().take(e.line().saturating_sub(1)).map(|line| line.len() + 1).sum();
        Error::at(path, &text, Some(at..at), &e.to_string())
    })?;
    let bad = |what: &str, reason: &str| {
        let at = text.find(what).map(|at| at..at + what.len());
        Error::at(path, &text, at, &format!("`{what}`: {reason}"))
    };
    for mirror in &file.registry_mirrors {
        add_mirror(&mut registries, mirror).map_err(|reason| bad(mirror, &reason))?;
    }
    for host in &file.insecure_registries {
        add_insecure(&mut registries, host).map_err(|reason| bad(host, &reason))?;
    }
    Ok(registries)
}

/// One more mirror of Docker Hub.
pub(super) fn add_mirror(registries: &mut Registries, text: &str) -> Result<(), String> {
    let (location, http) = name::location(text)?;
    let mirror = Mirror { location, insecure: false, http, serves: Serves::All };
    registries.rule("docker.io").mirrors.push(mirror);
    Ok(())
}

/// One more registry, or network in CIDR notation, that needs no valid certificate.
pub(super) fn add_insecure(registries: &mut Registries, text: &str) -> Result<(), String> {
    if let Some((network, bits)) = text.split_once('/') {
        let network: std::net::IpAddr =
            network.parse().map_err(|_| "write it as HOST[:PORT] or a network")?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let bits =
            bits.parse().ok().filter(|bits| *bits <= most).ok_or("write it as HOST[:PORT] or a network")?;
        registries.insecure_networks.push((network, bits));
        return Ok(());
    }
    let (location, _) = name::location(text)?;
    registries.rule(&location).insecure = Some(true);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mirrors_are_those_of_the_hub() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        std::fs::write(
            &path,
            r#"{"registry-mirrors":["https://mirror.example/"],"debug":true,
               "insecure-registries":["plain.example:5000","10.0.0.0/8"]}"#,
        )
        .unwrap();
        let registries = load(&path).unwrap();
        let places = |name: &str| registries.places(&name.parse().unwrap()).unwrap();
        assert_eq!(places("debian")[0].registry, "mirror.example");
        assert_eq!(places("debian").len(), 2);
        assert!(places("plain.example:5000/x")[0].insecure);
        assert!(places("10.1.2.3:5000/x")[0].insecure);
        assert!(!places("11.1.2.3:5000/x")[0].insecure);
        assert_eq!(places("other.example/debian").len(), 1);
    }

    #[test]
    fn faults_name_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        std::fs::write(&path, "{\n\"registry-mirrors\": 3\n}").unwrap();
        let said = load(&path).unwrap_err().to_string();
        assert!(said.contains("daemon.json`, line 2: invalid type"), "{said}");
        assert_eq!(load(&dir.path().join("none")).unwrap(), Registries::default());
    }
}
