//! From what a name stands for to one platform's image.

use std::collections::BTreeSet;

use super::document::{Content, Document};
use super::{Fault, PlatformImage};
use crate::oci::{
    Descriptor, Digest, ImageConfig, Index, MAX_INDEX_DEPTH, Manifest, MediaType, Platform, TooDeep,
};

/// Entries of an index that do not say their platform are opened to see, so many of them.
const MAX_UNMARKED: usize = 16;

/// Where the documents of an image come from.
pub trait Documents {
    /// Why one could not be had.
    type Error;

    /// The manifest or index that `entry` names.
    fn document(&self, entry: &Descriptor) -> Result<Document, Self::Error>;

    /// The configuration that a manifest names.
    fn config(&self, manifest: &Manifest) -> Result<ImageConfig, Self::Error>;

    /// The error for documents that are there, but wrong.
    fn wrong(&self, fault: Fault) -> Self::Error;
}

/// The image for `wanted` that `top` stands for. An index must have the platform; a single manifest is taken as it is,
/// whatever its platform, as BuildKit does.
///
/// # Errors
/// What `documents` say, also of a [`Fault`].
pub fn resolve<D: Documents>(
    documents: &D,
    top: Document,
    wanted: &Platform,
) -> Result<PlatformImage, D::Error> {
    let target = top.descriptor;
    let (manifest, document) = match top.content {
        Content::Manifest(document) => (target.clone(), document),
        Content::Index(index) => choose(documents, &index, wanted)?,
    };
    let config = documents.config(&document)?;
    PlatformImage::new(target, manifest, *document, config).map_err(|fault| documents.wrong(fault))
}

/// The manifest of an index that serves `wanted` best, within indexes, too; with its descriptor.
///
/// # Errors
/// What `documents` say, also of [`Fault::NoPlatform`] and [`Fault::TooDeep`].
pub fn choose<D: Documents>(
    documents: &D,
    index: &Index,
    wanted: &Platform,
) -> Result<(Descriptor, Box<Manifest>), D::Error> {
    let chosen = choose_within(documents, index, wanted, &mut BTreeSet::new(), 0)?;
    chosen.ok_or_else(|| documents.wrong(no_platform(wanted, index)))
}

/// An index that was `tried` in vain is not opened again.
fn choose_within<D: Documents>(
    documents: &D,
    index: &Index,
    wanted: &Platform,
    tried: &mut BTreeSet<Digest>,
    depth: u32,
) -> Result<Option<(Descriptor, Box<Manifest>)>, D::Error> {
    for entry in candidates(index, wanted) {
        if tried.contains(&entry.digest) {
            continue;
        }
        let document = documents.document(entry)?;
        let descriptor = Descriptor { platform: entry.platform.clone(), ..document.descriptor };
        match document.content {
            Content::Index(inner) if depth < MAX_INDEX_DEPTH => {
                tried.insert(entry.digest);
                let found = choose_within(documents, &inner, wanted, tried, depth + 1)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Content::Index(_) => return Err(documents.wrong(TooDeep(entry.digest).into())),
            Content::Manifest(manifest) => {
                if entry.platform.is_some() || runs_on(documents, &manifest, wanted)? {
                    return Ok(Some((descriptor, manifest)));
                }
            }
        }
    }
    Ok(None)
}

/// Whether an image of an index that does not say its platform is for `wanted`.
fn runs_on<D: Documents>(documents: &D, manifest: &Manifest, wanted: &Platform) -> Result<bool, D::Error> {
    let kind = &manifest.config.media_type;
    if *kind != MediaType::CONFIG && *kind != MediaType::DOCKER_CONFIG {
        return Ok(false);
    }
    let config = documents.config(manifest)?;
    Ok(wanted.match_rank(&config.platform()).is_some())
}

/// The one of `offered` that serves `wanted` best, and of equally good ones the first; `platform_of` says what each is for.
pub fn best<T>(
    wanted: &Platform,
    offered: impl IntoIterator<Item = T>,
    platform_of: impl Fn(&T) -> Option<Platform>,
) -> Option<T> {
    let ranked = offered.into_iter().filter_map(|one| Some((wanted.match_rank(&platform_of(&one)?)?, one)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, one)| one)
}

/// The entries worth opening, best first: those that fit by their own word in order of rank and then of the
/// index, then those that do not say.
fn candidates<'a>(index: &'a Index, wanted: &Platform) -> Vec<&'a Descriptor> {
    let mut ranked: Vec<(u32, &Descriptor)> = Vec::new();
    let mut unmarked = Vec::new();
    for entry in index.manifests.iter().filter(|entry| is_image(entry)) {
        match &entry.platform {
            Some(offered) => ranked.extend(wanted.match_rank(offered).map(|rank| (rank, entry))),
            None => unmarked.push(entry),
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    unmarked.truncate(MAX_UNMARKED);
    ranked.into_iter().map(|(_, entry)| entry).chain(unmarked).collect()
}

fn is_image(entry: &Descriptor) -> bool {
    (entry.media_type.is_manifest() || entry.media_type.is_index()) && !is_attestation(entry)
}

/// Attestations of BuildKit sit in the index beside the images they are about.
pub fn is_attestation(entry: &Descriptor) -> bool {
    let unknown = |p: &Platform| p.os == "unknown" || p.architecture == "unknown";
    entry.annotations.contains_key("vnd.docker.reference.type")
        || entry.platform.as_ref().is_some_and(unknown)
}

fn no_platform(wanted: &Platform, index: &Index) -> Fault {
    let images = index.manifests.iter().filter(|entry| is_image(entry));
    let platforms = images.filter_map(|entry| entry.platform.clone().map(Platform::normalised));
    let mut seen = BTreeSet::new();
    let offered = platforms.filter(|platform| seen.insert(platform.clone())).collect();
    Fault::NoPlatform { wanted: Box::new(wanted.clone()), offered }
}
