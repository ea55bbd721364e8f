//! Rules that follow a stage from instruction to instruction: JSONArgsRecommended,
//! MultipleInstructionsDisallowed and WorkdirRelativePath.

use std::collections::HashMap;

use super::{
    Findings, JSON_ARGS_RECOMMENDED, MULTIPLE_INSTRUCTIONS_DISALLOWED, WORKDIR_RELATIVE_PATH, message,
};
use crate::dockerfile::syntax::{self, Command, Instruction, InstructionKind, SyntaxWarningKind, Word};
use crate::report::Span;

/// What a stage inherits from the stage that it builds on.
#[derive(Debug, Clone, Copy, Default)]
struct Inherited {
    shell: bool,
    workdir: bool,
}

/// What the stages so far leave to those that build on them.
#[derive(Debug, Default)]
pub(super) struct Known {
    by_name: HashMap<String, Inherited>,
}

impl Known {
    /// What is known where a stage begins.
    pub(super) fn enter(&self, stage: &syntax::Stage) -> Stage {
        let inherited = self.inherited(stage);
        Stage { inherited, cmd: None, entrypoint: None, healthcheck: None }
    }

    fn inherited(&self, stage: &syntax::Stage) -> Inherited {
        self.by_name.get(&stage.from.image.text.to_lowercase()).copied().unwrap_or_default()
    }

    /// Notes what a stage leaves.
    pub(super) fn leave(&mut self, stage: &syntax::Stage) {
        let Some(name) = &stage.from.name else { return };
        let mut left = self.inherited(stage);
        for instruction in &stage.instructions {
            left.shell |= matches!(instruction.kind, InstructionKind::Shell(_));
            left.workdir |= matches!(instruction.kind, InstructionKind::Workdir(_));
        }
        self.by_name.insert(name.text.to_lowercase(), left);
    }
}

/// What is known at one place of a stage.
pub(super) struct Stage {
    inherited: Inherited,
    cmd: Option<Span>,
    entrypoint: Option<Span>,
    healthcheck: Option<Span>,
}

impl Stage {
    pub(super) fn instruction(&mut self, findings: &mut Findings<'_>, instruction: &Instruction) {
        match &instruction.kind {
            InstructionKind::Cmd(command) => {
                once(findings, instruction, &mut self.cmd);
                self.command(findings, instruction, command);
            }
            InstructionKind::Entrypoint(command) => {
                once(findings, instruction, &mut self.entrypoint);
                self.command(findings, instruction, command);
            }
            InstructionKind::Healthcheck(_) => once(findings, instruction, &mut self.healthcheck),
            InstructionKind::Shell(_) => self.inherited.shell = true,
            InstructionKind::Workdir(path) => self.workdir(findings, path),
            _ => {}
        }
    }

    /// Who sets a SHELL wants it to be used.
    fn command(&self, findings: &mut Findings<'_>, instruction: &Instruction, command: &Command) {
        let (Command::Shell(word), false) = (command, self.inherited.shell) else { return };
        // Warnings are sorted by place.
        let warnings = &findings.file.warnings;
        let nearest = warnings.get(warnings.partition_point(|warning| warning.span < word.span));
        let not_json = nearest
            .is_some_and(|warning| warning.kind == SyntaxWarningKind::NotJson && warning.span == word.span);
        let message = message::json_args_recommended(&instruction.keyword.text);
        let finding = findings.add(&JSON_ARGS_RECOMMENDED, instruction.span, message);
        if not_json {
            finding.notes.push("this looks like a JSON list and is none, so it goes to the shell".to_owned());
            finding.help.push("JSON wants double quotes around every string".to_owned());
        }
    }

    /// Only the first WORKDIR of a chain of stages counts.
    fn workdir(&mut self, findings: &mut Findings<'_>, path: &Word) {
        let first = !std::mem::replace(&mut self.inherited.workdir, true);
        let plain = path.text.trim_matches(['"', '\'']);
        if first && !plain.starts_with('/') && !plain.contains('$') {
            findings.add(&WORKDIR_RELATIVE_PATH, path.span, message::workdir_relative_path(plain));
        }
    }
}

/// Reports the earlier one, because it is the one without effect.
fn once(findings: &mut Findings<'_>, instruction: &Instruction, earlier: &mut Option<Span>) {
    if let Some(span) = earlier.replace(instruction.span) {
        let message = message::multiple_instructions_disallowed(&instruction.keyword.text);
        findings.add(&MULTIPLE_INSTRUCTIONS_DISALLOWED, span, message);
    }
}
