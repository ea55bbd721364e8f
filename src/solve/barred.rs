//! A RUN that cannot work here, found before anything is fetched, unpacked or run for it.
//!
//! Something in the way of a RUN whose result is in the cache is in nobody's way, so where there is something the build is
//! foreseen first.

use std::sync::Arc;

use super::environment::{Environment, Services};
use super::error::Error;
use super::forecast::forecast;
use super::ops::exec::{self, mounts};
use super::outlook::Outlook;
use super::{Failures, is_command};
use crate::exec::Executor;
use crate::plan::graph::{Graph, Op, Step};
use crate::report::{Diagnostic, Source, Span};

/// Fails for the first command that is to run, as far as anyone can tell, and cannot.
pub(super) fn check(
    graph: &Graph,
    needed: &[bool],
    environments: &[Environment<'_>],
) -> Result<(), Failures> {
    let [environment, others @ ..] = environments else { return Ok(()) };
    let of = |step: &Step| &environments[step.owner];
    let commands = || graph.steps.iter().enumerate().filter(|(at, step)| needed[*at] && is_command(step));
    let told = |error: &Error, step: &Step| vec![of(step).diagnose(error, step.span)];
    let told_of_machine = |error: &Error, step: &Step| {
        let told = told(error, step).into_iter();
        told.map(|told| with_ways_on(told, &environment.services.executor)).collect::<Failures>()
    };
    let snapshots = &environment.services.snapshots;
    let Some((_, first)) = commands().next() else { return Ok(()) };
    // Who it runs as counts for the key of every command, so one in the cache is no better off.
    snapshots.privilege().map_err(|error| told_of_machine(&error, first))?;
    let machine = snapshots.try_step().err();
    let mut barred = commands().filter_map(|(at, step)| {
        let own = || missing(step, of(step));
        machine
            .as_ref()
            .map(|error| told_of_machine(error, step))
            .or_else(|| Some(told(&own()?, step)))
            .map(|why| (at, why))
    });
    let Some(first) = barred.next() else { return Ok(()) };
    // What several builds need is foreseen by none of them alone.
    if !others.is_empty() {
        return Ok(());
    }
    // What cannot be foreseen fails where it is done, with a better word.
    let Ok(foreseen) = forecast(graph, &[], environment) else { return Ok(()) };
    let runs = |at: &usize| matches!(foreseen.outlooks[*at], Outlook::Run { .. });
    match std::iter::once(first).chain(barred).find(|(at, _)| runs(at)) {
        Some((_, failures)) => Err(failures),
        None => Ok(()),
    }
}

/// Fails for the command at a place of the Dockerfile where there is nobody for commands to run as.
pub fn refuse_commands(services: &Services, (source, span): (&Arc<Source>, Span)) -> Result<(), Failures> {
    let Err(error) = services.snapshots.privilege() else { return Ok(()) };
    let told = error.diagnose(source, Some(span), services.store.root());
    Err(vec![with_ways_on(told, &services.executor)])
}

/// What would let commands run here, and what goes without them.
fn with_ways_on(told: Diagnostic, executor: &Executor) -> Diagnostic {
    let least = executor.least_permission();
    let least = least.iter().map(|way| format!("the least that lets RUN work here: `{way}`"));
    let without =
        "a Dockerfile without RUN needs no permission: compile before the build, and COPY the result";
    least.chain([without.to_owned()]).fold(told, Diagnostic::help)
}

/// The first thing that a command requires and nobody gave.
fn missing(step: &Step, environment: &Environment<'_>) -> Option<Error> {
    let Op::Exec { op, .. } = &step.op else { return None };
    let (network, security) = (exec::executed(op.network), exec::secured(op.security));
    if let Err(error) = environment.services.executor.refuse(network, security) {
        return Some(error.into());
    }
    op.mounts.iter().find_map(|mount| mounts::not_given(environment, mount))
}
