//! What differs in two images, for people.

use std::collections::BTreeMap;

use crate::compare::advice::advice;
use crate::compare::{Difference, Kind, Place};
use crate::oci::Digest;

/// So many differences of one kind are shown of a layer.
const SHOWN: usize = 10;
/// Longer instructions are cut.
const WIDTH: usize = 70;

/// The two images, what differs in each place, and what to do about it.
pub(in crate::cli) fn text(names: &[(&str, Digest); 2], all: &[Difference], whole: bool) -> String {
    let mut text = String::new();
    let width = names.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, digest) in names {
        text.push_str(&format!("{name:width$}  {digest}\n"));
    }
    if names[0].1 == names[1].1 {
        text.push_str("\nidentical\n");
        return text;
    }
    let mut shown: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut place: Option<&Place> = None;
    for difference in all {
        if place != Some(&difference.place) {
            text.push_str(&hidden(&std::mem::take(&mut shown)));
            text.push_str(&format!("\n{}\n", title(&difference.place)));
            place = Some(&difference.place);
        }
        let of_kind = shown.entry(difference.kind).or_default();
        *of_kind += 1;
        if whole || *of_kind <= SHOWN {
            text.push_str(&line(difference));
        }
    }
    match whole {
        true => {}
        false => text.push_str(&hidden(&shown)),
    }
    text.push_str(&format!("\n{}\n", summary(all)));
    text.push_str(&help(all));
    text
}

fn title(place: &Place) -> String {
    match place {
        Place::Manifest => "manifest".to_owned(),
        Place::Config => "configuration".to_owned(),
        Place::Step(step) => {
            let instruction: String = step.instruction.split_whitespace().collect::<Vec<_>>().join(" ");
            let cut = match instruction.char_indices().nth(WIDTH) {
                Some((end, _)) => format!("{}…", &instruction[..end]),
                None => instruction,
            };
            format!("layer {}: {cut}", step.layer).trim_end_matches([':', ' ']).to_owned()
        }
    }
}

fn line(difference: &Difference) -> String {
    let Difference { place, path, kind, first, second, excerpt } = difference;
    let path = match (place, path.as_str()) {
        (Place::Step(_), path) if !path.is_empty() => format!("/{path}"),
        (_, path) => path.to_owned(),
    };
    let what = match kind {
        Kind::OnlyInFirst => format!("- {first}"),
        Kind::OnlyInSecond => format!("+ {second}"),
        _ if first == second => first.clone(),
        _ => format!("{first} → {second}"),
    };
    let word = match kind {
        Kind::OnlyInFirst | Kind::OnlyInSecond => "file",
        kind => kind.word(),
    };
    let mut text = format!("  {word:11} {path}  {what}\n");
    if let Some(excerpt) = excerpt {
        text.push_str(&format!("              at byte {}:\n", excerpt.offset));
        text.push_str(&format!("              - {}\n              + {}\n", excerpt.first, excerpt.second));
    }
    text
}

/// How many were left out.
fn hidden(shown: &BTreeMap<Kind, usize>) -> String {
    let more = shown.iter().filter(|(_, count)| **count > SHOWN);
    more.map(|(kind, count)| format!("  … {} more: {} (`--all` shows them)\n", count - SHOWN, kind.word()))
        .collect()
}

fn summary(all: &[Difference]) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    all.iter().for_each(|difference| *kinds.entry(difference.kind.word()).or_default() += 1);
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    match all.len() {
        0 => "they differ in names only".to_owned(),
        1 => format!("1 difference: {}", kinds.join(", ")),
        several => format!("{several} differences: {}", kinds.join(", ")),
    }
}

/// Each advice once, with the first path that it is for.
fn help(all: &[Difference]) -> String {
    let mut told: Vec<(&str, &Difference)> = Vec::new();
    for difference in all {
        if let Some(advice) =
            advice(difference).filter(|advice| !told.iter().any(|(known, _)| known == advice))
        {
            told.push((advice, difference));
        }
    }
    let path = |difference: &Difference| match difference.place {
        Place::Step(_) if !difference.path.is_empty() => format!("/{}: ", difference.path),
        _ => String::new(),
    };
    told.iter().map(|(advice, difference)| format!(" = help: {}{advice}\n", path(difference))).collect()
}
