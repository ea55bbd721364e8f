//! `rbuild --call=targets` and `--call=outline`: what a Dockerfile offers, as docker buildx prints it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Format;
use crate::cli::Failure;
use crate::cli::error::print;
use crate::cli::show::findings::docker::{pretty, range};
use crate::cli::show::listing::table;
use crate::dockerfile::syntax::{ArgDeclaration, Dockerfile, Instruction, InstructionKind, Stage};
use crate::dockerfile::words::{self, Lookup};
use crate::pipeline::{self, Outlined, Request};
use crate::plan::graph::{MountKind, Op};
use crate::report::{Events, Source, Span};

/// Prints the stages.
pub(crate) fn targets(request: &Request, format: Format) -> Result<(), Failure> {
    let file = pipeline::stages(request, &Events::silent()).map_err(Failure::build)?;
    let default = match &request.options.target {
        Some(target) => file.stages.iter().rposition(|stage| is_named(stage, target)),
        None => file.stages.len().checked_sub(1),
    };
    let stages = || file.stages.iter().enumerate();
    if format == Format::Json {
        let targets: Vec<Value> =
            stages().map(|(index, stage)| target(&file, stage, default == Some(index))).collect();
        return print(&pretty(&json!({"targets": targets})));
    }
    let mut rows = vec![["TARGET", "DESCRIPTION"].map(str::to_owned).to_vec()];
    rows.extend(stages().map(|(index, stage)| {
        let name = match (name(stage), default == Some(index)) {
            ("", true) => "(default)".to_owned(),
            ("", false) => format!("({index})"),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        vec![name, description(&stage.from.comment, crate::cli::call::outline::name(stage))]
    }));
    print(&table(&rows))
}

fn target(file: &Dockerfile, stage: &Stage, is_default: bool) -> Value {
    json!({
        "name": name(stage),
        "default": is_default,
        "description": description(&stage.from.comment, name(stage)),
        "base": stage.from.image.text,
        "platform": stage.from.platform.as_ref().map_or("", |platform| platform.text.as_str()),
        "location": location(&file.source, stage.from.span),
    })
}

fn location(source: &Source, span: Span) -> Value {
    json!({"ranges": [range(source, span)]})
}

fn name(stage: &Stage) -> &str {
    stage.from.name.as_ref().map_or("", |name| name.text.as_str())
}

fn is_named(stage: &Stage, wanted: &str) -> bool {
    name(stage).eq_ignore_ascii_case(wanted)
}

/// What the comment above says of `name`: `# name what it is`.
fn description(comment: &str, name: &str) -> String {
    let about = |line: &str| {
        let (first, rest) = line.trim_start_matches('#').trim().split_once(' ')?;
        first.eq_ignore_ascii_case(name).then(|| rest.trim().to_owned())
    };
    comment.lines().find_map(about).unwrap_or_default()
}

/// An ARG that the target sees.
struct Argument<'f> {
    declaration: &'f ArgDeclaration,
    value: String,
    description: String,
}

/// Prints the arguments, secrets, SSH keys and cache mounts of the target.
pub(crate) fn outline(request: &Request, format: Format) -> Result<(), Failure> {
    let outlined = pipeline::outline(request, &Events::silent()).map_err(Failure::build)?;
    let target = target_of(&outlined.dockerfile, request);
    let arguments = arguments(&outlined, target, request);
    let needs = Needs::of(&outlined);
    print(&match format {
        Format::Json => pretty(&outline_object(&outlined.dockerfile, target, &arguments, &needs)),
        Format::Text | Format::Sarif => outline_text(&outlined.dockerfile.stages[target], &arguments, &needs),
    })
}

fn target_of(file: &Dockerfile, request: &Request) -> usize {
    let named = |target: &String| file.stages.iter().rposition(|stage| is_named(stage, target));
    request.options.target.as_ref().and_then(named).unwrap_or(file.stages.len() - 1)
}

fn outline_text(stage: &Stage, arguments: &[Argument<'_>], needs: &Needs) -> String {
    let mut text = String::new();
    let mut section = |rows: Vec<Vec<String>>| {
        if rows.len() > 1 {
            text.push_str(&table(&rows));
            text.push('\n');
        }
    };
    let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let (name, about) = (name(stage), description(&stage.from.comment, name(stage)));
    let shown = if name.is_empty() { "(default)" } else { name };
    let mut head = vec![row(&["TARGET:", shown]), row(&["DESCRIPTION:", &about])];
    head.truncate(if about.is_empty() { 1 } else { 2 });
    section([vec![], head].concat());
    let mut rows = vec![row(&["BUILD ARG", "VALUE", "DESCRIPTION"])];
    rows.extend(arguments.iter().map(|a| row(&[&a.declaration.name.text, &a.value, &a.description])));
    section(rows);
    for (title, wanted) in [("SECRET", &needs.secrets), ("SSH", &needs.ssh)] {
        let mut rows = vec![row(&[title, "REQUIRED"])];
        rows.extend(wanted.iter().map(|(id, required)| row(&[id, if *required { "true" } else { "" }])));
        section(rows);
    }
    let mut rows = vec![row(&["CACHE"])];
    rows.extend(needs.caches.iter().map(|id| row(&[id])));
    section(rows);
    text.trim_end().to_owned() + "\n"
}

fn outline_object(file: &Dockerfile, target: usize, arguments: &[Argument<'_>], needs: &Needs) -> Value {
    let stage = &file.stages[target];
    let wanted = |all: &BTreeMap<String, bool>| -> Vec<Value> {
        all.iter().map(|(name, required)| json!({"name": name, "required": required})).collect()
    };
    let args: Vec<Value> = arguments
        .iter()
        .map(|a| {
            json!({
                "name": a.declaration.name.text,
                "description": a.description,
                "value": a.value,
                "location": location(&file.source, a.declaration.name.span),
            })
        })
        .collect();
    json!({
        "name": name(stage),
        "description": description(&stage.from.comment, name(stage)),
        "args": args,
        "secrets": wanted(&needs.secrets),
        "ssh": wanted(&needs.ssh),
        "cache": needs.caches.iter().map(|id| json!({"ID": id})).collect::<Vec<_>>(),
    })
}

/// The arguments of the stages that the target needs, in order, each once.
fn arguments<'f>(outlined: &'f Outlined, target: usize, request: &Request) -> Vec<Argument<'f>> {
    let file = &outlined.dockerfile;
    let needed = needed(outlined, target);
    let stages = file.stages.iter().enumerate().filter(|(index, _)| needed.contains(index));
    let instructions = file.global_args.iter().chain(stages.flat_map(|(_, stage)| &stage.instructions));
    let mut known = Known(BTreeMap::new());
    let mut arguments: Vec<Argument<'f>> = Vec::new();
    for instruction in instructions {
        let InstructionKind::Arg(declarations) = &instruction.kind else { continue };
        for declaration in declarations {
            let name = &declaration.name.text;
            let value = known.declare(declaration, file.directives.escape, request);
            match arguments.iter_mut().find(|argument| argument.declaration.name.text == *name) {
                Some(argument) => argument.value = value,
                None => {
                    arguments.push(Argument { declaration, value, description: about(instruction, name) });
                }
            }
        }
    }
    arguments
}

fn about(instruction: &Instruction, name: &str) -> String {
    description(&instruction.comment, name)
}

/// The stages that the plan has steps of, and the target.
fn needed(outlined: &Outlined, target: usize) -> BTreeSet<usize> {
    let stages = &outlined.dockerfile.stages;
    let at = |span: Span| stages.iter().rposition(|stage| stage.from.span.start <= span.start);
    let mut needed: BTreeSet<usize> =
        outlined.plan.steps.iter().filter_map(|step| step.span).filter_map(at).collect();
    needed.insert(target);
    needed
}

/// The values of the arguments so far.
struct Known(BTreeMap<String, String>);

impl Known {
    /// The argument's value: the given one, else its default, else the one that it had.
    fn declare(&mut self, declaration: &ArgDeclaration, escape: char, request: &Request) -> String {
        let name = &declaration.name.text;
        let given = request.options.build_args.iter().rev().find(|(given, _)| given == name);
        let value = match (given, &declaration.default) {
            (Some((_, Some(value))), _) => Some(value.clone()),
            (_, Some(default)) => {
                words::expand(&default.text, escape, self).ok().map(|expanded| expanded.text)
            }
            (_, None) => None,
        };
        if let Some(value) = value {
            self.0.insert(name.clone(), value);
        }
        self.0.get(name).cloned().unwrap_or_default()
    }
}

impl Lookup for Known {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// What the mounts of a plan ask for; the value tells whether the build fails without.
#[derive(Default)]
struct Needs {
    secrets: BTreeMap<String, bool>,
    ssh: BTreeMap<String, bool>,
    caches: BTreeSet<String>,
}

impl Needs {
    fn of(outlined: &Outlined) -> Self {
        let mut needs = Self::default();
        let mounts = outlined.plan.steps.iter().filter_map(|step| match &step.op {
            Op::Exec { op, .. } => Some(&op.mounts),
            _ => None,
        });
        for mount in mounts.flatten() {
            match &mount.kind {
                MountKind::Secret { id, required, .. } => {
                    *needs.secrets.entry(id.clone()).or_default() |= required;
                }
                MountKind::Ssh { id, required, .. } => *needs.ssh.entry(id.clone()).or_default() |= required,
                MountKind::Cache { id, .. } => drop(needs.caches.insert(id.clone())),
                MountKind::Bind { .. } | MountKind::Tmpfs { .. } => {}
            }
        }
        needs
    }
}
