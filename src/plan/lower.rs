//! Walks the needed stages in order and applies their instructions.

use std::collections::BTreeSet;

use crate::dockerfile::syntax::{InstructionKind, Run};
use crate::oci::{Config, History, ImageConfig, Platform, RootFs};
use crate::report::Diagnostic;

use super::builder::{Builder, Line};
use super::config::{self, Context};
use super::files;
use super::graph::{HistoryPlan, Mount, MountKind, ResolvedBase, StepId, TransferKind};
use super::mounts;
use super::options::Options;
use super::origin::Origin;
use super::place::Fault;
use super::scope::{Environment, Globals};
use super::stage::{Item, Stage, Stages, same_base};
use super::state::{DEFAULT_PATH, Effect, State};
use super::title;

/// Everything while stages are lowered.
pub(super) struct Lowering<'a> {
    pub(super) stages: &'a Stages<'a>,
    pub(super) globals: &'a Globals,
    pub(super) bases: &'a [ResolvedBase],
    pub(super) builder: Builder,
    /// The stages that were lowered, by number.
    pub(super) done: Vec<Option<State>>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) faults: Vec<Diagnostic>,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(stages: &'a Stages<'a>, globals: &'a Globals, bases: &'a [ResolvedBase]) -> Self {
        Self {
            stages,
            globals,
            bases,
            builder: Builder::default(),
            done: vec![None; stages.list.len()],
            warnings: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Lowers the stages of these numbers, in order. Faults are collected; a stage goes on after one.
    pub(super) fn run(&mut self, needed: &BTreeSet<usize>) {
        for index in needed {
            let stage = &self.stages.list[*index];
            match self.begin(stage) {
                Ok(mut state) => {
                    self.instructions(stage, &mut state);
                    self.done[*index] = Some(state);
                }
                Err(fault) => self.faults.push(*fault),
            }
        }
    }

    fn options(&self) -> &'a Options {
        self.stages.options()
    }

    fn instructions(&mut self, stage: &Stage, state: &mut State) {
        let mut files = 0;
        for (index, item) in stage.items.iter().enumerate() {
            let seen = title::environment(item, state);
            let line = self.line(stage, index + 2, title::of(item, &seen));
            let effect = match self.apply(stage, item, state) {
                Ok(effect) => effect,
                Err(fault) => {
                    self.faults.push(*fault);
                    continue;
                }
            };
            self.record(stage, item, state, line, effect, &mut files);
        }
    }

    fn line(&self, stage: &Stage, number: usize, title: String) -> Line {
        let total = 1 + stage.items.len();
        let width = total.to_string().len();
        let name = match self.stages.list.as_slice() {
            [_] => String::new(),
            _ => format!("{} ", stage.label),
        };
        Line { place: format!("[{name}{number:width$}/{total}]"), title }
    }

    /// Puts an effect into steps, listing and history.
    fn record(
        &mut self,
        stage: &Stage,
        item: &Item,
        state: &mut State,
        line: Line,
        effect: Effect,
        files: &mut usize,
    ) {
        let (created_by, layer) = match effect {
            Effect::Silent => return self.builder.line(line, Some(state.tip)),
            Effect::Entry(created_by) => {
                self.builder.line(line, Some(state.tip));
                (created_by, None)
            }
            Effect::Step(op, created_by) => {
                *files += 1;
                let span = Some(item.place.step_span(item.instruction.span));
                let slot = format!("{}/{files}", stage.label);
                state.tip = self.builder.step(op, Some(state.tip), span, line, slot);
                (created_by, Some(state.tip))
            }
        };
        state.history.push(HistoryPlan::Made {
            created_by,
            author: state.image.author.clone(),
            layer,
            after: state.tip,
        });
    }

    fn apply(&mut self, stage: &Stage, item: &Item, state: &mut State) -> Result<Effect, Fault> {
        let epoch = self.globals.epoch;
        let mut context =
            Context { place: &item.place, span: item.instruction.span, warnings: &mut self.warnings };
        match &item.instruction.kind {
            InstructionKind::Add(_) | InstructionKind::Copy(_) => self.transfer(stage, item, state),
            InstructionKind::Run(run) => self.exec(stage, item, state, run),
            InstructionKind::Workdir(path) => files::workdir(state, &mut context, path, epoch),
            InstructionKind::Arg(names) => config::arg(state, &mut context, self.globals, names),
            InstructionKind::Cmd(command) => Ok(config::cmd(state, &context, command)),
            InstructionKind::Entrypoint(command) => Ok(config::entrypoint(state, command)),
            InstructionKind::Env(pairs) => config::env(state, &mut context, pairs),
            InstructionKind::Expose(ports) => config::expose(state, &mut context, ports),
            InstructionKind::Healthcheck(check) => Ok(config::healthcheck(state, check)),
            InstructionKind::Label(pairs) => config::label(state, &mut context, pairs),
            InstructionKind::Maintainer(name) => Ok(config::maintainer(state, name)),
            InstructionKind::Onbuild(onbuild) => Ok(config::onbuild(state, onbuild)),
            InstructionKind::Shell(shell) => Ok(config::shell(state, shell)),
            InstructionKind::Stopsignal(signal) => config::stopsignal(state, &mut context, signal),
            InstructionKind::User(user) => config::user(state, &mut context, user),
            InstructionKind::Volume(volumes) => config::volume(state, &mut context, volumes),
        }
    }

    fn transfer(&mut self, stage: &Stage, item: &Item, state: &State) -> Result<Effect, Fault> {
        let (kind, transfer) = match &item.instruction.kind {
            InstructionKind::Add(transfer) => (TransferKind::Add, transfer),
            InstructionKind::Copy(transfer) => (TransferKind::Copy, transfer),
            _ => return Ok(Effect::Silent),
        };
        let mut context =
            Context { place: &item.place, span: item.instruction.span, warnings: &mut self.warnings };
        let span = transfer.flags.from.as_ref().map_or(item.instruction.span, |from| from.span);
        let origin = item.origins.first().and_then(Option::as_ref);
        let mut sources = Sources {
            builder: &mut self.builder,
            done: &self.done,
            bases: self.bases,
            epoch: self.globals.epoch,
        };
        let mut from = || {
            sources.step(origin).map_err(|later| {
                let message = format!(
                    "cannot copy from stage `{}`, it needs to be defined before current stage `{}`",
                    self.stages.list[later].label, stage.label
                );
                item.place.fault(span, message)
            })
        };
        files::transfer(state, &mut context, kind, transfer, self.globals.epoch, &mut from)
    }

    fn exec(&mut self, stage: &Stage, item: &Item, state: &State, run: &Run) -> Result<Effect, Fault> {
        let mounts = self.mounts(stage, item, state, run)?;
        let context =
            Context { place: &item.place, span: item.instruction.span, warnings: &mut self.warnings };
        super::exec::run(state, &context, run, mounts, self.stages.options(), self.globals)
    }

    fn mounts(&mut self, stage: &Stage, item: &Item, state: &State, run: &Run) -> Result<Vec<Mount>, Fault> {
        let mut lowered: Vec<Mount> = Vec::new();
        for (word, origin) in run.mounts.iter().zip(&item.origins) {
            let mut context =
                Context { place: &item.place, span: item.instruction.span, warnings: &mut self.warnings };
            let options = mounts::parse(state, &mut context, word)?;
            let mut sources = Sources {
                builder: &mut self.builder,
                done: &self.done,
                bases: self.bases,
                epoch: self.globals.epoch,
            };
            let mut from = || {
                sources.step(origin.as_ref()).map_err(|later| {
                    let message = format!(
                        "cannot mount from stage `{}`, it needs to be defined before current stage `{}`",
                        self.stages.list[later].label, stage.label
                    );
                    item.place.fault(word.span, message)
                })
            };
            let agents = lowered.iter().filter(|mount| matches!(mount.kind, MountKind::Ssh { .. })).count();
            lowered.push(mounts::lower(&options, state, word, &item.place, agents, &mut from)?);
        }
        Ok(lowered)
    }
}

/// Finds the steps whose files instructions use.
struct Sources<'a> {
    builder: &'a mut Builder,
    done: &'a [Option<State>],
    bases: &'a [ResolvedBase],
    epoch: Option<i64>,
}

impl Sources<'_> {
    /// The step of an origin, the main context for none. The error is a stage that comes later.
    fn step(&mut self, origin: Option<&Origin>) -> Result<StepId, usize> {
        Ok(match origin {
            None => self.builder.local(""),
            Some(Origin::Stage(index)) => self.done[*index].as_ref().ok_or(*index)?.tip,
            Some(Origin::Scratch) => self.builder.nothing(),
            Some(Origin::Base(request)) => {
                let base = self.bases.iter().position(|base| same_base(&base.request, request));
                self.builder.files_of_base(base.unwrap_or_default(), &request.name)
            }
            Some(Origin::Image(image)) => self.builder.image(image),
            Some(Origin::Local(name)) => self.builder.local(name),
            Some(Origin::Remote(remote)) => self.builder.remote(remote, self.epoch),
        })
    }
}

/// FROM.
impl Lowering<'_> {
    /// The state that a stage starts from.
    fn begin(&mut self, stage: &Stage) -> Result<State, Fault> {
        let line = self.line(stage, 1, title::from(stage));
        let mut state = match &stage.base {
            Origin::Stage(parent) => self.parent(*parent, stage, line)?,
            Origin::Scratch => {
                let tip = self.builder.scratch(line);
                self.empty(tip)
            }
            Origin::Base(request) => {
                let base = self.bases.iter().position(|base| same_base(&base.request, request));
                self.base(base.unwrap_or_default(), stage, line)
            }
            Origin::Image(image) => {
                let tip = self.builder.image(image);
                self.root(tip, line)
            }
            Origin::Local(name) => {
                let tip = self.builder.local_root(name, self.globals.epoch);
                self.root(tip, line)
            }
            Origin::Remote(remote) => {
                let tip = self.builder.remote(remote, self.globals.epoch);
                self.root(tip, line)
            }
        };
        if stage.replaced {
            state.image.config.on_build.clear();
        } else {
            state.enter();
        }
        Ok(state)
    }

    fn parent(&mut self, parent: usize, stage: &Stage, line: Line) -> Result<State, Fault> {
        let Some(state) = self.done[parent].clone() else {
            let parent = &self.stages.list[parent].label;
            let message =
                format!("stage `{parent}` needs to be defined before current stage `{}`", stage.label);
            return Err(self.stages.place.fault(stage.from.image.span, message));
        };
        self.builder.line(line, Some(state.tip));
        Ok(state)
    }

    fn base(&mut self, index: usize, stage: &Stage, line: Line) -> State {
        let base = &self.bases[index];
        let tip = self.builder.base(index, &base.request.name, stage.from.span, line);
        let platform = base.request.platform.clone();
        self.check_platform(stage, base, &platform);
        let mut image = base.config.clone();
        image.created = None;
        image.rootfs = RootFs::default();
        let history = inherited(&std::mem::take(&mut image.history), base);
        State { platform, ..State::new(image, history, tip) }
    }

    /// A stage that begins with files of unknown origin: nothing is known of their configuration.
    fn root(&mut self, tip: StepId, line: Line) -> State {
        self.builder.line(line, Some(tip));
        let mut state = self.empty(tip);
        state.history.push(HistoryPlan::Made {
            created_by: "COPY / / # buildkit".to_owned(),
            author: None,
            layer: Some(tip),
            after: tip,
        });
        state
    }

    fn empty(&self, tip: StepId) -> State {
        let platform = &self.options().platform;
        let state = State::new(empty_image(platform), Vec::new(), tip);
        State { platform: platform.clone(), ..state }
    }

    /// InvalidBaseImagePlatform: an image that exists for one platform only is taken as it is.
    fn check_platform(&mut self, stage: &Stage, base: &ResolvedBase, wanted: &Platform) {
        let actual = base.config.platform().normalised();
        if actual.os == wanted.os && actual.architecture == wanted.architecture {
            return;
        }
        let message = format!(
            "base image `{}` was pulled with platform `{actual}`, expected `{wanted}` for current build",
            stage.base_name
        );
        let place = &self.stages.place;
        self.warnings.push(place.warning("InvalidBaseImagePlatform", stage.from.image.span, message));
    }
}

impl State {
    fn new(image: ImageConfig, history: Vec<HistoryPlan>, tip: StepId) -> Self {
        Self {
            env: Environment::default(),
            arguments: Vec::new(),
            platform: image.platform(),
            image,
            history,
            tip,
            workdir_set: false,
            cmd: None,
        }
    }
}

/// The configuration of FROM scratch.
fn empty_image(platform: &Platform) -> ImageConfig {
    let env = match platform.os.as_str() {
        "windows" => Vec::new(),
        _ => vec![format!("PATH={DEFAULT_PATH}")],
    };
    ImageConfig {
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        os: platform.os.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
        config: Config { env, working_dir: "/".to_owned(), ..Config::default() },
        ..ImageConfig::default()
    }
}

/// The base's history, made to fit its layers as BuildKit does: surplus entries count as empty, missing
/// ones are added at the end.
fn inherited(history: &[History], base: &ResolvedBase) -> Vec<HistoryPlan> {
    let mut entries = history.to_vec();
    let count = entries.iter().filter(|entry| !entry.empty_layer).count();
    let surplus = count.saturating_sub(base.layers.len());
    for entry in entries.iter_mut().filter(|entry| !entry.empty_layer).take(surplus) {
        entry.empty_layer = true;
    }
    for _ in count..base.layers.len() {
        entries.push(History {
            created: base.config.created.clone(),
            created_by: Some(format!("layer of {}", base.request.name)),
            comment: Some("buildkit.exporter.image.v0".to_owned()),
            ..History::default()
        });
    }
    entries.into_iter().map(HistoryPlan::Inherited).collect()
}
