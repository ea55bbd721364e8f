//! Walks the needed stages in order and applies their instructions.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::dockerfile::syntax::{Command, CopyInstruction, InstructionKind, Run};
use crate::oci::Platform;
use crate::report::{Diagnostic, Span};

use super::bases::Bases;
use super::builder::{Builder, Line};
use super::config::{self, Context};
use super::exec::{self, Setting};
use super::files;
use super::graph::{CopyKind, HistoryPlan, Mount, MountKind, Next, Op};
use super::mounts;
use super::options::Options;
use super::origin::Origin;
use super::place::{Fault, Place};
use super::scope::Globals;
use super::sources::{Sources, User};
use super::stage::{Item, Stage, Stages};
use super::state::{Effect, State};
use super::title;

/// Everything while stages are lowered.
pub(super) struct Lowering<'a> {
    pub(super) stages: &'a Stages<'a>,
    pub(super) globals: &'a Globals,
    pub(super) bases: &'a Bases<'a>,
    pub(super) builder: Builder,
    /// The stages that were lowered, by number.
    pub(super) done: Vec<Option<State>>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) faults: Vec<Diagnostic>,
    /// What would come where the target is cut short.
    pub(super) next: Option<Next>,
    /// CMD and ENTRYPOINT in shell form whose shell was chosen, by SHELL or by the base image's configuration.
    pub(super) with_chosen_shell: BTreeSet<Span>,
    pub(super) budget: Budget,
    /// What the names of steps end in when the image is for another platform than this machine: each has its own last result.
    foreign: String,
    /// How many stages that are still to come continue each; nobody but them needs its configuration.
    children: Vec<usize>,
}

/// What steps carry along: each RUN its variables, and its line of the history those that ARG declared. A file of
/// variables and commands in turn would need memory by the square of its length.
pub(super) struct Budget {
    /// Bytes that are left, about.
    left: usize,
    /// Something did not fit: nothing that follows is looked at.
    is_spent: bool,
    /// The environment that was counted last; steps share one as long as nothing changes it.
    counted: Option<Arc<Vec<(String, String)>>>,
}

/// [`Budget`] at the start. 15,000 lines of which every second sets one more variable need half of it.
const MAX_CARRIED_BYTES: usize = 512 << 20;

/// As many variables as one stage may set.
pub(super) const MAX_VARIABLES: usize = 10_000;

impl Budget {
    /// Whether there was enough for `effect`.
    fn spend(&mut self, effect: &Effect) -> bool {
        /// Two strings.
        const PAIR_BYTES: usize = 2 * size_of::<String>();
        let spent = match effect {
            Effect::Silent => 0,
            Effect::Entry(created_by) => created_by.len(),
            Effect::Step(op, created_by) => created_by.len() + self.variables(op) * PAIR_BYTES,
        };
        self.carry(spent)
    }

    /// Whether there was enough for a copy of a configuration.
    pub(super) fn carry(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => self.is_spent = true,
        }
        !self.is_spent
    }

    /// The number of variables that `op` has and the steps before it do not share with it.
    fn variables(&mut self, op: &Op) -> usize {
        let Op::Exec { op: exec, .. } = op else { return 0 };
        if self.counted.as_ref().is_some_and(|counted| Arc::ptr_eq(counted, &exec.env)) {
            return 0;
        }
        self.counted = Some(Arc::clone(&exec.env));
        exec.env.len() + exec.arguments.len()
    }
}

impl<'a> Lowering<'a> {
    pub(super) fn new(stages: &'a Stages<'a>, globals: &'a Globals, bases: &'a Bases<'a>) -> Self {
        let Options { platform, build_platform, .. } = stages.options();
        let foreign = if platform == build_platform { String::new() } else { format!(" {platform}") };
        Self {
            foreign,
            stages,
            globals,
            bases,
            builder: Builder::default(),
            done: vec![None; stages.list.len()],
            warnings: Vec::new(),
            faults: Vec::new(),
            next: None,
            with_chosen_shell: BTreeSet::new(),
            budget: Budget { left: MAX_CARRIED_BYTES, is_spent: false, counted: None },
            children: vec![0; stages.list.len()],
        }
    }

    /// Lowers the stages of these numbers, in order. Faults are collected; a stage goes on after one.
    pub(super) fn run(&mut self, needed: &BTreeSet<usize>) {
        for index in needed {
            if let Origin::Stage(parent) = self.stages.list[*index].base {
                self.children[parent] += 1;
            }
        }
        for index in needed {
            if self.budget.is_spent {
                return;
            }
            let stage = &self.stages.list[*index];
            match self.begin(stage) {
                Ok(mut state) => {
                    self.instructions(*index, stage, &mut state);
                    if self.children[*index] == 0 && *index != self.stages.target {
                        drop(state.take());
                    }
                    self.done[*index] = Some(state);
                }
                Err(fault) => self.faults.push(*fault),
            }
        }
    }

    /// A copy of the state of a stage that another one continues. The last one that does so takes what only it needs
    /// then: of a chain of thousands of stages, one configuration is kept.
    pub(super) fn continued(&mut self, parent: usize, stage: &Stage) -> Result<Option<State>, Fault> {
        self.children[parent] = self.children[parent].saturating_sub(1);
        let is_last = self.children[parent] == 0 && parent != self.stages.target;
        let Some(state) = &mut self.done[parent] else { return Ok(None) };
        if is_last {
            return Ok(Some(state.take()));
        }
        let copy = state.clone();
        self.afford_copy(&copy, stage)?;
        Ok(Some(copy))
    }

    /// Counts what a stage takes over against the budget of all.
    pub(super) fn afford_copy(&mut self, state: &State, stage: &Stage) -> Result<(), Fault> {
        match self.budget.carry(state.weight()) {
            true => Ok(()),
            false => {
                let message = "the configurations of all stages up to here are too large to carry along";
                Err(self.stages.place.fault(stage.from.image.span, message))
            }
        }
    }

    /// The history of a stage with that of the stages it continues.
    pub(super) fn history(&self, stage: usize) -> Vec<HistoryPlan> {
        let states = std::iter::successors(self.done[stage].as_ref(), |state| {
            state.parent.and_then(|parent| self.done[parent].as_ref())
        });
        let mut parts: Vec<&[HistoryPlan]> = states.map(|state| state.history.as_slice()).collect();
        parts.reverse();
        parts.concat()
    }

    fn instructions(&mut self, number: usize, stage: &Stage, state: &mut State) {
        let is_target = number == self.stages.target;
        let stop = self.stages.options().stop.filter(|_| is_target);
        for (index, item) in stage.items.iter().enumerate() {
            if stop == Some(index + 2) {
                return self.stop(Site { stage, item }, index + 2, state);
            }
            self.note_shell(item, state);
            // The copy of the environment is gone before the instruction may change the original.
            let title = title::of(item, &title::environment(item, state));
            let line = self.line(stage, index + 2, title, &state.platform);
            let site = Site { stage, item };
            match self.apply(site, state) {
                Ok(effect) if !self.budget.spend(&effect) => {
                    let message =
                        "the variables of all RUN instructions up to here are too many to carry along";
                    return self.faults.push(*item.place.fault(item.instruction.span, message));
                }
                Ok(_) if state.env.len() > MAX_VARIABLES => {
                    let message = format!("more than {MAX_VARIABLES} variables in one stage");
                    return self.faults.push(*item.place.fault(item.instruction.span, message));
                }
                Ok(effect) => {
                    let is_step = matches!(effect, Effect::Step(..));
                    self.record(site, state, line, effect);
                    if is_step {
                        self.builder.stands_for(number, index + 2);
                    }
                }
                Err(fault) => self.faults.push(*fault),
            }
        }
        if let Some(stop) = stop {
            self.no_such_instruction(stage, stop);
        }
    }

    /// Tells of an instruction instead of applying it. A mount of a RUN brings its sources into the plan.
    fn stop(&mut self, site: Site<'_>, number: usize, state: &State) {
        let Site { stage, item } = site;
        let seen = title::environment(item, state);
        let Line { place, title, .. } = self.line(stage, number, title::of(item, &seen), &state.platform);
        let op = match &item.instruction.kind {
            InstructionKind::Run(run) => match self.exec(site, state, run) {
                Ok(Effect::Step(op, _)) => match *op {
                    Op::Exec { op, .. } => Some(op),
                    _ => None,
                },
                Ok(Effect::Silent | Effect::Entry(_)) => None,
                Err(fault) => return self.faults.push(*fault),
            },
            _ => None,
        };
        let span = item.place.step_span(item.instruction.span);
        self.next = Some(Next { place, title, span, op });
    }

    fn no_such_instruction(&mut self, stage: &Stage, number: usize) {
        let count = 1 + stage.items.len();
        let message =
            format!("there is no instruction {number} in the stage `{}`: it has {count}", stage.label);
        let help = "FROM is the first; without a number, the shell opens at the end of the stage";
        self.faults.push(Diagnostic::error(message).help(help));
    }

    fn note_shell(&mut self, item: &Item, state: &State) {
        if let InstructionKind::Cmd(Command::Shell(_)) | InstructionKind::Entrypoint(Command::Shell(_)) =
            &item.instruction.kind
            && !state.image.config.shell.is_empty()
            && !item.triggered
        {
            self.with_chosen_shell.insert(item.instruction.span);
        }
    }

    /// The line of instruction `number` of a stage, which counts FROM as the first.
    pub(super) fn line(&self, stage: &Stage, number: usize, title: String, platform: &Platform) -> Line {
        let total = 1 + stage.items.len();
        let width = total.to_string().len();
        let name = match self.stages.list.as_slice() {
            [_] => String::new(),
            _ => format!("{} ", stage.label),
        };
        let place = format!("[{name}{number:width$}/{total}]");
        Line { place, title, platform: Some(platform.clone()), span: None }
    }

    /// Puts an effect into steps, listing and history.
    fn record(&mut self, Site { stage, item }: Site<'_>, state: &mut State, line: Line, effect: Effect) {
        let span = Some(item.place.step_span(item.instruction.span));
        let line = Line { span, ..line };
        let (created_by, layer) = match effect {
            Effect::Silent => return self.builder.line(line, Some(state.tip)),
            Effect::Entry(created_by) => {
                self.builder.line(line, Some(state.tip));
                (created_by, None)
            }
            Effect::Step(op, created_by) => {
                state.steps += 1;
                let slot = format!("{}/{}{}", stage.label, state.steps, self.foreign);
                state.tip = self.builder.step(*op, span, line, slot);
                (created_by, Some(state.tip))
            }
        };
        // BuildKit puts MAINTAINER into the configuration and into no entry of the history.
        state.history.push(HistoryPlan::Made { created_by, author: None, layer, after: state.tip });
    }

    fn apply(&mut self, site: Site<'_>, state: &mut State) -> Result<Effect, Fault> {
        let mut context = site.context(self.globals, &mut self.warnings);
        match &site.item.instruction.kind {
            InstructionKind::Add(transfer) => self.transfer(site, state, CopyKind::Add, transfer),
            InstructionKind::Copy(transfer) => self.transfer(site, state, CopyKind::Copy, transfer),
            InstructionKind::Run(run) => self.exec(site, state, run),
            InstructionKind::Workdir(path) => files::workdir(state, &mut context, path),
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

    fn transfer(
        &mut self,
        site: Site<'_>,
        state: &State,
        kind: CopyKind,
        transfer: &CopyInstruction,
    ) -> Result<Effect, Fault> {
        let span = transfer.flags.from.as_ref().map_or(site.item.instruction.span, |from| from.span);
        let user = User { verb: "copy", stage: site.stage, place: &site.item.place, span };
        let origin = site.item.origins.first().and_then(Option::as_ref);
        let mut context = site.context(self.globals, &mut self.warnings);
        let mut sources = Sources {
            builder: &mut self.builder,
            done: &self.done,
            stages: self.stages,
            bases: self.bases,
            epoch: self.globals.epoch,
        };
        files::transfer(state, &mut context, kind, transfer, &mut || sources.step(origin, user))
    }

    fn exec(&mut self, site: Site<'_>, state: &State, run: &Run) -> Result<Effect, Fault> {
        let mounts = self.mounts(site, state, run)?;
        let context = site.context(self.globals, &mut self.warnings);
        let setting = Setting { options: self.stages.options(), globals: self.globals };
        exec::run(state, &context, run, mounts, setting)
    }

    fn mounts(&mut self, site: Site<'_>, state: &State, run: &Run) -> Result<Vec<Mount>, Fault> {
        let place: &Place = &site.item.place;
        let mut lowered: Vec<Mount> = Vec::new();
        for (word, origin) in run.mounts.iter().zip(&site.item.origins) {
            let mut context = site.context(self.globals, &mut self.warnings);
            let options = mounts::parse(state, &mut context, word)?;
            let mut sources = Sources {
                builder: &mut self.builder,
                done: &self.done,
                stages: self.stages,
                bases: self.bases,
                epoch: self.globals.epoch,
            };
            let user = User { verb: "mount", stage: site.stage, place, span: word.span };
            let agents = lowered.iter().filter(|mount| matches!(mount.kind, MountKind::Ssh { .. })).count();
            let namespace = self.globals.arguments.get("BUILDKIT_CACHE_MOUNT_NS").map_or("", String::as_str);
            let at = mounts::Site { place, span: word.span, directory: state.directory(), agents, namespace };
            lowered.push(mounts::lower(&options, at, &mut || sources.step(origin.as_ref(), user))?);
        }
        Ok(lowered)
    }
}

/// An instruction and the stage that it belongs to.
#[derive(Clone, Copy)]
struct Site<'a> {
    stage: &'a Stage,
    item: &'a Item,
}

impl<'a> Site<'a> {
    fn context<'b>(self, globals: &Globals, warnings: &'b mut Vec<Diagnostic>) -> Context<'b>
    where
        'a: 'b,
    {
        Context {
            place: &self.item.place,
            span: self.item.instruction.span,
            triggered: self.item.triggered,
            epoch: globals.epoch,
            warnings,
        }
    }
}
