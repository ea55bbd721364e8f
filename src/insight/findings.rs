//! What stands out in a build or an image, in a few sentences with numbers, and what could be done about it.
//!
//! What is measured comes first, in words; advice is what mostly helps, and stands apart.

use std::collections::BTreeMap;
use std::time::Duration;

use super::contents::{Change, Contents, File};
use super::layers::Brought;
use super::missed::Miss;
use super::timeline::Timeline;
use super::waste::Hidden;
use crate::record::{Record, Step};
use crate::text::duration::seconds;
use crate::text::size::bytes;
use crate::text::terminal::cut;

/// Something worth knowing. Words of Dockerfiles and paths stand in backticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub kind: Kind,
    /// What is so.
    pub what: String,
    /// What could be done.
    pub advice: Option<String>,
    /// The step that it is about, as an index of the record.
    pub step: Option<usize>,
    /// The layer that it is about, the lowest is 0.
    pub layer: Option<usize>,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The build failed.
    Failure,
    /// Where the time went.
    Time,
    /// Why steps ran again.
    Cache,
    /// What makes the image big.
    Size,
    /// Bytes that nobody sees.
    Waste,
}

/// What is known.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// The build.
    pub record: Option<&'f Record>,
    /// Its timeline.
    pub timeline: &'f Timeline,
    /// Its misses.
    pub misses: &'f [Miss],
    /// The layers of the image.
    pub layers: &'f [Brought],
    /// Their files.
    pub contents: &'f Contents<'f>,
    /// What of these is hidden.
    pub hidden: &'f [Hidden],
}

/// Steps that take less are not worth a word.
const LEAST_MS: u64 = 1000;
/// Nor is what is smaller,
const LEAST_BYTES: u64 = 1_000_000;
/// or a smaller part of the image than one in so many.
const LEAST_PART: u64 = 100;
/// So many steps are named that leave what tools have downloaded.
const MOST_CACHES: usize = 2;
/// Instructions are cut to so many columns.
const WIDTH: usize = 70;

/// Folders that tools keep what they have downloaded in, with what one mounts there.
const CACHES: [(&str, &str); 14] = [
    ("var/cache/apt", "apt's downloads"),
    ("var/lib/apt/lists", "apt's lists of packages"),
    ("var/cache/apk", "apk's downloads"),
    ("var/cache/dnf", "dnf's downloads"),
    ("var/cache/yum", "yum's downloads"),
    ("root/.cache/pip", "pip's downloads"),
    ("root/.cache/go-build", "Go's build cache"),
    ("root/go/pkg/mod", "Go's modules"),
    ("go/pkg/mod", "Go's modules"),
    ("root/.npm", "npm's downloads"),
    ("usr/local/share/.cache", "yarn's downloads"),
    ("root/.cargo/registry", "cargo's downloads"),
    ("usr/local/cargo/registry", "cargo's downloads"),
    ("root/.m2/repository", "Maven's downloads"),
];

/// What stands out, in the order of the kinds.
pub fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(failure(facts));
    found.extend(slowest(facts));
    found.extend(dearest_miss(facts));
    found.extend(largest_layer(facts));
    found.extend(worst_waste(facts));
    found.extend(caches(facts));
    found
}

fn failure(facts: &Facts<'_>) -> Option<Finding> {
    let record = facts.record?;
    let what = format!("The build failed: {}", record.error()?);
    let advice = record.errors.first().and_then(|error| error.help.first().cloned());
    let step = record.steps.iter().position(|step| step.outcome == Some(crate::record::Outcome::Failed));
    Some(Finding { kind: Kind::Failure, what, advice, step, layer: None })
}

/// `#4 RUN make` with its line.
fn named(step: &Step) -> String {
    let line = step.lines.map_or_else(String::new, |(line, _)| format!(" (line {line})"));
    format!("`#{} {}`{line}", step.number, cut(&step.title, WIDTH))
}

fn took(milliseconds: u64) -> String {
    seconds(Duration::from_millis(milliseconds))
}

fn percent(part: u64, whole: u64) -> String {
    format!("{} %", u128::from(part) * 100 / u128::from(whole.max(1)))
}

fn slowest(facts: &Facts<'_>) -> Option<Finding> {
    let (record, timeline) = (facts.record?, facts.timeline);
    let link = timeline.critical.iter().max_by_key(|link| link.took_ms)?;
    if link.took_ms < LEAST_MS {
        return None;
    }
    let mut what = format!(
        "{} costs most: {}, {} of the build",
        named(&record.steps[link.step]),
        took(link.took_ms),
        percent(link.took_ms, timeline.total_ms)
    );
    if link.saves_ms > 0 && link.saves_ms < link.took_ms {
        what.push_str(&format!(". Without it the build would end {} sooner", took(link.saves_ms)));
    }
    let waits = &record.steps[link.step].waited;
    let advice = (waits.slot_ms > link.took_ms / 4)
        .then(|| format!("It waited {} for its turn: more `--jobs` may help", took(waits.slot_ms)));
    Some(Finding { kind: Kind::Time, what, advice, step: Some(link.step), layer: None })
}

fn dearest_miss(facts: &Facts<'_>) -> Option<Finding> {
    let record = facts.record?;
    let cost = |miss: &&Miss| miss.took_ms.saturating_add(miss.then_ms);
    let miss = facts.misses.iter().filter(|miss| miss.cause.is_none()).max_by_key(cost)?;
    if cost(&miss) < LEAST_MS {
        return None;
    }
    let step = &record.steps[miss.step];
    let mut what = format!("{} ran again, because {}", named(step), miss.why);
    match miss.then.len() {
        0 => what.push_str(&format!(": {}", took(miss.took_ms))),
        1 => what.push_str(&format!(", and so did a step that stands on it: {}", took(cost(&miss)))),
        more => what.push_str(&format!(", and so did {more} steps that stand on it: {}", took(cost(&miss)))),
    }
    let advice = advice(step, miss);
    Some(Finding { kind: Kind::Cache, what, advice, step: Some(miss.step), layer: None })
}

fn advice(step: &Step, miss: &Miss) -> Option<String> {
    let first = miss.why.split([',', ' ']).next().unwrap_or_default();
    if step.title.starts_with("COPY ") && !step.title.contains("--from=") && miss.then_ms >= LEAST_MS {
        return Some(
            "Copy only what the steps after it need (a list of dependencies, say), run these, and copy the rest then".to_owned(),
        );
    }
    match first {
        "ARG" | "ENV" => {
            Some("Set it as late as possible: all steps after it run again when it changes".to_owned())
        }
        _ if miss.why.starts_with("the layer below changed") => {
            Some("The base is another one: `rbuild lock` pins it, and moves it when you say so".to_owned())
        }
        _ => None,
    }
}

/// All bytes that layers bring.
fn whole(facts: &Facts<'_>) -> u64 {
    (0..facts.layers.len()).map(|layer| facts.contents.brought_bytes(layer)).sum()
}

fn is_worth_a_word(facts: &Facts<'_>, size: u64) -> bool {
    size >= LEAST_BYTES && size >= whole(facts) / LEAST_PART
}

/// `#4 RUN make (line 5)`, or as much of that as is known.
fn brought_by(facts: &Facts<'_>, layer: usize) -> String {
    let Some(brought) = facts.layers.get(layer) else { return format!("layer {}", layer + 1) };
    let line = brought.lines.map_or_else(String::new, |(line, _)| format!(" (line {line})"));
    let number = match brought.step.and_then(|step| facts.record?.steps.get(step)) {
        Some(step) => format!("#{} ", step.number),
        None => String::new(),
    };
    match brought.instruction.as_str() {
        "" => format!("layer {}", layer + 1),
        text => format!("`{number}{}`{line}", cut(text, WIDTH)),
    }
}

fn largest_layer(facts: &Facts<'_>) -> Option<Finding> {
    let whole = whole(facts);
    let base: u64 = (0..facts.layers.len())
        .filter(|layer| facts.layers[*layer].is_base == Some(true))
        .map(|layer| facts.contents.brought_bytes(layer))
        .sum();
    let own = (0..facts.layers.len()).filter(|layer| facts.layers[*layer].is_base != Some(true));
    let largest = own.max_by_key(|layer| facts.contents.brought_bytes(*layer));
    let size = largest.map_or(0, |layer| facts.contents.brought_bytes(layer));
    if base > size && is_worth_a_word(facts, base) {
        let what = format!(
            "The base makes {} of the image: {} of {}",
            percent(base, whole),
            bytes(base),
            bytes(whole)
        );
        let advice = Some("A smaller base is the only thing that changes this".to_owned());
        return Some(Finding { kind: Kind::Size, what, advice, step: None, layer: Some(0) });
    }
    let layer = largest.filter(|_| is_worth_a_word(facts, size))?;
    let mut what = format!(
        "{} makes the image big: {} of {} uncompressed",
        brought_by(facts, layer),
        bytes(size),
        bytes(whole)
    );
    if let Some((folder, held)) = fullest(facts.contents.layers.get(layer)?) {
        what.push_str(&format!(", {} of it in `/{}`", bytes(held), String::from_utf8_lossy(folder)));
    }
    let step = facts.layers[layer].step;
    Some(Finding { kind: Kind::Size, what, advice: None, step, layer: Some(layer) })
}

/// The deepest folder that has most of a layer's bytes.
fn fullest<'i>(files: &[File<'i>]) -> Option<(&'i [u8], u64)> {
    let (mut found, mut rest) = (None, files.iter().filter(|file| file.is_brought()).collect::<Vec<_>>());
    let mut prefix = 0;
    loop {
        let whole: u64 = rest.iter().map(|file| file.size).sum();
        let mut sums: BTreeMap<&[u8], u64> = BTreeMap::new();
        for file in &rest {
            if let Some(slash) = file.path[prefix..].iter().position(|byte| *byte == b'/') {
                *sums.entry(&file.path[..prefix + slash]).or_default() += file.size;
            }
        }
        let Some((folder, size)) = sums.into_iter().max_by_key(|(_, size)| *size) else { return found };
        if size.saturating_mul(100) < whole.saturating_mul(60) || size == 0 {
            return found;
        }
        found = Some((folder, size));
        prefix = folder.len() + 1;
        rest.retain(|file| {
            file.path.len() > folder.len() && file.path.starts_with(folder) && file.path[folder.len()] == b'/'
        });
    }
}

fn worst_waste(facts: &Facts<'_>) -> Option<Finding> {
    let worst = facts.hidden.first().filter(|hidden| is_worth_a_word(facts, hidden.bytes()))?;
    let (of, by) = (brought_by(facts, worst.of), brought_by(facts, worst.by));
    let is_base = facts.layers.get(worst.of).is_some_and(|layer| layer.is_base == Some(true));
    let (what, advice) = if worst.removed_bytes >= worst.replaced_bytes {
        let advice = match is_base {
            true => {
                "Nothing that stands on the base can make it smaller: only another base, or `--squash-all`"
            }
            false => "Remove it in the instruction that brings it, or keep it out with a cache mount",
        };
        (
            format!("{by} removes {} that {of} brings: they ship all the same", bytes(worst.removed_bytes)),
            advice,
        )
    } else {
        let advice = match is_owner_change(facts, worst) {
            true => {
                "The same files again with another owner or mode: `COPY --chown` and `--chmod` set these at once"
            }
            false => "What is written last should be written once",
        };
        (format!("{by} replaces {} that {of} brings: both ship", bytes(worst.replaced_bytes)), advice)
    };
    let step = facts.layers.get(worst.by).and_then(|layer| layer.step);
    Some(Finding { kind: Kind::Waste, what, advice: Some(advice.to_owned()), step, layer: Some(worst.by) })
}

/// Whether most of what was replaced came again with the same size, by an instruction that says why.
fn is_owner_change(facts: &Facts<'_>, hidden: &Hidden) -> bool {
    let instruction = facts.layers.get(hidden.by).map_or("", |layer| layer.instruction.as_str());
    if !["chown", "chmod", "chgrp"].iter().any(|word| instruction.contains(word)) {
        return false;
    }
    let Some(files) = facts.contents.layers.get(hidden.of) else { return false };
    let Some(above) = facts.contents.layers.get(hidden.by) else { return false };
    let replaced = files.iter().filter(|file| file.hidden_by == Some(hidden.by));
    let same = |file: &&File<'_>| {
        let at = above.binary_search_by(|other| other.path.cmp(file.path));
        at.is_ok_and(|at| above[at].size == file.size && above[at].change == Change::Changed)
    };
    let same: u64 = replaced.filter(same).map(|file| file.size).sum();
    same.saturating_mul(10) >= hidden.replaced_bytes.saturating_mul(9)
}

/// What tools keep for the next time and no image needs: the steps that leave most of it, each with all that it leaves.
fn caches(facts: &Facts<'_>) -> Vec<Finding> {
    let mut by_layer: BTreeMap<usize, Vec<Left>> = BTreeMap::new();
    for (folder, name) in CACHES {
        let prefix = format!("{folder}/").into_bytes();
        let visible = &facts.contents.visible;
        let from = visible.partition_point(|(path, ..)| *path < prefix.as_slice());
        let below = visible[from..].iter().take_while(|(path, ..)| path.starts_with(&prefix));
        let mut sizes: BTreeMap<usize, u64> = BTreeMap::new();
        for (_, layer, at) in below {
            *sizes.entry(*layer).or_default() += facts.contents.layers[*layer][*at].size;
        }
        let is_own = |layer: usize| facts.layers.get(layer).is_some_and(|l| l.is_base != Some(true));
        for (layer, size) in sizes.into_iter().filter(|(layer, _)| is_own(*layer)) {
            by_layer.entry(layer).or_default().push(Left { size, folder, name });
        }
    }
    let sum = |all: &[Left]| all.iter().map(|left| left.size).sum::<u64>();
    let mut worst: Vec<(usize, Vec<Left>)> =
        by_layer.into_iter().filter(|(_, all)| is_worth_a_word(facts, sum(all))).collect();
    worst.sort_by_key(|(layer, all)| (std::cmp::Reverse(sum(all)), *layer));
    worst.truncate(MOST_CACHES);
    worst.iter_mut().for_each(|(_, all)| {
        all.sort_by_key(|left| (std::cmp::Reverse(left.size), left.folder));
        // What is next to nothing would only make the sentence long.
        let least = sum(all) / 20;
        all.retain(|left| left.size >= least);
    });
    worst.iter().map(|(layer, all)| leaves(facts, *layer, all)).collect()
}

/// What a tool has left in a folder.
struct Left {
    size: u64,
    folder: &'static str,
    name: &'static str,
}

fn leaves(facts: &Facts<'_>, layer: usize, all: &[Left]) -> Finding {
    let names: Vec<&str> = all.iter().map(|left| left.name).collect();
    let folders: Vec<String> = all.iter().map(|left| format!("`/{}`", left.folder)).collect();
    let size = bytes(all.iter().map(|left| left.size).sum());
    let (names, folders) = (names.join(" and "), folders.join(" and "));
    let what = format!("{} leaves {names} in the image: {size} in {folders}", brought_by(facts, layer));
    let mounts: Vec<String> =
        all.iter().map(|left| format!("--mount=type=cache,target=/{}", left.folder)).collect();
    let advice =
        Some(format!("`RUN {}` keeps them for the next build, and out of the image", mounts.join(" ")));
    Finding { kind: Kind::Waste, what, advice, step: facts.layers[layer].step, layer: Some(layer) }
}

#[cfg(test)]
mod tests {
    use super::super::contents::tests::layer;
    use super::super::missed::misses;
    use super::super::waste::hidden;
    use super::*;
    use crate::record::tests::step;

    fn brought(lines: &[&str], instruction: &str, line: usize) -> Brought {
        Brought {
            digest: String::new(),
            diff_id: String::new(),
            blob_bytes: 0,
            index: layer(lines),
            absent: None,
            step: None,
            lines: Some((line, line)),
            instruction: instruction.to_owned(),
            is_base: Some(false),
            took_ms: None,
        }
    }

    fn told(layers: &[Brought], record: Option<&Record>) -> Vec<(Kind, String, String)> {
        let indexes: Vec<_> = layers.iter().map(|layer| layer.index.clone()).collect();
        let contents = Contents::of(&indexes);
        let hidden = hidden(&contents);
        let timeline = record.map(Timeline::of).unwrap_or_default();
        let misses = record.map(|record| misses(record, None, &|_| None)).unwrap_or_default();
        let facts = Facts {
            record,
            timeline: &timeline,
            misses: &misses,
            layers,
            contents: &contents,
            hidden: &hidden,
        };
        let one = |f: Finding| (f.kind, f.what, f.advice.unwrap_or_default());
        findings(&facts).into_iter().map(one).collect()
    }

    #[test]
    fn what_makes_an_image_big_is_said_with_what_to_do() {
        let layers = [
            brought(
                &["usr/lib/llvm/a 9000000", "usr/lib/llvm/b 2000000", "usr/bin/x 10"],
                "RUN apt-get install",
                4,
            ),
            brought(&["usr/lib/llvm/a -"], "RUN rm /usr/lib/llvm/a", 5),
            brought(&["root/.cache/pip/w 1500000"], "RUN pip install x", 6),
            brought(
                &[
                    "var/cache/apt/a 2000000",
                    "var/cache/apt/b 400000",
                    "var/lib/apt/lists/c 2100000",
                    "root/.npm/d 9",
                ],
                "RUN apt-get install y",
                7,
            ),
        ];
        let told = told(&layers, None);
        let of = |kind| {
            told.iter().filter(|(k, ..)| *k == kind).map(|(_, what, _)| what.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(
            of(Kind::Size),
            [
                "`RUN apt-get install` (line 4) makes the image big: 11.0 MB of 17.0 MB uncompressed, 11.0 MB of it in `/usr/lib/llvm`"
            ]
        );
        assert_eq!(
            of(Kind::Waste),
            [
                "`RUN rm /usr/lib/llvm/a` (line 5) removes 9.0 MB that `RUN apt-get install` (line 4) brings: they ship all the same",
                "`RUN apt-get install y` (line 7) leaves apt's downloads and apt's lists of packages in the image: \
                 4.5 MB in `/var/cache/apt` and `/var/lib/apt/lists`",
                "`RUN pip install x` (line 6) leaves pip's downloads in the image: 1.5 MB in `/root/.cache/pip`",
            ]
        );
    }

    #[test]
    fn files_that_only_change_their_owner_are_known() {
        let layers = [
            brought(&["app/a 3000000"], "COPY a /app/", 2),
            brought(&["app/a 3000000"], "RUN chown -R u /app", 3),
        ];
        let told = told(&layers, None);
        assert!(told.iter().any(|(_, _, advice)| advice.contains("COPY --chown")), "{told:?}");
    }

    #[test]
    fn the_step_that_costs_most_is_named_with_why_it_ran() {
        let copy = Step {
            title: "COPY . .".to_owned(),
            missed: Some("src/a.py changed".to_owned()),
            lines: Some((3, 3)),
            ..step(1, &[], (0, 100, 100))
        };
        let run = Step {
            missed: Some("the layer below changed".to_owned()),
            lines: Some((4, 4)),
            ..step(2, &[1], (100, 48_100, 48_000))
        };
        let record = Record { steps: vec![copy, run], took_ms: Some(50_000), ..Record::default() };
        let told = told(&[], Some(&record));
        assert_eq!(told[0].1, "`#2 RUN 2` (line 4) costs most: 48.0s, 96 % of the build");
        assert_eq!(
            told[1].1,
            "`#1 COPY . .` (line 3) ran again, because src/a.py changed, and so did a step that stands on it: 48.1s"
        );
        assert!(told[1].2.starts_with("Copy only what"), "{told:?}");
        assert_eq!(told.len(), 2);
    }
}
