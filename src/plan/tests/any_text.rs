//! Whatever the parser accepts, planning answers; and the plan holds together.

use proptest::prelude::*;

use super::build;
use super::graph::{HistoryPlan, Op, Plan};

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
            holds_together(&plan)?;
        }
    }
}

fn holds_together(plan: &Plan) -> Result<(), TestCaseError> {
    for (id, step) in plan.graph.steps.iter().enumerate() {
        prop_assert!(step.op.inputs().iter().all(|input| input.0 < id));
        prop_assert!(plan.graph.listing[step.number.0].step.is_some_and(|listed| listed.0 == id));
        if let Op::Copy { op: transfer, .. } = &step.op {
            prop_assert!(transfer.destination.starts_with('/'));
        }
    }
    // The layers of the history are the steps that lead to the result.
    let mut way = Vec::new();
    let mut step = Some(plan.goal.image.result);
    while let Some(id) = step {
        step = plan.graph.steps[id.0].op.parent().copied();
        if step.is_some() {
            way.push(id);
        }
    }
    way.reverse();
    let layers: Vec<_> = plan
        .goal
        .image
        .history
        .iter()
        .filter_map(|entry| match entry {
            HistoryPlan::Made { layer, .. } => *layer,
            HistoryPlan::Inherited(_) => None,
        })
        .collect();
    prop_assert_eq!(layers, way);
    Ok(())
}
