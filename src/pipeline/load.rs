//! Loads the finished image into engines that run it.

use std::time::Instant;

use super::{Request, Target};
use crate::engine::{self, Load, Loaded};
use crate::export::{Engine, LoadInto, Target as Destination, all_names};
use crate::oci::{Descriptor, Reference};
use crate::report::{Diagnostic, Event, Outcome, StepNumber};
use crate::solve::Services;

impl Target {
    /// The same target with engines that are there, looked for before anything is built. One that need not be there is told of.
    pub(super) fn with_engines(&self) -> Result<Self, Vec<Diagnostic>> {
        let mut target = self.clone();
        let Request { outputs, notes, registries, .. } = &mut target.request;
        let mut found = Vec::with_capacity(outputs.len());
        for mut output in outputs.drain(..) {
            if let Destination::Load(into) = &output.target {
                match engine::find(into, &registries.http.environment) {
                    Ok(engine) => output.target = Destination::Load(LoadInto::Engine(engine)),
                    Err(error) if *into == LoadInto::DockerIfThere && error.is_absence() => {
                        notes.push(format!("the image will be in rbuild's own store only: {error}"));
                        continue;
                    }
                    Err(error) => return Err(vec![error.diagnose()]),
                }
            }
            found.push(output);
        }
        target.request.outputs = found;
        Ok(target)
    }
}

impl Request {
    /// The engines that get the image, each once, and what it is called there.
    pub(super) fn loads(&self) -> Vec<(Engine, Vec<Reference>)> {
        let mut loads: Vec<(Engine, Vec<Reference>)> = Vec::new();
        for output in &self.outputs {
            let Destination::Load(LoadInto::Engine(engine)) = &output.target else { continue };
            let names = all_names(&self.tags, &output.names);
            match loads.iter_mut().find(|(known, _)| known == engine) {
                Some((_, known)) => *known = all_names(known, &names),
                None => loads.push((engine.clone(), names)),
            }
        }
        loads
    }

    /// The lines of the display.
    pub(super) fn load_titles(&self) -> impl Iterator<Item = String> {
        self.loads().into_iter().map(|(engine, names)| {
            let names: Vec<String> = names.iter().map(Reference::to_string).collect();
            let named = if names.is_empty() { String::new() } else { format!(" as {}", names.join(", ")) };
            format!("load into {engine}{named}")
        })
    }
}

/// Loads `image`, engine by engine; `first` is the line of the first. What it lacks here is brought if an engine lacks it, too.
pub(super) fn run(
    request: &Request,
    services: &Services,
    image: &Descriptor,
    first: StepNumber,
) -> Result<Vec<Loaded>, Vec<Diagnostic>> {
    let events = &services.events;
    let bring = super::push::supply(&services.lookup);
    let supply = |layer: &Descriptor| bring(layer).map_err(|e| e.to_string());
    let mut all = Vec::new();
    for (at, (engine, names)) in request.loads().iter().enumerate() {
        let step = StepNumber(first.0 + at);
        let started = Instant::now();
        events.send(Event::Started(step));
        let hear = |done, total| events.send(Event::Bytes { step, what: engine.to_string(), done, total });
        let load = Load {
            store: &services.store,
            target: image,
            names,
            supply: &supply,
            environment: &request.registries.http.environment,
            hear: &hear,
        };
        let loaded = engine::load(&load, engine);
        let took = started.elapsed();
        let loaded = loaded.map_err(|error| {
            events.send(Event::Failed { step, took, usage: None });
            vec![error.diagnose().note("the image itself was built, and is kept in the local store")]
        })?;
        loaded.notes.iter().for_each(|note| events.send(Event::Note(note.clone())));
        let outcome = if loaded.sent_bytes == 0 { Outcome::Cached } else { Outcome::Ran };
        events.send(Event::Finished { step, outcome, took, result: Box::default() });
        all.push(loaded);
    }
    Ok(all)
}
