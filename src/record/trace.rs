//! A record as Chrome's trace events, which Perfetto and `chrome://tracing` open
//! (<https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>, "JSON Object Format").
//!
//! Each build is three processes: its steps, what they waited for, and what was moved for them. What overlaps is on threads of its own;
//! an arrow leads from a step to those that needed it, and a counter tells how many were under way. A build that was watched has a fourth:
//! the threads that hashed and compressed.

use serde_json::{Map, Value, json};

use super::format::{Outcome, Record, Step};
use crate::busy::Thread;

/// The processes of a build, and their names.
const KINDS: [&str; 3] = ["steps", "waiting", "transfers"];
/// Of a build's process numbers.
const STRIDE: usize = 10;

/// One thing that takes time, in milliseconds since the build began.
struct Slice {
    name: String,
    category: &'static str,
    from: u64,
    to: u64,
    step: usize,
    args: Map<String, Value>,
}

/// The events of these builds; each begins at zero. `threads` is what threads were busy with in the first.
pub fn events(records: &[&Record], threads: &[Thread]) -> Value {
    let mut events = Vec::new();
    for (at, record) in records.iter().enumerate() {
        of_build(record, (at + 1) * STRIDE, &mut events);
    }
    if let Some(record) = records.first() {
        of_threads(record, STRIDE + KINDS.len(), threads, &mut events);
    }
    json!({ "traceEvents": events, "displayTimeUnit": "ms", "otherData": { "builds": ids(records) } })
}

fn ids(records: &[&Record]) -> Vec<String> {
    records.iter().map(|record| record.id.clone()).collect()
}

fn of_build(record: &Record, first: usize, events: &mut Vec<Value>) {
    let title = format!("{} {}", record.id, record.title()).trim().to_owned();
    let mut places = vec![None; record.steps.len() + 1];
    let all = [steps(record), waits(record), transfers(record)];
    for (kind, (name, slices)) in KINDS.iter().zip(all).enumerate() {
        if slices.is_empty() {
            continue;
        }
        let process = first + kind;
        name_process(process, &format!("{name} of {title}"), events);
        for (slice, thread) in on_threads(slices) {
            if kind == 0
                && let Some(place) = places.get_mut(slice.step)
            {
                *place = Some(thread);
            }
            events.push(slice.event(process, thread));
        }
    }
    arrows(record, first, &places, events);
    counter(record, first, events);
}

fn name_process(process: usize, name: &str, events: &mut Vec<Value>) {
    events.push(json!({
        "ph": "M", "name": "process_name", "pid": process, "tid": 0, "args": { "name": name },
    }));
    events.push(json!({
        "ph": "M", "name": "process_sort_index", "pid": process, "tid": 0, "args": { "sort_index": process },
    }));
}

/// What each thread of rbuild was busy with.
fn of_threads(record: &Record, process: usize, threads: &[Thread], events: &mut Vec<Value>) {
    if threads.is_empty() {
        return;
    }
    name_process(process, &format!("threads of rbuild, build {}", record.id), events);
    let began = record.started_ms.saturating_mul(1000);
    for (at, Thread { name, work, more }) in threads.iter().enumerate() {
        let thread = at + 1;
        events.push(json!({
            "ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": { "name": name },
        }));
        for busy in work {
            let start = busy.from_us.saturating_sub(began);
            let length = busy.to_us.saturating_sub(began).saturating_sub(start).max(1);
            events.push(json!({
                "ph": "X", "name": busy.what, "cat": "thread", "pid": process, "tid": thread, "ts": start, "dur": length,
                "args": { "pieces": busy.pieces, "bytes": busy.bytes },
            }));
        }
        if *more > 0 {
            let end = work.last().map_or(0, |busy| busy.to_us.saturating_sub(began));
            events.push(json!({
                "ph": "i", "s": "t", "name": format!("{more} more"), "cat": "thread", "pid": process, "tid": thread, "ts": end,
            }));
        }
    }
}

impl Slice {
    fn event(self, process: usize, thread: usize) -> Value {
        let (start, length) = microseconds(self.from, self.to);
        let Slice { name, category, args, .. } = self;
        json!({
            "ph": "X", "name": name, "cat": category, "pid": process, "tid": thread, "ts": start, "dur": length, "args": args,
        })
    }
}

/// The beginning and the length of a slice as they are written. What took no time has a length all the same: an arrow needs a slice to begin
/// in.
fn microseconds(from: u64, to: u64) -> (u64, u64) {
    (from.saturating_mul(1000), to.saturating_sub(from).saturating_mul(1000).max(1))
}

fn span(step: &Step) -> Option<(u64, u64)> {
    let (from, to) = (step.started_ms?, step.ended_ms?);
    Some((from, to.max(from)))
}

/// When its own work began: what was waited for before is told by itself.
fn own_start(step: &Step) -> Option<u64> {
    let (from, to) = span(step)?;
    Some(to.saturating_sub(step.took_ms.unwrap_or(to - from)).max(from))
}

fn steps(record: &Record) -> Vec<Slice> {
    let slice = |step: &Step| {
        let ((_, to), from) = (span(step)?, own_start(step)?);
        let category = match step.outcome? {
            Outcome::Ran => "ran",
            Outcome::Cached => "cached",
            Outcome::ConfigOnly => "configuration",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        };
        let mut args = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                args.insert(name.to_owned(), value);
            }
        };
        put("step", json!(step.number));
        put("outcome", json!(step.outcome));
        put("platform", json!(step.platform));
        put("missed", json!(step.missed));
        put("lines", json!(step.lines));
        put("layer", json!(step.layer));
        put("files", json!(step.files));
        put("usage", json!(step.usage));
        Some(Slice {
            name: format!("#{} {}", step.number, step.name()),
            category,
            from,
            to,
            step: step.number,
            args,
        })
    };
    record.steps.iter().filter_map(slice).collect()
}

/// For the steps that it needed, for its turn, for what it stands on, for its cache mounts; in this order.
fn waits(record: &Record) -> Vec<Slice> {
    let mut slices = Vec::new();
    for step in &record.steps {
        let Some((from, to)) = span(step) else { continue };
        if !matches!(step.outcome, Some(Outcome::Ran | Outcome::Failed)) {
            continue;
        }
        let mut add = |why: String, from: u64, to: u64| {
            if to > from {
                let args = Map::from_iter([("step".to_owned(), json!(step.number))]);
                let name = format!("#{} for {why}", step.number);
                slices.push(Slice { name, category: "waiting", from, to, step: step.number, args });
            }
        };
        let needed = step.needs.iter().filter_map(|number| record.steps.get(number.checked_sub(1)?));
        let last = needed.filter_map(|step| Some((step.ended_ms?, step.number))).max();
        if let Some((ended, number)) = last {
            add(format!("#{number}"), 0, ended.min(from));
        }
        add("a slot".to_owned(), from.saturating_sub(step.waited.slot_ms), from);
        let unpacked = from.saturating_add(step.waited.transfer_ms).min(to);
        add("what it stands on".to_owned(), from, unpacked);
        add("cache mounts".to_owned(), unpacked, unpacked.saturating_add(step.waited.lock_ms).min(to));
    }
    slices
}

fn transfers(record: &Record) -> Vec<Slice> {
    let of_step = |step: &Step| -> Vec<Slice> {
        let slice = |moved: &super::Transfer| Slice {
            name: moved.what.clone(),
            category: "transfer",
            from: moved.started_ms,
            to: moved.ended_ms,
            step: step.number,
            args: Map::from_iter([
                ("step".to_owned(), json!(step.number)),
                ("bytes".to_owned(), json!(moved.bytes)),
            ]),
        };
        step.transfers.iter().map(slice).collect()
    };
    record.steps.iter().flat_map(of_step).collect()
}

/// Each slice with the first thread on which nothing else is then. Threads are numbered from 1.
fn on_threads(mut slices: Vec<Slice>) -> Vec<(Slice, usize)> {
    slices.sort_by_key(|slice| (slice.from, slice.step));
    let mut ends: Vec<u64> = Vec::new();
    let place = |slice: Slice| {
        let free = ends.iter().position(|end| *end <= slice.from);
        let thread = free.unwrap_or_else(|| {
            ends.push(0);
            ends.len() - 1
        });
        // One that takes no time has the thread for a moment: slices of a thread may lie in each other, but not across.
        ends[thread] = slice.to.max(slice.from.saturating_add(1));
        (slice, thread + 1)
    };
    slices.into_iter().map(place).collect()
}

fn arrows(record: &Record, process: usize, places: &[Option<usize>], events: &mut Vec<Value>) {
    let thread = |number: usize| places.get(number).copied().flatten();
    for step in &record.steps {
        for needed in &step.needs {
            let from = needed.checked_sub(1).and_then(|at| record.steps.get(at));
            let slice = |step: &Step| Some(microseconds(own_start(step)?, span(step)?.1));
            let (Some((from, length)), Some((start, _)), Some(begins), Some(ends)) =
                (from.and_then(slice), slice(step), thread(step.number), thread(*needed))
            else {
                continue;
            };
            // Whoever reads it looks for the slice that is there in that moment, and at its end it is there no more.
            let from = from.saturating_add(length - 1);
            let id = format!("{process}-{needed}-{}", step.number);
            let arrow = |phase: &str, thread: usize, time: u64| {
                json!({
                    "ph": phase, "bp": "e", "name": "needs", "cat": "needs", "id": id, "pid": process, "tid": thread,
                    "ts": time,
                })
            };
            events.push(arrow("s", ends, from));
            events.push(arrow("f", begins, start.max(from)));
        }
    }
}

fn counter(record: &Record, process: usize, events: &mut Vec<Value>) {
    let mut changes: Vec<(u64, i64)> = Vec::new();
    for step in record.steps.iter().filter(|step| step.outcome == Some(Outcome::Ran)) {
        if let Some((from, to)) = span(step) {
            changes.extend([(from, 1), (to, -1)]);
        }
    }
    changes.sort_unstable();
    let mut count = 0;
    for (time, change) in changes {
        count += change;
        events.push(json!({
            "ph": "C", "name": "steps under way", "pid": process, "tid": 0, "ts": time.saturating_mul(1000),
            "args": { "steps": count },
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::step;
    use super::super::format::{Transfer, Waits};
    use super::*;
    use crate::busy::Busy;

    /// What Perfetto's reader of this format expects (`slice_tracker.cc`, `flow_tracker.cc`): slices of a thread are beside or within each
    /// other, and an arrow begins and ends while a slice is there, at its end not any more.
    fn check(events: &Value) {
        let all = events["traceEvents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let number =
            |event: &Value, name: &str| event[name].as_u64().unwrap_or_else(|| panic!("{name} of {event}"));
        let place = |event: &Value| (number(event, "pid"), number(event, "tid"));
        let of = |phase: &'static str| all.iter().filter(move |event| event["ph"] == phase);
        for (at, slice) in of("X").enumerate() {
            let (from, to) = (number(slice, "ts"), number(slice, "ts") + number(slice, "dur"));
            for other in of("X").skip(at + 1).filter(|other| place(other) == place(slice)) {
                let (start, end) = (number(other, "ts"), number(other, "ts") + number(other, "dur"));
                assert!(end <= from || to <= start, "{slice} and {other}");
            }
        }
        for arrow in of("s").chain(of("f")) {
            let time = number(arrow, "ts");
            let mut there = of("X").filter(|slice| place(slice) == place(arrow));
            assert!(
                there
                    .any(|slice| (number(slice, "ts")..number(slice, "ts") + number(slice, "dur"))
                        .contains(&time)),
                "{arrow}"
            );
        }
        for end in of("f") {
            let start = of("s").find(|start| start["id"] == end["id"]);
            assert!(start.is_some_and(|start| number(start, "ts") <= number(end, "ts")), "{end}");
        }
        for event in all {
            let known = ["X", "s", "f", "C", "M", "i"].iter().any(|phase| event["ph"] == *phase);
            assert!(
                known && event["name"].is_string() && event["pid"].is_u64() && event["tid"].is_u64(),
                "{event}"
            );
        }
    }

    #[test]
    fn what_perfetto_expects_is_kept() {
        let mut steps = vec![
            step(1, &[], (0, 0, 0)),
            step(2, &[1], (0, 0, 0)),
            step(3, &[1, 2], (0, 70, 70)),
            step(4, &[3], (70, 70, 0)),
            step(5, &[3, 4], (70, 90, 20)),
        ];
        steps[4].waited = Waits { slot_ms: 3, lock_ms: 4, transfer_ms: 5 };
        check(&events(&[&Record { id: "ab12".to_owned(), steps, ..Record::default() }], &[]));
    }

    #[test]
    fn threads_have_what_they_were_busy_with() {
        let busy = |from_us, to_us| Busy { what: "SHA-256", from_us, to_us, pieces: 2, bytes: 9 };
        let threads = [
            Thread {
                name: "hash".to_owned(),
                work: vec![busy(5_000_100, 5_000_400), busy(5_001_000, 5_001_000)],
                more: 0,
            },
            Thread { name: "other".to_owned(), work: vec![busy(4_000_000, 5_000_200)], more: 7 },
        ];
        let told = events(&[&Record { started_ms: 5_000, ..Record::default() }], &threads);
        check(&told);
        let all = told["traceEvents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let slices = all.iter().filter(|event| event["ph"] == "X");
        let slices: Vec<_> = slices.map(|e| (e["tid"].clone(), e["ts"].clone(), e["dur"].clone())).collect();
        let of = |thread: u64, from: u64, length: u64| (json!(thread), json!(from), json!(length));
        assert_eq!(slices, [of(1, 100, 300), of(1, 1000, 1), of(2, 0, 200)]);
        let more: Vec<_> = all.iter().filter(|event| event["ph"] == "i").collect();
        assert!(more.len() == 1 && more[0]["name"] == "7 more" && more[0]["tid"] == 2, "{more:?}");
    }

    #[test]
    fn steps_are_slices_with_what_they_waited_for() {
        let waited = Waits { slot_ms: 5, lock_ms: 0, transfer_ms: 30 };
        let transfers =
            vec![Transfer { what: "unpack ab".to_owned(), bytes: 9, started_ms: 105, ended_ms: 130 }];
        let steps = vec![
            step(1, &[], (0, 100, 100)),
            step(2, &[], (0, 50, 50)),
            Step { waited, transfers, ..step(3, &[1, 2], (105, 200, 60)) },
            // Never begun, and one whose needs are not there.
            Step { number: 4, needs: vec![0, 9], ..Step::default() },
        ];
        let record = Record { id: "ab12".to_owned(), steps, ..Record::default() };
        let told = events(&[&record, &record], &[]);
        check(&told);
        let all = told["traceEvents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let slice = |name: &str| all.iter().find(|event| event["name"] == name).unwrap_or(&Value::Null);
        let times = |name: &str| (slice(name)["ts"].as_u64(), slice(name)["dur"].as_u64());
        assert_eq!(times("#3 RUN 3"), (Some(140_000), Some(60_000)));
        assert_eq!(times("#3 for #1"), (Some(0), Some(100_000)));
        assert_eq!(times("#3 for a slot"), (Some(100_000), Some(5_000)));
        assert_eq!(times("#3 for what it stands on"), (Some(105_000), Some(30_000)));
        assert_eq!(times("unpack ab"), (Some(105_000), Some(25_000)));
        assert_ne!(slice("#1 RUN 1")["tid"], slice("#2 RUN 2")["tid"]);
        assert_eq!(all.iter().filter(|event| event["ph"] == "s").count(), 4);
        let most = all
            .iter()
            .filter(|event| event["ph"] == "C")
            .filter_map(|event| event["args"]["steps"].as_i64())
            .max();
        assert_eq!(most, Some(2));
    }
}
