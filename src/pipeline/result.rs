//! From solved steps to a published image.

use std::collections::BTreeMap;

use super::{Built, Identity, Request, attest, budget, diagnose_store, load, push, squash};
use crate::attest::ABOUT;
use crate::export::{self, Along};
use crate::image::{MANIFEST_LIMIT, is_attestation};
use crate::oci::image::{self, Assembled};
use crate::oci::{
    AnnotationLevel, Descriptor, Digest, ImageConfig, Index, Layer, Platform, Reference, Seconds,
};
use crate::plan::graph::{Goal, Graph, HistoryPlan, StepId};
use crate::report::{Diagnostic, Event, Outcome, Source, StepNumber};
use crate::solve::{self, Environment, Services, Solved};
use crate::store::Store;
use crate::upkeep::{StepNote, StepNotes};

/// What one platform's build came to: an image, complete in the store but without a name.
pub(super) struct PlatformResult {
    platform: Platform,
    manifest: Descriptor,
    config: Digest,
    layers: Vec<Layer>,
    /// The build's SOURCE_DATE_EPOCH.
    epoch: Option<Seconds>,
}

impl PlatformResult {
    /// What it runs on.
    pub(super) fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Its manifest.
    pub(super) fn manifest(&self) -> &Descriptor {
        &self.manifest
    }

    /// The digest of its configuration.
    pub(super) fn config(&self) -> &Digest {
        &self.config
    }

    /// The layers of the image.
    pub(super) fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

/// What all of the build came to.
pub(super) struct Results {
    /// An image for each platform.
    pub(super) images: Vec<PlatformResult>,
    /// The layers of all that the steps stood on, each once.
    pub(super) seen: Vec<Layer>,
    /// Steps that ran.
    pub(super) ran: usize,
    /// Steps whose layer came from the cache.
    pub(super) cached: usize,
}

/// Makes configuration and manifest of what the steps left, its layers in the form that the result has.
pub(super) fn assemble(
    request: &Request,
    (graph, goal): (&Graph, &Goal),
    solved: &Solved,
    layers: Vec<Layer>,
    environment: &Environment<'_>,
) -> Result<PlatformResult, Vec<Diagnostic>> {
    let services = environment.services;
    let epoch = request.image_epoch(goal.epoch);
    let time_of = |step: StepId| epoch.unwrap_or_else(|| solved.root(step).time);
    let history = goal.image.history.iter().map(|entry| entry.entry(time_of)).collect();
    let history = squash::history(history, layers.len());
    let annotations = request.annotations_at(AnnotationLevel::Manifest, Some(&goal.platform));
    let created = time_of(goal.image.result);
    let (store, carried) = (&services.store, request.carried(services, &layers, epoch));
    let config = ImageConfig { carried, ..goal.image.config.clone() };
    let said = (&annotations, request.dialect());
    let Assembled { config_bytes, config_descriptor, manifest_bytes, mut manifest_descriptor, .. } =
        image::assemble(config, history, &layers, created, said);
    for (what, bytes) in
        [("the configuration of the image", &config_bytes), ("its manifest", &manifest_bytes)]
    {
        let watched = environment.watch_document(what, bytes);
        watched.map_err(|error| vec![error.explain(store.root())])?;
        store.put_blob(bytes).map_err(|e| vec![diagnose_store(&e)])?;
    }
    notes(graph, goal, solved, &environment.given.source).save(store, &manifest_descriptor.digest);
    let level = AnnotationLevel::ManifestDescriptor;
    manifest_descriptor.annotations = request.annotations_at(level, Some(&goal.platform));
    let config = config_descriptor.digest;
    let platform = goal.platform.clone();
    Ok(PlatformResult { platform, manifest: manifest_descriptor, config, layers, epoch: goal.epoch })
}

/// What `rbuild history` tells of the steps.
fn notes(graph: &Graph, goal: &Goal, solved: &Solved, source: &Source) -> StepNotes {
    let note = |entry: &HistoryPlan| {
        let HistoryPlan::Made { layer: Some(step), .. } = entry else { return None };
        let (outcome, took) = solved.steps[step.0].clone()?;
        let took_ms = took.and_then(|took| u64::try_from(took.as_millis()).ok());
        let line = graph.steps[step.0].span.map(|span| source.line_column(span.start).0);
        Some(StepNote { cached: outcome == Outcome::Cached, took_ms, line })
    };
    StepNotes { steps: goal.image.history.iter().map(note).collect() }
}

/// Names the image and writes it wherever the request says: outputs first, so that a name never points at something
/// whose output failed. Pushing comes last: what took long to build is kept when a registry refuses it. Its events
/// are those of `line`. What breaks a budget is refused before all of that.
pub(super) fn publish(
    request: &Request,
    services: &Services,
    results: &Results,
    (line, witness): (&push::Line, attest::Witness<'_>),
) -> Result<Built, Vec<Diagnostic>> {
    let (store, images) = (&services.store, results.images.as_slice());
    if let Some(note) = too_many_for_docker(images) {
        services.events.send(Event::Note(note));
    }
    watch_annotations(request, services)?;
    let documented = attest::documents(request, services, results, witness)?;
    let attested = attest::in_index(request, services, &documented)?;
    let config_digest = images.first().filter(|_| images.len() == 1 && request.list.is_none());
    let config_digest = config_digest.map(|only| only.config);
    let target = match images {
        [only] if request.list.is_none() && attested.is_empty() => {
            Descriptor { annotations: BTreeMap::new(), ..only.manifest.clone() }
        }
        several => index(request, store, several, attested)?,
    };
    let id = match request.identity {
        Identity::Manifest => target.digest,
        Identity::Configuration => config_digest.unwrap_or(target.digest),
    };
    budget::check(
        request,
        services,
        (results, &target),
        witness.recorder.map(|known| (known, witness.target)),
    )?;
    let epoch = images.first().and_then(|image| image.epoch);
    let beside_image = attest::referrers(request, &documented, &target);
    let referrers = attest::in_layouts(request, services, &beside_image)?;
    let along = Along { beside: attest::beside(&documented), referrers };
    export::write(store, &target, (&request.tags, &along), (&request.outputs, epoch), &services.events)
        .map_err(|e| vec![Diagnostic::error(e.to_string())])?;
    let names = request.names_here();
    // The digest's file may be anywhere, so it is the likelier one to fail; and a build that failed leaves no name.
    write_id(request, &id)?;
    let layers: Vec<Layer> = images.iter().flat_map(|image| image.layers.iter().cloned()).collect();
    let id = match name(request, services, (&target, &layers, &names), line)? {
        Some(known) if request.identity == Identity::Configuration && known != id => {
            write_id(request, &known)?;
            known
        }
        _ => id,
    };
    attest::keep(request, services, &beside_image, &target)?;
    let layers = images.iter().flat_map(|image| &image.layers).map(|layer| &layer.descriptor);
    let sizes: BTreeMap<Digest, u64> = layers.map(|layer| (layer.digest, layer.size)).collect();
    Ok(Built {
        digest: target.digest,
        descriptor: target,
        config_digest,
        id,
        warnings: Vec::new(),
        names,
        layers: images.iter().map(|i| i.layers.len()).sum(),
        size_bytes: sizes.values().sum(),
        ran: results.ran,
        cached: results.cached,
        saved: services.lookup.saved(),
        record: None,
    })
}

/// Looks for secrets in annotations that stand outside of manifests, which were looked through when they were made.
fn watch_annotations(request: &Request, services: &Services) -> Result<(), Vec<Diagnostic>> {
    for (level, place) in [
        (AnnotationLevel::Index, "the index of the image"),
        (AnnotationLevel::ManifestDescriptor, "the descriptor of the image's manifest"),
        (AnnotationLevel::IndexDescriptor, "the descriptor of the image's index"),
    ] {
        let said = request.all_annotations().filter(|annotation| annotation.place.level == level);
        let said: Vec<String> = said.map(|one| format!("{}\n{}\n", one.key, one.value)).collect();
        attest::watch_bytes(request, services, (place, "SecretInAnnotation"), said.concat().as_bytes())?;
    }
    Ok(())
}

fn write_id(request: &Request, id: &Digest) -> Result<(), Vec<Diagnostic>> {
    let Some(path) = &request.iidfile else { return Ok(()) };
    std::fs::write(path, id.to_string())
        .map_err(|e| vec![Diagnostic::error(format!("cannot write `{}`: {e}", path.display()))])
}

/// Names, pushes and loads the image. Gives by what the first engine knows it.
fn name(
    request: &Request,
    services: &Services,
    (target, layers, names): (&Descriptor, &[Layer], &[Reference]),
    line: &push::Line,
) -> Result<Option<Digest>, Vec<Diagnostic>> {
    let is_pushed = request.push_title().is_some();
    let first_load = StepNumber(line.step.0 + usize::from(is_pushed));
    let load = || load::run(request, services, target, first_load);
    let are_elsewhere = || layers.iter().any(|layer| services.lookup.is_elsewhere(layer));
    let set_names = || {
        let named = services.store.set_tags(names.iter().map(|name| (name, target)));
        named.map_err(|e| vec![diagnose_store(&e)])
    };
    let loaded = match (are_elsewhere(), is_pushed) {
        (false, _) => {
            set_names()?;
            push::run(request, services, target, line)?;
            load()?
        }
        (true, true) => {
            push_then_name(request, services, (target, layers, names), line)?;
            load()?
        }
        // The engine may have what was promised; the local store has it whole, or not at all.
        (true, false) => {
            let loaded = load();
            let is_wanted =
                loaded.is_err() || request.outputs.iter().any(|output| output.stored && output.loads());
            match are_elsewhere() {
                true if !is_wanted => services.events.send(Event::Note(
                    "the engine had layers that are not here: the image is there, and has no name in rbuild's own store".to_owned(),
                )),
                true => {
                    let brought = services.lookup.bring(layers);
                    brought.map_err(|error| vec![solve::Error::from(error).explain(services.store.root())])?;
                    set_names()?;
                }
                false => set_names()?,
            }
            loaded?
        }
    };
    Ok(loaded.first().map(|loaded| loaded.id))
}

/// Pushes an image some of whose layers are elsewhere: its names mean something as soon as the registry has it. If it is not to
/// be had there, the layers come here after all.
fn push_then_name(
    request: &Request,
    services: &Services,
    (target, layers, names): (&Descriptor, &[Layer], &[Reference]),
    line: &push::Line,
) -> Result<(), Vec<Diagnostic>> {
    let pushed = push::run(request, services, target, line);
    if pushed.is_err() {
        let brought = services.lookup.bring(layers);
        brought.map_err(|error| vec![solve::Error::from(error).explain(services.store.root())])?;
    }
    let named = match layers.iter().any(|layer| services.lookup.is_elsewhere(layer)) {
        true => services.store.set_remote_tags(names, target),
        false => services.store.set_tags(names.iter().map(|name| (name, target))),
    };
    named.map_err(|e| vec![diagnose_store(&e)])?;
    pushed
}

/// As many layers as docker's `overlay2` takes ("max depth exceeded").
const DOCKER_LAYERS: usize = 125;

/// What to say of an image that docker could not store.
fn too_many_for_docker(images: &[PlatformResult]) -> Option<String> {
    let most = images.iter().map(|image| image.layers.len()).max()?;
    let help = "a last stage `FROM scratch` with `COPY --from=STAGE / /` has one";
    (most > DOCKER_LAYERS).then(|| {
        format!(
            "the image has {most} layers, and docker's overlay2 takes no more than {DOCKER_LAYERS}: {help}"
        )
    })
}

/// What the index that the image is put into has of other platforms.
fn earlier(
    request: &Request,
    store: &Store,
    images: &[PlatformResult],
) -> Result<Vec<Descriptor>, Vec<Diagnostic>> {
    let fail = |e: crate::store::Error| vec![diagnose_store(&e)];
    let Some(name) = &request.list else { return Ok(Vec::new()) };
    let Some(known) = store.tag(name).map_err(fail)?.filter(|known| known.media_type.is_index()) else {
        return Ok(Vec::new());
    };
    let index: Index = serde_json::from_slice(&store.read_blob(&known, MANIFEST_LIMIT).map_err(fail)?)
        .map_err(|e| vec![Diagnostic::error(format!("the index `{name}` does not parse: {e}"))])?;
    let is_made = |known: &Descriptor| images.iter().any(|image| image.manifest.platform == known.platform);
    let kept: Vec<Descriptor> = index.manifests.into_iter().filter(|known| !is_made(known)).collect();
    let digests: Vec<String> = kept.iter().map(|known| known.digest.to_string()).collect();
    // What attests an image goes with it.
    let about_what_went =
        |known: &Descriptor| known.annotations.get(ABOUT).is_some_and(|about| !digests.contains(about));
    Ok(kept.into_iter().filter(|known| !about_what_went(known)).collect())
}

/// One index over the images of several platforms, and what attests them.
fn index(
    request: &Request,
    store: &Store,
    images: &[PlatformResult],
    attested: Vec<Descriptor>,
) -> Result<Descriptor, Vec<Diagnostic>> {
    let annotations = request.annotations_at(AnnotationLevel::Index, None);
    let new = images.iter().map(|image| image.manifest.clone());
    let (attesting, earlier): (Vec<_>, Vec<_>) =
        earlier(request, store, images)?.into_iter().partition(is_attestation);
    let manifests = earlier.into_iter().chain(new).chain(attesting).chain(attested).collect();
    let (bytes, descriptor) = image::assemble_index(manifests, (&annotations, request.dialect()));
    store.put_blob(&bytes).map_err(|e| vec![diagnose_store(&e)])?;
    Ok(descriptor)
}
