//! What a build would do: its plan, and which of its layers are in the cache.

use super::Request;
use super::inputs::Inputs;
use crate::exec::Stop;
use crate::oci::Platform;
use crate::plan;
use crate::plan::graph::Graph;
use crate::report::{Diagnostic, Events};
use crate::solve::{self, Fetch, Forecast, Outlook};

/// A plan, and what would become of each of its steps.
#[derive(Debug)]
pub struct DryRun {
    /// What is built for.
    pub platforms: Vec<Platform>,
    /// The plans of all platforms as one graph.
    pub graph: Graph,
    /// In the order of its steps.
    pub outlooks: Vec<Outlook>,
    /// What would be fetched for what would run, and for results that stay here.
    pub fetches: Vec<Fetch>,
}

/// Plans all platforms of the request and looks the steps up in the cache. Nothing runs and no layer is fetched, but
/// base images are resolved as a build would resolve them, since their digests are part of the keys.
pub fn dry_run(request: &Request, events: &Events) -> Result<DryRun, Vec<Diagnostic>> {
    let services = request.services(&Stop::default(), events)?;
    let inputs = Inputs::open(request, &services)?;
    let (graph, goals) = plan::join(inputs.plans()?);
    let environment = inputs.environment(request.layer_options_of(&goals)?);
    let wanted = match request.ends_elsewhere() {
        true => Vec::new(),
        false => goals.iter().map(|goal| goal.image.result).collect(),
    };
    let Forecast { outlooks, fetches } = solve::forecast(&graph, &wanted, &environment)?;
    inputs.save_digests();
    let platforms = goals.into_iter().map(|goal| goal.platform).collect();
    Ok(DryRun { platforms, graph, outlooks, fetches })
}
