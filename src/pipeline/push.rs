//! Pushes the finished image.

use std::time::Instant;

use super::Request;
use crate::cache::{FetchError, Lookup};
use crate::export::{Output, Target};
use crate::oci::{Descriptor, DiffId, Layer, Reference};
use crate::registry::Progress;
use crate::report::{Diagnostic, Event, Outcome, StepNumber};
use crate::solve::Services;

impl Request {
    /// Under which names the image is pushed, each once: an output that pushes adds its own names to those of the
    /// build.
    pub(super) fn pushed_names(&self) -> Vec<Reference> {
        let outputs = self.outputs.iter().filter(|output| output.pushes());
        let is_pushed = self.push || outputs.clone().next().is_some();
        let tags = self.tags.iter().filter(|_| is_pushed);
        let mut names: Vec<Reference> = Vec::new();
        for name in tags.chain(outputs.flat_map(|output| &output.names)) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// What the image is called in the store: `store=false` of all outputs that push it leaves no name there, and what is pushed
    /// by its digest has none that means something here.
    pub(super) fn names_here(&self) -> Vec<Reference> {
        let images = || self.outputs.iter().filter(|o| matches!(o.target, Target::Image { .. }));
        let stays = images().next().is_none() || images().any(|output| output.stored);
        let named = images().filter(|o| o.stored && !o.pushes_by_digest()).flat_map(|output| &output.names);
        self.tags.iter().filter(|_| stays).chain(named).chain(&self.list).cloned().collect()
    }

    /// Whether the image is pushed or loaded, and not wanted anywhere else.
    pub(super) fn ends_elsewhere(&self) -> bool {
        let is_loaded = self.outputs.iter().any(Output::loads);
        let goes = |output: &Output| output.pushes() || output.loads();
        (is_loaded || !self.pushed_names().is_empty()) && self.outputs.iter().all(goes)
    }

    /// The line of the display for pushing; none when nothing is pushed.
    pub(super) fn push_title(&self) -> Option<String> {
        let listed = |names: &[Reference]| {
            let names: Vec<String> = names.iter().map(Reference::to_string).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        let pushed = listed(&self.pushed_names()).map(|names| format!("push {names}"));
        pushed.or_else(|| listed(&self.uploads).map(|names| format!("upload layers to {names}")))
    }
}

/// Refuses to push what has no name.
pub fn check(push: bool, tags: &[Reference], outputs: &[Output]) -> Result<(), Diagnostic> {
    let is_nameless = |output: &&Output| output.pushes() && output.names.is_empty();
    let wants_a_name = push || outputs.iter().any(|output| is_nameless(&output));
    match wants_a_name && tags.is_empty() {
        false => Ok(()),
        true => Err(Diagnostic::error("an image without a name cannot be pushed")
            .help("name it with `-t REGISTRY/REPOSITORY:TAG`")),
    }
}

/// The line of the display for pushing.
pub(super) struct Line {
    pub(super) step: StepNumber,
    /// When the first layer was uploaded ahead; then the line is there already.
    pub(super) began: Option<Instant>,
}

/// Uploads `image` under all names that are to be pushed.
pub(super) fn run(
    request: &Request,
    services: &Services,
    image: &Descriptor,
    line: &Line,
) -> Result<(), Vec<Diagnostic>> {
    let names = request.pushed_names();
    let step = line.step;
    if names.is_empty() {
        // Layers went ahead all the same.
        if let Some(took) = line.began.map(|began| began.elapsed()) {
            let (outcome, result) = (Outcome::Ran, Box::default());
            services.events.send(Event::Finished { step, outcome, took, result });
        }
        return Ok(());
    }
    let started = line.began.unwrap_or_else(|| {
        services.events.send(Event::Started(step));
        Instant::now()
    });
    // Names without a tag are those of what is pushed by its digest.
    let wanted = |name: &Reference| match name.tag() {
        Some(_) => name.clone(),
        None => name.pinned(image.digest),
    };
    let names: Vec<Reference> = names.iter().map(wanted).collect();
    let progress = Progress::new(services.events.clone(), step);
    let pushed = services.registry.push_supplied(
        (&services.store, &supply(&services.lookup)),
        image,
        &names,
        &progress,
    );
    let took = started.elapsed();
    pushed.map_err(|error| {
        services.events.send(Event::Failed { step, took, usage: None });
        vec![error.diagnose().note("the image itself was built, and is kept in the local store")]
    })?;
    services.events.send(Event::Finished { step, outcome: Outcome::Ran, took, result: Box::default() });
    Ok(())
}

/// Where layers of a result come from that are not here, when they are to be sent.
pub(super) fn supply(lookup: &Lookup) -> impl Fn(&Descriptor) -> Result<(), FetchError> + Sync {
    |blob| {
        // The promise knows the rest of the layer.
        let layer = Layer { descriptor: blob.clone(), diff_id: DiffId(blob.digest) };
        Ok(lookup.bring(&[layer])?)
    }
}
