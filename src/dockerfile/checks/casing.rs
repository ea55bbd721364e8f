//! ConsistentInstructionCasing.

use super::{CONSISTENT_INSTRUCTION_CASING, Findings, message};
use crate::dockerfile::syntax::Word;

/// The majority of keywords decides; a tie is for upper case. ARGs before the first FROM do not count.
pub(super) fn check(findings: &mut Findings<'_>) {
    let keywords: Vec<&Word> = findings
        .file
        .stages
        .iter()
        .flat_map(|stage| {
            std::iter::once(&stage.from.keyword).chain(stage.instructions.iter().map(|i| &i.keyword))
        })
        .collect();
    let lower = keywords.iter().filter(|word| is_lower(&word.text)).count();
    let upper = keywords.iter().filter(|word| is_upper(&word.text)).count();
    for keyword in keywords {
        let casing = match lower > upper {
            true if !is_lower(&keyword.text) => "lowercase",
            false if !is_upper(&keyword.text) => "uppercase",
            _ => continue,
        };
        let message = message::consistent_instruction_casing(&keyword.text, casing);
        findings.add(&CONSISTENT_INSTRUCTION_CASING, keyword.span, message);
    }
}

pub(super) fn is_lower(text: &str) -> bool {
    !text.contains(|c: char| c.is_ascii_uppercase())
}

pub(super) fn is_upper(text: &str) -> bool {
    !text.contains(|c: char| c.is_ascii_lowercase())
}
