//! `# check=skip=…;error=true;experimental=…`, for the file or for one instruction.

use super::Rule;
use crate::dockerfile::directives;
use crate::dockerfile::syntax::{CheckDirective, Dockerfile};
use crate::report::{Diagnostic, Span};

/// Findings that remain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filtered {
    /// What to tell the user.
    pub findings: Vec<Diagnostic>,
    /// Set when findings remain and the file wants them to fail the build.
    pub error: Option<Diagnostic>,
}

/// Drops findings of rules that are switched off, in the file or in the comment above the instruction,
/// and of experimental rules that are not switched on. Diagnostics without a rule's name pass.
pub fn filter(file: &Dockerfile, findings: Vec<Diagnostic>) -> Filtered {
    let local = local_directives(file);
    let whole = file.directives.check.iter();
    let kept = |finding: &Diagnostic| {
        let Some(rule) = finding.code.and_then(Rule::named) else { return true };
        let at = finding.labels.first().map(|label| label.span);
        // Instructions do not overlap, and stand in order: the last that begins before the finding.
        let last = local.partition_point(|directive| at.is_some_and(|at| directive.span.start <= at.start));
        let local = local[..last].last().filter(|found| at.is_some_and(|at| at.start < found.span.end));
        let mut directives = whole.clone().chain(local);
        if rule.experimental {
            directives.any(|directive| names(&directive.experimental, rule))
        } else {
            !directives.any(|directive| names(&directive.skip, rule))
        }
    };
    let findings: Vec<Diagnostic> = findings.into_iter().filter(kept).collect();
    let error = file.directives.check.as_ref().filter(|check| check.error);
    let error = error.and_then(|check| violation(file, check, &findings));
    Filtered { findings, error }
}

fn names(list: &[String], rule: &Rule) -> bool {
    list.iter().any(|name| name == rule.name) || list == ["all"]
}

fn violation(file: &Dockerfile, check: &CheckDirective, findings: &[Diagnostic]) -> Option<Diagnostic> {
    let mut rules: Vec<&str> = findings
        .iter()
        .filter_map(|finding| finding.code)
        .filter(|code| Rule::named(code).is_some())
        .collect();
    rules.sort_unstable();
    rules.dedup();
    let message = format!("lint violation found for rules: {}", rules.join(", "));
    let error = || match check.span == Span::default() {
        true => {
            Diagnostic::error(message).note("findings are errors by --build-arg BUILDKIT_DOCKERFILE_CHECK")
        }
        false => Diagnostic::error(message).at(&file.source, check.span, "findings are errors here"),
    };
    (!rules.is_empty()).then(error)
}

/// Directives in comments above instructions, each with the span of its instruction.
fn local_directives(file: &Dockerfile) -> Vec<CheckDirective> {
    let stages = file.stages.iter().flat_map(|stage| {
        let instructions = stage.instructions.iter().map(|i| (i.comment.as_str(), i.span));
        std::iter::once((stage.from.comment.as_str(), stage.from.span)).chain(instructions)
    });
    let arguments = file.global_args.iter().map(|argument| (argument.comment.as_str(), argument.span));
    arguments.chain(stages).filter_map(|(comment, span)| local_directive(comment, span)).collect()
}

/// The first `check=…` of a comment; one that cannot be read is a comment like any other.
fn local_directive(comment: &str, span: Span) -> Option<CheckDirective> {
    let options = comment.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        name.trim().eq_ignore_ascii_case("check").then_some(value.trim())
    })?;
    directives::check(options.split(' ').next().unwrap_or_default(), span).ok()
}
