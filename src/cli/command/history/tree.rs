//! `rbuild history NAME --tree`: the stages of the build that made an image, their steps, and what is copied from where.

use std::time::Duration;

use super::find;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::oci::Digest;
use crate::record::{Outcome, Record, Step, Target, kept};
use crate::report::Diagnostic;
use crate::text::duration::seconds;
use crate::text::size::bytes;
use crate::text::terminal::{columns, cut, harmless};

/// Instructions are cut to so many columns.
const WIDTH: usize = 64;

pub(super) fn run(global: &Global, name: Option<&str>) -> Result<(), Failure> {
    let store = local::open_store(global)?;
    let Some(name) = name else { return print(&harmless(&last(&find::last_readable(&store)?))) };
    let (image, _) = local::find(&store, name)?;
    let Some((record, at)) = kept::of_image(&store, &image.descriptor.digest) else {
        let error = Diagnostic::error(format!("there is no record of a build that made `{name}`"));
        return Err(Failure::build(vec![error.help(format!("`rbuild history {name}` lists its layers"))]));
    };
    let size: u64 = image.manifest.layers.iter().map(|layer| layer.size).sum();
    let last = format!("{name}  {}  {}\n", image.descriptor.digest.short(), bytes(size));
    print(&harmless(&(text(&record, at) + &last)))
}

/// The trees of all targets of a build, each with what was made of it.
fn last(record: &Record) -> String {
    let tree = |(at, target): (usize, &Target)| {
        let name = target.made.as_ref().and_then(|made| made.names.first()).map_or("", String::as_str);
        let name = if name.is_empty() { format!("build {}", record.id) } else { name.to_owned() };
        let made = target.made.as_ref().map_or_else(
            || "no image was made".to_owned(),
            |made| format!("{}  {}", short(&made.digest), bytes(made.layers_size)),
        );
        format!("{}{name}  {made}\n", text(record, at))
    };
    record.targets.iter().enumerate().map(tree).collect()
}

/// A digest, as far as people read it.
fn short(digest: &str) -> String {
    digest.parse::<Digest>().map_or_else(|_| digest.to_owned(), |digest| digest.short().to_string())
}

/// What stages have in common in their places: `linux/arm64 build` of `[linux/arm64 build 2/5]`.
fn stage(step: &Step) -> Option<&str> {
    let words = step.place.strip_prefix('[')?.strip_suffix(']')?;
    Some(words.rsplit_once(' ').map_or("", |(stage, _)| stage))
}

/// The stages of a target, in the order of the plan, with their steps.
fn text(record: &Record, at: usize) -> String {
    let is_needed = needed(record, at);
    let steps: Vec<&Step> =
        record.steps.iter().enumerate().filter(|(at, _)| is_needed[*at]).map(|(_, step)| step).collect();
    let mut stages: Vec<(&str, Vec<&Step>)> = Vec::new();
    for step in steps {
        let Some(name) = stage(step) else { continue };
        match stages.iter_mut().find(|(known, _)| *known == name) {
            Some((_, all)) => all.push(step),
            None => stages.push((name, vec![step])),
        }
    }
    let mut text = String::new();
    for (name, steps) in &stages {
        let (from, rest) = match steps.split_first() {
            Some((first, rest)) if first.title.starts_with("FROM ") => (first.title.as_str(), rest),
            _ => (*name, steps.as_slice()),
        };
        text.push_str(&format!("{}\n", cut(from, WIDTH)));
        for (at, step) in rest.iter().enumerate() {
            let branch = if at + 1 == rest.len() { "└─" } else { "├─" };
            text.push_str(&format!("{branch} {}\n", line(record, step)));
        }
    }
    text
}

/// Which steps a target stands on.
fn needed(record: &Record, at: usize) -> Vec<bool> {
    let mut needed: Vec<bool> = record.steps.iter().map(|step| step.target == at + 1).collect();
    for at in (0..record.steps.len()).rev() {
        if needed[at] {
            let inputs = record.steps[at].needs.iter().filter_map(|number| number.checked_sub(1));
            inputs.filter(|input| *input < at).for_each(|input| needed[input] = true);
        }
    }
    needed
}

fn line(record: &Record, step: &Step) -> String {
    let title = cut(&step.title, WIDTH);
    let pad = " ".repeat(WIDTH.saturating_sub(columns(&title)));
    let became = match step.outcome {
        Some(Outcome::Ran) => seconds(Duration::from_millis(step.took_ms.unwrap_or(0))),
        Some(Outcome::Cached) => "cached".to_owned(),
        Some(Outcome::Failed) => "failed".to_owned(),
        Some(Outcome::ConfigOnly | Outcome::Cancelled) | None => String::new(),
    };
    let size = step.layer.as_ref().map(|layer| bytes(layer.size)).unwrap_or_default();
    // Of its own stage it stands on the step before.
    let others = step.needs.iter().filter_map(|number| record.steps.get(number.checked_sub(1)?));
    let others = others.filter(|other| !other.title.starts_with("FROM ")).filter_map(|other| {
        let from = stage(other)?;
        (Some(from) != stage(step)).then(|| format!("{from} #{}", other.number))
    });
    let from: Vec<String> = others.collect();
    let from = if from.is_empty() { String::new() } else { format!("  ← {}", from.join(", ")) };
    format!("#{:<3} {title}{pad}  {became:>7}  {size:>9}{from}", step.number).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Layer;

    #[test]
    fn stages_are_branches_and_copies_say_where_from() {
        let step = |number, place: &str, title: &str, needs: &[usize], outcome| Step {
            number,
            target: 1,
            place: place.to_owned(),
            title: title.to_owned(),
            needs: needs.to_vec(),
            outcome: Some(outcome),
            took_ms: Some(1500),
            layer: (outcome == Outcome::Ran).then(|| Layer {
                digest: String::new(),
                diff_id: String::new(),
                size: 1_200_000,
            }),
            ..Step::default()
        };
        let record = Record {
            steps: vec![
                step(1, "[build 1/2]", "FROM go AS build", &[], Outcome::Cached),
                step(2, "[build 2/2]", "RUN go build", &[1], Outcome::Ran),
                Step { target: 2, ..step(3, "[other 1/1]", "FROM x AS other", &[], Outcome::Cached) },
                step(4, "[stage-2 1/3]", "FROM debian", &[], Outcome::Cached),
                step(5, "[stage-2 2/3]", "COPY --from=build /a /b", &[2, 4], Outcome::Cached),
                step(6, "[stage-2 3/3]", "CMD x", &[5], Outcome::ConfigOnly),
            ],
            ..Record::default()
        };
        let pad = |text: &str| format!("{text}{}", " ".repeat(WIDTH - text.len()));
        let expected = format!(
            "FROM go AS build\n└─ #2   {}    1.50s     1.2 MB\nFROM debian\n├─ #5   {}   cached             ← build #2\n└─ #6   CMD x\n",
            pad("RUN go build"),
            pad("COPY --from=build /a /b")
        );
        assert_eq!(text(&record, 0), expected);
    }
}
