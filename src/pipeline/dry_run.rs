//! What a build would do: its plan, and which of its layers are in the cache.

use super::Request;
use super::inputs::Inputs;
use crate::exec::Stop;
use crate::plan::graph::Plan;
use crate::report::{Diagnostic, Events};
use crate::solve::{self, Outlook};

/// One platform's plan, and what would become of each of its steps.
#[derive(Debug)]
pub struct DryRun {
    /// The plan.
    pub plan: Plan,
    /// In the order of the plan's steps.
    pub outlooks: Vec<Outlook>,
}

/// Plans each platform of the request and looks its steps up in the cache. Nothing runs and no layer is fetched, but
/// base images are resolved as a build would resolve them, since their digests are part of the keys.
pub fn dry_run(request: &Request, events: &Events) -> Result<Vec<DryRun>, Vec<Diagnostic>> {
    let services = request.services(&Stop::default(), events)?;
    let inputs = Inputs::open(request, &services)?;
    let mut dry_runs = Vec::new();
    for options in request.options_of_platforms() {
        let plan = inputs.plan(&options)?;
        let outlooks = solve::forecast(&plan.graph, &inputs.environment(&plan))?;
        dry_runs.push(DryRun { plan, outlooks });
    }
    inputs.save_digests();
    Ok(dry_runs)
}
