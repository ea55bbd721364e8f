//! Foresees what running a plan would do, without running it: which layers would come from the cache.
//!
//! Keys are chained on results, so behind a step that would run nothing is known: what follows it would run, too,
//! as far as anyone can tell. (It may yet be found in the cache, if the step gives the same files again.)

use std::sync::Arc;

use super::ops::foresee;
use super::state::{Environment, Files};
use super::{Failures, StepContext};
use crate::oci::Layer;
use crate::plan::graph::{Op, Plan, StepId};
use crate::report::Source;

/// What would become of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// A source whose files are here.
    Here,
    /// An image of which layers would be fetched.
    Fetch {
        /// How many layers are missing.
        layers: usize,
        /// Their size in bytes, compressed.
        bytes: u64,
    },
    /// Its layer is in the cache.
    Cached(Box<Layer>),
    /// It would run.
    Run {
        /// Why, in one clause.
        why: String,
    },
}

/// What is foreseen of one step.
pub(super) struct Foreseen {
    /// What would become of it.
    pub(super) outlook: Outlook,
    /// Its result, if that is known without running it.
    pub(super) files: Option<Arc<Files>>,
}

impl Foreseen {
    /// It would run.
    pub(super) fn run(why: impl Into<String>) -> Self {
        Self { outlook: Outlook::Run { why: why.into() }, files: None }
    }
}

/// What would become of each step of `plan`; [`StepId`] indexes it. Looks images up, reads contexts, fetches no
/// layer, and leaves the cache as it is.
pub fn forecast(
    plan: &Plan,
    source: &Arc<Source>,
    environment: &Environment<'_>,
) -> Result<Vec<Outlook>, Failures> {
    let mut known: Vec<Option<Arc<Files>>> = Vec::with_capacity(plan.steps.len());
    let mut outlooks = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let (started, took_then) = (std::time::Instant::now(), Arc::default());
        let context =
            StepContext { step, title: "", source, environment, is_looked_into: false, started, took_then };
        let foreseen = match step.op.try_map(|id| known[id.0].clone().ok_or(*id)) {
            Err(unknown) => Foreseen::run(follows(plan, unknown)),
            Ok(op) => foresee::step(&context, &op)?,
        };
        known.push(foreseen.files);
        outlooks.push(foreseen.outlook);
    }
    Ok(outlooks)
}

/// Why a step runs that needs the result of one that would run.
fn follows(plan: &Plan, step: StepId) -> String {
    let number = plan.steps[step.0].number.0;
    match &plan.steps[step.0].op {
        Op::Scratch | Op::Base(_) | Op::Image(_) | Op::Local(_) => "its input is not here".to_owned(),
        Op::Workdir { .. } | Op::Copy { .. } | Op::Exec { .. } => format!("#{} would run", number + 1),
    }
}
