//! Finds the images that FROM names: in the local store, in a layout, in an engine, or in a registry.

use std::sync::Arc;

use crate::dockerfile::syntax::Dockerfile;
use crate::engine;
use crate::http::Environment;
use crate::oci::Reference;
use crate::plan;
use crate::plan::graph::{BaseOp, BaseOrigin, BaseRequest, EngineImage};
use crate::report::Diagnostic;
use crate::solve::Services;
use crate::solve::images::{self, ImageError, PullPolicy};
use crate::store::Store;
use crate::text::closest;

/// Finds what `request` asks for; an error points at the FROM line of `file` that caused it.
pub(super) fn resolve(
    services: &Services,
    (pull, environment): (PullPolicy, &Environment),
    request: &BaseRequest,
    file: &Dockerfile,
) -> Result<BaseOp, Diagnostic> {
    let store = &services.store;
    let point = |diagnostic: Diagnostic| diagnostic.at(&file.source, request.span, "");
    let explain = |error: ImageError| point(error.diagnose());
    let found = match &request.origin {
        BaseOrigin::Image(reference) => {
            let wanted = (reference, &request.platform);
            images::find(store, &services.registry, &services.pins, wanted, pull).map_err(|error| {
                let hint = plan::stage_hint(file, &request.name).or_else(|| near_image(store, reference));
                hint.into_iter().fold(explain(error), Diagnostic::help)
            })
        }
        // Who plans knows them already.
        BaseOrigin::Linked { target, .. } => {
            return Err(point(Diagnostic::error(format!("there is no target `{target}` beside this build"))));
        }
        BaseOrigin::Layout { path, selector } => {
            let target = super::layout::import(store, path.as_ref(), selector).map_err(point)?;
            images::in_store(store, &target, &request.name, &request.platform).map_err(explain)
        }
        BaseOrigin::Engine(EngineImage { engine, name }) => {
            let target =
                engine::take(store, engine, name, environment).map_err(|error| point(error.diagnose()))?;
            images::in_store(store, &target, &request.name, &request.platform).map_err(explain)
        }
    };
    Ok(BaseOp { request: request.clone(), image: Arc::new(found?) })
}

/// What `request` asks for, if the store has it or, where one `may_ask`, its registry answers.
pub(super) fn known(services: &Services, may_ask: bool, request: &BaseRequest) -> Option<BaseOp> {
    let BaseOrigin::Image(reference) = &request.origin else { return None };
    let image = images::remembered(&services.store, reference, &request.platform).or_else(|| {
        let wanted = (reference, &request.platform);
        let ask =
            || images::find(&services.store, &services.registry, &services.pins, wanted, PullPolicy::Missing);
        may_ask.then(ask)?.ok()
    });
    Some(BaseOp { request: request.clone(), image: Arc::new(image?) })
}

/// An image of the local store that may have been meant.
fn near_image(store: &Store, reference: &Reference) -> Option<String> {
    let name = reference.clone().with_default_tag().to_string();
    let names: Vec<String> = store.tags().ok()?.into_iter().map(|(known, _)| known.to_string()).collect();
    let near = closest(&name, names.iter().map(String::as_str))?;
    let near = near.strip_suffix(":latest").unwrap_or(near);
    Some(format!("did you mean `{near}`, which is in the local store?"))
}
