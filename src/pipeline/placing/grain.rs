//! What is a piece of work for an engine: all that is built, targets that belong together, or a platform of one.
//!
//! Unless somebody says so (`grain`), what is known decides: the steps that targets lack, how long each took when it ran last, and what placing
//! costs there. Targets that lack the same command are one, since workers that both run it leave different bytes, and what stands on the
//! second's would be found nowhere. What is known to cost less than placing it goes with others of that kind. All else is by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Brought, Engine, Grain, On, named, of_this_machine, order, outputs, overhead, pod};
use crate::exec::Stop;
use crate::oci::Platform;
use crate::pipeline::inputs::Pool;
use crate::pipeline::{Failed, Request, Target, recording, together};
use crate::plan::graph::{Graph, Op};
use crate::plan::{self, ContextSource};
use crate::record::Recorder;
use crate::report::{Diagnostic, Event, Events, Listener, Source};
use crate::solve::{self, Outlook, Services};

/// What one worker does.
pub(super) struct Piece {
    /// As they are run here, for the platforms that are done there.
    pub(super) targets: Vec<Target>,
    pub(super) on: On,
    /// What workers made of the same before.
    pub(super) known: Brought,
    /// The number of the first among all that is built.
    pub(super) first: usize,
}

/// Targets that are linked, by their numbers: they are always together.
type Linked = Vec<usize>;

/// Some of what is to be built: linked targets, and which platform of them, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit {
    linked: Linked,
    platform: Option<Platform>,
}

/// The pieces of all targets that are not for this machine.
pub(super) fn pieces(
    targets: &[Target],
    pool: &Pool,
    (events, stop): (&Events, &Stop),
) -> Result<Vec<Piece>, Failed> {
    let mut by_engine: Vec<(&On, Vec<Linked>)> = Vec::new();
    for linked in all_linked(targets).map_err(|told| Failed::before(vec![told]))? {
        let Some(on) = linked.first().and_then(|at| targets[*at].request.on.as_ref()) else { continue };
        match by_engine.iter_mut().find(|(known, _)| *known == on) {
            Some((_, all)) => all.push(linked),
            None => by_engine.push((on, vec![linked])),
        }
    }
    let mut pieces = Vec::new();
    for (on, all) in by_engine {
        let grouped = grouped(targets, (on, all), pool, (events, stop)).map_err(Failed::before)?;
        pieces.extend(grouped.iter().map(|units| piece(targets, units, on)));
    }
    Ok(pieces)
}

/// The targets by what they are linked to, however far around.
fn all_linked(targets: &[Target]) -> Result<Vec<Linked>, Diagnostic> {
    let mut all: Vec<Linked> = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let names: Vec<&str> = links(&target.request).collect();
        let is_linked = |other: &usize| {
            let Target { name, request } = &targets[*other];
            names.contains(&name.as_str()) || links(request).any(|name| name == target.name)
        };
        let (same, others): (Vec<Linked>, Vec<Linked>) =
            all.into_iter().partition(|linked| linked.iter().any(is_linked));
        let mut one: Linked = same.into_iter().flatten().chain([number]).collect();
        one.sort_unstable();
        all = others;
        all.push(one);
    }
    all.sort();
    let differs =
        |linked: &&Linked| linked.iter().any(|at| targets[*at].request.on != targets[linked[0]].request.on);
    match all.iter().find(differs) {
        None => Ok(all),
        Some(linked) => {
            let name = &targets[linked[0]].name;
            Err(Diagnostic::error(format!(
                "targets that are linked to `{name}` are to be built elsewhere than it"
            )))
        }
    }
}

fn links(request: &Request) -> impl Iterator<Item = &str> {
    request.options.contexts.iter().filter_map(|(_, source)| match source {
        ContextSource::Linked(name) => Some(name.as_str()),
        _ => None,
    })
}

/// What of those for one engine is together.
fn grouped(
    targets: &[Target],
    (on, all): (&On, Vec<Linked>),
    pool: &Pool,
    (events, stop): (&Events, &Stop),
) -> Result<Vec<Vec<Unit>>, Vec<Diagnostic>> {
    let whole = |linked: &Linked| Unit { linked: linked.clone(), platform: None };
    let alone = || all.iter().map(|linked| vec![whole(linked)]).collect();
    // A single platform, too, has to be on a node of its architecture.
    let fewest = if is_cluster(on) { 1 } else { 2 };
    match on.grain {
        Some(Grain::Build) => Ok(vec![all.iter().map(whole).collect()]),
        Some(Grain::Target) => Ok(alone()),
        Some(Grain::Platform) => {
            let split =
                |linked: &Linked| by_platform(targets, linked, fewest).unwrap_or_else(|| vec![whole(linked)]);
            Ok(all.iter().flat_map(split).map(|unit| vec![unit]).collect())
        }
        None => {
            let may_split = |linked: &Linked| !is_cluster(on) && by_platform(targets, linked, 2).is_some();
            match all.as_slice() {
                [only] if !may_split(only) => Ok(alone()),
                _ => decided(targets, (on, &all), pool, (events, stop)),
            }
        }
    }
}

/// Which nodes a cluster has is known to who asks for them, so there platforms are only apart if somebody says so.
fn is_cluster(on: &On) -> bool {
    matches!(on.engine, Engine::Kubernetes(_))
}

/// A unit for each platform, if all of the targets are for the same ones, and not for fewer than that.
fn by_platform(targets: &[Target], linked: &Linked, fewest: usize) -> Option<Vec<Unit>> {
    let platforms = &targets[*linked.first()?].request.platforms;
    let is_same = linked.iter().all(|at| targets[*at].request.platforms == *platforms);
    let unit = |platform: &Platform| Unit { linked: linked.clone(), platform: Some(platform.clone()) };
    (is_same && platforms.len() >= fewest).then(|| platforms.iter().map(unit).collect())
}

/// What is known decides.
fn decided(
    targets: &[Target],
    (on, all): (&On, &[Linked]),
    pool: &Pool,
    (events, stop): (&Events, &Stop),
) -> Result<Vec<Vec<Unit>>, Vec<Diagnostic>> {
    let numbers: BTreeSet<usize> = all.iter().flatten().copied().collect();
    let some: Vec<Target> = numbers.iter().map(|at| of_this_machine(&targets[*at])).collect();
    let looked = look(&some, on, pool, stop)?;
    let mut units = Vec::new();
    for linked in all {
        let whole = Unit { linked: linked.clone(), platform: None };
        let apart = by_platform(targets, linked, 2).filter(|apart| {
            let lacks: Vec<BTreeSet<usize>> = apart.iter().map(|unit| looked.lacks(targets, unit)).collect();
            !is_cluster(on) && looked.known.pays(&lacks)
        });
        units.extend(apart.unwrap_or_else(|| vec![whole]));
    }
    // Whoever builds with a volume can read what is in it, so other repositories are not done with that.
    let place = |unit: &Unit| match (&on.engine, unit.linked.first()) {
        (Engine::Kubernetes(cluster), Some(at)) if !cluster.claims.is_empty() => {
            pod::key(cluster, &targets[*at].request)
        }
        _ => String::new(),
    };
    let mut by_place: BTreeMap<String, Vec<Unit>> = BTreeMap::new();
    units.into_iter().for_each(|unit| by_place.entry(place(&unit)).or_default().push(unit));
    let mut grouped = Vec::new();
    for units in by_place.into_values() {
        let lacks: Vec<BTreeSet<usize>> = units.iter().map(|unit| looked.lacks(targets, unit)).collect();
        for numbers in joined(&lacks, &looked.known) {
            let together: Vec<Unit> = numbers.iter().map(|at| units[*at].clone()).collect();
            if together.len() > 1 {
                tell(targets, &together, events);
            }
            grouped.push(together);
        }
    }
    Ok(grouped)
}

fn tell(targets: &[Target], units: &[Unit], events: &Events) {
    let numbers: BTreeSet<usize> = units.iter().flat_map(|unit| unit.linked.iter().copied()).collect();
    let names: Vec<String> = numbers.iter().map(|at| format!("`{}`", targets[*at].name)).collect();
    if names.len() > 1 {
        let names = names.join(", ");
        events
            .send(Event::Note(format!("{names} are placed together; `grain=target` places each by itself")));
    }
}

/// What was seen of targets before any of them is placed.
struct Looked {
    known: Known,
    /// For each target by its name the steps of each platform that would run.
    lacking: BTreeMap<String, Vec<(Platform, BTreeSet<usize>)>>,
}

/// What is known of steps.
#[derive(Default)]
struct Known {
    /// Those that are commands.
    commands: BTreeSet<usize>,
    /// How long steps took when they ran last.
    times: BTreeMap<usize, Duration>,
    /// What placing costs.
    overhead: Option<Duration>,
}

impl Known {
    /// How long these take one after the other, if that is known of each.
    fn costs(&self, steps: &BTreeSet<usize>) -> Option<Duration> {
        steps.iter().map(|step| self.times.get(step).copied()).sum()
    }

    /// Whether each of these is worth placing by itself, as far as is known.
    fn pays(&self, lacks: &[BTreeSet<usize>]) -> bool {
        let Some(overhead) = self.overhead else { return false };
        lacks.iter().all(|steps| self.costs(steps).is_some_and(|cost| cost >= overhead))
    }
}

impl Looked {
    fn lacks(&self, targets: &[Target], unit: &Unit) -> BTreeSet<usize> {
        let of_target = |at: &usize| self.lacking.get(&targets[*at].name).into_iter().flatten();
        let all = unit.linked.iter().flat_map(of_target);
        let of_unit =
            all.filter(|(platform, _)| unit.platform.as_ref().is_none_or(|wanted| wanted == platform));
        of_unit.flat_map(|(_, steps)| steps.iter().copied()).collect()
    }
}

/// Plans all of them as one graph, and looks up what each lacks.
fn look(targets: &[Target], on: &On, pool: &Pool, stop: &Stop) -> Result<Looked, Vec<Diagnostic>> {
    for target in targets {
        order::refuse(&target.request).map_err(|told| named(std::slice::from_ref(target), told))?;
    }
    let ordered = together::in_order(targets)?;
    let whole = together::whole(&ordered);
    let known = outputs::remembered(targets, on);
    let brought = whole.brought.into_iter().chain(known).collect();
    let whole = Request { brought, ..whole };
    // What is to be told is told when they are placed.
    let services = whole.services(stop, &Events::silent())?;
    let services = Services { pins: together::pins(&ordered)?, ..services };
    let (parts, graph) = together::planned(&ordered, &services, pool)?;
    let environments = together::environments(&parts)?;
    let forecast = solve::forecast_several(&graph, &[], &environments)?;
    let runs = |at: &usize| {
        matches!(forecast.outlooks[*at], Outlook::Run { .. }) && graph.steps[*at].op.parent().is_some()
    };
    let mut lacking: BTreeMap<String, Vec<(Platform, BTreeSet<usize>)>> = BTreeMap::new();
    for part in &parts {
        for goal in &part.goals {
            let reached = graph.reached(std::slice::from_ref(goal));
            let steps = (0..graph.steps.len()).filter(|at| reached[*at] && runs(at)).collect();
            lacking.entry(part.name.to_owned()).or_default().push((goal.platform.clone(), steps));
        }
    }
    let is_command = |at: &usize| matches!(graph.steps[*at].op, Op::Exec { .. });
    let times = match recording::start(&ordered, &whole) {
        Some(recorder) => {
            parts.iter().enumerate().for_each(|(at, part)| recording::opened(&recorder, at, &part.inputs));
            let sources: Vec<Arc<Source>> =
                parts.iter().map(|part| Arc::clone(part.inputs.source())).collect();
            times(&Arc::new(recorder), (&graph, &sources), &services)
        }
        None => BTreeMap::new(),
    };
    let overhead = overhead::of(&services.store, on);
    let commands = (0..graph.steps.len()).filter(is_command).collect();
    Ok(Looked { known: Known { commands, times, overhead }, lacking })
}

/// How long the steps of a graph took when they ran last, as far as that was recorded.
fn times(
    recorder: &Arc<Recorder>,
    (graph, sources): (&Graph, &[Arc<Source>]),
    services: &Services,
) -> BTreeMap<usize, Duration> {
    let heard = Events::silent().heard_by(Arc::clone(recorder) as Arc<dyn Listener>);
    solve::announce(graph, sources, &[], &heard);
    let times = recording::times(&recorder.asked(), &services.store);
    let time = |(at, step): (usize, &plan::graph::Step)| Some((at, *times.get(step.number.0)?.as_ref()?));
    graph.steps.iter().enumerate().filter_map(time).collect()
}

/// Which of several are together, by what each lacks.
fn joined(lacks: &[BTreeSet<usize>], known: &Known) -> Vec<Vec<usize>> {
    let mut pieces: Vec<(Vec<usize>, BTreeSet<usize>)> = Vec::new();
    for (at, steps) in lacks.iter().enumerate() {
        let shares = |(_, others): &(Vec<usize>, BTreeSet<usize>)| {
            others.intersection(steps).any(|step| known.commands.contains(step))
        };
        let (same, others): (Vec<_>, Vec<_>) = pieces.into_iter().partition(shares);
        let mut one = (vec![at], steps.clone());
        for (numbers, steps) in same {
            one.0.extend(numbers);
            one.1.extend(steps);
        }
        one.0.sort_unstable();
        pieces = others;
        pieces.push(one);
    }
    pieces.sort();
    let is_small = |steps: &BTreeSet<usize>| {
        !steps.is_empty()
            && known.costs(steps).is_some_and(|cost| known.overhead.is_some_and(|least| cost < least))
    };
    // One that is not worth placing by itself yet.
    let mut small: Option<usize> = None;
    let mut joined: Vec<(Vec<usize>, BTreeSet<usize>)> = Vec::new();
    for (numbers, steps) in pieces {
        if !is_small(&steps) {
            joined.push((numbers, steps));
            continue;
        }
        let at = *small.get_or_insert(joined.len());
        match joined.get_mut(at) {
            Some(one) => {
                one.0.extend(numbers);
                one.1.extend(steps);
            }
            None => joined.push((numbers, steps)),
        }
        if !is_small(&joined[at].1) {
            small = None;
        }
    }
    joined.into_iter().map(|(numbers, _)| numbers).collect()
}

/// What one worker does, as it is run here.
fn piece(targets: &[Target], units: &[Unit], on: &On) -> Piece {
    let mut wanted: BTreeMap<usize, Vec<&Platform>> = BTreeMap::new();
    for unit in units {
        unit.linked.iter().for_each(|at| wanted.entry(*at).or_default().extend(&unit.platform));
    }
    let some = |(at, platforms): (&usize, &Vec<&Platform>)| {
        let Target { name, request } = of_this_machine(&targets[*at]);
        let Some(first) = platforms.first() else { return Target { name, request } };
        let options = plan::Options { platform: (*first).clone(), ..request.options };
        let platforms = platforms.iter().map(|platform| (*platform).clone()).collect();
        Target { name, request: Request { platforms, options, ..request } }
    };
    let some: Vec<Target> = wanted.iter().map(some).collect();
    let mut on = on.clone();
    let only = units.first().and_then(|unit| unit.platform.as_ref());
    if let Some(platform) = only.filter(|_| units.iter().all(|unit| unit.platform.as_ref() == only)) {
        on.shown = format!("{} ({platform})", on.shown);
        if let Engine::Kubernetes(cluster) = &mut on.engine {
            let architecture = ("kubernetes.io/arch".to_owned(), platform.architecture.clone());
            cluster.wanted.node_selector.push(architecture);
            cluster.part = platform.to_string();
        }
    }
    let known = outputs::remembered(&some, &on);
    Piece { known, first: wanted.keys().next().copied().unwrap_or_default(), targets: some, on }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;

    use super::*;

    fn sets(lacks: &[&[usize]]) -> Vec<BTreeSet<usize>> {
        lacks.iter().map(|steps| steps.iter().copied().collect()).collect()
    }

    /// Steps that lack, each with its milliseconds; those from 100 on are commands. What placing costs is in milliseconds, too.
    fn known(lacks: &[BTreeSet<usize>], times: &[(usize, u64)], overhead: Option<u64>) -> Known {
        Known {
            commands: lacks.iter().flatten().copied().filter(|step| *step >= 100).collect(),
            times: times.iter().map(|(step, ms)| (*step, Duration::from_millis(*ms))).collect(),
            overhead: overhead.map(Duration::from_millis),
        }
    }

    fn check(lacks: &[&[usize]], times: &[(usize, u64)], overhead: Option<u64>, expected: &[&[usize]]) {
        let lacks = sets(lacks);
        let known = known(&lacks, times, overhead);
        assert_eq!(joined(&lacks, &known), expected, "{lacks:?} {times:?} {overhead:?}");
    }

    #[test]
    fn what_is_known_decides_what_is_together() {
        // Nothing is recorded, or nothing was measured: each by itself, also what shares a file.
        check(&[&[1, 2], &[1, 3], &[]], &[], None, &[&[0], &[1], &[2]]);
        check(&[&[1], &[2]], &[], Some(1000), &[&[0], &[1]]);
        check(&[&[1], &[2]], &[(1, 5), (2, 5)], None, &[&[0], &[1]]);
        // The same command is run by one worker, however far around it is shared.
        check(&[&[100, 1], &[101], &[100, 102], &[102, 103]], &[], None, &[&[0, 2, 3], &[1]]);
        // What costs less than placing it is put together until it does not.
        let times = [(1, 400), (2, 400), (3, 400), (4, 5000), (5, 400)];
        check(&[&[1], &[2], &[4], &[3], &[5]], &times, Some(1000), &[&[0, 1, 3], &[2], &[4]]);
        // A step that several copy counts once, and one whose time is unknown is worth it.
        check(&[&[1, 2], &[1, 3]], &times, Some(1000), &[&[0, 1]]);
        check(&[&[1], &[2, 9]], &times, Some(1000), &[&[0], &[1]]);
        // What lacks nothing is placed nowhere.
        check(&[&[], &[1], &[], &[2]], &times, Some(1000), &[&[0], &[1, 3], &[2]]);
    }

    #[test]
    fn platforms_are_apart_where_each_is_worth_it() {
        let pays = |lacks: &[&[usize]], times: &[(usize, u64)], overhead| {
            let lacks = sets(lacks);
            known(&lacks, times, overhead).pays(&lacks)
        };
        let times = [(1, 2000), (2, 1000), (3, 10)];
        assert!(pays(&[&[1], &[2]], &times, Some(1000)));
        // One is not, its time is not known, nothing is lacking, or nothing was measured.
        assert!(!pays(&[&[1], &[3]], &times, Some(1000)));
        assert!(!pays(&[&[1], &[2, 9]], &times, Some(1000)));
        assert!(!pays(&[&[1], &[]], &times, Some(1000)));
        assert!(!pays(&[&[1], &[2]], &times, None));
    }

    fn target(name: &str, platforms: &[&str], links: &[&str], on: Option<&On>) -> Target {
        let mut request = Request::new(PathBuf::from("/nowhere"), PathBuf::from("/nowhere"));
        request.platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
        let link = |name: &&str| ((*name).to_owned(), ContextSource::Linked((*name).to_owned()));
        request.options.contexts = links.iter().map(link).collect();
        request.on = on.cloned();
        Target { name: name.to_owned(), request }
    }

    #[test]
    fn grain_is_what_was_said() {
        let (at, _) = crate::shared_cache::spec::engine("reapi://host:1", |_| false).unwrap();
        let engine = Engine::Reapi { at: Box::new(at), properties: Vec::new() };
        let on = On { engine, shown: "`e`".to_owned(), timeout: None, falls_back: false, grain: None };
        let both = ["linux/amd64", "linux/arm64"];
        let placed = |grain| {
            let on = On { grain: Some(grain), ..on.clone() };
            let targets = [
                target("a", &both, &[], Some(&on)),
                target("b", &both, &["c"], Some(&on)),
                target("here", &[], &[], None),
                target("c", &both, &[], Some(&on)),
                target("d", &both, &["e"], Some(&on)),
                target("e", &both[..1], &[], Some(&on)),
            ];
            let pieces = pieces(&targets, &Pool::default(), (&Events::silent(), &Stop::default())).unwrap();
            let told = |piece: &Piece| {
                let names: Vec<String> = piece
                    .targets
                    .iter()
                    .map(|target| format!("{}:{}", target.name, target.request.platforms.len()))
                    .collect();
                assert!(piece.targets.iter().all(|target| target.request.on.is_none()));
                format!("{} {} {}", piece.first, names.join(" "), piece.on.shown)
            };
            pieces.iter().map(told).collect::<Vec<String>>()
        };
        assert_eq!(placed(Grain::Build), ["0 a:2 b:2 c:2 d:2 e:1 `e`"]);
        // Linked ones are together, and apart by platform only where all have the same.
        assert_eq!(placed(Grain::Target), ["0 a:2 `e`", "1 b:2 c:2 `e`", "4 d:2 e:1 `e`"]);
        let expected = [
            "0 a:1 `e` (linux/amd64)",
            "0 a:1 `e` (linux/arm64)",
            "1 b:1 c:1 `e` (linux/amd64)",
            "1 b:1 c:1 `e` (linux/arm64)",
            "4 d:2 e:1 `e`",
        ];
        assert_eq!(placed(Grain::Platform), expected);
        // What does not travel is said of the target that has it, also before it is known what is together.
        let mut offline = target("f", &[], &[], Some(&on));
        offline.request.offline = true;
        let two = [target("a", &[], &[], Some(&on)), offline];
        let refused = pieces(&two, &Pool::default(), (&Events::silent(), &Stop::default()));
        let told = refused.err().unwrap().diagnostics;
        assert!(told[0].message.contains("`--offline`"), "{told:?}");
        assert_eq!(told[0].notes, ["this is about the target `f`"]);
        let apart = [target("a", &[], &["b"], Some(&on)), target("b", &[], &[], None)];
        assert!(pieces(&apart, &Pool::default(), (&Events::silent(), &Stop::default())).is_err());
    }
}
