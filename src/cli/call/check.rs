//! `rbuild --check`: faults and findings of a Dockerfile as text, JSON or SARIF.

use super::{Call, Format};
use crate::cli::Failure;
use crate::cli::error::{color_of, print, print_painted};
use crate::cli::show::diagnostic;
use crate::cli::show::findings::{docker, sarif};
use crate::pipeline::{self, Checked, Request};
use crate::report::Events;

/// Checks and prints. Fails on faults; on findings only when that is asked for.
pub(crate) fn run(request: &Request, call: Call) -> Result<(), Failure> {
    let checked = pipeline::check(request, &Events::silent());
    match call.format {
        Format::Text => print_painted(&text(&checked, color_of(&std::io::stdout()))),
        Format::Json => print(&docker::lint(&checked)),
        Format::Sarif => print(&sarif::log(&checked)),
    }?;
    let fatal = (call.error || checked.strict) && !checked.findings.is_empty();
    match fatal || !checked.faults.is_empty() {
        true => Err(Failure::told()),
        false => Ok(()),
    }
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
