//! Completes what is kept of failed steps: what an image of their stage would be.

use super::inputs::Inputs;
use crate::dockerfile::syntax::Dockerfile;
use crate::plan::graph::{BaseOp, Goal, Graph, ListedInstruction, Step};
use crate::plan::{self, Lowered, Options};
use crate::report::StepNumber;
use crate::solve::session::{Session, Sessions};

/// Adds to each failed step the configuration that its stage had before it. What cannot be found out stays out: the root
/// can be entered without it.
pub(super) fn complete(inputs: &Inputs<'_>, graph: &Graph, goals: &[Goal]) {
    let bases = inputs.bases();
    let services = inputs.services();
    for mut session in services.failed.kept() {
        let options = goal_of(&session, graph, goals).map(|goal| inputs.options_of(goal));
        if options
            .and_then(|options| complete_one(&mut session, inputs.dockerfile(), &options, &bases))
            .is_some()
            && let Err(error) = Sessions::of(&services.store).update(&session)
        {
            tracing::info!(%error, "cannot complete what was kept of a failed step");
        }
    }
}

/// A goal that needs the step of a session.
fn goal_of<'g>(session: &Session, graph: &Graph, goals: &'g [Goal]) -> Option<&'g Goal> {
    let name = |number: StepNumber| graph.listing.get(number.0).map(ListedInstruction::name);
    let is_meant =
        |step: &Step| step.origin == session.origin && name(step.number).as_ref() == Some(&session.what);
    let step = graph.steps.iter().position(is_meant)?;
    goals.iter().find(|goal| graph.reached(std::slice::from_ref(goal))[step])
}

fn complete_one(
    session: &mut Session,
    dockerfile: &Dockerfile,
    options: &Options,
    bases: &[BaseOp],
) -> Option<()> {
    let (stage, number) = session.origin?;
    let options = Options { target_number: Some(stage), stop: Some(number), ..options.clone() };
    let Ok(Lowered::Plan(plan)) = plan::lower(dockerfile, &options, bases) else { return None };
    let time = plan.goal.epoch.unwrap_or(session.created);
    session.config = plan.goal.image.config;
    // Steps that were not all solved do not tell their times.
    session.config.history = plan.goal.image.history.iter().map(|entry| entry.entry(|_| time)).collect();
    Some(())
}
