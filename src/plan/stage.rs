//! The stages: what each is built on, what it takes files from, and which of them the target needs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::dockerfile::syntax::{Dockerfile, From, Instruction, InstructionKind, Word};
use crate::dockerfile::words::{self, NoVariables};
use crate::oci::Platform;
use crate::report::Diagnostic;
use crate::text::closest;

use super::from;
use super::graph::BaseRequest;
use super::mounts;
use super::options::Options;
use super::origin::{self, Name, Origin, Usage};
use super::place::{Fault, Place, with_suggestion};
use super::scope::Globals;

/// A stage with its names resolved.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// FROM.
    pub(super) from: From,
    /// Its name in lower case, if it has one.
    pub(super) name: Option<String>,
    /// What to call it: its name, else `stage-N`.
    pub(super) label: String,
    /// What it is built on.
    pub(super) base: Origin,
    /// What FROM names, expanded.
    pub(super) base_name: String,
    /// A named context stands in its place: its instructions do not count.
    pub(super) replaced: bool,
    /// `FROM --platform`
    pub(super) platform: Option<Platform>,
    /// Its instructions; triggers of its base come first once they are known.
    pub(super) items: Vec<Item>,
    /// Whether the triggers of its base were added.
    pub(super) fired: bool,
}

/// An instruction of a stage with the origins of its files.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// The instruction.
    pub(super) instruction: Arc<Instruction>,
    /// Where it stands.
    pub(super) place: Arc<Place>,
    /// Whether ONBUILD brought it in.
    pub(super) triggered: bool,
    /// For COPY one origin, for RUN one for each mount; `None` is the main context.
    pub(super) origins: Vec<Option<Origin>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Not,
    OnPath,
    Done,
}

/// All stages, and the one that is wanted.
#[derive(Debug)]
pub(super) struct Stages<'a> {
    /// In the file's order.
    pub(super) list: Vec<Stage>,
    /// The last stage of each name.
    names: HashMap<String, usize>,
    /// The index of the target.
    pub(super) target: usize,
    /// Where the file's own instructions stand.
    pub(super) place: Arc<Place>,
    options: &'a Options,
}

impl<'a> Stages<'a> {
    /// Resolves every name in the file. All faults are found in one go, those of unneeded stages, too.
    pub(super) fn new(
        file: &Dockerfile,
        options: &'a Options,
        globals: &Globals,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let place = Arc::new(Place::of(file));
        let mut stages = Self { list: Vec::new(), names: HashMap::new(), target: 0, place, options };
        let mut faults = Vec::new();
        for index in 0..file.stages.len() {
            match from::resolve(file, index, &stages, globals, warnings) {
                Ok(stage) => {
                    stages.names.extend(stage.name.clone().map(|name| (name, stages.list.len())));
                    stages.list.push(stage);
                }
                Err(fault) => faults.push(*fault),
            }
        }
        // Without its FROM a stage has no number, so nothing below can be judged.
        if !faults.is_empty() {
            return Err(faults);
        }
        stages.resolve_items(file, &mut faults);
        if faults.is_empty() {
            faults.extend(stages.find_cycle().map(|fault| *fault));
        }
        match stages.find_target() {
            Ok(target) => stages.target = target,
            Err(fault) => faults.push(*fault),
        }
        if faults.is_empty() { Ok(stages) } else { Err(faults) }
    }

    /// The options that names were resolved with.
    pub(super) fn options(&self) -> &'a Options {
        self.options
    }

    /// The stage of this name so far; the last one when several have it. Names do not mind case.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.names.get(&name.to_ascii_lowercase()).copied()
    }

    fn find_target(&self) -> Result<usize, Fault> {
        if let Some(number) = self.options.target_number.filter(|number| *number < self.list.len()) {
            return Ok(number);
        }
        let Some(target) = &self.options.target else { return Ok(self.list.len().saturating_sub(1)) };
        self.named(target).ok_or_else(|| {
            let message = format!("target stage \"{target}\" could not be found");
            let mut fault = Box::new(Diagnostic::error(message));
            let names: Vec<&str> = self.list.iter().filter_map(|stage| stage.name.as_deref()).collect();
            if closest(target, names.iter().copied()).is_some() {
                fault = with_suggestion(fault, target, names);
            } else if !names.is_empty() {
                fault.help.push(format!("the stages are `{}`", names.join("`, `")));
            }
            fault
        })
    }

    fn resolve_items(&mut self, file: &Dockerfile, faults: &mut Vec<Diagnostic>) {
        for (index, stage) in file.stages.iter().enumerate() {
            let mut items = Vec::new();
            for instruction in &stage.instructions {
                let place = Arc::clone(&self.place);
                match self.item(Arc::new(instruction.clone()), place, false) {
                    Ok(item) => items.push(item),
                    Err(fault) => faults.push(*fault),
                }
            }
            if let Some(stage) = self.list.get_mut(index).filter(|stage| !stage.replaced) {
                stage.items = items;
            }
        }
    }

    fn item(&self, instruction: Arc<Instruction>, place: Arc<Place>, triggered: bool) -> Result<Item, Fault> {
        let origins = match &instruction.kind {
            InstructionKind::Copy(transfer) => match &transfer.flags.from {
                Some(from) => vec![Some(self.copy_origin(from, &place)?)],
                None => vec![None],
            },
            InstructionKind::Run(run) => {
                run.mounts.iter().map(|mount| self.mount_origin(mount, &place)).collect::<Result<_, _>>()?
            }
            InstructionKind::Add(_)
            | InstructionKind::Arg(_)
            | InstructionKind::Cmd(_)
            | InstructionKind::Entrypoint(_)
            | InstructionKind::Env(_)
            | InstructionKind::Expose(_)
            | InstructionKind::Healthcheck(_)
            | InstructionKind::Label(_)
            | InstructionKind::Maintainer(_)
            | InstructionKind::Onbuild(_)
            | InstructionKind::Shell(_)
            | InstructionKind::Stopsignal(_)
            | InstructionKind::User(_)
            | InstructionKind::Volume(_)
            | InstructionKind::Workdir(_) => Vec::new(),
        };
        Ok(Item { instruction, place, triggered, origins })
    }

    /// COPY --from: a number, a stage, a context or an image. Variables are refused, as BuildKit does:
    /// which stages are needed must be known before anything is evaluated.
    fn copy_origin(&self, from: &Word, place: &Place) -> Result<Origin, Fault> {
        let plain = words::expand(&from.text, place.escape, &NoVariables)
            .map_err(|error| place.fault(from.span, error.to_string()))?;
        if plain.text != from.text {
            let mut fault = place.fault(from.span, "variable expansion is not supported for --from");
            fault.help.push(format!(
                "name a stage for it above: `FROM {} AS …`, with ARG before the first FROM",
                from.text
            ));
            return Err(fault);
        }
        match from.text.parse::<i64>() {
            Ok(number) => self.numbered(number, from, place),
            Err(_) => self.files_of(from, &from.text, place),
        }
    }

    fn numbered(&self, number: i64, from: &Word, place: &Place) -> Result<Origin, Fault> {
        let index = usize::try_from(number).ok().filter(|index| *index < self.list.len());
        let Some(index) = index else {
            let mut fault = place.fault(from.span, format!("invalid stage index {number}"));
            fault.help.push(match self.list.len() {
                1 => "this file has one stage, number 0".to_owned(),
                count => format!("this file has {count} stages, numbers 0 to {}", count - 1),
            });
            return Err(fault);
        };
        self.files_of_stage(index, from, place)
    }

    fn mount_origin(&self, mount: &Word, place: &Place) -> Result<Option<Origin>, Fault> {
        let from = mounts::from(mount, place)?;
        from.map(|name| self.files_of(mount, &name, place)).transpose()
    }

    fn files_of(&self, word: &Word, name: &str, place: &Place) -> Result<Origin, Fault> {
        if let Some(index) = self.named(name) {
            return self.files_of_stage(index, word, place);
        }
        let platform = &self.options.platform;
        let alias = origin::stage_alias(name, platform, self.options).and_then(|stage| self.named(stage));
        if let Some(index) = alias {
            return Ok(Origin::Stage(index));
        }
        let name = Name { text: name, span: word.span, platform, usage: Usage::Files };
        origin::outside(name, self.options, place)
    }

    /// A stage in whose place stands a context gives that context's files as they are.
    fn files_of_stage(&self, index: usize, word: &Word, place: &Place) -> Result<Origin, Fault> {
        let stage = &self.list[index];
        match (&stage.name, &stage.base) {
            (Some(name), Origin::Base(_) | Origin::Local(_) | Origin::Remote(_)) if stage.replaced => {
                let platform = stage.platform.as_ref().unwrap_or(&self.options.platform);
                let name = Name { text: name, span: word.span, platform, usage: Usage::Files };
                origin::outside(name, self.options, place)
            }
            _ => Ok(Origin::Stage(index)),
        }
    }

    /// The stages that the target needs, itself included; all when the file is only looked at, for no target.
    pub(super) fn needed(&self) -> BTreeSet<usize> {
        if self.options.lint && self.options.target.is_none() && self.options.target_number.is_none() {
            return (0..self.list.len()).collect();
        }
        let mut needed = BTreeSet::new();
        let mut open = vec![self.target];
        while let Some(index) = open.pop() {
            if needed.insert(index) {
                open.extend(self.list[index].stages());
            }
        }
        needed
    }

    /// The images that must be resolved before the needed stages can be lowered; each once.
    pub(super) fn requests(&self, needed: &BTreeSet<usize>) -> Vec<BaseRequest> {
        let origins = needed.iter().flat_map(|index| self.list[*index].origins());
        let requests = origins.filter_map(|origin| match origin {
            Origin::Base(request) => Some(request),
            _ => None,
        });
        let mut known = HashSet::new();
        requests.filter(|request| known.insert(request.key())).cloned().collect()
    }

    /// Puts triggers in front of a stage's instructions.
    pub(super) fn fire(
        &mut self,
        index: usize,
        triggers: Vec<(Arc<Instruction>, Arc<Place>)>,
    ) -> Result<(), Fault> {
        let mut items = triggers
            .into_iter()
            .map(|(instruction, place)| self.item(instruction, place, true))
            .collect::<Result<Vec<Item>, Fault>>()?;
        let stage = &mut self.list[index];
        items.append(&mut stage.items);
        stage.items = items;
        Ok(())
    }

    /// Looks for a stage that needs itself, in whatever roundabout way. Not recursive: a hostile file
    /// could make the way as long as it has stages.
    fn find_cycle(&self) -> Option<Fault> {
        let mut seen = vec![Seen::Not; self.list.len()];
        for start in 0..self.list.len() {
            let mut path: Vec<(usize, std::vec::IntoIter<usize>)> = Vec::new();
            let mut next = Some(start).filter(|index| seen[*index] == Seen::Not);
            loop {
                if let Some(index) = next {
                    seen[index] = Seen::OnPath;
                    path.push((index, self.list[index].stages().into_iter()));
                }
                let Some((index, rest)) = path.last_mut() else { break };
                next = rest.next();
                match next.map(|index| seen[index]) {
                    Some(Seen::OnPath) => {
                        let way: Vec<usize> = path.iter().map(|(index, _)| *index).collect();
                        let start = way.iter().position(|index| Some(*index) == next).unwrap_or_default();
                        return Some(self.cycle(&way[start..]));
                    }
                    Some(Seen::Done) => next = None,
                    Some(Seen::Not) => {}
                    None => {
                        seen[*index] = Seen::Done;
                        path.pop();
                    }
                }
            }
        }
        None
    }

    fn cycle(&self, path: &[usize]) -> Fault {
        let first = &self.list[path[0]];
        let mut fault = self
            .place
            .fault(first.from.span, format!("circular dependency detected on stage: `{}`", first.label));
        let mut way: Vec<&str> = path.iter().map(|index| self.list[*index].label.as_str()).collect();
        way.push(&first.label);
        fault.notes.push(if path.len() == 1 {
            format!("stage `{}` needs its own files", first.label)
        } else {
            format!("each needs the next: `{}`", way.join("` → `"))
        });
        fault
    }
}

impl Stage {
    /// What it is built on and takes files from.
    fn origins(&self) -> impl Iterator<Item = &Origin> {
        std::iter::once(&self.base).chain(self.items.iter().flat_map(|item| item.origins.iter().flatten()))
    }

    fn stages(&self) -> Vec<usize> {
        self.origins()
            .filter_map(|origin| match origin {
                Origin::Stage(index) => Some(*index),
                Origin::Scratch
                | Origin::Base(_)
                | Origin::Image(_)
                | Origin::Local(_)
                | Origin::Remote(_) => None,
            })
            .collect()
    }
}
