//! Whatever the parser accepts, planning answers; and the plan holds together.

use proptest::prelude::*;

use super::graph::{Goal, Graph, HistoryPlan, Op, StepId};
use super::{build, join};

const PIECES: [&str; 40] = [
    "FROM scratch",
    "FROM scratch AS a",
    "FROM a AS b",
    "FROM a",
    "FROM ${X:-base}",
    "FROM base",
    "ARG X=a",
    "ARG X",
    "ARG PATH=$X",
    "ENV X=$X$X",
    "ENV PATH=",
    "COPY a /b",
    "COPY --from=a x .",
    "COPY --from=0 x ./",
    "COPY --from=b . ..",
    "ADD http://u:p@h/x $X",
    "ADD git@h:x /",
    "COPY <<E /x\n$X ${X:-y}\nE",
    "RUN x $X",
    "RUN <<E\n#!x\nE",
    "RUN --mount=from=a,target=/x y",
    "RUN --mount=type=cache,target=$X y",
    "RUN --mount=type=secret,id=$X y",
    "WORKDIR $X",
    "WORKDIR /a/../..//",
    "USER $X:$X",
    "CMD x",
    "ENTRYPOINT []",
    "SHELL [\"a\"]",
    "EXPOSE $X 1-3/UDP",
    "VOLUME /x $X",
    "LABEL $X=é",
    "STOPSIGNAL $X",
    "ONBUILD COPY --from=b a /a",
    "ONBUILD ENV X=on",
    "HEALTHCHECK CMD x",
    "MAINTAINER $X",
    "COPY --chmod=$X --chown=$X a /a",
    "ENV A=${X%%a*}",
    "COPY --link --parents ./x/./y /z/",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn is_answered(pieces in prop::collection::vec(0..PIECES.len(), 0..24), target in prop::option::of("[ab0]")) {
        let lines: Vec<&str> = pieces.iter().map(|index| PIECES[*index]).collect();
        let mut build = build(&format!("FROM base AS a\n{}\n", lines.join("\n")));
        build.options.target = target;
        if let Ok(plan) = build.try_plan() {
            holds_together(&plan.graph, plan.goals())?;
            let lengths = |graph: &Graph| (graph.steps.len(), graph.listing.len());
            let (twice, goals) = join(vec![plan.clone(), plan.clone()]);
            prop_assert_eq!(lengths(&twice), lengths(&plan.graph), "a plan has nothing that it has not");
            holds_together(&twice, &goals)?;
            if let Ok(other) = build.platform("linux/arm64").try_plan() {
                let (graph, goals) = join(vec![plan, other]);
                holds_together(&graph, &goals)?;
            }
        }
    }
}

fn holds_together(graph: &Graph, goals: &[Goal]) -> Result<(), TestCaseError> {
    for (id, step) in graph.steps.iter().enumerate() {
        prop_assert!(step.op.inputs().iter().all(|input| input.0 < id));
        prop_assert!(graph.listing[step.number.0].step.is_some_and(|listed| listed.0 == id));
        if let Op::Copy { op: transfer, .. } = &step.op {
            prop_assert!(transfer.destination.starts_with('/'));
        }
    }
    goals.iter().try_for_each(|goal| leads_to(graph, goal))
}

/// The layers of the history are the steps that lead to the result.
fn leads_to(graph: &Graph, goal: &Goal) -> Result<(), TestCaseError> {
    let is_layer = |id: &StepId| graph.steps[id.0].op.parent().is_some();
    let mut way: Vec<StepId> = graph.chain(goal.image.result).filter(is_layer).collect();
    way.reverse();
    let layers = goal.image.history.iter().filter_map(|entry| match entry {
        HistoryPlan::Made { layer, .. } => *layer,
        HistoryPlan::Inherited(_) => None,
    });
    prop_assert_eq!(layers.collect::<Vec<_>>(), way);
    Ok(())
}
