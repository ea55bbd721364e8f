//! BuildKit's `SolveStatus` as JSON, one a line on standard error, as `docker buildx build --progress=rawjson` prints it and
//! compose and others draw it.
//!
//! A step is a vertex; what belongs to none are warnings and lines of a vertex of their own.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Display, Fate, Shown};
use crate::clock;
use crate::dockerfile::checks::Rule;
use crate::oci::{Digest, rfc3339_ms};
use crate::report::{Diagnostic, Event, Outcome, StepHeading, StepNumber, Stream};
use crate::text::terminal::{for_people, harmless_json};

/// What the display of others calls the vertex of what belongs to no step.
const OWN: &str = "[internal] rbuild";
/// The error of a vertex that others know as cancelled (Go's `context.Canceled`).
const CANCELLED: &str = "context canceled";

pub(super) struct RawJson {
    /// An instant, and the time of day that it was.
    started: (Instant, u64),
    vertexes: Vec<Vertex>,
    transfers: BTreeMap<(StepNumber, String), String>,
    shown: Shown,
    own: Option<Vertex>,
}

/// A step, or what belongs to none.
#[derive(Debug, Clone)]
struct Vertex {
    digest: Digest,
    inputs: Vec<Digest>,
    name: String,
    started: Option<String>,
}

impl Vertex {
    fn of(heading: &StepHeading) -> Self {
        let name = format!("{} {}", heading.place, heading.title).trim().to_owned();
        let digest = digest_of(heading.number, &name);
        Self { digest, inputs: Vec::new(), name, started: None }
    }

    fn object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("digest".to_owned(), json!(self.digest));
        if !self.inputs.is_empty() {
            object.insert("inputs".to_owned(), json!(self.inputs));
        }
        object.insert("name".to_owned(), json!(self.name));
        if let Some(started) = &self.started {
            object.insert("started".to_owned(), json!(started));
        }
        object
    }

    fn completed(&self, at: &str) -> Map<String, Value> {
        let mut object = self.object();
        object.entry("started").or_insert_with(|| json!(at));
        object.insert("completed".to_owned(), json!(at));
        object
    }
}

/// Unlike BuildKit's it is not of what the step does, but it tells the steps of a build apart as well.
fn digest_of(number: StepNumber, name: &str) -> Digest {
    Digest::of(format!("{}\n{name}", number.0).as_bytes())
}

impl RawJson {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started: (started, clock::now_ms()),
            vertexes: Vec::new(),
            transfers: BTreeMap::new(),
            shown: Shown::default(),
            own: None,
        }
    }

    fn time(&self, time: Instant) -> String {
        let passed = time.saturating_duration_since(self.started.0).as_millis() as u64;
        rfc3339_ms(self.started.1.saturating_add(passed))
    }

    /// What is told of an event: objects, each for a line.
    fn statuses(&mut self, time: Instant, event: &Event) -> Vec<Value> {
        let at = self.time(time);
        match event {
            Event::Planned(headings) => vec![self.planned(headings)],
            Event::Started(step) => self.of_vertex(*step, |vertex| {
                vertex.started.get_or_insert_with(|| at.clone());
                vertex.object()
            }),
            Event::Finished { step, outcome, .. } => {
                let is_cached = *outcome == Outcome::Cached;
                let done = self.of_vertex(*step, |vertex| {
                    let mut object = vertex.completed(&at);
                    if is_cached {
                        object.insert("cached".to_owned(), json!(true));
                    }
                    object
                });
                self.transfers_end(*step, &at).into_iter().chain(done).collect()
            }
            Event::Failed { step, .. } => self.ended(*step, &at, "the step failed"),
            Event::Cancelled { step, .. } => self.ended(*step, &at, CANCELLED),
            Event::Log { step, stream, line } => self.line(*step, *stream, line, &at).into_iter().collect(),
            Event::Bytes { step, what, done, total } => {
                self.transfer(*step, what.clone(), (*done, *total), &at)
            }
            Event::Unpacking { step, layer, done, total } => {
                self.transfer(*step, format!("extracting {layer}"), (*done, *total), &at)
            }
            Event::Unpacked { step, .. } => self.transfers_end(*step, &at),
            Event::Warning(diagnostic) => {
                let (own, mut told) = self.own(&at);
                told.push(json!({"warnings": [warning(diagnostic, &own.to_string())]}));
                told
            }
            Event::Note(text) | Event::RunsAs(text) => {
                let (own, mut told) = self.own(&at);
                told.push(log(own, 1, &for_people(text), &at));
                told
            }
            // Others have no word for it, or hear it when the line ends.
            Event::Missed { .. } | Event::LogSoFar { .. } | Event::Foreseen(_) => Vec::new(),
        }
    }

    fn planned(&mut self, headings: &[StepHeading]) -> Value {
        self.vertexes = headings.iter().map(Vertex::of).collect();
        let digests: Vec<Digest> = self.vertexes.iter().map(|vertex| vertex.digest).collect();
        for (vertex, heading) in self.vertexes.iter_mut().zip(headings) {
            vertex.inputs = heading.needs.iter().filter_map(|step| digests.get(step.0)).copied().collect();
        }
        json!({"vertexes": self.vertexes.iter().map(Vertex::object).collect::<Vec<_>>()})
    }

    fn of_vertex(
        &mut self,
        step: StepNumber,
        object: impl FnOnce(&mut Vertex) -> Map<String, Value>,
    ) -> Vec<Value> {
        self.vertexes
            .get_mut(step.0)
            .map(|vertex| json!({"vertexes": [object(vertex)]}))
            .into_iter()
            .collect()
    }

    fn ended(&mut self, step: StepNumber, at: &str, error: &str) -> Vec<Value> {
        let ended = self.of_vertex(step, |vertex| {
            let mut object = vertex.completed(at);
            object.insert("error".to_owned(), json!(error));
            object
        });
        self.transfers_end(step, at).into_iter().chain(ended).collect()
    }

    fn line(&mut self, step: StepNumber, stream: Stream, line: &str, at: &str) -> Option<Value> {
        let digest = self.vertexes.get(step.0)?.digest;
        let number = match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        match self.shown.line(step, line) {
            Fate::Shown => Some(log(digest, number, line, at)),
            Fate::Clipped(note) => Some(log(digest, 2, &note, at)),
            Fate::Dropped => None,
        }
    }

    fn transfer(
        &mut self,
        step: StepNumber,
        what: String,
        (done, total): (u64, u64),
        at: &str,
    ) -> Vec<Value> {
        let Some(vertex) = self.vertexes.get(step.0).map(|vertex| vertex.digest) else { return Vec::new() };
        let started = self.transfers.entry((step, what.clone())).or_insert_with(|| at.to_owned());
        let mut status = json!({
            "id": what, "vertex": vertex, "total": total, "current": done, "timestamp": at, "started": started,
        });
        if total > 0 && done >= total {
            status["completed"] = json!(at);
            self.transfers.remove(&(step, what));
        }
        vec![json!({"statuses": [status]})]
    }

    /// What is on its way ends with the step, also where its size was never known.
    fn transfers_end(&mut self, step: StepNumber, at: &str) -> Vec<Value> {
        let Some(vertex) = self.vertexes.get(step.0).map(|vertex| vertex.digest) else { return Vec::new() };
        let mut ended = Vec::new();
        self.transfers.retain(|(of, what), started| {
            if *of == step {
                ended.push(json!({
                    "id": what, "vertex": vertex, "current": 0, "timestamp": at, "started": started, "completed": at,
                }));
            }
            *of != step
        });
        if ended.is_empty() { Vec::new() } else { vec![json!({"statuses": ended})] }
    }

    /// The vertex of what belongs to no step, and what tells that it begins.
    fn own(&mut self, at: &str) -> (Digest, Vec<Value>) {
        if let Some(own) = &self.own {
            return (own.digest, Vec::new());
        }
        let (digest, started) = (Digest::of(OWN.as_bytes()), Some(at.to_owned()));
        let own = Vertex { digest, inputs: Vec::new(), name: OWN.to_owned(), started };
        let told = json!({"vertexes": [own.object()]});
        self.own = Some(own);
        (digest, vec![told])
    }
}

fn log(vertex: Digest, stream: u8, line: &str, at: &str) -> Value {
    let data = STANDARD.encode(format!("{line}\n"));
    json!({"logs": [{"vertex": vertex, "stream": stream, "data": data, "timestamp": at}]})
}

fn print(value: &Value) {
    // Nobody may be reading any more; the build goes on.
    let _ = std::io::stderr().write_all(format!("{}\n", harmless_json(value.to_string())).as_bytes());
}

impl Display for RawJson {
    fn show(&mut self, time: Instant, event: &Event) {
        self.statuses(time, event).iter().for_each(print);
    }

    fn finish(&mut self) {
        if let Some(own) = self.own.take() {
            let at = self.time(Instant::now());
            print(&json!({"vertexes": [own.completed(&at)]}));
        }
    }
}

/// BuildKit's `VertexWarning`: texts are in base64, lines counted from 1, characters from 0.
pub(in crate::cli) fn warning(diagnostic: &Diagnostic, vertex: &str) -> Value {
    let place = diagnostic.source.as_ref().zip(diagnostic.labels.first());
    let line = place.map(|(source, label)| source.line_column(label.span.start).0);
    let message = for_people(&diagnostic.message);
    let short = match (diagnostic.code, line) {
        (Some(code), Some(line)) => format!("{code}: {message} (line {line})"),
        (Some(code), None) => format!("{code}: {message}"),
        (None, _) => message,
    };
    let description = diagnostic.code.and_then(Rule::named).map(|rule| rule.description.to_owned());
    let more = diagnostic.notes.iter().chain(&diagnostic.help).map(|text| for_people(text));
    let detail: Vec<String> = description.into_iter().chain(more).map(|text| STANDARD.encode(text)).collect();
    let mut object = json!({"level": 1, "short": STANDARD.encode(short)});
    if !vertex.is_empty() {
        object["vertex"] = json!(vertex);
    }
    if !detail.is_empty() {
        object["detail"] = json!(detail);
    }
    if let Some((source, label)) = place {
        let data = STANDARD.encode(&source.text);
        object["sourceInfo"] = json!({"filename": source.name, "data": data, "language": "Dockerfile"});
        object["range"] = json!([crate::cli::show::findings::docker::range(source, label.span)]);
    }
    object
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_build_as_others_draw_it() {
        let start = Instant::now();
        let heading = |number, place: &str, title: &str, needs: Vec<usize>| StepHeading {
            number: StepNumber(number),
            place: place.to_owned(),
            title: title.to_owned(),
            platform: None,
            needs: needs.into_iter().map(StepNumber).collect(),
            owner: 0,
            lines: None,
        };
        let (base, run) = (StepNumber(0), StepNumber(1));
        let took = Duration::from_secs(1);
        let bytes = |done| Event::Bytes { step: base, what: "abc".to_owned(), done, total: 10 };
        let events = [
            Event::Planned(vec![
                heading(0, "[1/2]", "FROM x", vec![]),
                heading(1, "[2/2]", "RUN make", vec![0]),
            ]),
            Event::Started(base),
            bytes(5),
            bytes(10),
            Event::Finished { step: base, outcome: Outcome::Cached, took, result: Box::default() },
            Event::Note("a note".to_owned()),
            Event::Started(run),
            Event::Missed { step: run, why: None },
            Event::Log { step: run, stream: Stream::Stderr, line: "cc".to_owned() },
            Event::Failed { step: run, took, usage: None },
        ];
        let mut display = RawJson::new(start);
        display.started.1 = 0;
        let told: Vec<Value> = events
            .iter()
            .enumerate()
            .flat_map(|(at, event)| display.statuses(start + Duration::from_millis(at as u64 * 500), event))
            .collect();
        let (first, second) = (digest_of(base, "[1/2] FROM x"), digest_of(run, "[2/2] RUN make"));
        let own = Digest::of(OWN.as_bytes());
        let at = |ms: u64| rfc3339_ms(ms);
        assert_eq!(at(1500), "1970-01-01T00:00:01.5Z");
        let expected = [
            json!({"vertexes": [{"digest": first, "name": "[1/2] FROM x"}, {"digest": second, "inputs": [first], "name": "[2/2] RUN make"}]}),
            json!({"vertexes": [{"digest": first, "name": "[1/2] FROM x", "started": at(500)}]}),
            json!({"statuses": [{"id": "abc", "vertex": first, "total": 10, "current": 5, "timestamp": at(1000), "started": at(1000)}]}),
            json!({"statuses": [{"id": "abc", "vertex": first, "total": 10, "current": 10, "timestamp": at(1500), "started": at(1000), "completed": at(1500)}]}),
            json!({"vertexes": [{"digest": first, "name": "[1/2] FROM x", "started": at(500), "completed": at(2000), "cached": true}]}),
            json!({"vertexes": [{"digest": own, "name": OWN, "started": at(2500)}]}),
            json!({"logs": [{"vertex": own, "stream": 1, "data": "YSBub3RlCg==", "timestamp": at(2500)}]}),
            json!({"vertexes": [{"digest": second, "inputs": [first], "name": "[2/2] RUN make", "started": at(3000)}]}),
            json!({"logs": [{"vertex": second, "stream": 2, "data": "Y2MK", "timestamp": at(4000)}]}),
            json!({"vertexes": [{"digest": second, "inputs": [first], "name": "[2/2] RUN make", "started": at(3000), "completed": at(4500), "error": "the step failed"}]}),
        ];
        assert_eq!(told, expected);
    }
}
