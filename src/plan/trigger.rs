//! ONBUILD: fires the triggers of what stages are built on.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::dockerfile::parse_trigger;
use crate::dockerfile::syntax::{Instruction, InstructionKind};
use crate::report::{Diagnostic, Source};

use super::bases::Bases;
use super::origin::Origin;
use super::place::{Place, Trigger};
use super::stage::{Stage, Stages};

/// As many instructions may be triggers, in all stages together: one line of FROM stands for all those of its base.
const MAX_FIRED: usize = 100_000;

type Triggers = Vec<(Arc<Instruction>, Arc<Place>)>;

/// Fires the triggers of all stages that the target needs. Since a trigger can make further stages
/// needed (`ONBUILD COPY --from=donor`), it goes on until nothing new turns up. The bases of those that
/// have not been resolved may have triggers, too; they are found when this is called again.
pub(super) fn fire_all(
    stages: &mut Stages<'_>,
    bases: &Bases<'_>,
) -> Result<BTreeSet<usize>, Vec<Diagnostic>> {
    let mut fired = 0;
    loop {
        let needed = stages.needed();
        let waiting: Vec<usize> = needed.iter().copied().filter(|&index| !stages.list[index].fired).collect();
        if waiting.is_empty() {
            return Ok(needed);
        }
        for index in waiting {
            let triggers = triggers(stages, index, bases)?;
            fired += triggers.len();
            if fired > MAX_FIRED {
                let message = format!("more than {MAX_FIRED} triggers in all stages up to here");
                return Err(vec![*stages.place.fault(stages.list[index].from.image.span, message)]);
            }
            stages.fire(index, triggers).map_err(|fault| vec![*fault])?;
            stages.list[index].fired = true;
        }
    }
}

fn triggers(stages: &Stages<'_>, index: usize, bases: &Bases<'_>) -> Result<Triggers, Vec<Diagnostic>> {
    let stage = &stages.list[index];
    match &stage.base {
        _ if stage.replaced => Ok(Vec::new()),
        Origin::Stage(parent) => Ok(recorded(&stages.list[*parent])),
        Origin::Base(request) => {
            let base = bases.find(request);
            let texts = base.map(|base| base.image.config.config.on_build.as_slice()).unwrap_or_default();
            texts.iter().map(|text| parse(text, stage, stages)).collect()
        }
        Origin::Scratch | Origin::Image(_) | Origin::Local(_) | Origin::Remote(_) => Ok(Vec::new()),
    }
}

/// The triggers that a stage of this file sets. They fire once, so those that a stage itself was
/// given do not count; such an item is never an ONBUILD.
fn recorded(parent: &Stage) -> Triggers {
    let items = parent.items.iter();
    items
        .filter_map(|item| match &item.instruction.kind {
            InstructionKind::Onbuild(onbuild) => {
                Some((Arc::new((*onbuild.instruction).clone()), Arc::clone(&item.place)))
            }
            _ => None,
        })
        .collect()
}

fn parse(
    text: &str,
    stage: &Stage,
    stages: &Stages<'_>,
) -> Result<(Arc<Instruction>, Arc<Place>), Vec<Diagnostic>> {
    let file = &stages.place;
    let name = format!("ONBUILD of {}", stage.base_name);
    let source = Arc::new(Source { name, text: text.to_owned() });
    let trigger =
        Trigger { base: stage.base_name.clone(), file: Arc::clone(&file.source), from: stage.from.span };
    match parse_trigger(&source) {
        Ok(instruction) => {
            // The base recorded the text with the escape of its own Dockerfile, which nobody kept.
            let place = Place { source, escape: '\\', trigger: Some(trigger) };
            Ok((Arc::new(instruction), Arc::new(place)))
        }
        Err(errors) => {
            let line = file.source.line_column(stage.from.span.start).0;
            let note =
                format!("this is an ONBUILD trigger of the base image `{}` on line {line}", stage.base_name);
            Err(errors.into_iter().map(|error| error.note(note.clone())).collect())
        }
    }
}
