//! What is kept with an image, here or in a registry.

use std::collections::{BTreeMap, BTreeSet};

use super::At;
use crate::attest::{self, Artifact, Local, Remote};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::local;
use crate::cli::options::configuration::Configuration;
use crate::cli::show::notes;
use crate::image::{Image, MANIFEST_LIMIT, StoredPlatform, is_attestation};
use crate::oci::{Descriptor, Digest, Index, Manifest, Reference};
use crate::registry::{Client, Error as RegistryError};
use crate::report::Diagnostic;
use crate::signature::image::is_bundle;
use crate::store::{Error as StoreError, Store};

/// What is meant in a registry begins so, as with `rbuild inspect`.
pub(super) const REMOTE: &str = "docker://";

/// Where the documents of an image are.
pub(super) enum Place {
    Here(Store),
    There(Box<Client>, Reference),
}

/// What was found.
pub(super) struct Found {
    pub(super) place: Place,
    /// The digests of the image and of its platforms.
    pub(super) subjects: Vec<Digest>,
    /// What the platforms of an image are called, where that is told.
    pub(super) platforms: BTreeMap<Digest, String>,
    pub(super) listed: Vec<Listed>,
}

/// A document that is listed, and of what.
pub(super) struct Listed {
    pub(super) subject: Digest,
    pub(super) entry: Descriptor,
    /// Whether the entry is the document itself, of an image's index, and no manifest of its own.
    is_in_index: bool,
}

impl Listed {
    /// Whether it is a signed statement in a bundle of Sigstore.
    pub(super) fn is_bundle(&self) -> bool {
        self.entry.artifact_type.as_deref().is_some_and(is_bundle)
    }
}

impl Found {
    /// What platform a document is about: what it says itself, else what the image is for that it hangs on.
    pub(super) fn platform<'f>(&'f self, listed: &'f Listed) -> Option<&'f str> {
        let told = listed.entry.annotations.get("io.rbuild.platform");
        told.or_else(|| self.platforms.get(&listed.subject)).map(String::as_str)
    }
}

impl Place {
    /// How many bytes the document has; nothing of one whose manifest cannot be had: reading it tells why.
    pub(super) fn size(&self, listed: &Listed) -> Option<u64> {
        if listed.is_in_index {
            return Some(listed.entry.size);
        }
        let manifest: Manifest = serde_json::from_slice(&self.manifest(&listed.entry).ok()??).ok()?;
        manifest.layers.iter().try_fold(0_u64, |sum, layer| sum.checked_add(layer.size))
    }

    /// The document.
    pub(super) fn read(&self, listed: &Listed) -> Result<Artifact, Failure> {
        let Listed { subject, entry, is_in_index } = listed;
        if *is_in_index {
            return Ok(Artifact::in_index(entry, *subject, self.blob(entry)?));
        }
        let read = match self {
            Place::Here(store) => Local(store).read(entry),
            Place::There(client, name) => Remote::read(client, name, entry),
        };
        read.map_err(|error| failure(&error))
    }

    fn blob(&self, blob: &Descriptor) -> Result<Vec<u8>, Failure> {
        if blob.size > attest::DOCUMENT_LIMIT {
            let why = format!("it has {} bytes, more than {}", blob.size, attest::DOCUMENT_LIMIT);
            return Err(failure(&attest::Error::Wrong { digest: blob.digest, why }));
        }
        match self {
            Place::Here(store) => Ok(store.read_blob(blob, attest::DOCUMENT_LIMIT)?),
            Place::There(client, name) => {
                client.read_blob(name, blob).map_err(|error| failure(&error.into()))
            }
        }
    }

    /// A manifest that an index lists, by its digest; `None` if the store has not got it, whose images need not be whole.
    fn manifest(&self, entry: &Descriptor) -> Result<Option<Vec<u8>>, Failure> {
        let wrong = |why: &str| failure(&attest::Error::Wrong { digest: entry.digest, why: why.to_owned() });
        match self {
            Place::Here(store) => match store.read_blob(entry, MANIFEST_LIMIT) {
                Err(StoreError::NotFound { .. }) => Ok(None),
                read => Ok(Some(read?)),
            },
            Place::There(client, name) => {
                let found =
                    client.manifest(&name.pinned(entry.digest)).map_err(|error| failure(&error.into()))?;
                let bytes = found.ok_or_else(|| wrong("it is listed, and is not there"))?;
                match Digest::of(&bytes) == entry.digest {
                    true => Ok(Some(bytes)),
                    false => Err(wrong("the registry sent something else")),
                }
            }
        }
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Failure> {
        let found = match self {
            Place::Here(store) => Local(store).list(subject),
            Place::There(client, name) => attest::fetch(client, name, subject).map(|found| found.entries),
        };
        found.map_err(|error| failure(&error))
    }
}

/// In words.
pub(super) fn failure(error: &attest::Error) -> Failure {
    Failure::build(vec![error.diagnose("")])
}

/// There is no such document.
pub(super) fn none(image: &str, others: usize) -> Failure {
    let text = match others {
        0 => format!("nothing is kept beside `{image}`"),
        _ => format!("`{image}` has no such document beside it"),
    };
    let help = "`rbuild attest ls` lists what there is; `--sbom` and `--provenance` of a build make them; `rbuild sbom IMAGE` prints one of any image";
    Failure::build(vec![Diagnostic::error(text).help(help)])
}

/// Documents of an image and of all its platforms, each once.
pub(super) fn find(global: &Global, at: &At) -> Result<Found, Failure> {
    let (place, subjects, platforms, index) = image(global, at)?;
    let mut found: Vec<Listed> = Vec::new();
    for subject in &subjects {
        let entries = place.referrers(subject)?.into_iter();
        found.extend(entries.map(|entry| Listed { subject: *subject, entry, is_in_index: false }));
    }
    let Some(index) = index else { return Ok(Found { place, subjects, platforms, listed: found }) };
    for (attesting, subject) in attest::attesting(&index) {
        let Some(manifest) = place.manifest(&attesting)? else { continue };
        let image = index.manifests.iter().find(|entry| entry.digest == subject);
        let wrong = |why: String| failure(&attest::Error::Wrong { digest: attesting.digest, why });
        // A statement about something else would be true, and nobody asked for it.
        let image =
            image.ok_or_else(|| wrong(format!("it is about {subject}, which the index does not have")))?;
        let statements = attest::statements(&manifest, image.platform.as_ref()).map_err(wrong)?;
        found.extend(statements.into_iter().map(|entry| Listed { subject, entry, is_in_index: true }));
    }
    // What an index has is among the referrers of its images, too, where a registry lists those.
    let manifests: Vec<Digest> = index.manifests.iter().map(|entry| entry.digest).collect();
    found.retain(|listed| listed.is_in_index || !manifests.contains(&listed.entry.digest));
    Ok(Found { place, subjects, platforms, listed: found })
}

/// Where an image is, the digests of it and of its platforms, what these are called, and its index if it has one.
type Asked = (Place, Vec<Digest>, BTreeMap<Digest, String>, Option<Index>);

fn image(global: &Global, at: &At) -> Result<Asked, Failure> {
    let Some(name) = at.image.strip_prefix(REMOTE) else {
        let store = local::open_store(global)?;
        let target = local::find_target(&store, &at.image)?;
        let image = Image::read(&store, &target)?;
        let platforms = image.platforms.iter().map(|StoredPlatform { descriptor, .. }| descriptor.digest);
        let subjects: BTreeSet<Digest> = platforms.chain([target.digest]).collect();
        let called = image
            .platforms
            .iter()
            .filter_map(|one| Some((one.descriptor.digest, one.platform()?.to_string())));
        let called = called.collect();
        let index = match target.media_type.is_index() {
            true => serde_json::from_slice(&store.read_blob(&target, MANIFEST_LIMIT)?).ok(),
            false => None,
        };
        return Ok((Place::Here(store), subjects.into_iter().collect(), called, index));
    };
    let name: Reference = name.parse().map_err(|error: crate::oci::ReferenceError| {
        Failure::usage(Diagnostic::error(format!("bad name `{name}`: {}", error.reason)))
    })?;
    let client = Client::new(Configuration::load()?.registries(&at.registries)?);
    client.tell(&notes::aloud());
    let name = name.with_default_tag();
    let refused = |error: RegistryError| failure(&error.into());
    let Some(top) = client.manifest(&name).map_err(refused)? else {
        return Err(Failure::message(format!("{name} is not in its registry")));
    };
    let mut subjects = vec![Digest::of(&top)];
    let index: Option<Index> = serde_json::from_slice(&top).ok();
    let images = || index.iter().flat_map(|index| &index.manifests).filter(|entry| !is_attestation(entry));
    subjects.extend(images().map(|entry| entry.digest));
    let called = images().filter_map(|entry| Some((entry.digest, entry.platform.as_ref()?.to_string())));
    let called = called.collect();
    subjects.truncate(attest::IMAGES);
    Ok((Place::There(Box::new(client), name), subjects, called, index))
}
