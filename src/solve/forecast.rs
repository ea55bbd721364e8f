//! Foresees what running a graph would do, without running it: which layers would come from the cache.
//!
//! Keys are chained on results, so behind a step that would run nothing is known: what follows it would run, too,
//! as far as anyone can tell. (It may yet be found in the cache, if the step gives the same files again.)

use std::sync::Arc;

use super::environment::Environment;
use super::ops::foresee;
use super::outlook::{Foreseen, Outlook};
use super::state::Files;
use super::step::StepContext;
use crate::plan::graph::{Graph, Op, StepId};
use crate::report::Diagnostic;

/// What would become of each step of `graph`; [`StepId`] indexes it. Looks images up, reads contexts, fetches no
/// layer, and leaves the cache as it is.
pub fn forecast(graph: &Graph, environment: &Environment<'_>) -> Result<Vec<Outlook>, Vec<Diagnostic>> {
    let mut known: Vec<Option<Arc<Files>>> = Vec::with_capacity(graph.steps.len());
    let mut outlooks = Vec::with_capacity(graph.steps.len());
    for step in &graph.steps {
        let context = StepContext::new(step, environment);
        let foreseen = match step.op.try_map(|id| known[id.0].clone().ok_or(*id)) {
            Err(unknown) => Foreseen::run(follows(graph, unknown)),
            Ok(op) => foresee::step(&context, &op).map_err(|error| vec![context.diagnose(&error)])?,
        };
        known.push(foreseen.files);
        outlooks.push(foreseen.outlook);
    }
    Ok(outlooks)
}

/// Why a step runs that needs the result of one that would run.
fn follows(graph: &Graph, step: StepId) -> String {
    let number = graph.steps[step.0].number.0;
    match &graph.steps[step.0].op {
        Op::Scratch | Op::Base(_) | Op::Image(_) | Op::Local(_) => "its input is not here".to_owned(),
        Op::Workdir { .. } | Op::Copy { .. } | Op::Exec { .. } => format!("#{} would run", number + 1),
    }
}
