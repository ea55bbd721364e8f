//! BuildKit's build checks: rules as values, and those of them that the syntax alone decides.
//!
//! Rules that need expanded variables, images or a context are raised by who knows these, through
//! [`Rule::finding`] and a message of [`message`]. Whoever raises them, all findings pass [`filter()`].

mod casing;
mod filter;
pub mod message;
mod ports;
mod secrets;
mod shell;
mod stages;

use std::sync::Arc;

use super::MAX_WARNINGS;
use super::syntax::{Dockerfile, Instruction, InstructionKind, SyntaxWarningKind};
use crate::report::{Diagnostic, Source, Span};

pub use filter::{Filtered, filter};

/// A check that can be switched off, or on.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// As `# check=skip=` names it.
    pub name: &'static str,
    /// What it wants, in one sentence.
    pub description: &'static str,
    /// Only with `# check=experimental=`.
    pub experimental: bool,
    /// Its page, from the top of rbuild's own folder: why, and how to do better.
    pub page: &'static str,
    /// That page, in Markdown.
    pub text: &'static str,
}

impl Rule {
    /// What the rule found at a place.
    pub fn finding(&self, source: &Arc<Source>, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(self.name, message).at(source, span, "")
    }

    /// The rule of a name, without regard to case.
    pub fn named(name: &str) -> Option<&'static Rule> {
        RULES.iter().copied().find(|rule| rule.name.eq_ignore_ascii_case(name))
    }
}

/// What has been done when a rule is looked at. A fault ends the reading there, so rules of later phases find nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Lines and instructions are read, each by itself.
    Reading,
    /// The whole file was read; stages and their bases are looked at.
    Stages,
    /// Instructions are applied, stage by stage.
    Instructions,
}

impl Rule {
    /// When BuildKit looks at the rule.
    pub fn phase(&self) -> Phase {
        const READING: [&Rule; 5] = [
            &STAGE_NAME_CASING,
            &FROM_AS_CASING,
            &NO_EMPTY_CONTINUATION,
            &MAINTAINER_DEPRECATED,
            &INVALID_DEFINITION_DESCRIPTION,
        ];
        const STAGES: [&Rule; 8] = [
            &CONSISTENT_INSTRUCTION_CASING,
            &DUPLICATE_STAGE_NAME,
            &RESERVED_STAGE_NAME,
            &UNDEFINED_ARG_IN_FROM,
            &INVALID_DEFAULT_ARG_IN_FROM,
            &REDUNDANT_TARGET_PLATFORM,
            &FROM_PLATFORM_FLAG_CONST_DISALLOWED,
            &INVALID_BASE_IMAGE_PLATFORM,
        ];
        match self {
            rule if READING.contains(&rule) => Phase::Reading,
            rule if STAGES.contains(&rule) => Phase::Stages,
            _ => Phase::Instructions,
        }
    }
}

macro_rules! rules {
    ($($constant:ident, $name:literal, $experimental:literal, $description:literal;)*) => {
        $(
            #[doc = $description]
            pub static $constant: Rule =
                Rule {
                    name: $name,
                    description: $description,
                    experimental: $experimental,
                    page: concat!("docs/checks/", $name, ".md"),
                    text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/checks/", $name, ".md")),
                };
        )*
        /// Every rule.
        pub static RULES: &[&Rule] = &[$(&$constant),*];
    };
}

rules! {
    STAGE_NAME_CASING, "StageNameCasing", false,
        "Stage names should be lowercase";
    FROM_AS_CASING, "FromAsCasing", false,
        "The 'as' keyword should match the case of the 'from' keyword";
    NO_EMPTY_CONTINUATION, "NoEmptyContinuation", false,
        "Empty continuation lines will become errors in a future release";
    CONSISTENT_INSTRUCTION_CASING, "ConsistentInstructionCasing", false,
        "All commands within the Dockerfile should use the same casing (either upper or lower)";
    DUPLICATE_STAGE_NAME, "DuplicateStageName", false,
        "Stage names should be unique";
    RESERVED_STAGE_NAME, "ReservedStageName", false,
        "Reserved words should not be used as stage names";
    JSON_ARGS_RECOMMENDED, "JSONArgsRecommended", false,
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals";
    MAINTAINER_DEPRECATED, "MaintainerDeprecated", false,
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author";
    UNDEFINED_ARG_IN_FROM, "UndefinedArgInFrom", false,
        "FROM command must use declared ARGs";
    WORKDIR_RELATIVE_PATH, "WorkdirRelativePath", false,
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes";
    UNDEFINED_VAR, "UndefinedVar", false,
        "Variables should be defined before their use";
    MULTIPLE_INSTRUCTIONS_DISALLOWED, "MultipleInstructionsDisallowed", false,
        "Multiple instructions of the same type should not be used in the same stage";
    LEGACY_KEY_VALUE_FORMAT, "LegacyKeyValueFormat", false,
        "Legacy key/value format with whitespace separator should not be used";
    INVALID_BASE_IMAGE_PLATFORM, "InvalidBaseImagePlatform", false,
        "Base image platform does not match expected target platform";
    REDUNDANT_TARGET_PLATFORM, "RedundantTargetPlatform", false,
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior";
    SECRETS_USED_IN_ARG_OR_ENV, "SecretsUsedInArgOrEnv", false,
        "Sensitive data should not be used in the ARG or ENV commands";
    INVALID_DEFAULT_ARG_IN_FROM, "InvalidDefaultArgInFrom", false,
        "Default value for global ARG results in an empty or invalid base image name";
    FROM_PLATFORM_FLAG_CONST_DISALLOWED, "FromPlatformFlagConstDisallowed", false,
        "FROM --platform flag should not use a constant value";
    COPY_IGNORED_FILE, "CopyIgnoredFile", false,
        "Attempting to Copy file that is excluded by .dockerignore";
    INVALID_DEFINITION_DESCRIPTION, "InvalidDefinitionDescription", true,
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. \
         If this is not intended to be a description comment, add an empty line or comment between the instruction \
         and the comment.";
    EXPOSE_PROTO_CASING, "ExposeProtoCasing", false,
        "Protocol in EXPOSE instruction should be lowercase";
    EXPOSE_INVALID_FORMAT, "ExposeInvalidFormat", false,
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release";
}

/// Evaluates every rule that the syntax alone decides, for all stages.
pub fn check(file: &Dockerfile) -> Vec<Diagnostic> {
    check_reached(file, &|_| true)
}

/// As [`check`], but rules about what a stage does look only at the stages that the build reaches, as in
/// BuildKit. Rules about how the file is written look at all of them.
///
/// A word that holds variables is left out: ports and working directories of that kind are for who
/// expands them.
pub fn check_reached(file: &Dockerfile, reached: &dyn Fn(usize) -> bool) -> Vec<Diagnostic> {
    let mut findings = Findings { file, list: Vec::new() };
    findings.written();
    stages::check(&mut findings);
    casing::check(&mut findings);
    let mut shells = shell::Known::default();
    for (index, stage) in file.stages.iter().enumerate() {
        let known = shells.enter(stage);
        if reached(index) {
            findings.stage(&stage.instructions, known);
        }
        shells.leave(stage);
    }
    // The order of the text, whatever the order of the rules.
    findings.list.sort_by_key(|finding| finding.labels.first().map(|label| label.span.start));
    findings.list.truncate(MAX_WARNINGS);
    findings.list
}

/// What was found so far.
struct Findings<'a> {
    file: &'a Dockerfile,
    list: Vec<Diagnostic>,
}

impl Findings<'_> {
    fn add(&mut self, rule: &Rule, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.list.push(rule.finding(&self.file.source, span, message));
        self.list.last_mut().expect("a finding was just added")
    }

    /// Rules about the text as it is written.
    fn written(&mut self) {
        for warning in &self.file.warnings {
            match warning.kind {
                SyntaxWarningKind::EmptyContinuation { empty } => {
                    let (line, _) = self.file.source.line_column(empty.start);
                    let message = message::no_empty_continuation();
                    let finding = self.add(&NO_EMPTY_CONTINUATION, warning.span, message);
                    finding.notes.push(format!("line {line} is empty"));
                }
                // Told together with JSONArgsRecommended; BuildKit has no rule of its own for it.
                SyntaxWarningKind::NotJson => {}
            }
        }
        let file = self.file;
        for argument in &file.global_args {
            self.description(argument);
        }
        for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
            if self.list.len() >= MAX_WARNINGS {
                return;
            }
            self.description(instruction);
            if let InstructionKind::Maintainer(_) = instruction.kind {
                let finding = message::maintainer_deprecated();
                let finding = self.add(&MAINTAINER_DEPRECATED, instruction.keyword.span, finding);
                finding.help.push("write `LABEL org.opencontainers.image.authors=\"…\"`".to_owned());
            }
        }
    }

    /// The comment above an ARG should begin with one of its names.
    fn description(&mut self, instruction: &Instruction) {
        if let InstructionKind::Arg(arguments) = &instruction.kind {
            let names: Vec<&str> = arguments.iter().map(|argument| argument.name.text.as_str()).collect();
            stages::description(self, "ARG", &names, &instruction.comment, instruction.span);
        }
    }

    /// Rules about what the instructions of one stage do.
    fn stage(&mut self, instructions: &[Instruction], mut known: shell::Stage) {
        for instruction in instructions {
            if self.list.len() >= 2 * MAX_WARNINGS {
                return;
            }
            match &instruction.kind {
                InstructionKind::Env(pairs) => {
                    self.legacy(instruction, pairs);
                    secrets::check(self, "ENV", pairs.iter().map(|pair| &pair.key));
                }
                InstructionKind::Label(pairs) => self.legacy(instruction, pairs),
                InstructionKind::Arg(arguments) => {
                    secrets::check(self, "ARG", arguments.iter().map(|argument| &argument.name));
                }
                InstructionKind::Expose(words) => ports::check(self, words),
                _ => {}
            }
            known.instruction(self, instruction);
        }
    }

    fn legacy(&mut self, instruction: &Instruction, pairs: &[super::syntax::Pair]) {
        for pair in pairs.iter().filter(|pair| pair.legacy) {
            let name = &instruction.keyword.text;
            let span = pair.key.span.to(pair.value.span);
            let finding = self.add(&LEGACY_KEY_VALUE_FORMAT, span, message::legacy_key_value_format(name));
            finding.help.push(format!("write `{name} {}=…`", super::excerpt(&pair.key.text)));
        }
    }
}

#[cfg(test)]
mod tests;
