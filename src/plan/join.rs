//! Joins the plans of several platforms, and of several builds that are run together, to one graph.
//!
//! A step that does the same with the same in several plans is in the graph once: the context, stages
//! `FROM --platform=$BUILDPLATFORM`, whatever does not ask which platform it is for. Lines are counted through, and say
//! which platform they are of, in BuildKit's words: `[linux/arm64 build 2/5]`; `linux/amd64->arm64` is a command that
//! runs on amd64 for the image of arm64 alone. What is the same for platforms that differ names none. With several builds lines say
//! of which they are, too: `[web build 2/5]`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::oci::Platform;
use crate::report::StepNumber;

use super::graph::{BaseOrigin, Goal, Graph, HistoryPlan, ListedInstruction, Op, Plan, Step, StepId};

/// The plans of one build among others.
#[derive(Debug)]
pub struct Part {
    /// What lines call it.
    pub name: String,
    /// One for each platform.
    pub plans: Vec<Plan>,
    /// Two builds whose numbers differ share no step that runs or copies: their secrets, policies or limits differ.
    pub kind: usize,
    /// The numbers of contexts among those of all builds, by the names that they have in this one.
    pub contexts: BTreeMap<String, usize>,
}

/// One graph of all `plans`, and what it is run for, in their order. That of a single plan is its own.
pub fn join(plans: Vec<Plan>) -> (Graph, Vec<Goal>) {
    let part = Part { name: String::new(), plans, kind: 0, contexts: BTreeMap::new() };
    let (graph, mut goals) = join_parts(vec![part]);
    (graph, goals.pop().unwrap_or_default())
}

/// One graph of all `parts`, and what it is run for: the goals of each, in their order. What a part is linked to comes before it.
pub fn join_parts(parts: Vec<Part>) -> (Graph, Vec<Vec<Goal>>) {
    let is_single = matches!(parts.as_slice(), [only] if only.plans.len() == 1);
    let mut joint = Joint { names: parts.iter().map(|part| part.name.clone()).collect(), ..Joint::default() };
    let mut goals = Vec::with_capacity(parts.len());
    for (owner, Part { name, plans, kind, contexts }) in parts.into_iter().enumerate() {
        let mut of_part = Vec::with_capacity(plans.len());
        for Plan { graph, goal, .. } in plans {
            if is_single {
                return (graph, vec![vec![goal]]);
            }
            of_part.push(joint.add(Adding { owner, kind, contexts: &contexts }, graph, goal));
        }
        let made = |goal: &Goal| Made {
            platform: goal.platform.clone(),
            result: goal.image.result,
            history: goal.image.history.clone(),
        };
        joint.made.insert(name, of_part.iter().map(made).collect());
        goals.push(of_part);
    }
    (joint.named(), goals)
}

/// The plans so far.
#[derive(Default)]
struct Joint {
    graph: Graph,
    /// What lines call each part.
    names: Vec<String>,
    /// For each line the platform whose image alone it is for; `None` for one that several plans have.
    targets: Vec<Option<Platform>>,
    /// For each line the parts that have it.
    parts: Vec<BTreeSet<usize>>,
    /// Of each step the kind of the part that it is of.
    kinds: Vec<usize>,
    /// Steps by what is quick to compare.
    steps: HashMap<Likeness, Vec<StepId>>,
    /// Lines without a step by what they stand on.
    lines: HashMap<Option<StepId>, Vec<StepNumber>>,
    /// What parts made, by their names.
    made: BTreeMap<String, Vec<Made>>,
}

/// The image that a part makes for a platform.
struct Made {
    platform: Platform,
    result: StepId,
    history: Vec<HistoryPlan>,
}

/// The part that is being added.
#[derive(Clone, Copy)]
struct Adding<'a> {
    owner: usize,
    kind: usize,
    contexts: &'a BTreeMap<String, usize>,
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
    fn add(&mut self, adding: Adding<'_>, graph: Graph, mut goal: Goal) -> Goal {
        let mut before = Before {
            are_steps_taken: vec![false; self.graph.steps.len()],
            are_lines_taken: vec![false; self.graph.listing.len()],
        };
        // What it stands on was made by another part: that one's history goes before its own.
        let foundation = graph.chain(goal.image.result).last();
        let inherited = foundation.and_then(|id| self.linked(&graph.steps[id.0].op));
        let inherited = inherited.map(|made| made.history.clone()).unwrap_or_default();
        let mut ids: Vec<StepId> = Vec::with_capacity(graph.steps.len());
        for step in graph.steps {
            if let Some(made) = self.linked(&step.op) {
                ids.push(made.result);
                continue;
            }
            let mut op = step.op.map(|id| ids[id.0]);
            if let Op::Local(local) = &mut op {
                local.number = adding.contexts.get(&local.name).copied();
            }
            ids.push(self.step(adding, Step { op, ..step }, &mut before.are_steps_taken));
        }
        for listed in graph.listing {
            let of = |id: StepId| ids[id.0];
            let listed =
                ListedInstruction { step: listed.step.map(of), after: listed.after.map(of), ..listed };
            self.line(adding.owner, listed, &goal.platform, &mut before);
        }
        renumber(&mut goal, &ids);
        goal.image.history.splice(..0, inherited);
        goal
    }

    /// What a step stands for that names the image of another part: that for the same platform, or the only one.
    fn linked(&self, op: &Op) -> Option<&Made> {
        let Op::Base(base) = op else { return None };
        let BaseOrigin::Linked { target, platform } = &base.request.origin else { return None };
        let made = self.made.get(target)?;
        made.iter().find(|made| made.platform == *platform).or(made.first())
    }

    /// The step that does the same, else this one.
    fn step(&mut self, Adding { owner, kind, .. }: Adding<'_>, step: Step, taken: &mut [bool]) -> StepId {
        let alike = self.steps.entry((step.op.parent().copied(), step.origin)).or_default();
        let is_of_any_kind = matches!(step.op, Op::Scratch | Op::Base(_) | Op::Local(_));
        let same = alike
            .iter()
            .map(|id| id.0)
            .filter(|at| self.graph.steps[*at].op == step.op && (is_of_any_kind || self.kinds[*at] == kind));
        if let Some(at) = take(taken, same) {
            let known = &mut self.graph.steps[at];
            // Whichever platform comes first, it is remembered under the same name.
            if known.owner == owner {
                known.slot = std::mem::take(&mut known.slot).min(step.slot);
            }
            return StepId(at);
        }
        let id = StepId(self.graph.steps.len());
        alike.push(id);
        self.graph.steps.push(Step { owner, ..step });
        self.kinds.push(kind);
        id
    }

    fn line(&mut self, owner: usize, mut listed: ListedInstruction, target: &Platform, before: &mut Before) {
        if let Some(StepId(at)) = listed.step.filter(|id| id.0 < before.are_steps_taken.len()) {
            let number = self.graph.steps[at].number;
            if self.has(number, &listed) {
                return self.share(owner, number, &listed);
            }
            // Another instruction names the same source first here.
            (listed.step, listed.after) = (None, Some(StepId(at)));
        }
        if listed.step.is_none() {
            let alike = self.lines.get(&listed.after).into_iter().flatten();
            let same = alike.filter(|number| self.has(**number, &listed)).map(|number| number.0);
            if let Some(at) = take(&mut before.are_lines_taken, same) {
                return self.share(owner, StepNumber(at), &listed);
            }
        }
        let number = StepNumber(self.graph.listing.len());
        match listed.step {
            Some(id) => self.graph.steps[id.0].number = number,
            None => self.lines.entry(listed.after).or_default().push(number),
        }
        self.graph.listing.push(listed);
        self.targets.push(Some(target.clone()));
        self.parts.push(BTreeSet::from([owner]));
    }

    /// Whether the line there reads the same.
    fn has(&self, number: StepNumber, listed: &ListedInstruction) -> bool {
        let known = &self.graph.listing[number.0];
        (&known.place, &known.title) == (&listed.place, &listed.title)
    }

    /// Notes that another plan has a line, too.
    fn share(&mut self, owner: usize, number: StepNumber, listed: &ListedInstruction) {
        self.parts[number.0].insert(owner);
        let known = &mut self.graph.listing[number.0];
        if known.platform != listed.platform {
            known.platform = None;
        }
        // Several builds for one platform have it for that platform.
        if self.targets[number.0] != listed.platform {
            self.targets[number.0] = None;
        }
    }

    /// The graph, in which each line says which build and which platform it is of.
    fn named(mut self) -> Graph {
        let platforms: BTreeSet<String> =
            self.made.values().flatten().map(|made| made.platform.to_string()).collect();
        for (at, listed) in self.graph.listing.iter_mut().enumerate() {
            let platform = listed.platform.as_ref().filter(|_| platforms.len() > 1);
            let platform = platform.map(|platform| name(platform, self.targets[at].as_ref()));
            let parts = of_parts(&self.names, &self.parts[at]);
            let name = match (parts, platform) {
                (None, None) => continue,
                (Some(only), None) | (None, Some(only)) => only,
                (Some(parts), Some(platform)) => format!("{parts} {platform}"),
            };
            listed.place = match listed.place.strip_prefix('[') {
                Some(place) => format!("[{name} {place}"),
                None => format!("[{name}]"),
            };
        }
        self.graph
    }
}

/// The names of the builds that have a line; none for what many have.
fn of_parts(names: &[String], parts: &BTreeSet<usize>) -> Option<String> {
    const MANY: usize = 3;
    let names: Vec<&str> =
        parts.iter().map(|part| names[*part].as_str()).filter(|name| !name.is_empty()).collect();
    (!names.is_empty() && names.len() <= MANY).then(|| names.join(","))
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
