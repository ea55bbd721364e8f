//! Joins the plans of several platforms to one graph.
//!
//! A step that does the same with the same in several plans is in the graph once: the context, stages
//! `FROM --platform=$BUILDPLATFORM`, whatever does not ask which platform it is for. Lines are counted through, and say
//! which platform they are of, in BuildKit's words: `[linux/arm64 build 2/5]`; `linux/amd64->arm64` is a command that
//! runs on amd64 for the image of arm64 alone. What is the same for platforms that differ names none.

use std::collections::HashMap;

use crate::oci::Platform;
use crate::report::StepNumber;

use super::graph::{Goal, Graph, HistoryPlan, ListedInstruction, Plan, Step, StepId};

/// One graph of all `plans`, and what it is run for, in their order. That of a single plan is its own.
pub fn join(plans: Vec<Plan>) -> (Graph, Vec<Goal>) {
    let is_single = plans.len() == 1;
    let mut joint = Joint::default();
    let mut goals = Vec::with_capacity(plans.len());
    for Plan { graph, goal, .. } in plans {
        if is_single {
            return (graph, vec![goal]);
        }
        goals.push(joint.add(graph, goal));
    }
    (joint.named(), goals)
}

/// The plans so far.
#[derive(Default)]
struct Joint {
    graph: Graph,
    /// For each line the platform whose image alone it is for; `None` for one that several plans have.
    targets: Vec<Option<Platform>>,
    /// Steps by what is quick to compare.
    steps: HashMap<Likeness, Vec<StepId>>,
    /// Lines without a step by what they stand on.
    lines: HashMap<Option<StepId>, Vec<StepNumber>>,
}

/// What a step starts from, and its instruction.
type Likeness = (Option<StepId>, Option<(usize, usize)>);

/// What the plans before have; each taken only once, for a plan can say the same thing twice.
struct Before {
    are_steps_taken: Vec<bool>,
    are_lines_taken: Vec<bool>,
}

/// Takes the first of `candidates` that is of an earlier plan and was not taken yet.
fn take(taken: &mut [bool], mut candidates: impl Iterator<Item = usize>) -> Option<usize> {
    let found = candidates.find(|at| taken.get(*at) == Some(&false))?;
    taken[found] = true;
    Some(found)
}

impl Joint {
    /// Adds what is new in a plan; gives its goal in the graph's numbers.
    fn add(&mut self, graph: Graph, mut goal: Goal) -> Goal {
        let mut before = Before {
            are_steps_taken: vec![false; self.graph.steps.len()],
            are_lines_taken: vec![false; self.graph.listing.len()],
        };
        let mut ids: Vec<StepId> = Vec::with_capacity(graph.steps.len());
        for step in graph.steps {
            let op = step.op.map(|id| ids[id.0]);
            ids.push(self.step(Step { op, ..step }, &mut before.are_steps_taken));
        }
        for listed in graph.listing {
            let of = |id: StepId| ids[id.0];
            let listed =
                ListedInstruction { step: listed.step.map(of), after: listed.after.map(of), ..listed };
            self.line(listed, &goal.platform, &mut before);
        }
        renumber(&mut goal, &ids);
        goal
    }

    /// The step that does the same, else this one.
    fn step(&mut self, step: Step, taken: &mut [bool]) -> StepId {
        let alike = self.steps.entry((step.op.parent().copied(), step.origin)).or_default();
        let same = alike.iter().map(|id| id.0).filter(|at| self.graph.steps[*at].op == step.op);
        if let Some(at) = take(taken, same) {
            let known = &mut self.graph.steps[at];
            // Whichever platform comes first, it is remembered under the same name.
            known.slot = std::mem::take(&mut known.slot).min(step.slot);
            return StepId(at);
        }
        let id = StepId(self.graph.steps.len());
        alike.push(id);
        self.graph.steps.push(step);
        id
    }

    fn line(&mut self, mut listed: ListedInstruction, target: &Platform, before: &mut Before) {
        if let Some(StepId(at)) = listed.step.filter(|id| id.0 < before.are_steps_taken.len()) {
            let number = self.graph.steps[at].number;
            if self.has(number, &listed) {
                return self.share(number, &listed);
            }
            // Another instruction names the same source first here.
            (listed.step, listed.after) = (None, Some(StepId(at)));
        }
        if listed.step.is_none() {
            let alike = self.lines.get(&listed.after).into_iter().flatten();
            let same = alike.filter(|number| self.has(**number, &listed)).map(|number| number.0);
            if let Some(at) = take(&mut before.are_lines_taken, same) {
                return self.share(StepNumber(at), &listed);
            }
        }
        let number = StepNumber(self.graph.listing.len());
        match listed.step {
            Some(id) => self.graph.steps[id.0].number = number,
            None => self.lines.entry(listed.after).or_default().push(number),
        }
        self.graph.listing.push(listed);
        self.targets.push(Some(target.clone()));
    }

    /// Whether the line there reads the same.
    fn has(&self, number: StepNumber, listed: &ListedInstruction) -> bool {
        let known = &self.graph.listing[number.0];
        (&known.place, &known.title) == (&listed.place, &listed.title)
    }

    /// Notes that another plan has a line, too.
    fn share(&mut self, number: StepNumber, listed: &ListedInstruction) {
        self.targets[number.0] = None;
        let known = &mut self.graph.listing[number.0];
        if known.platform != listed.platform {
            known.platform = None;
        }
    }

    /// The graph, in which each line says which platform it is of.
    fn named(mut self) -> Graph {
        for (listed, target) in self.graph.listing.iter_mut().zip(&self.targets) {
            let Some(platform) = &listed.platform else { continue };
            let name = name(platform, target.as_ref());
            listed.place = match listed.place.strip_prefix('[') {
                Some(place) => format!("[{name} {place}"),
                None => format!("[{name}]"),
            };
        }
        self.graph
    }
}

/// The platform that a command runs on, and the one that it works for if that is another.
fn name(platform: &Platform, target: Option<&Platform>) -> String {
    match target.filter(|target| *target != platform) {
        None => platform.to_string(),
        Some(target) => {
            let text = target.to_string();
            let os = format!("{}/", platform.os);
            format!("{platform}->{}", text.strip_prefix(&os).unwrap_or(&text))
        }
    }
}

/// Puts the numbers of a graph in the place of a plan's own.
fn renumber(goal: &mut Goal, ids: &[StepId]) {
    let of = |id: &mut StepId| *id = ids[id.0];
    of(&mut goal.image.result);
    for entry in &mut goal.image.history {
        if let HistoryPlan::Made { layer, after, .. } = entry {
            layer.iter_mut().for_each(of);
            of(after);
        }
    }
    if let Some(op) = goal.next.as_mut().and_then(|next| next.op.as_mut()) {
        **op = op.map(|mounted| ids[mounted.from.0]);
    }
}
