//! A build as Markdown, for the page that GitHub shows of a job.

use std::io::Write as _;

use super::took;
use crate::record::{Message, Outcome, Record, Status, Step, Target};
use crate::text::size::bytes;
use crate::text::terminal::cut;

/// Titles in a table are cut to so many columns.
const WIDTH: usize = 80;
/// So many steps are in a table; GitHub takes a mebibyte for a step of a job.
const STEPS: usize = 60;
/// So many targets, and errors, are told of;
const MOST: usize = 60;
/// of each, so many names and ways to go on.
const FEW: usize = 8;
/// Sentences are cut to so many columns: GitHub drops a summary that is too long.
const LONGEST: usize = 500;

/// What was made, or why not, and the steps with their times.
pub(in crate::cli) fn markdown(record: &Record, lines: &[String]) -> String {
    let title = record.title();
    let title = if title.is_empty() { "image" } else { &title };
    let mut text = format!("### {}\n\n", escaped(title));
    match record.targets.as_slice() {
        _ if record.status != Status::Completed => failed(record, &mut text),
        [only] => text.push_str(&format!("{}, {}\n\n", made(only), total(record))),
        several => {
            text.push_str(&format!("{} images, {}\n\n", several.len(), total(record)));
            for target in several.iter().take(MOST) {
                text.push_str(&format!("- {}: {}\n", code(&target.name), made(target)));
            }
            if several.len() > MOST {
                text.push_str(&format!("- and {} more\n", several.len() - MOST));
            }
        }
    }
    lines.iter().for_each(|line| text.push_str(&format!("- {}\n", escaped(line))));
    table(record, &mut text);
    text
}

fn total(record: &Record) -> String {
    record.took_ms.map(took).unwrap_or_default()
}

fn made(target: &Target) -> String {
    let Some(made) = &target.made else { return "no image".to_owned() };
    let mut names: Vec<String> = made.names.iter().take(FEW).map(|name| code(name)).collect();
    if made.names.len() > FEW {
        names.push(format!("{} more", made.names.len() - FEW));
    }
    let names = if names.is_empty() { String::new() } else { format!(" as {}", names.join(", ")) };
    let (digest, size) = (code(&made.digest), bytes(made.layers_size));
    format!("{digest}{names}: {size}, {} ran, {} cached", made.ran, made.cached)
}

fn failed(record: &Record, text: &mut String) {
    let how = match record.status {
        Status::Failed => "**Failed**",
        Status::Canceled => "Stopped",
        Status::Completed | Status::Running | Status::Killed => "Not ended",
    };
    text.push_str(&format!("{how} after {}\n\n", total(record)));
    for error in record.errors.iter().take(MOST) {
        let Message { text: message, place, help, .. } = error;
        let place = place.as_ref().map(|place| format!(" ({}, line {})", code(&place.file), place.line));
        text.push_str(&format!("- {}{}\n", escaped(message), place.unwrap_or_default()));
        help.iter().take(FEW).for_each(|help| text.push_str(&format!("  - {}\n", escaped(help))));
    }
}

fn table(record: &Record, text: &mut String) {
    let is_told = |step: &&Step| step.outcome.is_some() && !step.title.is_empty();
    let told: Vec<&Step> = record.steps.iter().filter(is_told).collect();
    if told.is_empty() {
        text.push('\n');
        return;
    }
    text.push_str("\n| step | | time | why it ran |\n|---|---|---:|---|\n");
    // Of very many, what worked is worth more than what the cache had.
    let has_worked = |step: &&&Step| matches!(step.outcome, Some(Outcome::Ran | Outcome::Failed));
    let shown: Vec<&&Step> = match told.len() > STEPS {
        true => told.iter().filter(has_worked).take(STEPS).collect(),
        false => told.iter().collect(),
    };
    for step in &shown {
        let became = match step.outcome {
            Some(Outcome::Ran) => "ran",
            Some(Outcome::Cached) => "cached",
            Some(Outcome::ConfigOnly) => "configuration",
            Some(Outcome::Failed) => "**failed**",
            Some(Outcome::Cancelled) | None => "stopped",
        };
        let time = step.took_ms.filter(|_| has_worked(step)).map(took).unwrap_or_default();
        let why = step.missed.as_deref().map(escaped).unwrap_or_default();
        // A cell ends at a bar even between backticks.
        let name = code(&cut(&step.name(), WIDTH)).replace('|', "\\|");
        text.push_str(&format!("| {name} | {became} | {time} | {why} |\n"));
    }
    if told.len() > shown.len() {
        text.push_str(&format!("| and {} more | | | |\n", told.len() - shown.len()));
    }
    text.push('\n');
}

/// Appends it to the file that GitHub names; what cannot be written is told, and is no failure of a build.
pub(in crate::cli) fn append(path: &str, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// Text as itself, cut: nothing in it is a mark or a tag, or ends a cell.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST));
    for c in cut(text, LONGEST).chars() {
        match c {
            // Between two of them there would be mathematics, where a backslash is none of ours.
            '$' => out.push_str("&#36;"),
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

/// The same between backticks.
fn code(text: &str) -> String {
    let safe = |c: char| match c {
        '`' => '\'',
        c if crate::text::terminal::is_unsafe(c) || c == '\n' => ' ',
        c => c,
    };
    format!("`{}`", cut(text, LONGEST).chars().map(safe).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_words_are_words_in_markdown() {
        assert_eq!(
            escaped("a|<script> `x` *b*\u{1b}[31m @all"),
            "a\\|&lt;script&gt; \\`x\\` \\*b\\* \\[31m \\@all"
        );
        assert_eq!(escaped("$FOO and $BAR"), "&#36;FOO and &#36;BAR");
        assert_eq!(escaped(&"x".repeat(501)), "x".repeat(499) + "…");
        assert_eq!(code("RUN a | b `c`\u{202e}"), "`RUN a | b 'c' `");
    }
}
