//! What is said when a build has ended, if there is something to say: three lines at most; and the summary that GitHub shows of a job.
//!
//! All of it is measured, in the record of the build and in the indexes of layers. Nothing is read from blobs: somebody waits for the
//! prompt, and `rbuild explain` has more time.

use std::io::Write as _;
use std::time::Duration;

use crate::image::{Image, StoredPlatform};
use crate::insight::advice::copy_first;
use crate::insight::contents::Contents;
use crate::insight::growth::growth;
use crate::insight::layers::{Brought, layers};
use crate::insight::place;
use crate::insight::timeline::Timeline;
use crate::insight::waste::hidden;
use crate::oci::Descriptor;
use crate::pipeline::Built;
use crate::record::{Outcome, Record, Step, kept};
use crate::store::{Folder, Store};
use crate::text::duration::seconds;
use crate::text::size::bytes;
use crate::text::terminal::cut;

/// So many lines.
const LINES: usize = 3;
/// The critical path of a build that took less is nobody's concern.
const LEAST_MS: u64 = 10_000;
/// What grew or is wasted by less,
const LEAST_BYTES: u64 = 1_000_000;
/// or by a smaller part of the image than one in so many, is not worth a line.
const LEAST_PART: u64 = 100;
/// So many earlier builds are looked at.
const EARLIER: usize = 9;

/// The lines; none of a build in which nothing ran.
pub(in crate::cli) fn lines(store: &Store, built: &Built) -> Vec<String> {
    let Some(record) = built.record.as_deref().filter(|record| built.ran > 0 && record.targets.len() == 1)
    else {
        return Vec::new();
    };
    let earlier = place::earlier(record, &kept::list(store), EARLIER);
    let mut found: Vec<String> = Vec::new();
    found.extend(again(record, &earlier));
    found.extend(files(store, built, record, &earlier));
    found.extend(critical(record));
    found.truncate(LINES);
    found
}

fn took(milliseconds: u64) -> String {
    seconds(Duration::from_millis(milliseconds))
}

/// `critical path 48 s of 52 s: #4 → #7 → #9`
fn critical(record: &Record) -> Option<String> {
    let timeline = Timeline::of(record);
    let ran = |step: usize| record.steps.get(step).is_some_and(|step| step.outcome == Some(Outcome::Ran));
    let links =
        timeline.critical.iter().filter(|link| ran(link.step) && link.took_ms * 50 >= timeline.total_ms);
    let steps: Vec<String> = links.map(|link| format!("#{}", link.step + 1)).collect();
    let is_worth = timeline.total_ms >= LEAST_MS && !steps.is_empty();
    is_worth.then(|| {
        let (critical, total) = (took(timeline.critical_ms()), took(timeline.total_ms));
        format!("critical path {critical} of {total}: {}", steps.join(" → "))
    })
}

/// What ran again for nothing, in this build and those before.
fn again(record: &Record, earlier: &[Record]) -> Option<String> {
    let mut records = vec![record.clone()];
    records.extend(earlier.iter().cloned());
    let first = copy_first(&records)?;
    let number = |step: usize| record.steps.get(step).map_or(0, |step| step.number);
    Some(format!(
        "COPY {} and run `{}` before #{}: that would have saved {} of the last {} builds",
        first.files,
        first.command,
        number(first.copy),
        took(first.took_ms),
        first.of
    ))
}

/// What grew since the last build, and what this one removed that ships all the same.
fn files(store: &Store, built: &Built, record: &Record, earlier: &[Record]) -> Vec<String> {
    let last =
        earlier.iter().find_map(|other| other.targets.first()?.made.as_ref().map(|made| (other, made)));
    let is_worth = |size: u64| size >= LEAST_BYTES && size >= built.size_bytes / LEAST_PART;
    let grown =
        last.map(|(_, made)| built.size_bytes.saturating_sub(made.layers_size)).filter(|by| is_worth(*by));
    let removed =
        |step: &Step| step.outcome == Some(Outcome::Ran) && step.files.is_some_and(|files| files.removed > 0);
    if grown.is_none() && !record.steps.iter().any(removed) {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let now = known(store, &built.descriptor, record);
    let indexes =
        now.as_ref().map(|layers| layers.iter().map(|layer| layer.index.clone()).collect::<Vec<_>>());
    let contents = indexes.as_ref().map(|indexes| Contents::of(indexes));
    if let (Some(by), Some((last, made))) = (grown, last) {
        let then = made.digest.parse().ok().and_then(|digest| crate::image::described(store, digest).ok()?);
        let then = then.and_then(|target| known(store, &target, last));
        let old = then.map(|layers| layers.iter().map(|layer| layer.index.clone()).collect::<Vec<_>>());
        let old_contents = old.as_ref().map(|indexes| Contents::of(indexes));
        let place = contents
            .as_ref()
            .zip(old_contents.as_ref())
            .and_then(|(now, then)| growth(then, now, 1).into_iter().next());
        let place = place.filter(|growth| growth.bytes() > 0).map(|growth| {
            let path = String::from_utf8_lossy(&growth.path).into_owned();
            let step = growth.layer.and_then(|layer| now.as_ref()?.get(layer)?.step);
            format!(": /{path}{}", step.map(|at| format!(" (#{})", at + 1)).unwrap_or_default())
        });
        lines.push(format!("+{} since build {}{}", bytes(by), last.id, place.unwrap_or_default()));
    }
    if let (Some(layers), Some(contents)) = (&now, &contents) {
        let did = |layer: usize| {
            let step = layers.get(layer).and_then(|layer| layer.step)?;
            record.steps.get(step).filter(|step| removed(step))
        };
        let worst = hidden(contents)
            .into_iter()
            .find(|hidden| is_worth(hidden.removed_bytes) && did(hidden.by).is_some());
        if let Some(hidden) = worst {
            let name = |layer: usize| match layers.get(layer) {
                Some(Brought { step: Some(at), .. }) => format!("#{}", at + 1),
                Some(_) | None => "the base".to_owned(),
            };
            lines.push(format!(
                "{} removed in {} ship all the same in {}",
                bytes(hidden.removed_bytes),
                name(hidden.by),
                name(hidden.of)
            ));
        }
    }
    lines
}

/// The layers of this machine's image, where all of their files are known without a look at blobs.
fn known(store: &Store, target: &Descriptor, record: &Record) -> Option<Vec<Brought>> {
    let image = Image::read(store, target).ok()?;
    let platform: &StoredPlatform = image.for_this_machine()?;
    let config = platform.config.as_deref()?;
    let folder = store.folder(Folder::Indexes);
    let is_known = |diff_id: &crate::oci::DiffId| folder.join(diff_id.0.hex()).symlink_metadata().is_ok();
    config.rootfs.diff_ids.iter().all(is_known).then(|| layers(store, platform, config, Some(record)))
}

/// Titles in a table are cut to so many columns.
const WIDTH: usize = 80;
/// So many steps are in a table; GitHub takes a mebibyte for a step of a job.
const STEPS: usize = 60;

/// The build as Markdown: what was made, and its steps with their times.
pub(in crate::cli) fn markdown(built: &Built, lines: &[String]) -> Option<String> {
    let record = built.record.as_deref()?;
    let title = record.title();
    let title = if title.is_empty() { "image".to_owned() } else { title };
    let mut text = format!("### {}\n\n", escaped(&title));
    let names: Vec<String> = built.names.iter().map(|name| code(&name.to_string())).collect();
    let names = if names.is_empty() { String::new() } else { format!(" as {}", names.join(", ")) };
    let total = record.took_ms.map(took).unwrap_or_default();
    text.push_str(&format!(
        "{}{names}: {}, {} ran, {} cached, {total}\n\n",
        code(&built.digest.to_string()),
        bytes(built.size_bytes),
        built.ran,
        built.cached
    ));
    lines.iter().for_each(|line| text.push_str(&format!("- {}\n", escaped(line))));
    text.push_str("\n| step | | time | why it ran |\n|---|---|---:|---|\n");
    let told: Vec<&Step> =
        record.steps.iter().filter(|step| step.outcome.is_some() && !step.title.is_empty()).collect();
    for step in told.iter().take(STEPS) {
        let became = match step.outcome {
            Some(Outcome::Ran) => "ran",
            Some(Outcome::Cached) => "cached",
            Some(Outcome::ConfigOnly) => "configuration",
            Some(Outcome::Failed | Outcome::Cancelled) | None => "stopped",
        };
        let time = step.took_ms.filter(|_| step.outcome == Some(Outcome::Ran)).map(took).unwrap_or_default();
        let why = step.missed.as_deref().map(escaped).unwrap_or_default();
        text.push_str(&format!("| {} | {became} | {time} | {why} |\n", code(&cut(&step.name(), WIDTH))));
    }
    if told.len() > STEPS {
        text.push_str(&format!("| and {} more | | | |\n", told.len() - STEPS));
    }
    text.push('\n');
    Some(text)
}

/// Appends it to the file that GitHub names; what cannot be written is told, and is no failure of a build.
pub(in crate::cli) fn append(path: &str, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// Text as itself: nothing in it is a mark or a tag, or ends a cell.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '#' | '[' | ']' | '|' | '~' | '@' => {
                out.push('\\');
                out.push(c);
            }
            c if crate::text::terminal::is_unsafe(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out.replace('\n', " ")
}

/// The same between backticks; a cell ends at a bar even there.
fn code(text: &str) -> String {
    let safe = |c: char| match c {
        '`' => '\'',
        c if crate::text::terminal::is_unsafe(c) || c == '\n' => ' ',
        c => c,
    };
    format!("`{}`", text.chars().map(safe).collect::<String>().replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: usize, needs: &[usize], times: (u64, u64)) -> Step {
        Step {
            number,
            title: format!("RUN {number}"),
            outcome: Some(Outcome::Ran),
            needs: needs.to_vec(),
            started_ms: Some(times.0),
            ended_ms: Some(times.1),
            took_ms: Some(times.1 - times.0),
            ..Step::default()
        }
    }

    #[test]
    fn a_long_build_has_a_critical_path() {
        let steps = vec![step(1, &[], (0, 9_000)), step(2, &[], (0, 100)), step(3, &[1, 2], (9_000, 20_000))];
        let record = Record { steps: steps.clone(), took_ms: Some(20_100), ..Record::default() };
        assert_eq!(critical(&record).as_deref(), Some("critical path 20.0s of 20.1s: #1 → #3"));
        let short = Record { steps: vec![step(1, &[], (0, 900))], took_ms: Some(950), ..Record::default() };
        assert_eq!(critical(&short), None);
    }

    #[test]
    fn strangers_words_are_words_in_markdown() {
        assert_eq!(
            escaped("a|<script> `x` *b*\u{1b}[31m @all"),
            "a\\|&lt;script&gt; \\`x\\` \\*b\\* \\[31m \\@all"
        );
        assert_eq!(code("RUN a | b `c`\u{202e}"), "`RUN a \\| b 'c' `");
    }
}
