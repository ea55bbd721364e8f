//! What a Dockerfile tells when something is not found: a stage or a shell that was meant.

use crate::dockerfile::syntax::{Command, Dockerfile, Instruction, InstructionKind, Stage};
use crate::report::Span;
use crate::text::closest;

/// Help for when an image cannot be found that FROM, COPY --from or a mount names: the stage that may
/// have been meant, and where it is.
pub fn stage_hint(file: &Dockerfile, name: &str) -> Option<String> {
    if let Ok(number) = name.parse::<usize>() {
        return Some(number_hint(file, number));
    }
    let names = file.stages.iter().filter_map(|stage| stage.from.name.as_ref());
    let near = closest(name, names.clone().map(|name| name.text.as_str()))?;
    let word = names.into_iter().find(|word| word.text == near)?;
    let (line, _) = file.source.line_column(word.span.start);
    Some(format!("did you mean `{near}`, defined on line {line}?"))
}

/// A number was taken for an image: BuildKit has numbers of stages in COPY --from only.
fn number_hint(file: &Dockerfile, number: usize) -> String {
    let way = match file.stages.get(number).map(|stage| (&stage.from, &stage.from.name)) {
        Some((_, Some(name))) => format!("; stage {number} is named `{}`", name.text),
        Some((from, None)) => {
            let (line, _) = file.source.line_column(from.span.start);
            format!("; `AS NAME` in line {line} gives stage {number} a name")
        }
        None => String::new(),
    };
    format!(
        "`{number}` means an image of that name: FROM and mounts know stages by name, only COPY by number{way}"
    )
}

/// The SHELL that the RUN at `span` is started by, if it is written for a shell: its words, and where it is set, unless
/// that is in a base image or nowhere.
pub fn shell_of(file: &Dockerfile, span: Span) -> Option<(&[String], Span)> {
    let is_run = |instruction: &Instruction| match &instruction.kind {
        InstructionKind::Run(run) => instruction.span == span && matches!(run.command, Command::Shell(_)),
        _ => false,
    };
    let find = |stage: &Stage| stage.instructions.iter().position(is_run);
    let (mut at, run) = file.stages.iter().enumerate().find_map(|(at, stage)| Some((at, find(stage)?)))?;
    let mut before = &file.stages[at].instructions[..run];
    loop {
        let set = before.iter().rev().find_map(|instruction| match &instruction.kind {
            InstructionKind::Shell(words) => Some((words.as_slice(), instruction.span)),
            _ => None,
        });
        if set.is_some() {
            return set;
        }
        let parent = &file.stages[at].from.image.text;
        let is_parent = |stage: &Stage| {
            stage.from.name.as_ref().is_some_and(|name| name.text.eq_ignore_ascii_case(parent))
        };
        at = file.stages[..at].iter().rposition(is_parent)?;
        before = &file.stages[at].instructions;
    }
}
