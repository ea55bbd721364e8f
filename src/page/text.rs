//! A report as lines for a terminal, a log, or whoever opens a page without scripts.

use std::time::Duration;

use super::data::{Finding, Image, Last, Layer, Report, View};
use crate::oci::rfc3339_ms;
use crate::record::{Outcome, Record, Status};
use crate::text::duration::seconds;
use crate::text::size::bytes;
use crate::text::terminal::{columns, cut, harmless};

/// So many steps, layers and so on are listed of each kind.
const MOST: usize = 20;
/// Bars are a part of the width.
const BAR_PART: usize = 4;

/// The lines, none wider than `width`.
pub fn text(report: &Report, width: usize) -> String {
    let width = width.clamp(40, 200);
    let mut lines = heading(report);
    let first = report.views.get(report.shown);
    let findings = first.map_or(&[][..], |view| &view.findings);
    if !findings.is_empty() {
        part(&mut lines, "What stands out");
        findings.iter().for_each(|finding| lines.extend(stands_out(finding, width)));
    }
    if let Some(record) = &report.record {
        time(report, record, width, &mut lines);
        misses(report, record, &mut lines);
    }
    if let Some(view) = first {
        files(view, width, &mut lines);
    }
    for view in report.views.iter().enumerate().filter(|(at, _)| *at != report.shown).map(|(_, view)| view) {
        lines.extend([String::new(), format!("The image of {}", name_of(report, view))]);
        lines.extend(sizes(view));
        let own = view.findings.iter().filter(|finding| finding.layer.is_some());
        own.for_each(|finding| lines.extend(stands_out(finding, width)));
        files(view, width, &mut lines);
    }
    let mut out = String::new();
    for line in lines {
        out.push_str(cut(&harmless(&line), width).trim_end());
        out.push('\n');
    }
    out
}

fn files(view: &View, width: usize, lines: &mut Vec<String>) {
    if let Some(image) = &view.image {
        layers(image, width, lines);
        hidden(image, lines);
    } else if let Some(why) = &view.no_image {
        lines.push(String::new());
        lines.push(format!("nothing is known of the files: {why}"));
    }
    growth(view.last.as_ref(), lines);
}

/// What a bake file calls the target.
fn name_of(report: &Report, view: &View) -> String {
    let target = report.record.as_ref().and_then(|record| record.targets.get(view.target));
    match target.filter(|target| !target.name.is_empty()) {
        Some(target) => format!("target `{}`", target.name),
        None => format!("target {}", view.target + 1),
    }
}

fn part(lines: &mut Vec<String>, title: &str) {
    lines.extend([String::new(), title.to_owned()]);
}

fn took(milliseconds: u64) -> String {
    seconds(Duration::from_millis(milliseconds))
}

fn heading(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    let view = report.views.get(report.shown);
    let last = view.and_then(|view| view.last.as_ref());
    if let Some(record) = &report.record {
        let status = match record.status {
            Status::Running => "has not ended",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Canceled => "was stopped",
            Status::Killed => "was killed",
        };
        lines.push(format!(
            "{}  build {} {status}, {}",
            report.title,
            record.id,
            rfc3339_ms(record.started_ms)
        ));
        let of = |outcome| record.steps.iter().filter(|step| step.outcome == Some(outcome)).count();
        let time = record.took_ms.map_or_else(|| "no end".to_owned(), took);
        let change = last.and_then(|last| Some(change(record.took_ms?, last.took_ms?, took)));
        let made = |target: &crate::record::Target| target.made.clone();
        let all: Vec<_> = record.targets.iter().filter_map(made).collect();
        let (ran, cached) = match all.as_slice() {
            [made] => (made.ran, made.cached),
            _ => (of(Outcome::Ran) + of(Outcome::Failed), of(Outcome::Cached)),
        };
        let steps = format!("{ran} steps ran, {cached} cached");
        lines.push(format!("  time    {time}{}; {steps}", change.unwrap_or_default()));
    } else {
        lines.push(format!("{}  image", report.title));
    }
    if let Some(view) = view {
        if report.views.len() > 1 {
            lines.push(format!("  of {}, which is one of {}:", name_of(report, view), report.views.len()));
        }
        lines.extend(sizes(view));
    }
    lines
}

fn sizes(view: &View) -> Vec<String> {
    let Some(image) = &view.image else { return Vec::new() };
    let change = view.last.as_ref().and_then(|last| Some(change(image.blob_bytes, last.blob_bytes?, bytes)));
    vec![
        format!(
            "  size    {} compressed{}, {} uncompressed, {} layers, {} files",
            bytes(image.blob_bytes),
            change.unwrap_or_default(),
            bytes(image.bytes),
            image.layers.len(),
            image.visible_files
        ),
        format!(
            "  waste   {}; {:.1} % efficient, as dive counts",
            bytes(image.efficiency.wasted_bytes),
            image.efficiency.score * 100.0
        ),
        format!("  image   {}", image.digest),
    ]
}

/// ` (+3.0s)`; nothing where nothing changed.
fn change(now: u64, before: u64, write: fn(u64) -> String) -> String {
    match now.cmp(&before) {
        std::cmp::Ordering::Equal => String::new(),
        std::cmp::Ordering::Greater => format!(" (+{})", write(now - before)),
        std::cmp::Ordering::Less => format!(" (-{})", write(before - now)),
    }
}

fn stands_out(finding: &Finding, width: usize) -> Vec<String> {
    let plain = |text: &str| text.replace('`', "");
    let mut lines = wrapped(&format!("{}.", plain(&finding.what)), width - 2, "  ");
    if let Some(advice) = &finding.advice {
        lines.extend(wrapped(&format!("→ {}.", plain(advice)), width - 4, "    "));
    }
    lines
}

fn wrapped(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut().filter(|line| columns(line) + 1 + columns(word) <= width) {
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    lines.into_iter().map(|line| format!("{indent}{line}")).collect()
}

/// `░░░██████` in so many columns: until when it waited, and until when it worked.
fn bar(total: u64, (ready, work, end): (u64, u64, u64), width: usize, full: char) -> String {
    let at = |time: u64| (u128::from(time.min(total)) * width as u128 / u128::from(total.max(1))) as usize;
    let (ready, work) = (at(ready), at(work).min(width.saturating_sub(1)));
    let end = at(end).max(work + 1);
    let ready = ready.min(work);
    let mut bar = " ".repeat(ready);
    bar.extend(std::iter::repeat_n('░', work - ready));
    bar.extend(std::iter::repeat_n(full, end - work));
    bar.extend(std::iter::repeat_n(' ', width.saturating_sub(end)));
    bar
}

fn time(report: &Report, record: &Record, width: usize, lines: &mut Vec<String>) {
    let is_critical = |step: usize| report.timeline.critical.iter().any(|link| link.step == step);
    let is_told = |step: usize| {
        matches!(record.steps[step].outcome, Some(Outcome::Ran | Outcome::Failed | Outcome::Cancelled))
    };
    let mut bars: Vec<_> = report.timeline.bars.iter().filter(|bar| is_told(bar.0)).collect();
    if bars.is_empty() {
        return;
    }
    part(lines, "When steps ran (█ critical path, ▒ others, ░ waited)");
    let left = bars.len().saturating_sub(MOST);
    bars.sort_by_key(|bar| std::cmp::Reverse(bar.4 - bar.3));
    bars.truncate(MOST);
    bars.sort_by_key(|bar| (bar.2, bar.0));
    let bar_width = width / BAR_PART + 4;
    let name_width = width.saturating_sub(bar_width + 14);
    for (step, ready, _, work, end) in bars {
        let full = if is_critical(*step) { '█' } else { '▒' };
        let picture = bar(report.timeline.total_ms, (*ready, *work, *end), bar_width, full);
        let name = format!("#{} {}", record.steps[*step].number, record.steps[*step].name());
        let name = cut(&harmless(&name), name_width).into_owned();
        let pad = " ".repeat(name_width.saturating_sub(columns(&name)));
        lines.push(format!("  {name}{pad}  {picture} {:>7}", took(end - work)));
    }
    if left > 0 {
        lines.push(format!("  {left} more took less"));
    }
}

fn misses(report: &Report, record: &Record, lines: &mut Vec<String>) {
    let mut own: Vec<_> = report.misses.iter().filter(|miss| miss.cause.is_none()).collect();
    if own.is_empty() {
        return;
    }
    own.sort_by_key(|miss| std::cmp::Reverse(miss.took_ms.saturating_add(miss.then_ms)));
    part(lines, "Why steps ran again");
    for miss in own.into_iter().take(MOST) {
        let step = &record.steps[miss.step];
        let lost = took(miss.took_ms.saturating_add(miss.then_ms));
        let then = match miss.then.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        lines.push(format!("  {lost:>7}  #{}{then}: {}", step.number, miss.why));
        for (what, before, after) in &miss.fields {
            let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
            if before.is_some() || after.is_some() {
                lines.push(format!("             {what}: {} → {}", side(before), side(after)));
            }
        }
    }
}

/// What brought a layer, on one line.
fn brought(layer: &Layer, at: usize) -> String {
    let line = layer.lines.map_or_else(String::new, |(line, _)| format!(" (line {line})"));
    match layer.instruction.as_str() {
        "" => format!("layer {}", at + 1),
        text => format!("{}{line}", cut(text, 60)),
    }
}

fn layers(image: &Image, width: usize, lines: &mut Vec<String>) {
    if image.layers.is_empty() {
        return;
    }
    part(lines, "What makes the image big");
    let most = image.layers.iter().map(|layer| layer.bytes.max(layer.blob_bytes)).max().unwrap_or(1).max(1);
    let bar_width = width / BAR_PART / 2;
    let mut order: Vec<(usize, &Layer)> = image.layers.iter().enumerate().collect();
    order.sort_by_key(|(at, layer)| (std::cmp::Reverse(layer.bytes.max(layer.blob_bytes)), *at));
    let left = order.len().saturating_sub(MOST);
    for (at, layer) in order.into_iter().take(MOST) {
        let length = (u128::from(layer.bytes) * bar_width as u128 / u128::from(most)) as usize;
        let base = if layer.is_base == Some(true) { "base: " } else { "" };
        let size = match layer.absent {
            Some(_) => "?".to_owned(),
            None => bytes(layer.bytes),
        };
        lines.push(format!(
            "  {size:>9} {:>9}  {}{}  {base}{}",
            bytes(layer.blob_bytes),
            "█".repeat(length),
            " ".repeat(bar_width - length.min(bar_width)),
            brought(layer, at)
        ));
    }
    if left > 0 {
        lines.push(format!("  {left} more layers are smaller"));
    }
}

fn hidden(image: &Image, lines: &mut Vec<String>) {
    if image.hidden.is_empty() {
        return;
    }
    part(lines, "What ships and nobody sees");
    for pair in image.hidden.iter().take(MOST) {
        let (of, by) = (&image.layers[pair.of], &image.layers[pair.by]);
        let how = match (pair.removed_bytes, pair.replaced_bytes) {
            (removed, replaced) if removed >= replaced => "removed by",
            _ => "replaced by",
        };
        let size = bytes(pair.removed_bytes + pair.replaced_bytes);
        lines.push(format!("  {size:>9}  of {} {how} {}", brought(of, pair.of), brought(by, pair.by)));
        for (path, size) in pair.examples.iter().take(3) {
            lines.push(format!("             {:>9} /{}", bytes(*size), String::from_utf8_lossy(path)));
        }
    }
}

fn growth(last: Option<&Last>, lines: &mut Vec<String>) {
    let Some(last) = last.filter(|last| !last.growth.is_empty()) else { return };
    part(lines, &format!("Since build {}", last.id));
    for growth in last.growth.iter().take(MOST) {
        let (sign, by) = match growth.after.checked_sub(growth.before) {
            Some(more) => ('+', more),
            None => ('-', growth.before - growth.after),
        };
        let slash = if growth.is_folder { "/" } else { "" };
        lines.push(format!("  {sign}{:>9}  /{}{slash}", bytes(by), growth.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_their_width() {
        assert_eq!(bar(100, (10, 50, 100), 10, '█'), " ░░░░█████");
        assert_eq!(bar(100, (0, 100, 100), 10, '█'), "░░░░░░░░░█");
        assert_eq!(bar(0, (0, 0, 0), 4, '█'), "█   ");
        assert_eq!(bar(100, (90, 5, 3), 10, '█'), "█         ");
        assert_eq!(columns(&bar(u64::MAX, (0, 1, u64::MAX), 12, '█')), 12);
    }

    #[test]
    fn a_report_of_nothing_is_short() {
        assert_eq!(text(&Report::default(), 80), "  image\n");
    }
}
