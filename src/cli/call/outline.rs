//! `rbuild --call=targets` and `--call=outline`: what a Dockerfile offers, as docker buildx prints it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Format;
use crate::cli::Failure;
use crate::cli::show::findings::docker::{pretty, range};
use crate::cli::show::listing::table;
use crate::dockerfile::syntax::{ArgDeclaration, Dockerfile, Instruction, InstructionKind, Stage};
use crate::dockerfile::words::{self, Lookup};
use crate::pipeline::{self, Outlined, Request};
use crate::plan::graph::{Mount, MountKind, Op};
use crate::report::{Events, Source, Span};

/// Tells the stages.
pub(crate) fn targets(request: &Request, format: Format) -> Result<String, Failure> {
    let file = pipeline::stages(request, &Events::silent()).map_err(Failure::build)?;
    let default = match &request.options.target {
        Some(target) => file.stages.iter().rposition(|stage| is_named(stage, target)),
        None => file.stages.len().checked_sub(1),
    };
    let stages = || file.stages.iter().enumerate();
    if format == Format::Json {
        let targets: Vec<Value> =
            stages().map(|(index, stage)| target(&file, stage, default == Some(index))).collect();
        return Ok(pretty(&json!({"targets": targets})));
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
    Ok(table(&rows))
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
pub(crate) fn outline(request: &Request, format: Format) -> Result<String, Failure> {
    let outlined = pipeline::outline(request, &Events::silent()).map_err(Failure::build)?;
    let target = target_of(&outlined.dockerfile, request);
    let arguments = arguments(&outlined, request);
    let needs = Needs::of(&outlined);
    Ok(match format {
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
        rows.extend(wanted.iter().map(|(id, need)| row(&[id, if need.required { "true" } else { "" }])));
        section(rows);
    }
    let mut rows = vec![row(&["CACHE"])];
    rows.extend(needs.caches.keys().map(|id| row(&[id])));
    section(rows);
    text.trim_end().to_owned() + "\n"
}

fn outline_object(file: &Dockerfile, target: usize, arguments: &[Argument<'_>], needs: &Needs) -> Value {
    let stage = &file.stages[target];
    let wanted = |all: &BTreeMap<String, Need>| -> Vec<Value> {
        let one = |(name, need): (&String, &Need)| json!({"name": name, "required": need.required, "location": place(file, need)});
        all.iter().map(one).collect()
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
        "cache": needs.caches.iter().map(|(id, need)| json!({"ID": id, "location": place(file, need)})).collect::<Vec<_>>(),
    })
}

fn place(file: &Dockerfile, need: &Need) -> Option<Value> {
    need.span.map(|span| location(&file.source, span))
}

/// The arguments of the stages that the target needs, in order, each once; of the global ones those that are used, in a FROM
/// or an ARG of such a stage, or in the default of another that is.
fn arguments<'f>(outlined: &'f Outlined, request: &Request) -> Vec<Argument<'f>> {
    let file = &outlined.dockerfile;
    let used = Used::of(outlined);
    let stages = outlined.plan.stages.iter().filter_map(|index| file.stages.get(*index));
    let instructions = file.global_args.iter().chain(stages.flat_map(|stage| &stage.instructions));
    let mut known = Known(BTreeMap::new());
    let mut arguments: Vec<Argument<'f>> = Vec::new();
    for instruction in instructions {
        let InstructionKind::Arg(declarations) = &instruction.kind else { continue };
        for declaration in declarations {
            let name = &declaration.name.text;
            let value = known.declare(declaration, file.directives.escape, request);
            if !used.0.borrow().contains(name) {
                continue;
            }
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

/// The names of arguments that are used: those that an ARG of a needed stage declares, those that its FROM asks for, and
/// those that defaults of global ones ask for.
#[derive(Default)]
struct Used(RefCell<BTreeSet<String>>);

impl Used {
    fn of(outlined: &Outlined) -> Self {
        let file = &outlined.dockerfile;
        let used = Self::default();
        let note = |text: &str| drop(words::expand(text, file.directives.escape, &used));
        for stage in outlined.plan.stages.iter().filter_map(|index| file.stages.get(*index)) {
            note(&stage.from.image.text);
            stage.from.platform.iter().for_each(|platform| note(&platform.text));
            for declaration in stage.instructions.iter().flat_map(declarations) {
                used.0.borrow_mut().insert(declaration.name.text.clone());
            }
        }
        // An argument can only ask for those above it.
        for declaration in file.global_args.iter().flat_map(declarations).rev() {
            let is_used = used.0.borrow().contains(&declaration.name.text);
            if let (true, Some(default)) = (is_used, &declaration.default) {
                note(&default.text);
            }
        }
        used
    }
}

impl Lookup for Used {
    fn get(&self, name: &str) -> Option<String> {
        self.0.borrow_mut().insert(name.to_owned());
        None
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

fn declarations(instruction: &Instruction) -> impl DoubleEndedIterator<Item = &ArgDeclaration> {
    let declarations = match &instruction.kind {
        InstructionKind::Arg(declarations) => declarations.as_slice(),
        _ => &[],
    };
    declarations.iter()
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

/// What the mounts of a plan ask for, by id.
#[derive(Default)]
struct Needs {
    secrets: BTreeMap<String, Need>,
    ssh: BTreeMap<String, Need>,
    caches: BTreeMap<String, Need>,
}

/// One thing that mounts ask for.
#[derive(Default)]
struct Need {
    /// The build fails without.
    required: bool,
    /// The first instruction that asks.
    span: Option<Span>,
}

impl Need {
    fn add(all: &mut BTreeMap<String, Self>, id: &str, required: bool, span: Option<Span>) {
        let need = all.entry(id.to_owned()).or_default();
        need.required |= required;
        need.span = need.span.or(span);
    }
}

impl Needs {
    fn of(outlined: &Outlined) -> Self {
        let mut needs = Self::default();
        for step in &outlined.plan.graph.steps {
            let Op::Exec { op, .. } = &step.op else { continue };
            needs.heed(&op.mounts, step.span);
        }
        needs
    }

    fn heed<R>(&mut self, mounts: &[Mount<R>], span: Option<Span>) {
        for mount in mounts {
            match &mount.kind {
                MountKind::Secret { id, required, .. } => Need::add(&mut self.secrets, id, *required, span),
                MountKind::Ssh { id, required, .. } => Need::add(&mut self.ssh, id, *required, span),
                MountKind::Cache { id, .. } => Need::add(&mut self.caches, id, false, span),
                MountKind::Bind { .. } | MountKind::Tmpfs { .. } => {}
            }
        }
    }
}
