//! Attestations of the finished image: `--sbom`, `--provenance`.

use std::collections::BTreeMap;

use super::generator::Scan;
use super::result::{PlatformResult, Results};
use super::{Request, recording};
use crate::attest::{
    self, Attestations, Document, Documented, Error, InIndex, Layout, SPDX_PREDICATE, Wanted,
};
use crate::export::{Beside, Output};
use crate::image::Image;
use crate::oci::image::Dialect;
use crate::oci::{Descriptor, Layer, Reference, parse_rfc3339};
use crate::plan::Scanned;
use crate::record::provenance::{Subject, is_complete, predicate};
use crate::record::{Made, Record, Recorder};
use crate::report::{Diagnostic, Event};
use crate::solve::{self, Leak, Services, Tripwire};
use crate::text::url::without_passwords;

/// Who knows how the build came about: what it hears, and which of its targets is meant.
#[derive(Clone, Copy)]
pub(super) struct Witness<'r> {
    pub(super) recorder: Option<&'r Recorder>,
    pub(super) target: usize,
    /// What an SBOM generator is to see beside the image of each platform.
    pub(super) scanned: &'r [Scanned],
}

/// What is attested of the image of each platform; nothing where nothing was asked for.
pub(super) fn documents(
    request: &Request,
    services: &Services,
    results: &Results,
    witness: Witness<'_>,
) -> Result<Vec<Documented>, Vec<Diagnostic>> {
    let Wanted { sbom, provenance } = &request.attestations;
    if request.attestations.is_empty() {
        return Ok(Vec::new());
    }
    if uses(&request.attestations, Layout::BuildKit) && request.dialect() == Dialect::Docker {
        let error = Diagnostic::error("docker's media types have no place for attestations in an index");
        return Err(vec![error.help(
            "leave `oci-mediatypes=false` out, or keep them beside the image with `layout=referrers`",
        )]);
    }
    let layers: Vec<Layer> = results.images.iter().flat_map(|image| image.layers().to_vec()).collect();
    if sbom.is_some() {
        let brought = services.lookup.bring(&layers);
        brought.map_err(|error| vec![solve::Error::from(error).explain(services.store.root())])?;
    }
    let is_told = provenance.is_some() || sbom.as_ref().is_some_and(|sbom| sbom.generator.is_none());
    let record = is_told.then(|| told(request, services, results, witness)).flatten();
    let named = request.names_here().into_iter().chain(request.pushed_names()).next();
    let mut all = Vec::with_capacity(results.images.len());
    for (made, scanned) in results.images.iter().zip(witness.scanned) {
        let documented =
            of_image(request, services, (made, scanned), (named.as_ref(), record.as_ref(), witness))?;
        for document in &documented.documents {
            watch(request, services, document)?;
        }
        all.push(documented);
    }
    Ok(all)
}

/// Whether something is kept so.
fn uses(wanted: &Wanted, layout: Layout) -> bool {
    wanted.sbom.as_ref().is_some_and(|sbom| sbom.layout == layout)
        || wanted.provenance.as_ref().is_some_and(|provenance| provenance.layout == layout)
}

/// The record of the build as far as it is known before the image has a name.
fn told(request: &Request, services: &Services, results: &Results, witness: Witness<'_>) -> Option<Record> {
    let made = Made { images: results.images.iter().map(recording::image).collect(), ..Made::default() };
    let materials = services.materials.all();
    let values = request.values_of_arguments();
    Some(witness.recorder?.so_far(materials, (witness.target, made), &values))
}

fn of_image(
    request: &Request,
    services: &Services,
    (made, scanned): (&PlatformResult, &Scanned),
    (named, record, witness): (Option<&Reference>, Option<&Record>, Witness<'_>),
) -> Result<Documented, Vec<Diagnostic>> {
    let fail = |error: Error| vec![diagnose(&error)];
    let store = &services.store;
    let image = Image::read(store, made.manifest()).map_err(|error| fail(error.into()))?;
    let found = image.platforms.first().and_then(|image| Some((image, image.config.as_deref()?)));
    // It was made just now.
    let (image, config) =
        found.ok_or_else(|| vec![Diagnostic::error("the new image is gone from the store")])?;
    let mut documented = Documented::new(image, config);
    let sbom = request.attestations.sbom.as_ref();
    if let Some((wanted, generator)) = sbom.and_then(|wanted| Some((wanted, wanted.generator.as_ref()?))) {
        let (image, platform) = (made.manifest(), made.platform());
        let scan = Scan { request, services, wanted, generator, image, platform, scanned };
        documented.documents.extend(scan.run()?);
    } else if let Some(wanted) = sbom {
        let name = named
            .map_or_else(|| made.manifest().digest.to_string(), |name| name.without_digest().to_string());
        let recorded = record.map(|record| (record, witness.target));
        documented.documents.push(Document {
            predicate_type: SPDX_PREDICATE.to_owned(),
            predicate: attest::sbom(store, &name, (image, config), recorded).map_err(fail)?,
            filename: "sbom.spdx.json".to_owned(),
            title: None,
            layout: wanted.layout,
            is_inline_only: false,
        });
    }
    if let (Some(wanted), Some(record)) = (&request.attestations.provenance, record)
        && let Some(target) = record.targets.get(witness.target)
    {
        if wanted.wants_all_materials && !is_complete(target) {
            let error = Diagnostic::error(
                "not all materials of the build are known: it read a folder of this machine",
            );
            return Err(vec![
                error.help("build from a git repository by its URL, or leave `complete-materials` out"),
            ]);
        }
        let of_platform = made.platform().to_string();
        let images = target.made.iter().flat_map(|made| &made.images);
        let image = images.into_iter().find(|image| image.platform == of_platform);
        let said = predicate(&Subject { record, target, image }, &wanted.terms);
        documented.documents.push(Document {
            predicate_type: wanted.terms.version.predicate_type().to_owned(),
            predicate: without_passwords(&said.to_string()).into_owned().into_bytes(),
            filename: wanted.filename.clone(),
            title: None,
            layout: wanted.layout,
            is_inline_only: wanted.is_inline_only,
        });
    }
    Ok(documented)
}

fn watch(request: &Request, services: &Services, document: &Document) -> Result<(), Vec<Diagnostic>> {
    let place = format!("the attestation `{}`", document.filename);
    watch_bytes(request, services, (&place, "SecretInAttestation"), &document.predicate)
}

/// Looks for secrets in what everybody will be able to read. A warning has this code.
pub(super) fn watch_bytes(
    request: &Request,
    services: &Services,
    (place, code): (&str, &'static str),
    bytes: &[u8],
) -> Result<(), Vec<Diagnostic>> {
    if request.tripwire == Tripwire::Off {
        return Ok(());
    }
    let ssh = request.ssh.iter().cloned().collect();
    let Some(leak) = Leak::in_document(&request.secrets(), &ssh, place, bytes) else {
        return Ok(());
    };
    match request.tripwire {
        Tripwire::Stop => Err(vec![solve::Error::Leak(Box::new(leak)).explain(services.store.root())]),
        Tripwire::Warn | Tripwire::Off => {
            services.events.send(Event::Warning(Diagnostic::warning(code, leak.to_string())));
            Ok(())
        }
    }
}

/// Puts what belongs into the index into the store, and gives its entries there.
pub(super) fn in_index(
    request: &Request,
    services: &Services,
    all: &[Documented],
) -> Result<Vec<Descriptor>, Vec<Diagnostic>> {
    let mut names: Vec<Reference> = request.pushed_names();
    names.extend(request.names_here().into_iter().filter(|name| !request.pushed_names().contains(name)));
    let is_artifact = request.outputs.iter().all(|output| output.attestations.are_artifacts);
    let mut entries = Vec::new();
    for InIndex { entry, blobs } in all.iter().filter_map(|one| attest::in_index(one, &names, is_artifact)) {
        for blob in blobs {
            services.store.put_blob(&blob).map_err(|error| vec![super::diagnose_store(&error)])?;
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The documents as they lie beside the files of images.
pub(super) fn beside(all: &[Documented]) -> Vec<Beside<'_>> {
    let of = |documented: &'_ Documented| {
        let (image, created) = (documented.image.digest, documented.created.as_str());
        let time = parse_rfc3339(created).unwrap_or(0);
        let wanted = documented.documents.iter().filter(|document| !document.is_inline_only);
        let one = move |document: &'_ Document| Beside {
            image,
            name: document.filename.clone(),
            time,
            say: Box::new({
                let document = document.clone();
                move |subjects| document.statement(subjects)
            }),
        };
        wanted.map(one).collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

/// What is kept beside the image.
pub(super) fn referrers(request: &Request, all: &[Documented], target: &Descriptor) -> Attestations {
    let name = request.names_here().into_iter().chain(request.pushed_names()).next();
    // As BuildKit calls what has no name.
    let name = name.map_or_else(|| "_".to_owned(), |name| name.without_digest().to_string());
    attest::referrers(all, &name, target)
}

/// How layouts that are written list these documents; nothing where there are no layouts.
pub(super) fn in_layouts(
    request: &Request,
    services: &Services,
    attestations: &Attestations,
) -> Result<Vec<Descriptor>, Vec<Diagnostic>> {
    match request.outputs.iter().any(Output::is_layout) {
        true => attest::entries(&services.store, attestations).map_err(|error| vec![diagnose(&error)]),
        false => Ok(Vec::new()),
    }
}

/// Keeps documents beside the image, under its names here, and in the registries that it was pushed to.
pub(super) fn keep(
    request: &Request,
    services: &Services,
    attestations: &Attestations,
    target: &Descriptor,
) -> Result<(), Vec<Diagnostic>> {
    if attestations.artifacts.is_empty() {
        return Ok(());
    }
    let store = &services.store;
    let (here, pushed) = (request.names_here(), request.pushed_names());
    if here.is_empty() && pushed.is_empty() {
        if !request.outputs.iter().any(|output| output.has_files() || output.is_layout()) {
            let note = "nothing is kept beside an image without a name, so this one has no attestations: name it with `-t`; `rbuild sbom` prints \
                        the SBOM of any image";
            services.events.send(Event::Note(note.to_owned()));
        }
        return Ok(());
    }
    let fail = |error: Error| vec![diagnose(&error)];
    attest::keep_all(store, &here, attestations).map_err(fail)?;
    for name in &pushed {
        let are_listed = attest::push(&services.registry, name, &attestations.artifacts).map_err(fail)?;
        if !are_listed {
            services.events.send(Event::Note(format!(
                "{} has no API for referrers: attestations are found by the tag {}",
                name.registry(),
                target.digest.referrers_tag()
            )));
        }
    }
    Ok(())
}

fn diagnose(error: &Error) -> Diagnostic {
    error.diagnose("attestations cannot be kept: ").note("the image itself was built")
}

impl Request {
    /// Values of build arguments that may be told: those of proxies may be logins.
    fn values_of_arguments(&self) -> BTreeMap<String, String> {
        let given = self.options.build_args.iter();
        let told = given.filter(|(name, _)| !recording::is_proxy(name));
        told.filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect()
    }
}
