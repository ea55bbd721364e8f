//! Every event against the schema that is published (`docs/events.schema.json`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::oci::{Descriptor, Digest, MediaType};
use crate::report::{FileCounts, LayerFacts, Source, Span, StepHeading, Traffic, Waited};

const SCHEMA: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/events.schema.json"));

/// What of JSON Schema the file uses; a word that is not known here is an error.
fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    for (word, rule) in schema.as_object().ok_or("a schema is an object")? {
        let fail = |why: &str| Err(format!("{word} {rule}: {why}: {value}"));
        match word.as_str() {
            "$schema" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let name =
                    rule.as_str().and_then(|text| text.strip_prefix("#/$defs/")).ok_or("no reference")?;
                check(root, &root["$defs"][name], value)?;
            }
            "oneOf" | "anyOf" => {
                let all = rule.as_array().ok_or("no list")?;
                let fits = all.iter().filter(|schema| check(root, schema, value).is_ok()).count();
                if fits == 0 || word == "oneOf" && fits != 1 {
                    return fail(&format!("{fits} fit"));
                }
            }
            "const" if rule != value => return fail("it is another"),
            "enum" if !rule.as_array().is_some_and(|all| all.contains(value)) => return fail("it is none"),
            "const" | "enum" => {}
            "minimum" if value.as_i64() < rule.as_i64() => return fail("it is less"),
            "minimum" => {}
            "type" => {
                let is = match rule.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("integer") => value.is_i64() || value.is_u64(),
                    Some("null") => value.is_null(),
                    _ => return fail("unknown type"),
                };
                if !is {
                    return fail("it is another");
                }
            }
            "items" => value.as_array().into_iter().flatten().try_for_each(|item| check(root, rule, item))?,
            "properties" => {
                for (name, schema) in rule.as_object().ok_or("no properties")? {
                    value.get(name).map_or(Ok(()), |value| check(root, schema, value))?;
                }
            }
            "required" => {
                let missing = rule.as_array().into_iter().flatten().filter_map(Value::as_str);
                if let Some(name) = missing.into_iter().find(|name| value.get(name).is_none()) {
                    return fail(name);
                }
            }
            "additionalProperties" => {
                let known = schema["properties"].as_object().ok_or("no properties")?;
                let unknown =
                    value.as_object().into_iter().flatten().find(|(name, _)| !known.contains_key(*name));
                if let Some((name, _)) = unknown {
                    return fail(name);
                }
            }
            other => return Err(format!("the tests know nothing of `{other}`")),
        }
    }
    Ok(())
}

fn events() -> Vec<Event> {
    let (step, took) = (StepNumber(0), Duration::from_millis(7));
    let usage = ResourceUsage {
        user_time: took,
        system_time: took,
        peak_memory_bytes: 1,
        read_bytes: 2,
        written_bytes: 3,
        network: Some(Traffic { received: 1, sent: 2 }),
    };
    let layer = LayerFacts { digest: "sha256:a".to_owned(), diff_id: "sha256:b".to_owned(), size_bytes: 3 };
    let result = StepResult {
        layer: Some(layer),
        key: Some("c".to_owned()),
        inputs: vec!["sha256:d".to_owned()],
        usage: Some(usage),
        files: Some(FileCounts { added: 1, changed: 2, removed: 3 }),
        waited: Waited { slot: took, lock: took, transfer: took },
        took_then: None,
    };
    let heading = |platform: Option<&str>| StepHeading {
        number: step,
        place: "[1/1]".to_owned(),
        title: "RUN x".to_owned(),
        platform: platform.map(str::to_owned),
        needs: vec![step],
        owner: 0,
        lines: platform.map(|_| (1, 2)),
    };
    let source = Arc::new(Source { name: "Dockerfile".to_owned(), text: "FROM X\n".to_owned() });
    let warning =
        Diagnostic::warning("StageNameCasing", "a").at(&source, Span::new(0, 4), "").note("b").help("c");
    let line = "text".to_owned();
    vec![
        Event::Planned(vec![heading(None), heading(Some("linux/arm64"))]),
        Event::Started(step),
        Event::Missed { step, why: None },
        Event::Missed { step, why: Some(line.clone()) },
        Event::Log { step, stream: Stream::Stdout, line: line.clone() },
        Event::Log { step, stream: Stream::Stderr, line: line.clone() },
        Event::Bytes { step, what: line.clone(), done: 0, total: 0 },
        Event::Unpacking { step, layer: line.clone(), done: 1, total: 2 },
        Event::Unpacked { step, took },
        Event::Finished { step, outcome: Outcome::Ran, took, result: Box::new(result) },
        Event::Finished { step, outcome: Outcome::Cached, took, result: Box::default() },
        Event::Finished { step, outcome: Outcome::ConfigOnly, took, result: Box::default() },
        Event::Cancelled { step, took },
        Event::Failed { step, took, usage: Some(usage) },
        Event::Failed { step, took, usage: None },
        Event::Warning(warning),
        Event::Warning(Diagnostic::error("without a place")),
        Event::Note(line.clone()),
        Event::RunsAs(line),
    ]
}

/// The events that are told, by their names; without `_`, so that a new one has to be put into the list above.
fn name(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Planned(_) => "planned",
        Event::Started(_) => "started",
        Event::Missed { .. } => "missed",
        Event::Log { .. } => "log",
        // Programs hear of a line once, and of earlier builds from `rbuild history`.
        Event::LogSoFar { .. } | Event::Foreseen(_) => return None,
        Event::Bytes { .. } => "bytes",
        Event::Unpacking { .. } => "unpacking",
        Event::Unpacked { .. } => "unpacked",
        Event::Finished { .. } => "finished",
        Event::Cancelled { .. } => "cancelled",
        Event::Failed { .. } => "failed",
        Event::Warning(_) => "diagnostic",
        Event::Note(_) => "note",
        Event::RunsAs(_) => "runs-as",
    })
}

#[test]
fn every_event_is_as_the_schema_says() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let mut seen = BTreeSet::from(["built"]);
    for event in events() {
        let mut value = object(&event);
        value["at_ms"] = json!(1);
        assert_eq!(value["event"].as_str(), name(&event));
        check(&schema, &schema, &value).unwrap_or_else(|why| panic!("{why}\n{value:#}"));
        seen.extend(name(&event));
    }
    let digest = Digest::of(b"");
    let result = Built {
        digest,
        descriptor: Descriptor::new(MediaType::MANIFEST, digest, 0),
        config_digest: None,
        id: digest,
        warnings: Vec::new(),
        names: Vec::new(),
        layers: 0,
        size_bytes: 0,
        ran: 0,
        cached: 0,
        saved: crate::cache::Saved::default(),
        record: None,
    };
    let last = [built(&result, Duration::ZERO), failure(&Diagnostic::error("x"))];
    last.iter().for_each(|value| assert_eq!(check(&schema, &schema, value), Ok(())));
    let listed: Vec<&str> =
        schema["oneOf"].as_array().into_iter().flatten().filter_map(|one| one["$ref"].as_str()).collect();
    let expected: BTreeSet<String> = seen.iter().map(|name| format!("#/$defs/{name}")).collect();
    assert_eq!(listed.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
}

#[test]
fn what_is_not_as_the_schema_says_is_found() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    for wrong in [
        json!({"event": "started", "step": 0, "at_ms": 1}),
        json!({"event": "started", "step": 1}),
        json!({"event": "started", "step": 1, "at_ms": 1, "more": 1}),
        json!({"event": "begun", "step": 1, "at_ms": 1}),
        json!({"event": "log", "step": 1, "stream": "tty", "line": "x", "at_ms": 1}),
        json!({"event": "missed", "step": 1, "why": 3, "at_ms": 1}),
    ] {
        assert!(check(&schema, &schema, &wrong).is_err(), "{wrong}");
    }
}
