//! What is taken from elsewhere, held to what a lock file says it is.

use std::sync::{Mutex, MutexGuard};

use crate::config::Lockfile;
use crate::oci::{Digest, Reference};
use crate::source::git::GitSource;
use crate::sync::lock;
use crate::text::url::without_password;

/// What to do about something that the lock file does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unpinned {
    /// Take it as it is.
    #[default]
    Allowed,
    /// Refuse it (`--locked`).
    Refused,
}

/// The pins of a build, and what it found besides.
#[derive(Debug, Default)]
pub struct Pins {
    known: Lockfile,
    unpinned: Unpinned,
    seen: Mutex<Lockfile>,
}

/// Something that the lock file does not have, and had to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not in the lock file, and `--locked` allows nothing else")]
pub struct NotPinned(pub String);

impl NotPinned {
    /// How to go on.
    pub fn help(&self) -> &'static str {
        "`rbuild lock` adds it"
    }
}

impl Pins {
    /// The pins of a lock file.
    pub fn new(known: Lockfile, unpinned: Unpinned) -> Self {
        Self { known, unpinned, seen: Mutex::default() }
    }

    /// The image to take for `reference`: the same, at its pinned digest. A digest in the name is a pin of its own.
    ///
    /// # Errors
    /// [`NotPinned`], if that is refused.
    pub fn image(&self, reference: &Reference) -> Result<Reference, NotPinned> {
        if reference.digest().is_some() {
            return Ok(reference.clone());
        }
        let name = reference.full();
        match self.known.images.get(&name) {
            Some(digest) => Ok(reference.pinned(*digest)),
            None => self.unpinned(name).map(|()| reference.clone()),
        }
    }

    /// The digest of an image, in its name or in the lock file; `None` if neither says one.
    pub fn known_image(&self, reference: &Reference) -> Option<Digest> {
        reference.digest().or_else(|| self.known.images.get(&reference.full()).copied())
    }

    /// Whether the lock file says what is behind a URL, or which commit of a repository is meant.
    pub fn is_pinned_url(&self, url: &str) -> bool {
        let is_pinned_git = || {
            let name = GitSource::new(url, None, false).ok()?.movable_name()?;
            self.known.git.contains_key(&name).then_some(())
        };
        self.known.urls.contains_key(&url_name(url)) || is_pinned_git().is_some()
    }

    /// What the image of that name turned out to be.
    pub fn saw_image(&self, reference: &Reference, digest: Digest) {
        if reference.digest().is_none() {
            self.seen().images.insert(reference.full(), digest);
        }
    }

    /// The digest of what is behind a URL.
    ///
    /// # Errors
    /// [`NotPinned`], if that is refused.
    pub fn url(&self, url: &str) -> Result<Option<Digest>, NotPinned> {
        let name = url_name(url);
        match self.known.urls.get(&name) {
            Some(digest) => Ok(Some(*digest)),
            None => self.unpinned(name).map(|()| None),
        }
    }

    /// What was behind a URL.
    pub fn saw_url(&self, url: &str, digest: Digest) {
        self.seen().urls.insert(url_name(url), digest);
    }

    /// The repository to take for `source`: the same, at its pinned commit. A commit in the URL is a pin of its own.
    ///
    /// # Errors
    /// [`NotPinned`], if that is refused.
    pub fn git(&self, source: GitSource) -> Result<GitSource, NotPinned> {
        let Some(name) = source.movable_name() else { return Ok(source) };
        match self.known.git.get(&name) {
            Some(commit) => Ok(source.at_commit(commit)),
            None => self.unpinned(name).map(|()| source),
        }
    }

    /// The commit that a repository's reference stood for.
    pub fn saw_git(&self, source: &GitSource, commit: &str) {
        if let Some(name) = source.movable_name() {
            self.seen().git.insert(name, commit.to_owned());
        }
    }

    /// Whether nothing new is to be learnt about a URL.
    pub fn has_url(&self, url: &str) -> bool {
        let name = url_name(url);
        self.known.urls.contains_key(&name) || self.seen().urls.contains_key(&name)
    }

    /// Whether nothing new is to be learnt about a repository.
    pub fn has_git(&self, source: &GitSource) -> bool {
        let is_known = |name| self.known.git.contains_key(&name) || self.seen().git.contains_key(&name);
        source.movable_name().is_none_or(is_known)
    }

    /// What the build found, each thing by its name.
    pub fn found(&self) -> Lockfile {
        self.seen().clone()
    }

    fn unpinned(&self, name: String) -> Result<(), NotPinned> {
        match self.unpinned {
            Unpinned::Allowed => Ok(()),
            Unpinned::Refused => Err(NotPinned(name)),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Lockfile> {
        lock(&self.seen)
    }
}

/// The URL without what a lock file must not show, and without the part that a server does not see.
fn url_name(url: &str) -> String {
    without_password(url.split('#').next().unwrap_or(url))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pins(unpinned: Unpinned) -> Pins {
        let known = Lockfile {
            images: [("docker.io/library/debian:12".to_owned(), Digest::of(b"d"))].into(),
            urls: [("https://xxxxx:xxxxx@h/x".to_owned(), Digest::of(b"x"))].into(),
            git: [("https://h/x.git#v1".to_owned(), "ab".repeat(20))].into(),
        };
        Pins::new(known, unpinned)
    }

    #[test]
    fn names_are_held_to_their_pins() {
        let pins = pins(Unpinned::Refused);
        let image = pins.image(&"debian:12".parse().unwrap()).unwrap();
        assert_eq!(image.to_string(), format!("debian:12@{}", Digest::of(b"d")));
        assert_eq!(pins.url("https://me:pw@h/x#part").unwrap(), Some(Digest::of(b"x")));
        let git = |url: &str| pins.git(GitSource::new(url, None, false).unwrap());
        assert_eq!(git("https://h/x.git#v1:sub").unwrap().movable_name(), None);
        assert_eq!(git("https://me@h/x.git?ref=v1").unwrap().movable_name(), None);
    }

    #[test]
    fn what_has_no_pin_is_refused_only_if_asked() {
        let strict = pins(Unpinned::Refused);
        let debian: Reference = "debian".parse().unwrap();
        assert_eq!(
            strict.image(&debian).unwrap_err(),
            NotPinned("docker.io/library/debian:latest".to_owned())
        );
        assert!(strict.url("https://h/y").is_err());
        assert!(strict.git(GitSource::new("https://h/x.git#v2", None, false).unwrap()).is_err());
        assert_eq!(pins(Unpinned::Allowed).image(&debian).unwrap(), debian);
    }

    #[test]
    fn what_names_its_content_needs_no_pin() {
        let strict = Pins::new(Lockfile::default(), Unpinned::Refused);
        let image: Reference = format!("debian@{}", Digest::of(b"d")).parse().unwrap();
        assert_eq!(strict.image(&image).unwrap(), image);
        let commit = "cd".repeat(20);
        strict.git(GitSource::new(&format!("https://h/x.git#{commit}"), None, false).unwrap()).unwrap();
        strict.git(GitSource::new("https://h/x.git#v1", Some(&commit), false).unwrap()).unwrap();
        strict.saw_image(&image, Digest::of(b"d"));
        assert_eq!(strict.found(), Lockfile::default());
    }
}
