//! Looks images up in the local store, for the commands that only read.

use std::sync::Arc;

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::options::configuration::Configuration;
use crate::image::{Image, StoredPlatform, described, listed};
use crate::oci::{Descriptor, Digest, ImageConfig, Platform, Reference, TooDeep};
use crate::report::Diagnostic;
use crate::store::Store;
use crate::upkeep::Inventory;

/// Opens the store that the global options name.
pub(crate) fn open_store(global: &Global) -> Result<Store, Failure> {
    let root = global.store_root().ok_or_else(Failure::no_store_root)?;
    Ok(Store::open(&root)?)
}

/// Opens the store for a command that only lists; where there is nothing nothing is made.
pub(crate) fn open_existing(global: &Global) -> Result<Option<Store>, Failure> {
    let root = global.store_root().ok_or_else(Failure::no_store_root)?;
    match root.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => open_store(global).map(Some),
    }
}

/// Opens the store for a command that brings something in: what it may hold is enforced first.
pub(crate) fn open_to_write(global: &Global, configuration: &Configuration) -> Result<Store, Failure> {
    let store = open_store(global)?;
    if let Some(quota) = configuration.own.store_quota_bytes {
        crate::pipeline::heed_quota(&store, quota)?;
    }
    Ok(store)
}

/// What `name` means: a name with or without tag, a whole digest, or the first digits of one. The platform is that of this
/// machine, else the first.
pub(crate) fn find(store: &Store, name: &str) -> Result<(StoredPlatform, Arc<ImageConfig>), Failure> {
    let image = Image::read(store, &find_target(store, name)?)?;
    let platform = image.for_this_machine().ok_or_else(|| unreadable(name, &image))?;
    let config = platform.config.clone().ok_or_else(|| unreadable(name, &image))?;
    Ok((platform.clone(), config))
}

/// The manifest or index that `name` means; it is not read.
pub(crate) fn find_target(store: &Store, name: &str) -> Result<Descriptor, Failure> {
    if let Some(wanted) = name.parse::<Reference>().ok()
        && let Some(target) = store.tag(&wanted)?
    {
        return Ok(target);
    }
    let tags = store.tags()?;
    if let Some(target) = by_digest(&tags, name) {
        return Ok(target);
    }
    match unnamed(store, name)?.as_slice() {
        [] => by_configuration(store, name)?.ok_or_else(|| not_found(&tags, name)),
        [target] => Ok(target.clone()),
        several => Err(ambiguous(name, several)),
    }
}

/// A name to be given: it has a tag, and no digest.
pub(crate) fn new_name(text: &str) -> Result<Reference, Failure> {
    let bad = |reason: &str| Failure::usage(Diagnostic::error(format!("bad name `{text}`: {reason}")));
    let reference: Reference = text.parse().map_err(|e: crate::oci::ReferenceError| bad(e.reason))?;
    match reference.digest() {
        Some(_) => Err(bad("a name that is given cannot have a digest")),
        None => Ok(reference.with_default_tag()),
    }
}

/// A name without its tag, in its short form.
pub(crate) fn repository(name: &Reference) -> String {
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

/// What a digest, or its first digits, mean that no name points at: `rbuild -q` prints those of builds without `-t`, and
/// `images -a` lists them.
fn unnamed(store: &Store, name: &str) -> Result<Vec<Descriptor>, Failure> {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    if digits.len() < 4 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for digest in store.blobs_that_begin_with(digits)? {
        found.extend(described(store, digest)?);
    }
    // An image of several platforms is meant, not one of those.
    let indexes: Vec<Descriptor> = found.iter().filter(|d| d.media_type.is_index()).cloned().collect();
    Ok(if indexes.is_empty() { found } else { indexes })
}

/// The image whose configuration has this digest, or these first digits of it: docker's and podman's id. Several have the same
/// files in another form; one with a name goes before the others.
fn by_configuration(store: &Store, name: &str) -> Result<Option<Descriptor>, Failure> {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let plausible = digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !plausible || store.blobs_that_begin_with(digits)?.is_empty() {
        return Ok(None);
    }
    let inventory = Inventory::take(store)?;
    let in_image = |image: &Image| {
        let is_meant = |platform: &&StoredPlatform| platform.manifest.config.digest.hex().starts_with(digits);
        let platform = image.platforms.iter().find(is_meant)?;
        Some(if image.platforms.len() == 1 { image.target.clone() } else { platform.descriptor.clone() })
    };
    Ok(inventory.named.values().chain(&inventory.unnamed).find_map(in_image))
}

/// The blob as the manifest or index that it is, if it is one.
fn ambiguous(name: &str, several: &[Descriptor]) -> Failure {
    let all: Vec<String> = several.iter().map(|target| target.digest.to_string()).collect();
    let diagnostic = Diagnostic::error(format!("`{name}` may mean several images: {}", all.join(", ")));
    Failure::build(vec![diagnostic.help("write more of its digits")])
}

fn not_found(tags: &[(Reference, Descriptor)], name: &str) -> Failure {
    let names: Vec<String> = tags.iter().map(|(reference, _)| reference.to_string()).collect();
    Failure::no_such_image(name, &names)
}

/// How long ago `created` was, for people; `-` when it is not known.
pub(crate) fn age(created: Option<&str>) -> String {
    let Some(created) = created.and_then(crate::oci::parse_rfc3339) else { return "-".to_owned() };
    if created == 0 {
        // No time at all is meant, as in images that are the same whenever they are built.
        return "at the epoch".to_owned();
    }
    let seconds = (crate::clock::now() - created).max(0);
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
pub(crate) fn names_of(store: &Store, digest: &Digest) -> Result<Vec<Reference>, Failure> {
    let tags = store.tags()?.into_iter().filter(|(_, target)| target.digest == *digest);
    Ok(tags.map(|(reference, _)| reference).collect())
}

/// An image whose manifest or configuration is not there.
pub(crate) fn unreadable(name: &str, image: &Image) -> Failure {
    if let Some(digest) = image.too_deep.first() {
        return TooDeep(*digest).into();
    }
    let missing: Vec<String> = image.missing.iter().map(Digest::to_string).collect();
    let what = if missing.is_empty() { "its manifest".to_owned() } else { missing.join(", ") };
    let diagnostic = Diagnostic::error(format!("the image `{name}` cannot be read: the store lacks {what}"));
    Failure::build(vec![
        diagnostic.help("build or pull it again; `rbuild verify` tells what else is missing"),
    ])
}

/// An image that is not for a platform.
pub(crate) fn no_platform(name: &str, image: &Image, wanted: &Platform) -> Failure {
    let offered: Vec<Platform> = image.platforms.iter().filter_map(StoredPlatform::platform).collect();
    Failure::message(format!("`{name}`: no match for {wanted}; this image has: {}", listed(&offered)))
}
