//! Indexes that are made in a registry of images that are there: documents move, layers do not.

use std::collections::BTreeSet;

use crate::attest::ABOUT;
use crate::image::{Content, Document, Fault, document};
use crate::oci::image::{Dialect, assemble_index};
use crate::oci::{
    Annotation, AnnotationLevel, Descriptor, Digest, MAX_INDEX_DEPTH, Platform, Reference, TooDeep,
};
use crate::registry::{self, Client};

/// What an index is to be made of.
#[derive(Debug, Clone, Default)]
pub struct IndexRequest {
    /// The images, in their order: each is one of a platform, or an index whose images are meant.
    pub sources: Vec<Source>,
    /// Annotations of the index, and of its entries.
    pub annotations: Vec<Annotation>,
    /// Only these platforms; all of them if there are none.
    pub platforms: Vec<Platform>,
    /// Whether a single image becomes an index of one.
    pub prefer_index: bool,
}

/// An image in a registry, and what the index says of it beside what the image does.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is.
    pub reference: Reference,
    /// Its platform, if it is said.
    pub platform: Option<Platform>,
    /// Annotations of its entry.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// An index, or the single image that stands for itself, before it is anywhere.
#[derive(Debug)]
pub struct Combined {
    /// Its document.
    pub bytes: Vec<u8>,
    /// What that is.
    pub descriptor: Descriptor,
    /// What it names, each with an image of the repository that has it.
    parts: Vec<(Descriptor, Reference)>,
}

/// Why there is no index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// What a registry said.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// A source that is not there.
    #[error("its registry does not have `{0}`")]
    Missing(Reference),
    /// A document that is wrong.
    #[error("`{reference}`: {fault}")]
    Wrong {
        /// The source.
        reference: Reference,
        /// What is wrong with it.
        fault: Fault,
    },
    /// Indexes of indexes of indexes.
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
    /// No image is left for the platforms that were asked for.
    #[error("none of the images is for {0}")]
    NoPlatform(String),
    /// An annotation that the document cannot have.
    #[error(
        "an annotation of the {0} is not possible here: manifests stay as they are, and nothing describes the index"
    )]
    Annotation(&'static str),
    /// A blob that would have to move.
    #[error("`{to}` does not get the layers of `{from}` without moving them")]
    Elsewhere {
        /// What has it.
        from: Reference,
        /// What would have to have it.
        to: Reference,
    },
}

/// Reads the sources, and makes one document of them.
///
/// # Errors
/// [`IndexError`], but [`IndexError::Elsewhere`].
pub fn combine(client: &Client, request: &IndexRequest) -> Result<Combined, IndexError> {
    let level = |wanted: AnnotationLevel| request.annotations.iter().any(|a| a.place.level == wanted);
    for refused in [AnnotationLevel::Manifest, AnnotationLevel::IndexDescriptor] {
        if level(refused) {
            return Err(IndexError::Annotation(refused.name()));
        }
    }
    let mut sources = Vec::new();
    for source in &request.sources {
        let (document, bytes) = fetch(client, &source.reference)?;
        sources.push((source, document, bytes));
    }
    if let [(source, document, bytes)] = sources.as_slice()
        && request.annotations.is_empty()
        && request.platforms.is_empty()
        && (document.descriptor.media_type.is_index() || !request.prefer_index)
    {
        let parts = match &document.content {
            Content::Index(index) => index.manifests.clone(),
            Content::Manifest(_) => Vec::new(),
        };
        let own = document.descriptor.clone();
        let parts = parts.into_iter().chain([own.clone()]);
        return Ok(Combined {
            bytes: bytes.clone(),
            descriptor: own,
            parts: parts.map(|part| (part, source.reference.clone())).collect(),
        });
    }
    let mut parts: Vec<(Descriptor, Reference)> = Vec::new();
    for (source, document, _) in &sources {
        for entry in entries(client, source, document)? {
            match parts.iter_mut().find(|(known, _)| known.digest == entry.digest) {
                Some((known, _)) => {
                    known.platform = entry.platform.or(known.platform.take());
                    known.annotations.extend(entry.annotations);
                }
                None => parts.push((entry, source.reference.clone())),
            }
        }
    }
    let parts = chosen(parts, &request.platforms)?;
    let manifests: Vec<Descriptor> =
        parts.iter().map(|(entry, _)| annotated(entry, &request.annotations)).collect();
    let annotations = Annotation::at(&request.annotations, AnnotationLevel::Index, None);
    let is_dockers = |entry: &Descriptor| entry.media_type.as_str().starts_with("application/vnd.docker.");
    let dialect = match manifests.iter().all(is_dockers) && request.annotations.is_empty() {
        true => Dialect::Docker,
        false => Dialect::Oci,
    };
    let (bytes, descriptor) = assemble_index(manifests, (&annotations, dialect));
    Ok(Combined { bytes, descriptor, parts })
}

/// The document, and its bytes.
fn fetch(client: &Client, reference: &Reference) -> Result<(Document, Vec<u8>), IndexError> {
    let bytes = client.manifest(reference)?.ok_or_else(|| IndexError::Missing(reference.clone()))?;
    let wrong = |fault| IndexError::Wrong { reference: reference.clone(), fault };
    let document = document::parse(&bytes, None).map_err(wrong)?;
    match reference.digest() {
        Some(expected) if expected != document.descriptor.digest => {
            Err(wrong(Fault::Malformed(format!("it is {}", document.descriptor.digest))))
        }
        _ => Ok((document, bytes)),
    }
}

/// What a source adds to an index.
fn entries(client: &Client, source: &Source, document: &Document) -> Result<Vec<Descriptor>, IndexError> {
    let manifest = match &document.content {
        Content::Index(index) => return Ok(index.manifests.clone()),
        Content::Manifest(manifest) => manifest,
    };
    let platform = match &source.platform {
        Some(platform) => platform.clone(),
        None => {
            let wrong = |fault| IndexError::Wrong { reference: source.reference.clone(), fault };
            let config = client.read_blob(&source.reference, &manifest.config)?;
            document::parse_config(&config, &manifest.config).map_err(wrong)?.platform()
        }
    };
    let annotations = source.annotations.clone();
    Ok(vec![Descriptor { platform: Some(platform), annotations, ..document.descriptor.clone() }])
}

/// Those of the platforms that were asked for, and what attests them.
fn chosen(
    parts: Vec<(Descriptor, Reference)>,
    platforms: &[Platform],
) -> Result<Vec<(Descriptor, Reference)>, IndexError> {
    if platforms.is_empty() {
        return Ok(parts);
    }
    let is_wanted = |entry: &Descriptor| {
        entry.platform.clone().is_some_and(|platform| platforms.contains(&platform.normalised()))
    };
    let kept: BTreeSet<String> = parts
        .iter()
        .filter(|(entry, _)| is_wanted(entry))
        .map(|(entry, _)| entry.digest.to_string())
        .collect();
    if kept.is_empty() {
        let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        return Err(IndexError::NoPlatform(names.join(" or ")));
    }
    let stays = |entry: &Descriptor| {
        kept.contains(&entry.digest.to_string())
            || entry.annotations.get(ABOUT).is_some_and(|about| kept.contains(about))
    };
    Ok(parts.into_iter().filter(|(entry, _)| stays(entry)).collect())
}

fn annotated(entry: &Descriptor, annotations: &[Annotation]) -> Descriptor {
    let platform = entry.platform.clone().map(Platform::normalised);
    let mut entry = entry.clone();
    entry.annotations.extend(Annotation::at(
        annotations,
        AnnotationLevel::ManifestDescriptor,
        platform.as_ref(),
    ));
    entry
}

/// Puts it under the names: what it names first, so that nobody sees an index of what is not there.
///
/// # Errors
/// [`IndexError::Elsewhere`] where layers would have to move, and what registries say. Documents that were written stay.
pub fn publish(client: &Client, combined: &Combined, names: &[Reference]) -> Result<(), IndexError> {
    for name in names {
        let mut done = BTreeSet::new();
        for (part, source) in &combined.parts {
            bring(client, part, (source, name), &mut done, 0)?;
        }
        client.write_manifest(name, &combined.descriptor.media_type, &combined.bytes)?;
    }
    Ok(())
}

/// Has the repository of `to` get a manifest, or an index with all of its manifests, of the repository of `from`.
fn bring(
    client: &Client,
    part: &Descriptor,
    (from, to): (&Reference, &Reference),
    done: &mut BTreeSet<Digest>,
    depth: u32,
) -> Result<(), IndexError> {
    let is_same = (from.registry(), from.repository()) == (to.registry(), to.repository());
    if is_same || !done.insert(part.digest) {
        return Ok(());
    }
    let pinned = from.pinned(part.digest);
    let (document, bytes) = fetch(client, &pinned)?;
    match &document.content {
        Content::Index(_) if depth >= MAX_INDEX_DEPTH => return Err(TooDeep(part.digest).into()),
        Content::Index(index) => {
            index.manifests.iter().try_for_each(|inner| bring(client, inner, (from, to), done, depth + 1))?;
        }
        Content::Manifest(manifest) => {
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                if !client.mount_blob(from, to, &blob.digest)? {
                    return Err(IndexError::Elsewhere { from: from.clone(), to: to.clone() });
                }
            }
        }
    }
    client.write_manifest(&to.pinned(part.digest), &document.descriptor.media_type, &bytes)?;
    Ok(())
}
