//! What a build took from elsewhere, for its record: whatever it turned out to be, pinned or not.

use std::sync::Mutex;

use crate::oci::{Digest, Platform, Reference};
use crate::record::{Material, MaterialKind};
use crate::source::git::GitSource;
use crate::sync::lock;
use crate::text::url::without_password;

/// What was taken so far. Cheap to add to; may be shared.
#[derive(Debug, Default)]
pub struct Materials(Mutex<Vec<Material>>);

impl Materials {
    /// An image: what its name stood for.
    pub fn saw_image(&self, reference: &Reference, target: Digest, platform: &Platform) {
        self.add(
            MaterialKind::Image,
            reference.clone().with_default_tag().full(),
            target.to_string(),
            Some(platform),
        );
    }

    /// An image of this machine, as it was named.
    pub fn saw_local_image(&self, name: &str, target: Digest, platform: &Platform) {
        self.add(MaterialKind::LocalImage, name.to_owned(), target.to_string(), Some(platform));
    }

    /// What was behind a URL.
    pub fn saw_url(&self, url: &str, digest: Digest) {
        self.add(MaterialKind::Http, without_password(url), digest.to_string(), None);
    }

    /// The commit of a repository.
    pub fn saw_git(&self, source: &GitSource, commit: &str) {
        let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
        self.add(MaterialKind::Git, source.name(), format!("{algorithm}:{commit}"), None);
    }

    /// All of them.
    pub fn all(&self) -> Vec<Material> {
        lock(&self.0).clone()
    }

    fn add(&self, kind: MaterialKind, name: String, digest: String, platform: Option<&Platform>) {
        let platform = platform.map(ToString::to_string);
        let material = Material { kind, name, digest: Some(digest), platform };
        let mut all = lock(&self.0);
        if !all.contains(&material) {
            all.push(material);
        }
    }
}
