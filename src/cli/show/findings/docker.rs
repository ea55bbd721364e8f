//! The JSON of docker buildx's `--call=check,format=json` (BuildKit, `frontend/subrequests/lint`): lines are counted from
//! 1, characters from 0. Two fields are our own: `page`, where the rule is explained, and `help`.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::dockerfile::checks::Rule;
use crate::pipeline::Checked;
use crate::report::{Diagnostic, Source, Span};
use crate::text::terminal::harmless_json;

/// The result of a check.
pub(in crate::cli) fn lint(checked: &Checked) -> String {
    let mut object = json!({
        "warnings": checked.findings.iter().map(warning).collect::<Vec<_>>(),
        "sources": checked.source.iter().map(|source| file(source)).collect::<Vec<_>>(),
    });
    if let Some(first) = checked.faults.first() {
        object["buildError"] = json!({"message": first.message, "location": location(first)});
        object["buildErrors"] = checked.faults.iter().map(fault).collect();
    }
    pretty(&object)
}

/// Indented, with a newline at the end.
pub(in crate::cli) fn pretty(value: &Value) -> String {
    harmless_json(format!("{value:#}\n"))
}

fn warning(finding: &Diagnostic) -> Value {
    let rule = finding.code.and_then(Rule::named);
    json!({
        "ruleName": finding.code.unwrap_or("BuildArgument"),
        "description": rule.map_or("", |rule| rule.description),
        "detail": finding.message,
        "location": location(finding),
        "page": rule.map(|rule| rule.page),
        "help": finding.help,
    })
}

fn fault(fault: &Diagnostic) -> Value {
    json!({
        "message": fault.message,
        "location": location(fault),
        "notes": fault.notes,
        "help": fault.help,
    })
}

/// The main place only. Without one, an empty list of ranges.
fn location(diagnostic: &Diagnostic) -> Value {
    let ranges: Vec<Value> = match (&diagnostic.source, diagnostic.labels.first()) {
        (Some(source), Some(label)) => vec![range(source, label.span)],
        _ => Vec::new(),
    };
    json!({"sourceIndex": if ranges.is_empty() { -1 } else { 0 }, "ranges": ranges})
}

/// A range of lines and characters.
pub(in crate::cli) fn range(source: &Source, span: Span) -> Value {
    let position = |offset| {
        let (line, column) = source.line_column(offset);
        json!({"line": line, "character": column - 1})
    };
    json!({"start": position(span.start), "end": position(span.end)})
}

fn file(source: &Source) -> Value {
    let data = base64::engine::general_purpose::STANDARD.encode(&source.text);
    json!({"filename": source.name, "language": "Dockerfile", "data": data})
}
