//! `rbuild.lock`: what a build takes from elsewhere, pinned to what it was.
//!
//! Made by rbuild, read by people: one line for each thing, in the order of the names.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::error::{self, Error};
use crate::oci::{Digest, Reference};

const HEAD: &str = "\
# What this build takes from elsewhere, and what that was. Made by rbuild; keep it beside the Dockerfile.
# `rbuild lock` adds what is missing, `rbuild lock --update` looks for what is newer.
version = 1
";

/// The pins, by the names of what is pinned. URLs are without user info.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lockfile {
    /// Digests of images, by their full names (`docker.io/library/debian:12`).
    pub images: BTreeMap<String, Digest>,
    /// Digests of what is behind http(s) URLs.
    pub urls: BTreeMap<String, Digest>,
    /// Commits, by repository and reference (`https://example.org/x.git#v1`).
    pub git: BTreeMap<String, String>,
}

/// One line that is new, moved, or gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is pinned.
    pub name: String,
    /// What it was; `None` for a new line.
    pub from: Option<String>,
    /// What it is; `None` for a line that is gone.
    pub to: Option<String>,
}

/// The file as it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    version: Option<Spanned<u32>>,
    images: BTreeMap<Spanned<String>, Spanned<String>>,
    urls: BTreeMap<String, Spanned<String>>,
    git: BTreeMap<String, Spanned<String>>,
}

impl Lockfile {
    /// Reads the file; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Bad`] with the line.
    pub fn load(path: &Path) -> Result<Option<Self>, Error> {
        let Some((file, text)) = error::read_toml::<File>(path)? else { return Ok(None) };
        let bad = |span, reason: &str| Error::at(path, &text, Some(span), reason);
        match &file.version {
            Some(version) if *version.get_ref() == 1 => {}
            Some(version) => return Err(bad(version.span(), "this rbuild knows version 1 only")),
            None => return Err(bad(0..0, "it does not say its version")),
        }
        let digest = |text: &Spanned<String>| {
            let parsed = text.get_ref().parse::<Digest>();
            parsed.map_err(|_| bad(text.span(), "write a digest: sha256:<64 hex digits>"))
        };
        let mut lockfile = Self::default();
        for (name, pin) in &file.images {
            let is_full = name.get_ref().parse::<Reference>().is_ok_and(|r| r.full() == *name.get_ref());
            if !is_full {
                return Err(bad(name.span(), "write the full name of an image: REGISTRY/REPOSITORY:TAG"));
            }
            lockfile.images.insert(name.get_ref().clone(), digest(pin)?);
        }
        for (url, pin) in file.urls {
            lockfile.urls.insert(url, digest(&pin)?);
        }
        for (name, pin) in file.git {
            let commit = pin.get_ref();
            if !matches!(commit.len(), 40 | 64) || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad(pin.span(), "write a commit: 40 hex digits"));
            }
            lockfile.git.insert(name, commit.clone());
        }
        Ok(Some(lockfile))
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text = String::from(HEAD);
        let table = |text: &mut String, name: &str, lines: Vec<(&String, String)>| {
            if !lines.is_empty() {
                text.push_str(&format!("\n[{name}]\n"));
            }
            for (key, value) in lines {
                // A JSON string is a TOML string, too.
                let quoted = serde_json::Value::from(key.as_str());
                text.push_str(&format!("{quoted} = \"{value}\"\n"));
            }
        };
        table(&mut text, "images", self.images.iter().map(|(k, v)| (k, v.to_string())).collect());
        table(&mut text, "urls", self.urls.iter().map(|(k, v)| (k, v.to_string())).collect());
        table(&mut text, "git", self.git.iter().map(|(k, v)| (k, v.clone())).collect());
        text
    }

    /// Takes over what it does not have.
    pub fn add(&mut self, other: Lockfile) {
        let known = std::mem::replace(self, other);
        self.replace(known);
    }

    /// Takes over everything, also in the place of what it has.
    pub fn replace(&mut self, other: Lockfile) {
        let Lockfile { images, urls, git } = other;
        self.images.extend(images);
        self.urls.extend(urls);
        self.git.extend(git);
    }

    /// What differs from `before`, in the order of the file.
    pub fn changes(&self, before: &Lockfile) -> Vec<Change> {
        let (new, old) = (self.lines(), before.lines());
        let names: std::collections::BTreeSet<&(u8, String)> = new.keys().chain(old.keys()).collect();
        let change = |key: &(u8, String)| {
            let (from, to) = (old.get(key).cloned(), new.get(key).cloned());
            (from != to).then(|| Change { name: key.1.clone(), from, to })
        };
        names.into_iter().filter_map(change).collect()
    }

    fn lines(&self) -> BTreeMap<(u8, String), String> {
        let images = self.images.iter().map(|(k, v)| ((0, k.clone()), v.to_string()));
        let urls = self.urls.iter().map(|(k, v)| ((1, k.clone()), v.to_string()));
        let git = self.git.iter().map(|(k, v)| ((2, k.clone()), v.clone()));
        images.chain(urls).chain(git).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> Lockfile {
        let image = |name: &str| (name.to_owned(), Digest::of(name.as_bytes()));
        Lockfile {
            images: [image("localhost:5000/b:1"), image("docker.io/library/debian:12")].into(),
            urls: [("https://example.org/\"x\".tar".to_owned(), Digest::of(b"x"))].into(),
            git: [("https://example.org/x.git#v1".to_owned(), "ab".repeat(20))].into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rbuild.lock");
        assert_eq!(Lockfile::load(&path).unwrap(), None);
        std::fs::write(&path, sample().text()).unwrap();
        assert_eq!(Lockfile::load(&path).unwrap(), Some(sample()));
        let names: Vec<String> =
            sample().text().lines().filter(|l| l.starts_with('"')).map(str::to_owned).collect();
        assert!(names[0].starts_with("\"docker.io/") && names.len() == 4, "{names:?}");
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rbuild.lock");
        for (text, expected) in [
            ("", "line 1: it does not say its version"),
            ("version = 2", "line 1: this rbuild knows version 1 only"),
            ("version = 1\n[image]", "line 2: unknown field `image`"),
            ("version = 1\n[images]\ndebian = 'sha256:1'", "line 3: write the full name"),
            ("version = 1\n[urls]\n'http://x' = 'sha256:1'", "line 3: write a digest"),
            ("version = 1\n[git]\n'x#y' = 'main'", "line 3: write a commit"),
        ] {
            std::fs::write(&path, text).unwrap();
            let said = Lockfile::load(&path).unwrap_err().to_string();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    #[test]
    fn changes_are_what_differs() {
        let mut later = sample();
        later.images.insert("docker.io/library/debian:12".to_owned(), Digest::of(b"moved"));
        later.git.clear();
        let changes = later.changes(&sample());
        assert_eq!(changes.len(), 2);
        assert_eq!(changes[0].name, "docker.io/library/debian:12");
        assert_eq!(changes[0].to, Some(Digest::of(b"moved").to_string()));
        assert_eq!((changes[1].from.is_some(), changes[1].to.is_none()), (true, true));
    }
}
