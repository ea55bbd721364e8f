//! Lowers syntax to a graph of steps, a configuration and a history. Pure: touches neither disk nor
//! network.
//!
//! Equal in meaning to BuildKit's `dockerfile2llb`. What only running can tell (digests, times, whether
//! a file exists) is left to `solve`.

mod bases;
mod begin;
mod builder;
mod chmod;
mod config;
mod epoch;
mod exec;
mod files;
mod from;
pub mod graph;
mod hints;
mod history;
mod join;
mod lower;
mod mounts;
mod options;
mod origin;
mod paths;
mod place;
mod ports;
mod remote;
mod scanned;
mod scope;
mod signal;
mod sources;
mod stage;
mod state;
mod title;
mod trigger;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::dockerfile::checks::{self, Phase, Rule};
use crate::dockerfile::syntax::{Dockerfile, InstructionKind};
use crate::report::{Diagnostic, Severity};
use crate::text::closest;

use bases::Bases;
pub use epoch::EpochSource;
use graph::{BaseOp, BaseRequest, Goal, Graph, HistoryPlan, ImagePlan, Plan};
pub use hints::{shell_of, stage_hint};
pub use join::{Part, join, join_parts};
use lower::Lowering;
pub use options::{CONTEXTS, ContextSource, Entitlement, Options};
use place::Place;
pub use remote::{Kind as SourceKind, kind as source_kind};
pub use scanned::{Scanned, scanned};
use scope::Globals;
use stage::{Stage, Stages};
use state::State;
pub use state::{DEFAULT_PATH, key_value};

/// What [`lower()`] comes to.
#[derive(Debug)]
pub enum Lowered {
    /// Triggers of a base made further stages needed, and those are built on images that have not been
    /// resolved: resolve these, too, and lower again with all.
    Needs(Vec<BaseRequest>),
    /// The plan.
    Plan(Box<Plan>),
}

/// The images that the target needs resolved before it can be lowered: those that FROM names in
/// stages that the target is built on, copies from, or mounts. Each once, in the file's order.
///
/// Triggers of these images may ask for more: see [`Lowered::Needs`].
pub fn bases(file: &Dockerfile, options: &Options) -> Result<Vec<BaseRequest>, Vec<Diagnostic>> {
    let prepared = Prepared::new(file, options, &Bases::new(&[]))?;
    Ok(prepared.missing)
}

/// What SOURCE_DATE_EPOCH names instead of being a number, if it does. Its time goes into [`Options::epoch_of_source`]
/// before the file is lowered.
pub fn epoch_source(file: &Dockerfile, options: &Options) -> Result<Option<EpochSource>, Vec<Diagnostic>> {
    Ok(Globals::new(file, &Place::of(file), options)?.epoch_source)
}

/// Triggers of base images may name further images, whose triggers may name further ones; so many rounds are heeded.
const MAX_ROUNDS: usize = 32;

/// Finds the images that are asked for.
pub type Resolve<'r> = dyn FnMut(&[BaseRequest]) -> Result<Vec<BaseOp>, Vec<Diagnostic>> + 'r;

/// Makes the plan for `options.platform`. `resolve` finds the images that it asks for, each once; triggers of these may
/// need more.
///
/// # Errors
/// Those of `resolve`, and of [`lower()`].
pub fn lower_with(
    file: &Dockerfile,
    options: &Options,
    resolve: &mut Resolve<'_>,
) -> Result<Plan, Vec<Diagnostic>> {
    let mut wanted = bases(file, options)?;
    let mut resolved = Vec::new();
    for _ in 0..MAX_ROUNDS {
        resolved.extend(resolve(&wanted)?);
        match lower(file, options, &resolved)? {
            Lowered::Plan(plan) => return Ok(*plan),
            Lowered::Needs(more) => wanted = more,
        }
    }
    Err(vec![Diagnostic::error("the triggers of base images name ever more base images")])
}

/// Makes the plan for `options.platform`. `bases` answer what [`bases()`] asked for, and further requests
/// of [`Lowered::Needs`]; more than needed does no harm.
///
/// Several independent faults are reported at once. When the file makes findings of checks fatal, the
/// error holds these findings, too, as warnings.
pub fn lower(file: &Dockerfile, options: &Options, bases: &[BaseOp]) -> Result<Lowered, Vec<Diagnostic>> {
    let bases = Bases::new(bases);
    let prepared = Prepared::new(file, options, &bases)?;
    if !prepared.missing.is_empty() {
        return Ok(Lowered::Needs(prepared.missing));
    }
    let Prepared { globals, stages, needed, mut warnings, .. } = prepared;
    if !options.lint {
        refuse_windows(&stages, &needed)?;
    }
    let mut lowering = Lowering::new(&stages, &globals, &bases);
    lowering.run(&needed);
    if !lowering.faults.is_empty() {
        let mut told = std::mem::take(&mut lowering.faults);
        if options.lint {
            warnings.append(&mut lowering.warnings);
            told.extend(found_before(file, &told, || checked(file, &needed, &lowering, warnings)));
        }
        return Err(told);
    }
    let history = lowering.history(stages.target);
    let Some(target) = lowering.done[stages.target].take() else {
        return Err(vec![Diagnostic::error("the target stage could not be lowered")]);
    };
    warnings.append(&mut lowering.warnings);
    let mut warnings = checked(file, &needed, &lowering, warnings)?;
    warnings.extend(unused_arguments(options, &stages, &globals));
    Ok(Lowered::Plan(Box::new(Plan {
        stages: needed,
        graph: Graph { steps: lowering.builder.steps, listing: lowering.builder.listing },
        goal: Goal {
            platform: options.platform.clone(),
            image: image(target, history, options),
            epoch: globals.epoch,
            next: lowering.next,
        },
        warnings,
    })))
}

/// Images for Windows are another world of paths, users and commands.
fn refuse_windows(stages: &Stages<'_>, needed: &BTreeSet<usize>) -> Result<(), Vec<Diagnostic>> {
    let target = &stages.options().platform;
    let is_foreign = |stage: &&Stage| stage.platform.as_ref().unwrap_or(target).os == "windows";
    let Some(stage) = needed.iter().map(|index| &stages.list[*index]).find(is_foreign) else { return Ok(()) };
    let message =
        "rbuild does not build images for windows: paths, users and commands have other rules there";
    let span = stage.from.platform.as_ref().map_or(stage.from.image.span, |platform| platform.span);
    let fault = stages.place.fault(span, message);
    Err(vec![fault.help("`rbuild copy`, `pull` and `push` move images of any platform")])
}

/// The findings that come up before the first of `faults`: nothing of the instructions from there on is looked at.
fn found_before(
    file: &Dockerfile,
    faults: &[Diagnostic],
    findings: impl FnOnce() -> Result<Vec<Diagnostic>, Vec<Diagnostic>>,
) -> Vec<Diagnostic> {
    let start = |d: &Diagnostic| d.labels.first().map(|label| label.span.start);
    let in_file = |d: &&Diagnostic| d.source.as_ref().is_some_and(|source| Arc::ptr_eq(source, &file.source));
    let first = faults.iter().filter(in_file).filter_map(start).min();
    let mut findings = findings().unwrap_or_else(|told| told);
    findings.retain(|finding| {
        let is_late =
            finding.code.and_then(Rule::named).is_some_and(|rule| rule.phase() == Phase::Instructions);
        finding.severity == Severity::Warning && (!is_late || start(finding) < first)
    });
    findings
}

/// All findings of build checks in the order of the text, less those that the file switches off. When
/// the file wants findings to be errors (`# check=error=true`), they are returned as one, the finding
/// that fails the build last.
fn checked(
    file: &Dockerfile,
    needed: &BTreeSet<usize>,
    lowering: &Lowering<'_>,
    mut findings: Vec<Diagnostic>,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let start = |finding: &Diagnostic| finding.labels.first().map(|label| label.span);
    let mut written = checks::check_reached(file, &|index| needed.contains(&index));
    written.retain(|finding| {
        finding.code != Some(checks::JSON_ARGS_RECOMMENDED.name)
            || !start(finding).is_some_and(|span| lowering.with_chosen_shell.contains(&span))
    });
    findings.append(&mut written);
    findings.sort_by_key(start);
    findings.dedup();
    let checks::Filtered { mut findings, error } = checks::filter(file, findings);
    match error {
        Some(error) => {
            findings.push(error);
            Err(findings)
        }
        None => Ok(findings),
    }
}

/// What can be said before any instruction is applied.
struct Prepared<'a> {
    globals: Globals,
    stages: Stages<'a>,
    needed: BTreeSet<usize>,
    missing: Vec<BaseRequest>,
    warnings: Vec<Diagnostic>,
}

impl<'a> Prepared<'a> {
    fn new(file: &Dockerfile, options: &'a Options, bases: &Bases<'_>) -> Result<Self, Vec<Diagnostic>> {
        let globals = Globals::new(file, &Place::of(file), options)?;
        let mut warnings = Vec::new();
        let mut stages = Stages::new(file, options, &globals, &mut warnings)?;
        let needed = trigger::fire_all(&mut stages, bases)?;
        let mut missing = stages.requests(&needed);
        missing.retain(|request| bases.find(request).is_none());
        Ok(Self { globals, stages, needed, missing, warnings })
    }
}

/// The target's image. `--label` leaves no history. A platform that was asked for by name is written
/// into the configuration, whatever the base says.
fn image(target: State, history: Vec<HistoryPlan>, options: &Options) -> ImagePlan {
    let mut config = target.image;
    config.config.labels.extend(options.labels.iter().cloned());
    if options.explicit_platform {
        let wanted = &options.platform;
        let same = config.os == wanted.os && config.architecture == wanted.architecture;
        config.os.clone_from(&wanted.os);
        config.architecture.clone_from(&wanted.architecture);
        if wanted.variant.is_some() || !same {
            config.variant.clone_from(&wanted.variant);
        }
        if wanted.os_version.is_some() || !same {
            config.os_version.clone_from(&wanted.os_version);
        }
    }
    // Nothing is known of an image without a configuration, such as a folder.
    if config.os.is_empty() || config.architecture.is_empty() {
        config.os.clone_from(&options.platform.os);
        config.architecture.clone_from(&options.platform.architecture);
        config.variant.clone_from(&options.platform.variant);
    }
    let platform = config.platform().normalised();
    (config.os, config.architecture, config.variant) = (platform.os, platform.architecture, platform.variant);
    ImagePlan { result: target.tip, config, history }
}

/// Build arguments that no ARG of the file, and no trigger, declares.
fn unused_arguments(options: &Options, stages: &Stages<'_>, globals: &Globals) -> Option<Diagnostic> {
    let items = stages.list.iter().flat_map(|stage| &stage.items);
    let mut declared: BTreeSet<&str> = globals.declared.iter().map(String::as_str).collect();
    for item in items {
        if let InstructionKind::Arg(names) = &item.instruction.kind {
            declared.extend(names.iter().map(|arg| arg.name.text.as_str()));
        }
    }
    let unused: BTreeSet<&str> = options
        .build_args
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|_| name.as_str()))
        .filter(|name| !declared.contains(*name) && !scope::needs_no_declaration(name))
        .filter(|name| globals.env.value(name).is_none())
        .collect();
    let names: Vec<String> = unused.iter().map(|name| format!("`{name}`")).collect();
    let message = match names.as_slice() {
        [] => return None,
        [one] => format!("build argument {one} is not used: no ARG declares it"),
        several => format!("build arguments {} are not used: no ARG declares them", several.join(", ")),
    };
    let warning = Diagnostic { severity: Severity::Warning, ..Diagnostic::error(message) };
    // A look at every declaration for each: nobody reads a hundred of them.
    Some(unused.iter().take(scope::SUGGESTIONS).fold(warning, |warning, name| {
        match closest(name, declared.iter().copied()) {
            Some(near) => warning.help(format!("did you mean `{near}`?")),
            None => warning,
        }
    }))
}

#[cfg(test)]
mod tests;
