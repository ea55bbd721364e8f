//! Finds the images that FROM names: in the local store, in a layout, or in a registry.

use std::sync::Arc;

use crate::oci::{Descriptor, ImageConfig, Index, Layer, Manifest, Platform, Reference};
use crate::plan::graph::{BaseOrigin, BaseRequest, ResolvedBase};
use crate::registry::{self, CONFIG_LIMIT, Client, MANIFEST_LIMIT};
use crate::report::{Diagnostic, Source};
use crate::store::Store;

/// Finds what `request` asks for. An image of that name in the local store goes before a registry's.
pub(super) fn resolve(
    store: &Store,
    registry: &Client,
    request: &BaseRequest,
) -> Result<ResolvedBase, Diagnostic> {
    match &request.origin {
        BaseOrigin::Image(reference) => match local(store, reference)? {
            Some(target) => from_store(store, request, &target),
            None => remote(store, registry, request, reference),
        },
        BaseOrigin::Layout { path, selector } => {
            let target = super::layout::import(store, path.as_ref(), selector)?;
            from_store(store, request, &target)
        }
    }
}

/// Points an error at the FROM line that caused it.
pub(super) fn at(diagnostic: Diagnostic, source: &Arc<Source>, request: &BaseRequest) -> Diagnostic {
    diagnostic.at(source, request.span, "")
}

/// What the local store has under this name.
fn local(store: &Store, reference: &Reference) -> Result<Option<Descriptor>, Diagnostic> {
    if reference.digest().is_some() {
        return Ok(None);
    }
    store.tag(&reference.clone().with_default_tag()).map_err(|e| super::diagnose_store(&e))
}

fn from_store(store: &Store, request: &BaseRequest, target: &Descriptor) -> Result<ResolvedBase, Diagnostic> {
    let descriptor = match target.media_type.is_index() {
        true => choose(store, request, target)?,
        false => target.clone(),
    };
    let manifest: Manifest = read(store, &descriptor, MANIFEST_LIMIT)?;
    let config: ImageConfig = read(store, &manifest.config, CONFIG_LIMIT)?;
    let layers = pair(&manifest, &config).ok_or_else(|| {
        Diagnostic::error(format!(
            "`{}` has another number of layers than its configuration says",
            request.name
        ))
    })?;
    Ok(ResolvedBase { request: request.clone(), manifest: descriptor, config, layers, remote: None })
}

fn choose(store: &Store, request: &BaseRequest, target: &Descriptor) -> Result<Descriptor, Diagnostic> {
    let index: Index = read(store, target, MANIFEST_LIMIT)?;
    let rank = |d: &Descriptor| d.platform.as_ref().and_then(|p| request.platform.match_rank(p));
    let best = index.manifests.iter().filter(|d| rank(d).is_some()).min_by_key(|d| rank(d));
    best.cloned().ok_or_else(|| {
        let offered: Vec<String> =
            index.manifests.iter().filter_map(|d| d.platform.as_ref()).map(Platform::to_string).collect();
        Diagnostic::error(format!(
            "`{}`: no match for {}; this image has: {}",
            request.name,
            request.platform,
            offered.join(", ")
        ))
    })
}

fn read<T: serde::de::DeserializeOwned>(
    store: &Store,
    descriptor: &Descriptor,
    limit: u64,
) -> Result<T, Diagnostic> {
    let bytes = store.read_blob(descriptor, limit).map_err(|e| super::diagnose_store(&e))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Diagnostic::error(format!("blob {} is no valid {}: {e}", descriptor.digest, descriptor.media_type))
    })
}

/// The layers with their identities; `None` when there are more of one than of the other.
fn pair(manifest: &Manifest, config: &ImageConfig) -> Option<Vec<Layer>> {
    let diff_ids = &config.rootfs.diff_ids;
    let layers = manifest.layers.iter().zip(diff_ids);
    let layers =
        layers.map(|(descriptor, diff_id)| Layer { descriptor: descriptor.clone(), diff_id: *diff_id });
    (manifest.layers.len() == diff_ids.len()).then(|| layers.collect())
}

fn remote(
    store: &Store,
    registry: &Client,
    request: &BaseRequest,
    reference: &Reference,
) -> Result<ResolvedBase, Diagnostic> {
    let resolved = registry.resolve(store, reference, &request.platform).map_err(|e| diagnose(&e))?;
    Ok(ResolvedBase {
        request: request.clone(),
        manifest: resolved.descriptor,
        config: resolved.config,
        layers: resolved.layers,
        remote: Some(reference.clone()),
    })
}

/// A registry's answer in words, with a way on.
fn diagnose(error: &registry::Error) -> Diagnostic {
    let diagnostic = Diagnostic::error(error.to_string());
    match error.help() {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}
