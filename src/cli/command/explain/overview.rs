//! A build and its image as a whole: where the time went, why steps ran, what grew, what is shipped for nothing, what to do.

use std::time::Duration;

use super::subject::{Subject, WIDTH};
use crate::insight::advice::copy_first;
use crate::insight::contents::Contents;
use crate::insight::findings::{Facts, Finding, Kind, findings};
use crate::insight::growth::growth;
use crate::insight::missed::Miss;
use crate::insight::timeline::Timeline;
use crate::insight::waste::{efficiency, hidden};
use crate::record::{Outcome, Record, Step};
use crate::text::duration::seconds;
use crate::text::size::bytes;
use crate::text::terminal::cut;

/// So many of each are told.
const MOST: usize = 5;
/// So much advice is given.
const ADVICE: usize = 3;

pub(super) fn text(subject: &Subject) -> String {
    let mut text = heading(subject);
    text.push_str(&against(subject).unwrap_or_default());
    if let Some(record) = &subject.record {
        text.push_str(&time(record));
        text.push_str(&why(record, &subject.misses));
    }
    text.push_str(&size(subject));
    let advice = advice(subject);
    if !advice.is_empty() {
        text.push_str("\nwhat to do\n");
        advice.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text
}

fn heading(subject: &Subject) -> String {
    let Some(record) = &subject.record else {
        return format!("{}: there is no record of its build here\n", subject.name);
    };
    let count = |wanted: Outcome| record.steps.iter().filter(|step| step.outcome == Some(wanted)).count();
    let took = record.took_ms.map(|took| format!(", {}", took_of(took))).unwrap_or_default();
    let title = record.title();
    let of = if title.is_empty() { String::new() } else { format!(" of {title}") };
    let of = if subject.name.starts_with("build ") { of } else { format!(", build {}{of}", record.id) };
    let error = record.error().map(|error| format!("\nit failed: {error}")).unwrap_or_default();
    let (ran, cached) = (count(Outcome::Ran), count(Outcome::Cached));
    format!("{}{of}{took}: {ran} steps ran, {cached} were cached{error}\n", subject.name)
}

/// How the build's time and steps differ from those of the one that it is compared with, if both are known.
fn against(subject: &Subject) -> Option<String> {
    let before = subject.before.as_ref()?;
    let (now, then) = (subject.record.as_ref()?, before.record.as_ref()?);
    let count = |record: &Record, wanted: Outcome| {
        record.steps.iter().filter(|step| step.outcome == Some(wanted)).count()
    };
    let [ran, cached] = [Outcome::Ran, Outcome::Cached];
    let took = now.took_ms.zip(then.took_ms);
    let took = took.map(|(now, then)| format!("{} instead of {}, ", took_of(now), took_of(then)));
    (now.id != then.id).then(|| {
        format!(
            "against {}: {}{} steps ran instead of {}, {} were cached instead of {}\n",
            before.name,
            took.unwrap_or_default(),
            count(now, ran),
            count(then, ran),
            count(now, cached),
            count(then, cached)
        )
    })
}

pub(super) fn took_of(milliseconds: u64) -> String {
    seconds(Duration::from_millis(milliseconds))
}

/// `#4 RUN make (line 5)`
pub(super) fn named(step: &Step) -> String {
    let line = step.lines.map_or_else(String::new, |(line, _)| format!(" (line {line})"));
    format!("#{} {}{line}", step.number, cut(&step.title, WIDTH))
}

fn time(record: &Record) -> String {
    let timeline = Timeline::of(record);
    let links: Vec<_> = timeline.critical.iter().filter(|link| link.took_ms > 0).collect();
    if links.is_empty() {
        return String::new();
    }
    let mut text =
        format!("\ncritical path, {} of {}\n", took_of(timeline.critical_ms()), took_of(timeline.total_ms));
    for link in links {
        // Where the build would end as much sooner as the step takes, there is nothing to say.
        let saves = match link.saves_ms {
            saves if saves > 0 && saves + 100 < link.took_ms => {
                format!("; {} sooner if it were cached", took_of(saves))
            }
            _ => String::new(),
        };
        text.push_str(&format!(
            "  {:>7}  {}{saves}\n",
            took_of(link.took_ms),
            named(&record.steps[link.step])
        ));
    }
    text
}

fn why(record: &Record, misses: &[Miss]) -> String {
    let mut roots: Vec<&Miss> = misses.iter().filter(|miss| miss.cause.is_none()).collect();
    if roots.is_empty() {
        return String::new();
    }
    roots.sort_by_key(|miss| (std::cmp::Reverse(miss.took_ms.saturating_add(miss.then_ms)), miss.step));
    let mut text = "\nwhy steps ran\n".to_owned();
    for miss in roots.iter().take(MOST) {
        let took = took_of(miss.took_ms.saturating_add(miss.then_ms));
        let then = match miss.then.len() {
            0 => String::new(),
            1 => ", with a step that stands on it".to_owned(),
            more => format!(", with {more} steps that stand on it"),
        };
        text.push_str(&format!("  {took:>7}  {}{then}\n", named(&record.steps[miss.step])));
        text.push_str(&format!("           {}\n", miss.why));
        text.push_str(&fields(miss, "           "));
    }
    if roots.len() > MOST {
        text.push_str(&format!("  and {} more\n", roots.len() - MOST));
    }
    text
}

/// What changed, from what to what.
pub(super) fn fields(miss: &Miss, indent: &str) -> String {
    let told = miss.fields.iter().filter(|field| field.before.is_some() || field.after.is_some());
    let line = |field: &crate::insight::missed::Changed| {
        let side = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".to_owned());
        format!("{indent}{}: {} → {}\n", field.what, side(&field.before), side(&field.after))
    };
    told.take(MOST).map(line).collect()
}

fn size(subject: &Subject) -> String {
    if subject.layers.is_empty() {
        return String::new();
    }
    let indexes = subject.indexes();
    let contents = Contents::of(&indexes);
    let blobs: u64 = subject.layers.iter().map(|layer| layer.blob_bytes).sum();
    let dive = efficiency(&indexes, &contents);
    let mut text = format!(
        "\nsize: {} compressed, {} uncompressed, in {} layers; efficiency {:.1} %, {} wasted\n",
        bytes(blobs),
        bytes((0..subject.layers.len()).map(|layer| contents.brought_bytes(layer)).sum()),
        subject.layers.len(),
        dive.score * 100.0,
        bytes(dive.wasted_bytes)
    );
    text.push_str(&subject.absent().unwrap_or_default());
    let mut by_size: Vec<(u64, usize)> =
        (0..subject.layers.len()).map(|layer| (contents.brought_bytes(layer), layer)).collect();
    by_size.sort_by_key(|(size, layer)| (std::cmp::Reverse(*size), *layer));
    by_size.retain(|(size, _)| *size > 0);
    if !by_size.is_empty() {
        text.push_str("  uncompressed  compressed\n");
    }
    for (size, layer) in by_size.iter().take(MOST) {
        let blob = bytes(subject.layers[*layer].blob_bytes);
        text.push_str(&format!("  {:>12}  {blob:>10}  {}\n", bytes(*size), subject.layer(*layer)));
    }
    if by_size.len() > MOST {
        text.push_str(&format!("  and {} more\n", by_size.len() - MOST));
    }
    if let Some(before) = &subject.before {
        text.push_str(&grown(subject, &contents, before));
    }
    let hidden = hidden(&contents);
    let worth = hidden.iter().filter(|hidden| hidden.bytes() >= 100_000).take(MOST);
    for (at, pair) in worth.enumerate() {
        if at == 0 {
            text.push_str("\nshipped, and never seen\n");
        }
        let examples =
            pair.examples.first().map(|(path, _)| format!(", such as /{}", String::from_utf8_lossy(path)));
        let verb = if pair.removed_bytes >= pair.replaced_bytes { "removed" } else { "replaced" };
        text.push_str(&format!(
            "  {:>8}  of {}\n            {verb} by {}{}\n",
            bytes(pair.bytes()),
            subject.layer(pair.of),
            subject.layer(pair.by),
            examples.unwrap_or_default()
        ));
    }
    text
}

fn grown(subject: &Subject, contents: &Contents<'_>, before: &Subject) -> String {
    if before.layers.is_empty() {
        return format!("\nthe image of {} is not here any more\n", before.name);
    }
    let indexes = before.indexes();
    let old = Contents::of(&indexes);
    let sum = |subject: &Subject| subject.layers.iter().map(|layer| layer.blob_bytes).sum::<u64>();
    let (now, then) = (sum(subject), sum(before));
    let sign = if now < then { "-" } else { "+" };
    let found = growth(&old, contents, MOST);
    if now == then && found.is_empty() {
        return String::new();
    }
    let mut text = format!("\nsince {}: {sign}{} compressed\n", before.name, bytes(now.abs_diff(then)));
    for growth in found {
        let by = growth.bytes();
        let size = bytes(u64::try_from(by.unsigned_abs()).unwrap_or(u64::MAX));
        let sign = if by < 0 { "-" } else { "+" };
        let folder = if growth.is_folder { "/" } else { "" };
        let layer = growth.layer.map(|layer| format!("  by {}", subject.layer(layer))).unwrap_or_default();
        let path = String::from_utf8_lossy(&growth.path);
        text.push_str(&format!("  {sign}{size:>8}  /{path}{folder}{layer}\n"));
    }
    text
}

/// What could be done, each with its numbers.
pub(super) fn advice(subject: &Subject) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(record) = &subject.record {
        let mut records = vec![record.clone()];
        records.extend(subject.earlier.iter().cloned());
        if let Some(first) = copy_first(&records) {
            let (copy, slow) = (&record.steps[first.copy], &record.steps[first.slow]);
            lines.push(format!(
                "COPY {} and run `{}` before {}: {} ran {} times in {} builds though none of these had changed, {}",
                first.files,
                first.command,
                named(copy),
                named(slow),
                first.times,
                first.of,
                took_of(first.took_ms)
            ));
        }
    }
    let indexes = subject.indexes();
    let contents = Contents::of(&indexes);
    let hidden = hidden(&contents);
    let timeline = subject.record.as_ref().map(Timeline::of).unwrap_or_default();
    let facts = Facts {
        record: subject.record.as_ref(),
        timeline: &timeline,
        misses: &subject.misses,
        layers: &subject.layers,
        contents: &contents,
        hidden: &hidden,
    };
    let found = findings(&facts);
    // Waste first: it is there in every build. A miss may have been wanted.
    let is_waste = |finding: &&Finding| finding.kind == Kind::Waste;
    let (waste, others): (Vec<&Finding>, Vec<&Finding>) = found.iter().partition(is_waste);
    for finding in waste.into_iter().chain(others) {
        let has_own = finding.kind == Kind::Cache && !lines.is_empty();
        if let Some(advice) = finding.advice.as_ref().filter(|_| !has_own) {
            lines.push(format!("{}. {advice}", finding.what));
        }
    }
    lines.truncate(ADVICE);
    lines
}
