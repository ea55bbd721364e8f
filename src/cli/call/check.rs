//! `rbuild --check`: faults and findings of a Dockerfile as text, JSON or SARIF.

use super::{Call, Format, Told};
use crate::cli::error::color_of;
use crate::cli::show::diagnostic;
use crate::cli::show::findings::{docker, sarif};
use crate::pipeline::{self, Checked, Request};
use crate::report::Events;

/// Checks. Fails on faults; on findings only when that is asked for.
pub(crate) fn told(request: &Request, call: Call) -> Told {
    let checked = pipeline::check(request, &Events::silent());
    let (text, is_painted) = match call.format {
        Format::Text => (text(&checked, color_of(&std::io::stdout())), true),
        Format::Json => (docker::lint(&checked), false),
        Format::Sarif => (sarif::log(&checked), false),
    };
    let fatal = (call.error || checked.strict) && !checked.findings.is_empty();
    Told { text, is_painted, has_failed: fatal || !checked.faults.is_empty() }
}

/// Every diagnostic with its lines, then one line that sums up.
fn text(checked: &Checked, color: bool) -> String {
    let Checked { faults, findings, .. } = checked;
    let mut text = String::new();
    for told in findings.iter().chain(faults) {
        text.push_str(&diagnostic::render(told, color));
        text.push('\n');
    }
    let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    text.push_str(&match (faults.len(), findings.len()) {
        (0, 0) => "Check complete, no warnings found.".to_owned(),
        (0, warnings) => format!("Check complete, {} found.", counted(warnings, "warning")),
        (errors, 0) => format!("Check failed: {}.", counted(errors, "error")),
        (errors, warnings) => {
            format!("Check failed: {}, {}.", counted(errors, "error"), counted(warnings, "warning"))
        }
    });
    text.push('\n');
    if findings.iter().any(|finding| finding.code.is_some()) {
        text.push_str("`rbuild explain NAME` explains the check in parentheses.\n");
    }
    text
}
