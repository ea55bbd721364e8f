//! One JSON object per event on standard error, one a line; for programs.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Display, Fate, Shown};
use crate::dockerfile::checks::Rule;
use crate::pipeline::Built;
use crate::report::{Diagnostic, Event, Outcome, ResourceUsage, Severity, StepNumber, StepResult, Stream};
use crate::text::terminal::{for_people, harmless_json};

pub(super) struct Json {
    started: Instant,
    shown: Shown,
}

impl Json {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, shown: Shown::default() }
    }
}

impl Display for Json {
    fn show(&mut self, time: Instant, event: &Event) {
        // Programs hear of a line once.
        if let Event::LogSoFar { .. } | Event::Foreseen(_) = event {
            return;
        }
        let mut value = object(event);
        if let Event::Log { step, line, .. } = event {
            match self.shown.line(*step, line) {
                Fate::Shown => {}
                Fate::Clipped(note) => value["line"] = json!(note),
                Fate::Dropped => return,
            }
        }
        let at_ms = time.saturating_duration_since(self.started).as_millis() as u64;
        value["at_ms"] = json!(at_ms);
        // Nobody may be reading any more; the build goes on.
        let _ = std::io::stderr().write_all(format!("{}\n", harmless_json(value.to_string())).as_bytes());
    }
}

/// What a failed build says, one object for each diagnostic, like a warning's event.
pub(in crate::cli) fn failure(diagnostic: &Diagnostic) -> Value {
    json!({"event": "diagnostic", "diagnostic": diagnostic_object(diagnostic)})
}

/// The last event of a build that went well.
pub(in crate::cli) fn built(built: &Built, took: Duration) -> Value {
    let names: Vec<String> = built.names.iter().map(ToString::to_string).collect();
    json!({
        "event": "built",
        "digest": built.digest.to_string(),
        "names": names,
        "layers": built.layers,
        "size": built.size_bytes,
        "ran": built.ran,
        "cached": built.cached,
        "took_ms": took.as_millis() as u64,
    })
}

/// The event as an object; `event` names its kind, steps are counted from 1.
fn object(event: &Event) -> Value {
    match event {
        Event::Planned(headings) => {
            let steps: Vec<_> = headings
                .iter()
                .map(|h| {
                    let needs = numbers(&h.needs);
                    let (line, end_line) = h.lines.unzip();
                    json!({
                        "step": h.number.0 + 1, "place": h.place, "title": h.title, "platform": h.platform,
                        "needs": needs, "target": h.owner + 1, "line": line, "end_line": end_line,
                    })
                })
                .collect();
            json!({"event": "planned", "steps": steps})
        }
        Event::Started(step) => json!({"event": "started", "step": step.0 + 1}),
        Event::Missed { step, why } => json!({"event": "missed", "step": step.0 + 1, "why": why}),
        Event::Log { step, stream, line } => {
            let stream = match stream {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
            };
            json!({"event": "log", "step": step.0 + 1, "stream": stream, "line": line})
        }
        Event::LogSoFar { step, line } => json!({"event": "log-so-far", "step": step.0 + 1, "line": line}),
        Event::Bytes { step, what, done, total } => {
            json!({"event": "bytes", "step": step.0 + 1, "what": what, "done": done, "total": total})
        }
        Event::Unpacking { step, layer, done, total } => {
            json!({"event": "unpacking", "step": step.0 + 1, "layer": layer, "done": done, "total": total})
        }
        Event::Unpacked { step, took } => {
            json!({"event": "unpacked", "step": step.0 + 1, "took_ms": milliseconds(*took)})
        }
        Event::Finished { step, outcome, took, result } => {
            let outcome = match outcome {
                Outcome::Ran => "ran",
                Outcome::Cached => "cached",
                Outcome::ConfigOnly => "config-only",
            };
            let StepResult { layer, key, inputs, usage, files, waited, took_then: _ } = &**result;
            let layer = layer.as_ref().map(
                |layer| json!({"digest": layer.digest, "diff_id": layer.diff_id, "size": layer.size_bytes}),
            );
            json!({
                "event": "finished", "step": step.0 + 1, "outcome": outcome, "took_ms": milliseconds(*took),
                "layer": layer, "key": key, "inputs": inputs, "usage": usage.as_ref().map(used), "files": files,
                "waited": {
                    "slot_ms": milliseconds(waited.slot), "lock_ms": milliseconds(waited.lock),
                    "transfer_ms": milliseconds(waited.transfer),
                },
            })
        }
        Event::Cancelled { step, took } => {
            json!({"event": "cancelled", "step": step.0 + 1, "took_ms": milliseconds(*took)})
        }
        Event::Failed { step, took, usage } => {
            let usage = usage.as_ref().map(used);
            json!({"event": "failed", "step": step.0 + 1, "took_ms": milliseconds(*took), "usage": usage})
        }
        Event::Warning(diagnostic) => failure(diagnostic),
        Event::Note(text) => json!({"event": "note", "text": text}),
        Event::RunsAs(text) => json!({"event": "runs-as", "text": text}),
        Event::Foreseen(_) => json!({"event": "foreseen"}),
    }
}

fn numbers(steps: &[StepNumber]) -> Vec<usize> {
    steps.iter().map(|step| step.0 + 1).collect()
}

fn milliseconds(took: Duration) -> u64 {
    took.as_millis() as u64
}

fn used(usage: &ResourceUsage) -> Value {
    let ResourceUsage { user_time, system_time, peak_memory_bytes, read_bytes, written_bytes, network } =
        *usage;
    json!({
        "user_ms": milliseconds(user_time), "system_ms": milliseconds(system_time),
        "peak_memory": peak_memory_bytes, "read": read_bytes, "written": written_bytes,
        "network": network,
    })
}

fn texts(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| for_people(text)).collect()
}

/// A diagnostic for editors: lines and columns counted from 1, columns in characters.
pub(in crate::cli) fn diagnostic_object(diagnostic: &Diagnostic) -> Value {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let labels: Vec<_> = diagnostic
        .labels
        .iter()
        .filter_map(|label| {
            let source = diagnostic.source.as_ref()?;
            let ((line, column), (end_line, end_column)) =
                (source.line_column(label.span.start), source.line_column(label.span.end));
            Some(json!({"line": line, "column": column, "end_line": end_line, "end_column": end_column, "text": for_people(&label.text)}))
        })
        .collect();
    json!({
        "severity": severity,
        "code": diagnostic.code,
        "page": diagnostic.code.and_then(Rule::named).map(|rule| rule.page),
        "message": for_people(&diagnostic.message),
        "file": diagnostic.source.as_ref().map(|s| s.name.as_str()),
        "labels": labels,
        "notes": texts(&diagnostic.notes),
        "help": texts(&diagnostic.help),
    })
}

#[cfg(test)]
mod tests;
