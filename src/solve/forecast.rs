//! Foresees what running a graph would do, without running it: which layers would come from the cache, and which bytes would move.
//!
//! Keys are chained on results, so behind a step that would run nothing is known: what follows it would run, too,
//! as far as anyone can tell. (It may yet be found in the cache, if the step gives the same files again.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::environment::Environment;
use super::ops::foresee;
use super::outlook::{Fetch, Foreseen, Outlook};
use super::state::Files;
use super::step::StepContext;
use crate::oci::{Digest, Layer};
use crate::plan::graph::{Graph, Op, StepId};
use crate::report::Diagnostic;

/// What running a graph would do.
#[derive(Debug)]
pub struct Forecast {
    /// What would become of each step; [`StepId`] indexes it.
    pub outlooks: Vec<Outlook>,
    /// Layers that commands need which would run, and results that are wanted here; by the place that they would come from.
    pub fetches: Vec<Fetch>,
}

/// Foresees `graph`, whose steps `wanted` are to be here in the end with all their bytes. Looks images up, reads contexts, fetches no
/// layer, and leaves the cache as it is.
pub fn forecast(
    graph: &Graph,
    wanted: &[StepId],
    environment: &Environment<'_>,
) -> Result<Forecast, Vec<Diagnostic>> {
    forecast_several(graph, wanted, std::slice::from_ref(environment))
}

/// As [`forecast`], for several builds together: each step is looked at in the environment of its [owner](crate::plan::graph::Step::owner). All
/// have the same services.
pub fn forecast_several(
    graph: &Graph,
    wanted: &[StepId],
    environments: &[Environment<'_>],
) -> Result<Forecast, Vec<Diagnostic>> {
    let mut known: Vec<Option<Arc<Files>>> = Vec::with_capacity(graph.steps.len());
    let mut outlooks = Vec::with_capacity(graph.steps.len());
    let mut remote: BTreeMap<Digest, String> = BTreeMap::new();
    for step in &graph.steps {
        let context = StepContext::new(step, &environments[step.owner]);
        let foreseen = match step.op.try_map(|id| known[id.0].clone().ok_or(*id)) {
            Err(unknown) => Foreseen::run(follows(graph, unknown)),
            Ok(op) => foresee::step(&context, &op).map_err(|error| vec![context.diagnose(&error)])?,
        };
        if let (Some(from), Some(files)) = (&foreseen.remote, &foreseen.files)
            && let Files::Root(root) = &**files
        {
            remote.extend(root.layers.iter().map(|layer| (layer.descriptor.digest, from.clone())));
        }
        known.push(foreseen.files);
        outlooks.push(foreseen.outlook);
    }
    let mut needed: Vec<StepId> = wanted.to_vec();
    for (step, outlook) in graph.steps.iter().zip(&outlooks) {
        if matches!((&step.op, outlook), (Op::Exec { .. }, Outlook::Run { .. })) {
            needed.extend(step.op.inputs());
        }
    }
    let mut fetches: BTreeMap<String, Fetch> = BTreeMap::new();
    for layer in below(graph, &needed, &known) {
        let services = environments[0].services;
        let Layer { descriptor, .. } = &layer;
        if services.store.has_blob(&descriptor.digest) == Some(descriptor.size) {
            continue;
        }
        let from = services.lookup.promised_by(&layer).or_else(|| remote.get(&descriptor.digest).cloned());
        let Some(from) = from else { continue };
        let fetch = fetches.entry(from.clone()).or_insert(Fetch { from, layers: 0, bytes: 0 });
        fetch.layers += 1;
        fetch.bytes += descriptor.size;
    }
    Ok(Forecast { outlooks, fetches: fetches.into_values().collect() })
}

/// The layers, each once, that are known of what these steps would leave.
fn below(graph: &Graph, steps: &[StepId], known: &[Option<Arc<Files>>]) -> Vec<Layer> {
    let mut seen = BTreeSet::new();
    let mut layers = Vec::new();
    for step in steps {
        let mut at = Some(*step);
        // What a step leaves that would run stands on what is known below it.
        while let Some(id) = at {
            if let Some(Files::Root(root)) = known[id.0].as_deref() {
                let fresh = root.layers.iter().filter(|layer| seen.insert(layer.descriptor.digest));
                layers.extend(fresh.cloned());
                break;
            }
            at = graph.steps[id.0].op.parent().copied();
        }
    }
    layers
}

/// Why a step runs that needs the result of one that would run.
fn follows(graph: &Graph, step: StepId) -> String {
    let number = graph.steps[step.0].number.0;
    match &graph.steps[step.0].op {
        Op::Scratch | Op::Base(_) | Op::Image(_) | Op::Local(_) => "its input is not here".to_owned(),
        Op::Workdir { .. } | Op::Copy { .. } | Op::Exec { .. } => format!("#{} would run", number + 1),
    }
}
