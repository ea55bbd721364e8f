//! Looks images up in the local store, for the commands that only read.

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::configuration::Configuration;
use crate::oci::{Descriptor, Digest, ImageConfig, Index, Manifest, MediaType, Platform, Reference};
use crate::report::Diagnostic;
use crate::store::Store;
use crate::upkeep::{Image, PlatformImage};

/// Manifests and indexes are bounded as registries bound them.
const MANIFEST_LIMIT: u64 = 4 << 20;
const CONFIG_LIMIT: u64 = 8 << 20;

/// One image of the store with everything that describes it.
pub(super) struct LocalImage {
    /// The manifest of the platform that was asked for, or of this machine's, or the first.
    pub(super) manifest: Manifest,
    /// Its digest.
    pub(super) manifest_digest: Digest,
    /// Its configuration.
    pub(super) config: ImageConfig,
}

/// Opens the store that the global options name.
pub(super) fn open_store(global: &Global) -> Result<Store, Failure> {
    let root = global.store_root().ok_or_else(Failure::no_store_root)?;
    Ok(Store::open(&root)?)
}

/// The same for a command that brings something in: what the store may hold is heeded.
pub(super) fn open_to_write(global: &Global, configuration: &Configuration) -> Result<Store, Failure> {
    let store = open_store(global)?;
    if let Some(quota) = configuration.own.store_quota_bytes {
        crate::build::heed_quota(&store, quota)?;
    }
    Ok(store)
}

/// Finds what `name` means: a name with or without tag, a whole digest, or the first digits of one.
pub(super) fn find(store: &Store, name: &str) -> Result<LocalImage, Failure> {
    describe(store, find_target(store, name)?)
}

/// The manifest or index that `name` means; it is not read.
pub(super) fn find_target(store: &Store, name: &str) -> Result<Descriptor, Failure> {
    let tags = store.tags()?;
    let wanted = name.parse::<Reference>().ok().map(Reference::with_default_tag);
    let by_name =
        tags.iter().find(|(reference, _)| wanted.as_ref().is_some_and(|w| w.full() == reference.full()));
    let target = match by_name {
        Some((_, target)) => target.clone(),
        None => match by_digest(&tags, name) {
            Some(target) => target,
            None => unnamed(store, name)?.ok_or_else(|| not_found(&tags, name))?,
        },
    };
    Ok(target)
}

/// A name to be given: it has a tag, and no digest.
pub(super) fn new_name(text: &str) -> Result<Reference, Failure> {
    let bad = |reason: &str| Failure::usage(Diagnostic::error(format!("bad name `{text}`: {reason}")));
    let reference: Reference = text.parse().map_err(|e: crate::oci::ReferenceError| bad(e.reason))?;
    match reference.digest() {
        Some(_) => Err(bad("a name that is given cannot have a digest")),
        None => Ok(reference.with_default_tag()),
    }
}

/// A name without its tag, in its short form.
pub(super) fn repository(name: &Reference) -> String {
    let text = name.to_string();
    let text = text.split('@').next().unwrap_or(&text);
    let suffix = name.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    text.strip_suffix(&suffix).unwrap_or(text).to_owned()
}

fn by_digest(tags: &[(Reference, Descriptor)], name: &str) -> Option<Descriptor> {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let plausible = digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let mut found = tags.iter().filter(|(_, d)| plausible && d.digest.hex().starts_with(digits));
    let first = found.next()?;
    found.all(|(_, d)| d.digest == first.1.digest).then(|| first.1.clone())
}

/// What a whole digest means that no name points at: `rbuild -q` prints those of builds without `-t`.
fn unnamed(store: &Store, name: &str) -> Result<Option<Descriptor>, Failure> {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType")]
        media_type: MediaType,
    }
    let Ok(digest) = name.parse::<Digest>() else { return Ok(None) };
    let Some(size) = store.has_blob(&digest).filter(|size| *size <= MANIFEST_LIMIT) else { return Ok(None) };
    let bytes = store.read_blob(&Descriptor::new(MediaType::MANIFEST, digest, size), MANIFEST_LIMIT)?;
    let Ok(Typed { media_type }) = serde_json::from_slice(&bytes) else { return Ok(None) };
    let describes = media_type.is_index() || media_type.is_manifest();
    Ok(describes.then(|| Descriptor::new(media_type, digest, size)))
}

fn not_found(tags: &[(Reference, Descriptor)], name: &str) -> Failure {
    let names: Vec<String> = tags.iter().map(|(reference, _)| reference.to_string()).collect();
    Failure::no_such_image(name, &names)
}

/// Reads the manifest and configuration behind a tag's target.
pub(super) fn describe(store: &Store, target: Descriptor) -> Result<LocalImage, Failure> {
    let descriptor = if target.media_type.is_index() { choose(store, &target)? } else { target };
    let manifest: Manifest = read_json(store, &descriptor, MANIFEST_LIMIT)?;
    let config = read_json(store, &manifest.config, CONFIG_LIMIT)?;
    Ok(LocalImage { manifest, manifest_digest: descriptor.digest, config })
}

/// The entry of an index for this machine, else its first.
fn choose(store: &Store, index: &Descriptor) -> Result<Descriptor, Failure> {
    let index: Index = read_json(store, index, MANIFEST_LIMIT)?;
    let entries = index.flatten::<Failure>(&mut |inner| match store.has_blob(&inner.digest) {
        Some(_) => read_json(store, inner, MANIFEST_LIMIT).map(Some),
        None => Ok(None),
    })?;
    let host = Platform::host();
    let rank = |d: &Descriptor| d.platform.as_ref().and_then(|p| host.match_rank(p));
    let best = entries.iter().filter(|d| rank(d).is_some()).min_by_key(|d| rank(d));
    best.or(entries.first()).cloned().ok_or_else(|| Failure::message("the image's index lists no manifest"))
}

/// Reads a JSON blob, verified.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(
    store: &Store,
    descriptor: &Descriptor,
    limit: u64,
) -> Result<T, Failure> {
    let bytes = store.read_blob(descriptor, limit)?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Failure::message(format!("blob {} is no valid {}: {e}", descriptor.digest, descriptor.media_type))
    })
}

/// How long ago `created` was, for people; `-` when it is not known.
pub(super) fn age(created: Option<&str>) -> String {
    let Some(created) = created.and_then(crate::oci::parse_rfc3339) else { return "-".to_owned() };
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let seconds = (now - created).max(0);
    let (count, unit) = match seconds {
        s if s < 60 => return "just now".to_owned(),
        s if s < 3600 => (s / 60, "minute"),
        s if s < 86_400 => (s / 3600, "hour"),
        s if s < 86_400 * 60 => (s / 86_400, "day"),
        s if s < 86_400 * 730 => (s / (86_400 * 30), "month"),
        s => (s / (86_400 * 365), "year"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// All names of what `digest` is.
pub(super) fn names_of(store: &Store, digest: &Digest) -> Result<Vec<Reference>, Failure> {
    let tags = store.tags()?.into_iter().filter(|(_, target)| target.digest == *digest);
    Ok(tags.map(|(reference, _)| reference).collect())
}

/// An image whose manifest or configuration is not there.
pub(super) fn unreadable(name: &str, image: &Image) -> Failure {
    let missing: Vec<String> = image.missing.iter().map(Digest::to_string).collect();
    let what = if missing.is_empty() { "its manifest".to_owned() } else { missing.join(", ") };
    let diagnostic = Diagnostic::error(format!("the image `{name}` cannot be read: the store lacks {what}"));
    Failure::build(vec![
        diagnostic.help("build or pull it again; `rbuild verify` tells what else is missing"),
    ])
}

/// An image that is not for a platform.
pub(super) fn no_platform(name: &str, image: &Image, wanted: &Platform) -> Failure {
    let offered = image.platforms.iter().filter_map(PlatformImage::platform).map(|p| p.to_string());
    let offered: Vec<String> = offered.collect();
    let message = format!("`{name}`: no match for {wanted}; this image has: {}", offered.join(", "));
    Failure::message(message)
}
