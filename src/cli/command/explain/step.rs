//! One step: why it ran, what would make it cached, what its layer has.

use super::overview::{fields, named, took_of};
use super::subject::Subject;
use crate::cli::Failure;
use crate::insight::contents::{Change, Contents};
use crate::insight::missed::counterpart;
use crate::insight::tree::trees;
use crate::record::{Outcome, Record, Step};
use crate::report::Diagnostic;
use crate::text::size::bytes;

/// So many folders of a layer are named.
const FOLDERS: usize = 8;

pub(super) fn text(subject: &Subject, number: usize) -> Result<String, Failure> {
    let Some(record) = &subject.record else {
        let error = Diagnostic::error(format!(
            "there is no record of the build of `{}`, so it has no steps",
            subject.name
        ));
        return Err(Failure::build(vec![
            error.help("a path in the image, such as /etc, can be explained all the same"),
        ]));
    };
    let Some(step) = number.checked_sub(1).and_then(|at| record.steps.get(at)) else {
        let error = Diagnostic::error(format!("{} has no step {number}", subject.name));
        return Err(Failure::build(vec![
            error.help(format!("they are numbered from 1 to {}", record.steps.len())),
        ]));
    };
    let mut text = format!("{} {}\n", step.place, named(step)).trim_start().to_owned();
    text.push_str(&outcome(subject, record, step));
    let layer = step.layer.as_ref();
    let at = layer.and_then(|made| subject.layers.iter().position(|known| known.diff_id == made.diff_id));
    if let Some(made) = layer {
        text.push_str(&format!("\nlayer {}, {} compressed\n", short(&made.digest), bytes(made.size)));
    }
    if let Some(at) = at {
        text.push_str(&held(subject, at));
    }
    Ok(text)
}

fn short(digest: &str) -> &str {
    let digits = digest.rsplit(':').next().unwrap_or(digest);
    digits.get(..12).unwrap_or(digits)
}

fn outcome(subject: &Subject, record: &Record, step: &Step) -> String {
    let took = step.took_ms.map(took_of).unwrap_or_default();
    let miss = subject.misses.iter().find(|miss| miss.step + 1 == step.number);
    let mut text = match step.outcome {
        Some(Outcome::Ran) => format!("ran, {took}\n"),
        Some(Outcome::Failed) => format!("failed after {took}\n"),
        Some(Outcome::Cached) => "cached: all that it reads was as in an earlier build\n".to_owned(),
        Some(Outcome::ConfigOnly) => "changes the configuration only, which costs nothing\n".to_owned(),
        Some(Outcome::Cancelled) => "was stopped when the build ended\n".to_owned(),
        None => "was not begun\n".to_owned(),
    };
    let did = matches!(step.outcome, Some(Outcome::Ran | Outcome::Failed));
    match miss {
        Some(miss) if miss.why == "--no-cache" => {
            text.push_str("the cache was not to be asked: `--no-cache`\n");
        }
        Some(miss) if miss.why == "not built before" => {
            text.push_str("not cached: not built before; the next build can take it\n");
        }
        Some(miss) => {
            text.push_str(&format!("not cached: {}\n", miss.why));
            text.push_str(&fields(miss, "  "));
            if miss.more > 0 {
                text.push_str(&format!("  and {} more\n", miss.more));
            }
            let cause = miss.cause.map(|cause| &record.steps[cause]);
            text.push_str(&match cause {
                Some(cause) => format!("it is cached again once {} is\n", named(cause)),
                None => format!(
                    "it is cached again whenever all of that is as it was in a build before{}\n",
                    since(subject, step)
                ),
            });
            if !miss.then.is_empty() {
                let count = miss.then.len();
                text.push_str(&format!("because of it {count} more ran, {}\n", took_of(miss.then_ms)));
            }
        }
        None if did && record.targets.iter().any(|target| target.attributes.contains_key("no-cache")) => {
            text.push_str("the cache was not to be asked (`--no-cache`)\n");
        }
        None if did => text.push_str("there was no earlier build to take it from; the next one can\n"),
        None => {}
    }
    text
}

/// When it last was something else.
fn since(subject: &Subject, step: &Step) -> String {
    let before = subject.before.as_ref().and_then(|before| before.record.as_ref());
    match before.and_then(|record| Some((record, counterpart(step, record)?))) {
        Some((record, _)) => format!(", such as {}", record.id),
        None => String::new(),
    }
}

/// What is in a layer.
fn held(subject: &Subject, layer: usize) -> String {
    let indexes = subject.indexes();
    let contents = Contents::of(&indexes);
    let Some(files) = contents.layers.get(layer) else { return String::new() };
    let count = |wanted: fn(&Change) -> bool| files.iter().filter(|file| wanted(&file.change)).count();
    let mut text = format!(
        "{} added, {} changed, {} removed; {} of files\n",
        count(|change| *change == Change::Added),
        count(|change| *change == Change::Changed),
        count(|change| matches!(change, Change::Removed { .. })),
        bytes(contents.brought_bytes(layer))
    );
    let mut folders: Vec<(u64, String)> = Vec::new();
    // Alone: beside others a small layer would not be opened.
    let alone = Contents { layers: vec![files.clone()], visible: Vec::new() };
    for tree in trees(&alone, 200) {
        flatten(&tree, String::new(), &mut folders);
    }
    folders.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
    for (size, path) in folders.into_iter().filter(|(size, _)| *size > 0).take(FOLDERS) {
        text.push_str(&format!("  {:>8}  {path}\n", bytes(size)));
    }
    let removed = files.iter().filter(|file| matches!(file.change, Change::Removed { .. }) && file.size > 0);
    let gone: u64 = removed.clone().map(|file| file.size).sum();
    if gone > 0 {
        text.push_str(&format!("it removes {} that lower layers ship all the same\n", bytes(gone)));
    }
    let later: u64 =
        files.iter().filter(|file| file.is_brought() && file.hidden_by.is_some()).map(|file| file.size).sum();
    if later > 0 {
        text.push_str(&format!("later layers hide {} of it, which ship all the same\n", bytes(later)));
    }
    text
}

/// Folders that hold something of their own, as deep as one alone has most of it.
fn flatten(node: &crate::insight::tree::Node, path: String, into: &mut Vec<(u64, String)>) {
    let name = String::from_utf8_lossy(&node.name).into_owned();
    let path = if name.is_empty() { path } else { format!("{path}/{name}") };
    let largest = node.children.iter().map(|child| child.size).max().unwrap_or(0);
    let opens = !node.children.is_empty()
        && (path.is_empty() || largest.saturating_mul(10) >= node.size.saturating_mul(6));
    match opens {
        true => node.children.iter().for_each(|child| flatten(child, path.clone(), into)),
        false => into.push((node.size, if node.is_folder { format!("{path}/") } else { path })),
    }
}
