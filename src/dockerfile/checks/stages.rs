//! Rules about FROM: names of stages, the case of `AS`, platforms, descriptions.

use std::collections::{BTreeMap, HashSet};

use super::casing::{is_lower, is_upper};
use super::{
    DUPLICATE_STAGE_NAME, FROM_AS_CASING, Findings, INVALID_DEFINITION_DESCRIPTION,
    REDUNDANT_TARGET_PLATFORM, RESERVED_STAGE_NAME, STAGE_NAME_CASING, message,
};
use crate::dockerfile::syntax::From;
use crate::dockerfile::words;
use crate::report::Span;

const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn check(findings: &mut Findings<'_>) {
    let mut names = HashSet::new();
    for stage in &findings.file.stages {
        let from = &stage.from;
        name(findings, from, &mut names);
        as_keyword(findings, from);
        platform(findings, from);
    }
}

fn name(findings: &mut Findings<'_>, from: &From, names: &mut HashSet<String>) {
    let Some(name) = &from.name else { return };
    let lower = name.text.to_lowercase();
    if lower != name.text {
        let finding = findings.add(&STAGE_NAME_CASING, name.span, message::stage_name_casing(&name.text));
        finding.help.push(format!("write `{lower}`"));
    }
    if RESERVED.contains(&lower.as_str()) {
        findings.add(&RESERVED_STAGE_NAME, name.span, message::reserved_stage_name(&lower));
    }
    description(findings, "FROM", &[&lower], &from.comment, from.span);
    if !names.insert(lower) {
        let lower = name.text.to_lowercase();
        findings.add(&DUPLICATE_STAGE_NAME, name.span, message::duplicate_stage_name(&lower));
    }
}

/// `FROM` in mixed case is for ConsistentInstructionCasing.
fn as_keyword(findings: &mut Findings<'_>, from: &From) {
    let Some(keyword) = &from.as_keyword else { return };
    let matches = match from.keyword.text.as_str() {
        from if is_lower(from) => is_lower(&keyword.text),
        from if is_upper(from) => is_upper(&keyword.text),
        _ => true,
    };
    if !matches {
        let message = message::from_as_casing(&from.keyword.text, &keyword.text);
        findings.add(&FROM_AS_CASING, keyword.span, message);
    }
}

/// The flag is redundant when it is the variable and nothing else.
fn platform(findings: &mut Findings<'_>, from: &From) {
    let Some(platform) = &from.platform else { return };
    let marker = "platform";
    let env = BTreeMap::from([("TARGETPLATFORM".to_owned(), marker.to_owned())]);
    let escape = findings.file.directives.escape;
    let Ok(expanded) = words::expand(&platform.text, escape, &env) else { return };
    if expanded.text == marker && expanded.unset.is_empty() && expanded.set.len() == 1 {
        let message = message::redundant_target_platform(&platform.text);
        findings.add(&REDUNDANT_TARGET_PLATFORM, platform.span, message);
    }
}

/// The last comment line above a definition should begin with its name.
pub(super) fn description(
    findings: &mut Findings<'_>,
    instruction: &str,
    names: &[&str],
    comment: &str,
    span: Span,
) {
    let Some(last) = comment.lines().last() else { return };
    let first_word = last.split(' ').next().unwrap_or_default();
    if names.contains(&first_word) {
        return;
    }
    let example = match names {
        [name] => name,
        _ => "<arg_key>",
    };
    let message = message::invalid_definition_description(instruction, example);
    findings.add(&INVALID_DEFINITION_DESCRIPTION, span, message);
}
