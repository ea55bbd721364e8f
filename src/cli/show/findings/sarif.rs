//! SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format"), which code hosts show beside the lines.

use serde_json::{Value, json};

use super::docker::pretty;
use crate::dockerfile::checks::{RULES, Rule};
use crate::pipeline::Checked;
use crate::report::{Diagnostic, Severity};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// One log of one run: every rule, and a result for each fault and finding.
pub(in crate::cli) fn log(checked: &Checked) -> String {
    let results = checked.faults.iter().chain(&checked.findings).map(result);
    pretty(&json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "rbuild",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": RULES.iter().map(|rule| described(rule)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<_>>(),
        }],
    }))
}

fn described(rule: &Rule) -> Value {
    json!({
        "id": rule.name,
        "shortDescription": {"text": rule.description},
        "help": {"text": format!("{} says more", rule.page)},
        "defaultConfiguration": {"level": "warning", "enabled": !rule.experimental},
    })
}

fn result(told: &Diagnostic) -> Value {
    let level = match told.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut text = told.message.clone();
    told.help.iter().for_each(|help| text.push_str(&format!("\nhelp: {help}")));
    let mut result = json!({"level": level, "message": {"text": text}, "locations": locations(told)});
    if let Some(index) = told.code.and_then(|code| RULES.iter().position(|rule| rule.name == code)) {
        result["ruleId"] = json!(RULES[index].name);
        result["ruleIndex"] = json!(index);
    }
    result
}

fn locations(told: &Diagnostic) -> Vec<Value> {
    let (Some(source), Some(label)) = (&told.source, told.labels.first()) else { return Vec::new() };
    let (start_line, start_column) = source.line_column(label.span.start);
    let (end_line, end_column) = source.line_column(label.span.end.max(label.span.start));
    vec![json!({"physicalLocation": {
        "artifactLocation": {"uri": uri(&source.name)},
        "region": {
            "startLine": start_line,
            "startColumn": start_column,
            "endLine": end_line,
            "endColumn": end_column,
        },
    }})]
}

/// A path as the reference that SARIF wants.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(byte as char);
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_references() {
        assert_eq!(uri("a b/Dockerfile"), "a%20b/Dockerfile");
        assert_eq!(uri("<stdin>"), "%3Cstdin%3E");
    }
}
