//! What is said when a build has ended, if there is something to say: three lines at most. And the summary that GitHub shows of a job
//! ([`markdown`](mod@markdown)).
//!
//! All of it is measured, in the record of the build and in the indexes of layers. Nothing is read from blobs: somebody waits for the
//! prompt, and `rbuild explain` has more time.

mod markdown;

use std::time::Duration;

use crate::image::{Image, StoredPlatform};
use crate::insight::advice::{copy_first, reads_packages};
use crate::insight::contents::Contents;
use crate::insight::growth::growth;
use crate::insight::layers::{Brought, layers};
use crate::insight::place;
use crate::insight::timeline::Timeline;
use crate::insight::waste::hidden;
use crate::record::{Made, Outcome, Record, Status, Step, kept};
use crate::store::{Folder, Store};
use crate::text::duration::seconds;
use crate::text::size::bytes;
pub(in crate::cli) use markdown::{append, markdown};

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
/// Into the files of so many images of one run is looked.
const IMAGES: usize = 4;

/// The lines; none of a build in which nothing ran. Of one that failed they are about its time. `open` gives the store; small
/// builds have nothing to ask it, and to open it again would cost them as much as their record.
pub(in crate::cli) fn lines(open: impl FnOnce() -> Option<Store>, record: &Record) -> Vec<String> {
    let ran: usize = record.targets.iter().filter_map(|target| Some(target.made.as_ref()?.ran)).sum();
    if record.status == Status::Completed && ran == 0 {
        return Vec::new();
    }
    let is_large = |made: &Made| made.layers_size >= LEAST_BYTES;
    let has_files = record.targets.iter().any(|target| target.made.as_ref().is_some_and(is_large));
    let reads = record.steps.iter().any(reads_packages);
    let asks_records = has_files || reads;
    let mut found: Vec<String> = Vec::new();
    if (asks_records || record.steps.iter().any(removes))
        && let Some(store) = open()
    {
        // To read records takes longer than many a build.
        let kept = if asks_records { kept::list(&store) } else { Vec::new() };
        let mut earlier = place::earlier(record, &kept);
        let earlier: Vec<Record> = match reads {
            true => earlier.take(EARLIER).collect(),
            false => earlier.find(|other| other.status == Status::Completed).into_iter().collect(),
        };
        found.extend(again(record, &earlier));
        found.extend(grown(&store, record, &earlier));
        found.extend(removed(&store, record));
    }
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

/// `app: `, where there are several.
fn named(record: &Record, at: usize) -> String {
    match record.targets.as_slice() {
        [_] => String::new(),
        targets => targets.get(at).map(|target| format!("{}: ", target.name)).unwrap_or_default(),
    }
}

fn is_worth(size: u64, made: &Made) -> bool {
    size >= LEAST_BYTES && size >= made.layers_size / LEAST_PART
}

/// What grew most since the last build.
fn grown(store: &Store, record: &Record, earlier: &[Record]) -> Option<String> {
    let made = |record: &Record, at: usize| record.targets.get(at).and_then(|target| target.made.clone());
    let by = |at: usize| {
        let now = made(record, at)?;
        let (last, then) = earlier.iter().find_map(|other| Some((other, made(other, at)?)))?;
        let by = now.layers_size.saturating_sub(then.layers_size);
        is_worth(by, &now).then_some((by, at, last, now, then))
    };
    let (by, at, last, now, then) = (0..record.targets.len()).filter_map(by).max_by_key(|(by, ..)| *by)?;
    let place = known(store, &now, record).zip(known(store, &then, last)).and_then(|(now, then)| {
        let indexes = |layers: &[Brought]| layers.iter().map(|layer| layer.index.clone()).collect::<Vec<_>>();
        let (after, before) = (indexes(&now), indexes(&then));
        let grown = growth(&Contents::of(&before), &Contents::of(&after), 1).into_iter().next()?;
        let step = grown.layer.and_then(|layer| now.get(layer)?.step);
        let step = step.map(|at| format!(" (#{})", at + 1)).unwrap_or_default();
        (grown.bytes() > 0).then(|| format!(": /{}{step}", String::from_utf8_lossy(&grown.path)))
    });
    let (name, place) = (named(record, at), place.unwrap_or_default());
    Some(format!("{name}+{} since build {}{place}", bytes(by), last.id))
}

/// Whether a step ran, and removed files.
fn removes(step: &Step) -> bool {
    step.outcome == Some(Outcome::Ran) && step.files.is_some_and(|files| files.removed > 0)
}

/// What a step of this build removed, and ships all the same.
fn removed(store: &Store, record: &Record) -> Option<String> {
    // What targets of one Dockerfile share is done once, for the first of them, whose image may not have it.
    let dockerfile = |at: usize| record.targets.get(at).map(|target| &target.dockerfile.digest);
    let is_of = |step: &Step, at: usize| {
        step.target == at + 1 || step.target.checked_sub(1).and_then(dockerfile) == dockerfile(at)
    };
    let of_target = |at: &usize| record.steps.iter().any(|step| removes(step) && is_of(step, *at));
    let lines = (0..record.targets.len()).filter(of_target).take(IMAGES).filter_map(|at| {
        let made = record.targets[at].made.as_ref()?;
        let layers = known(store, made, record)?;
        let indexes: Vec<_> = layers.iter().map(|layer| layer.index.clone()).collect();
        let step = |layer: usize| record.steps.get(layers.get(layer)?.step?);
        let worst = hidden(&Contents::of(&indexes))
            .into_iter()
            .find(|hidden| is_worth(hidden.removed_bytes, made) && step(hidden.by).is_some_and(removes))?;
        let by = step(worst.by)?.number;
        let of = step(worst.of).map_or("the base".to_owned(), |step| format!("#{}", step.number));
        let size = worst.removed_bytes;
        let name = named(record, at);
        Some((size, format!("{name}{} removed in #{by} ship all the same in {of}", bytes(size))))
    });
    lines.max_by_key(|(size, _)| *size).map(|(_, line)| line)
}

/// The layers of this machine's image, where all of their files are known without a look at blobs.
fn known(store: &Store, made: &Made, record: &Record) -> Option<Vec<Brought>> {
    let target = crate::image::described(store, made.digest.parse().ok()?).ok()??;
    let image = Image::read(store, &target).ok()?;
    let platform: &StoredPlatform = image.for_this_machine()?;
    let config = platform.config.as_deref()?;
    let folder = store.folder(Folder::Indexes);
    let is_known = |diff_id: &crate::oci::DiffId| folder.join(diff_id.0.hex()).symlink_metadata().is_ok();
    config.rootfs.diff_ids.iter().all(is_known).then(|| layers(store, platform, config, Some(record)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::step;

    #[test]
    fn a_long_build_has_a_critical_path() {
        let steps = vec![
            step(1, &[], (0, 9_000, 9_000)),
            step(2, &[], (0, 100, 100)),
            step(3, &[1, 2], (9_000, 20_000, 11_000)),
        ];
        let record = Record { steps: steps.clone(), took_ms: Some(20_100), ..Record::default() };
        assert_eq!(critical(&record).as_deref(), Some("critical path 20.0s of 20.1s: #1 → #3"));
        let short =
            Record { steps: vec![step(1, &[], (0, 900, 900))], took_ms: Some(950), ..Record::default() };
        assert_eq!(critical(&short), None);
    }
}
