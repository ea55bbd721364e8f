//! What a build would do: its plan, and which of its layers are in the cache.

use super::{Request, diagnose_store, inputs, tools};
use crate::exec::Stop;
use crate::plan::{self, graph::Plan};
use crate::report::{Diagnostic, Events};
use crate::solve::{self, Outlook};
use crate::store::Store;

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
    let store = Store::open(&request.store_root).map_err(|e| vec![diagnose_store(&e)])?;
    let mut tools = tools::Tools::new(&store, request, &Stop::default());
    tools.pins = request.pins()?;
    let inputs = inputs::Inputs::open(request, &tools, events)?;
    let dockerfile = inputs.parse()?;
    let mut dry_runs = Vec::new();
    for platform in request.platforms_or_host() {
        let options = plan::Options { platform, ..request.options.clone() };
        let plan = inputs.plan(&dockerfile, &options)?;
        let environment = inputs.environment(&dockerfile, &plan, events);
        let outlooks = solve::forecast(&plan, inputs.source(), &environment)?;
        dry_runs.push(DryRun { plan, outlooks });
    }
    inputs.save_digests();
    Ok(dry_runs)
}
