//! Attestations of the finished image: `--sbom`.

use super::Request;
use crate::attest::{self, Error};
use crate::oci::{Descriptor, Layer};
use crate::report::{Diagnostic, Event};
use crate::solve::{self, Services};

/// Keeps what was asked for beside the image, under its names here, and in the registries that it was pushed to.
pub(super) fn run(
    request: &Request,
    services: &Services,
    target: &Descriptor,
    layers: &[Layer],
) -> Result<(), Vec<Diagnostic>> {
    if !request.sbom {
        return Ok(());
    }
    let store = &services.store;
    let (here, pushed) = (request.names_here(), request.pushed_names());
    let Some(first) = here.first().or(pushed.first()) else {
        let note = "nothing is kept beside an image without a name, so this one has no SBOM: `rbuild sbom` prints one of any image";
        services.events.send(Event::Note(note.to_owned()));
        return Ok(());
    };
    let brought = services.lookup.bring(layers);
    brought.map_err(|error| vec![solve::Error::from(error).explain(store.root())])?;
    let fail = |error: Error| vec![diagnose(&error)];
    let attestations = attest::sboms(store, &first.without_digest().to_string(), target).map_err(fail)?;
    attest::keep_all(store, &here, &attestations).map_err(fail)?;
    for name in &pushed {
        let are_listed = attest::push(&services.registry, name, &attestations.artifacts).map_err(fail)?;
        if !are_listed {
            services.events.send(Event::Note(format!(
                "{} has no API for referrers: the SBOM is found by the tag {}",
                name.registry(),
                target.digest.referrers_tag()
            )));
        }
    }
    Ok(())
}

fn diagnose(error: &Error) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("the SBOM cannot be kept beside the image: {error}"));
    let diagnostic = match error {
        Error::Registry(error) => error.help().into_iter().fold(diagnostic, Diagnostic::help),
        Error::Store(_) | Error::Inventory(_) | Error::Wrong { .. } => diagnostic,
    };
    diagnostic.note("the image itself was built")
}
