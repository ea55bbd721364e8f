//! Runs one build, or several as one graph.
//!
//! Each target keeps its own Dockerfile, contexts, secrets, policy, names and outputs; services, and all that is about the machine,
//! are the first one's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::inputs::{Inputs, Linked, Pool};
use super::{
    Built, Lock, Request, Target, attest, early_upload, failed, lock, policy, push, recompress, recording,
    result, shared, squash,
};
use crate::image::PlatformImage;
use crate::oci::Layer;
use crate::plan::graph::{BaseOp, BaseOrigin, Goal, Graph, Op};
use crate::plan::{self, ContextSource, Scanned};
use crate::record::{Made, Recorder};
use crate::report::{Diagnostic, Event, Outcome, Source, StepNumber};
use crate::solve::{self, Environment, HearLayers, LastLine, Pins, Services, Solved, Words};

type Diagnostics = Vec<Diagnostic>;

/// The targets, those that others are linked to before these.
///
/// # Errors
/// When a target is linked to itself, however far around, or to one that there is not.
pub(super) fn in_order(targets: &[Target]) -> Result<Vec<&Target>, Diagnostics> {
    let mut ordered: Vec<&Target> = Vec::with_capacity(targets.len());
    let mut done = BTreeSet::new();
    for target in targets {
        visit(target, targets, &mut Vec::new(), &mut done, &mut ordered)?;
    }
    Ok(ordered)
}

fn visit<'t>(
    target: &'t Target,
    all: &'t [Target],
    path: &mut Vec<&'t str>,
    done: &mut BTreeSet<&'t str>,
    ordered: &mut Vec<&'t Target>,
) -> Result<(), Diagnostics> {
    if done.contains(target.name.as_str()) {
        return Ok(());
    }
    if path.contains(&target.name.as_str()) {
        return Err(vec![Diagnostic::error(format!("the target `{}` is linked to itself", target.name))]);
    }
    path.push(&target.name);
    for (_, source) in &target.request.options.contexts {
        let ContextSource::Linked(name) = source else { continue };
        let Some(linked) = all.iter().find(|other| other.name == *name) else {
            return Err(vec![Diagnostic::error(format!("there is no target `{name}`"))]);
        };
        visit(linked, all, path, done, ordered)?;
    }
    path.pop();
    done.insert(&target.name);
    ordered.push(target);
    Ok(())
}

/// What all of them are together, as far as services ask: caches, notes, whether failed steps are kept.
pub(super) fn whole(targets: &[&Target]) -> Request {
    let mut whole = targets[0].request.clone();
    for target in &targets[1..] {
        let request = &target.request;
        add(&mut whole.cache_from, &request.cache_from, |one| format!("{one:?}"));
        add(&mut whole.cache_to, &request.cache_to, |one| format!("{one:?}"));
        add(&mut whole.notes, &request.notes, String::clone);
        whole.brought.extend(request.brought.iter().cloned());
        whole.keep_failed |= request.keep_failed;
    }
    whole
}

/// The pins of all lock files, each read once.
pub(super) fn pins(targets: &[&Target]) -> Result<Pins, Diagnostics> {
    let mut files: Vec<&Lock> = Vec::new();
    for lock in targets.iter().filter_map(|target| target.request.lock.as_ref()) {
        if !files.iter().any(|known| known.file == lock.file) {
            files.push(lock);
        }
    }
    lock::pins_of(&files)
}

/// Adds what is not there yet.
fn add<T: Clone>(all: &mut Vec<T>, more: &[T], likeness: impl Fn(&T) -> String) {
    for one in more {
        if !all.iter().any(|known| likeness(known) == likeness(one)) {
            all.push(one.clone());
        }
    }
}

/// A target with what it reads.
pub(super) struct Part<'r> {
    pub(super) name: &'r str,
    pub(super) request: &'r Request,
    pub(super) inputs: Inputs<'r>,
    /// Uploads layers while others are made.
    ahead: Option<early_upload::Ahead>,
    /// Its line of the display for pushing; those for loading follow.
    line: StepNumber,
    warnings: Diagnostics,
    pub(super) goals: Vec<Goal>,
    /// The images that its stages stand on.
    pub(super) bases: Vec<BaseOp>,
    /// What an SBOM generator is to see beside the image of each goal.
    scanned: Vec<Scanned>,
}

impl<'r> Part<'r> {
    /// One that is not planned yet.
    fn new(target: &'r Target, inputs: Inputs<'r>) -> Self {
        let (line, warnings, goals) = (StepNumber(0), Vec::new(), Vec::new());
        let (bases, scanned) = (Vec::new(), Vec::new());
        let (name, request) = (target.name.as_str(), &target.request);
        Part { name, request, inputs, ahead: None, line, warnings, goals, bases, scanned }
    }
}

/// What a target came to.
pub(super) struct MadeTarget {
    pub(super) name: String,
    pub(super) built: Built,
    /// The same for the record.
    pub(super) facts: Made,
}

/// Builds all of them; gives what each made.
pub(super) fn run(
    targets: &[&Target],
    whole: &Request,
    services: &Services,
    recorder: Option<&Recorder>,
) -> Result<Vec<MadeTarget>, Diagnostics> {
    let events = &services.events;
    services.registry.tell(events);
    whole.notes.iter().for_each(|note| events.send(Event::Note(note.clone())));
    whole.note_offline(events);
    targets.iter().try_for_each(|target| policy::check_contexts(&target.request))?;
    let pool = Pool::default();
    let opened = targets.iter().map(|target| Inputs::open_with(&target.request, services, &pool));
    let inputs = opened.collect::<Result<Vec<_>, _>>()?;
    for (at, inputs) in inputs.iter().enumerate() {
        recorder.into_iter().for_each(|recorder| recording::opened(recorder, at, inputs));
    }
    inputs.iter().try_for_each(Inputs::refuse_commands)?;
    inputs.iter().for_each(Inputs::read_ahead);
    inputs.iter().for_each(Inputs::note_stages);
    let exports = shared::Exports::start(whole, services)?;
    let mut parts: Vec<Part<'_>> = Vec::with_capacity(targets.len());
    for (target, inputs) in targets.iter().zip(inputs) {
        let ahead = early_upload::Ahead::start(&target.request, services);
        parts.push(Part { ahead, ..Part::new(target, inputs) });
    }
    let mut graph = plan_all(&mut parts)?;
    hide_secrets(&mut graph, &parts);
    parts.iter().for_each(|part| recording::saw_bases(&services.materials, &part.inputs));
    announce(&mut parts, &graph, services);
    let results = build(&parts, &graph, services);
    services.lookup.forget_offers();
    let results = results.inspect_err(|_| {
        parts.iter().for_each(|part| failed::complete(&part.inputs, &graph, &part.goals));
    })?;
    let mut built = Vec::with_capacity(parts.len());
    for (target, (part, results)) in parts.iter_mut().zip(&results).enumerate() {
        let line =
            push::Line { step: part.line, began: part.ahead.take().and_then(early_upload::Ahead::finish) };
        let warnings = std::mem::take(&mut part.warnings);
        let witness = attest::Witness { recorder, target, scanned: &part.scanned };
        let made = result::publish(part.request, services, results, (&line, witness))?;
        let built_one = Built { warnings, ..made };
        let facts = recording::made(&built_one, results);
        built.push(MadeTarget { name: part.name.to_owned(), built: built_one, facts });
        part.inputs.save_digests();
    }
    let mut names: Vec<String> = Vec::new();
    for part in &parts {
        names.extend(part.request.pushed_names().iter().map(ToString::to_string));
    }
    let project = parts.first().map(|part| part.inputs.project()).unwrap_or_default();
    exports.finish(services, (&results, &names), project)?;
    whole.save_lock(&services.pins, events)?;
    Ok(built)
}

/// Opens what targets read and plans them as one graph, for who only looks at it; the targets are [in order](in_order).
pub(super) fn planned<'r>(
    targets: &[&'r Target],
    services: &'r Services,
    pool: &Pool,
) -> Result<(Vec<Part<'r>>, Graph), Diagnostics> {
    let open = |target: &&'r Target| Inputs::open_with(&target.request, services, pool);
    let inputs = targets.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    inputs.iter().for_each(Inputs::read_ahead);
    let mut parts: Vec<Part<'_>> =
        targets.iter().zip(inputs).map(|(target, inputs)| Part::new(target, inputs)).collect();
    let graph = plan_all(&mut parts)?;
    Ok((parts, graph))
}

/// What the steps of each are done with.
pub(super) fn environments<'p>(parts: &'p [Part<'_>]) -> Result<Vec<Environment<'p>>, Diagnostics> {
    let of = |part: &'p Part<'_>| {
        let form = part.request.layer_options_of(&part.goals)?;
        Ok(part.inputs.environment(form))
    };
    parts.iter().map(of).collect()
}

/// Plans each, and joins the plans.
fn plan_all(parts: &mut [Part<'_>]) -> Result<Graph, Diagnostics> {
    let mut made = Linked::new();
    let mut planned = Vec::with_capacity(parts.len());
    let kinds = kinds(parts);
    let contexts = context_numbers(parts);
    for (number, part) in parts.iter_mut().enumerate() {
        let of = |told: Diagnostic| match part.name {
            "" => told,
            name => told.note(format!("this is about the target `{name}`")),
        };
        let name = |told: Diagnostics| told.into_iter().map(of).collect::<Diagnostics>();
        part.inputs.link(&made);
        let plans = part.inputs.plans().map_err(name)?;
        part.inputs.heed_policies(&plans).map_err(name)?;
        part.warnings = part.request.check(&part.inputs, &plans).map_err(name)?;
        part.bases = plans.iter().flat_map(|plan| bases(&plan.graph)).collect();
        part.scanned = plans.iter().map(|plan| part.inputs.scanned(plan)).collect();
        let images = plans.iter().map(|plan| {
            let image = PlatformImage::of_config(plan.goal.image.config.clone());
            (plan.goal.platform.clone(), Arc::new(image))
        });
        made.insert(part.name.to_owned(), images.collect());
        planned.push(plan::Part {
            name: part.name.to_owned(),
            plans,
            kind: kinds[number],
            contexts: contexts[number].clone(),
        });
    }
    let (graph, goals) = plan::join_parts(planned);
    parts.iter_mut().zip(goals).for_each(|(part, goals)| part.goals = goals);
    Ok(graph)
}

/// The images that the stages of a plan stand on, but for those that other targets make.
fn bases(graph: &Graph) -> Vec<BaseOp> {
    let base = |op: &Op| match op {
        Op::Base(base) if !matches!(base.request.origin, BaseOrigin::Linked { .. }) => Some(base.clone()),
        Op::Base(_)
        | Op::Scratch
        | Op::Image(_)
        | Op::Local(_)
        | Op::Workdir { .. }
        | Op::Copy { .. }
        | Op::Exec { .. } => None,
    };
    graph.steps.iter().filter_map(|step| base(&step.op)).collect()
}

/// For each part the number of those that share steps with it: what steps are done with is the same.
fn kinds(parts: &[Part<'_>]) -> Vec<usize> {
    let mut known: Vec<String> = Vec::new();
    let kind = |part: &Part<'_>| {
        let Request {
            no_cache, no_cache_stages, pull, secrets, ssh, dns, volumes, outputs, tripwire, ..
        } = part.request;
        let form = part.request.layer_options(None);
        let epochs: Vec<_> = outputs.iter().map(|output| output.epoch).collect();
        // Secrets are told apart by where they come from, and nothing of them is kept.
        format!(
            "{no_cache} {no_cache_stages:?} {pull:?} {secrets:?} {ssh:?} {dns:?} {volumes:?} {form:?} {epochs:?} \
             {tripwire:?}"
        )
    };
    let mut number = |likeness: String| match known.iter().position(|known| *known == likeness) {
        Some(number) => number,
        None => {
            known.push(likeness);
            known.len() - 1
        }
    };
    parts.iter().map(|part| number(kind(part))).collect()
}

/// Numbers of contexts among those of all parts; nothing where there is only one part.
fn context_numbers(parts: &[Part<'_>]) -> Vec<BTreeMap<String, usize>> {
    if parts.len() < 2 {
        return vec![BTreeMap::new(); parts.len()];
    }
    let mut known = Vec::new();
    parts.iter().map(|part| part.inputs.number_contexts(&mut known)).collect()
}

/// Puts names in the place of secrets that an argument brought into a line.
fn hide_secrets(graph: &mut Graph, parts: &[Part<'_>]) {
    for Part { request, .. } in parts {
        let words = Words::of_given(&request.secrets(), &request.ssh.iter().cloned().collect());
        for listed in &mut graph.listing {
            if let Some(masked) = words.masked(&listed.title) {
                listed.title = masked;
            }
        }
    }
}

/// Says what is about to be built, and what was found.
fn announce(parts: &mut [Part<'_>], graph: &Graph, services: &Services) {
    let events = &services.events;
    let mut titles: Vec<(String, usize)> = Vec::new();
    for (at, part) in parts.iter_mut().enumerate() {
        part.request.warn_of_rewriting(&part.goals, events);
        part.request.note_dialect(&part.goals, events);
        part.request.note_carried(&part.goals, events);
        part.line = StepNumber(graph.listing.len() + titles.len());
        let lines = part.request.push_title().into_iter().chain(part.request.load_titles());
        titles.extend(lines.map(|title| (title, at)));
    }
    let last = titles.into_iter();
    let last = last.map(|(title, owner)| LastLine { title, owner, goals: &parts[owner].goals });
    let sources: Vec<Arc<Source>> = parts.iter().map(|part| Arc::clone(part.inputs.source())).collect();
    solve::announce(graph, &sources, &last.collect::<Vec<_>>(), events);
    let mut told: Diagnostics = Vec::new();
    for warning in parts.iter().flat_map(|part| &part.warnings) {
        if !told.contains(warning) {
            events.send(Event::Warning(warning.clone()));
            told.push(warning.clone());
        }
    }
}

/// Solves; and once more whenever a cache did not have what it promised, which is a miss then. What was done until then is in
/// the store.
fn build(
    parts: &[Part<'_>],
    graph: &Graph,
    services: &Services,
) -> Result<Vec<result::Results>, Diagnostics> {
    let environments = environments(parts)?;
    let goals: Vec<Goal> = parts.iter().flat_map(|part| part.goals.iter().cloned()).collect();
    let owners: Vec<usize> =
        parts.iter().enumerate().flat_map(|(at, part)| part.goals.iter().map(move |_| at)).collect();
    let hear = |layers: &[Layer], goal: usize| {
        let Some(part) = owners.get(goal).and_then(|at| parts.get(*at)) else { return };
        if let Some(ahead) = &part.ahead {
            ahead.hear(&part.request.layers_that_stay(layers), &services.events, part.line);
        }
    };
    let hear: &HearLayers<'_> = &hear;
    loop {
        services.lookup.take_broken();
        let results = solve::run_several(graph, &goals, &environments, hear).and_then(|solved| {
            let parts = parts.iter().zip(&environments);
            let results = parts.map(|(part, environment)| results_of(part, graph, &solved, environment));
            let results = results.collect::<Result<Vec<_>, _>>()?;
            // What steps were told of layers that have come since, only to be kept.
            let proven = services.indexes.prove(&solved.layers());
            proven.map_err(|error| vec![solve::Error::from(error).explain(services.store.root())])?;
            Ok(results)
        });
        let broken = services.lookup.take_broken();
        let Some(broken) = broken.filter(|broken| broken.is_result_doubtful || results.is_err()) else {
            return results;
        };
        if !services.executor.resume() {
            return results;
        }
        services.indexes.forget_refuted();
        let what = if broken.is_result_doubtful { "what stood on it" } else { "what it promised" };
        services.events.send(Event::Note(format!("{}; {what} is made anew", broken.why)));
    }
}

/// What one of them came to.
fn results_of(
    part: &Part<'_>,
    graph: &Graph,
    solved: &Solved,
    environment: &Environment<'_>,
) -> Result<result::Results, Diagnostics> {
    let image = |goal: &Goal| image(part.request, (graph, goal), solved, environment);
    let images = part.goals.iter().map(image).collect::<Result<_, _>>()?;
    let reached = graph.reached(&part.goals);
    let of_part = || {
        let steps = solved.steps.iter().zip(&graph.steps).zip(&reached);
        steps
            .filter(|((_, step), reached)| **reached && step.op.parent().is_some())
            .filter_map(|((outcome, _), _)| outcome.as_ref())
    };
    let count = |wanted: Outcome| of_part().filter(|(outcome, _)| *outcome == wanted).count();
    // A single build counts every step, wherever it leads.
    let (ran, cached) = match part.name {
        "" => (solved.ran, solved.cached),
        _ => (count(Outcome::Ran), count(Outcome::Cached)),
    };
    Ok(result::Results { images, seen: solved.layers(), ran, cached })
}

/// The image of one platform.
fn image(
    request: &Request,
    (graph, goal): (&Graph, &Goal),
    solved: &Solved,
    environment: &Environment<'_>,
) -> Result<result::PlatformResult, Diagnostics> {
    let services = environment.services;
    let layers = &solved.root(goal.image.result).layers;
    let layers = squash::squash(request, goal, layers.clone(), services)?;
    let layers = match request.forced() {
        Some(forced) => recompress::convert(&layers, forced, services)?,
        None => layers,
    };
    // What the image is of has to be here, wherever it was made; but not only to be sent on.
    if !request.ends_elsewhere() {
        let brought = services.lookup.bring(&layers);
        brought.map_err(|error| vec![solve::Error::from(error).explain(services.store.root())])?;
    }
    result::assemble(request, (graph, goal), solved, layers, environment)
}
