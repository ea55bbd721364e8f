//! Budgets: an image that breaks one has no name, and is neither written nor pushed.

use super::Request;
use super::result::Results;
use crate::image::Image;
use crate::insight::budget::{Budget, Files, Line, Measured};
use crate::insight::contents::Contents;
use crate::insight::{layers, place, waste};
use crate::oci::Descriptor;
use crate::record::{Recorder, kept};
use crate::report::{Diagnostic, Event, Fault};
use crate::solve::{self, Services};
use crate::store::{self, Store};

/// What an image is to keep to, and what it is compared with: something of that size, in words; else the last build of the same place.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Budgets {
    /// The limits.
    pub limits: Budget,
    /// What growth is measured from.
    pub against: Option<(String, u64)>,
}

/// Measures an image of the store as far as `limits` ask.
///
/// # Errors
/// When the store cannot be read. Files that cannot be told are no error, but then nothing is known of them.
pub fn measure(
    store: &Store,
    target: &Descriptor,
    limits: &Budget,
    before: Option<(String, u64)>,
) -> Result<Measured, store::Error> {
    let image = Image::read(store, target)?;
    let files = if limits.is_about_files() { files(store, &image) } else { None };
    Ok(Measured { size: image.layers_size(), before, files })
}

/// Of several platforms the worst of each.
fn files(store: &Store, image: &Image) -> Option<Files> {
    let of_platform = |platform: &crate::image::StoredPlatform| {
        let brought = layers::layers(store, platform, platform.config.as_deref()?, None);
        let indexes: Vec<_> = brought.iter().map(|layer| layer.index.clone()).collect();
        if indexes.iter().any(Option::is_none) {
            return None;
        }
        let contents = Contents::of(&indexes);
        let told = waste::efficiency(&indexes, &contents);
        let all = (0..indexes.len()).map(|layer| contents.brought_bytes(layer)).sum();
        Some(Files { wasted: told.wasted_bytes, all, efficiency: told.score })
    };
    let all: Option<Vec<Files>> = image.platforms.iter().map(of_platform).collect();
    all?.into_iter().reduce(|a, b| Files {
        wasted: a.wasted.max(b.wasted),
        all: a.all.min(b.all),
        efficiency: a.efficiency.min(b.efficiency),
    })
}

/// What is wrong, an error for each limit that is broken.
pub fn broken(lines: &[Line]) -> Vec<Diagnostic> {
    let broken = lines.iter().filter(|line| line.is_kept == Some(false));
    let error = |line: &Line| {
        let Line { limit, allowed, found, .. } = line;
        let text = match *limit {
            "min-efficiency" => format!("the efficiency is {found}, and `--{limit}` asks for {allowed}"),
            "max-waste" => format!("files in several layers waste {found}, and `--{limit}` allows {allowed}"),
            _ => format!("{found}, and `--{limit}` allows {allowed}"),
        };
        Diagnostic::error(format!("over budget: {text}")).because(Fault::Budget)
    };
    broken.map(error).collect()
}

/// That a limit cannot be checked: whoever set it is not told that it is kept.
pub fn unknown(line: &Line) -> Diagnostic {
    Diagnostic::error(format!("`--{}` cannot be checked: {}", line.limit, line.found))
        .help("`rbuild verify` says what is damaged; `rbuild pull` brings layers here")
}

/// Holds what was built to its budgets.
pub(super) fn check(
    request: &Request,
    services: &Services,
    (results, target): (&Results, &Descriptor),
    recorder: Option<(&Recorder, usize)>,
) -> Result<(), Vec<Diagnostic>> {
    let Budgets { limits, against } = &request.budgets;
    if limits.is_empty() {
        return Ok(());
    }
    let store = &services.store;
    if limits.is_about_files() {
        // What is only sent on was not fetched so far.
        let layers: Vec<_> = results.images.iter().flat_map(|image| image.layers().to_vec()).collect();
        let brought = services.lookup.bring(&layers);
        brought.map_err(|error| vec![solve::Error::from(error).explain(store.root())])?;
    }
    let last = || limits.max_growth.and(recorder).and_then(|(recorder, at)| last_build(store, recorder, at));
    let measured = measure(store, target, limits, against.clone().or_else(last));
    let measured = measured.map_err(|error| vec![super::diagnose_store(&error)])?;
    let lines = limits.check(&measured);
    let mut told = broken(&lines);
    for line in lines.iter().filter(|line| line.is_kept.is_none()) {
        match line.limit {
            // A first build has grown from nothing.
            "max-growth" => {
                let note = format!("`--{}` was not checked: {}", line.limit, line.found);
                services.events.send(Event::Note(note));
            }
            _ if told.is_empty() => return Err(vec![unknown(line)]),
            _ => {}
        }
    }
    if let Some(last) = told.pop() {
        let platforms = if results.images.len() > 1 { ", of the platform that is worst" } else { "" };
        let note =
            format!("it has no name, and was neither written nor pushed{platforms}; its steps are cached");
        let help = format!("`rbuild explain {}` says what makes it big", target.digest.short());
        told.push(last.note(note).help(help));
        return Err(told);
    }
    Ok(())
}

/// The size of what the last build of the same place made, as this target.
fn last_build(store: &Store, recorder: &Recorder, at: usize) -> Option<(String, u64)> {
    let last = place::last_before(&recorder.asked(), &kept::list(store))?;
    let made = last.targets.get(at)?.made.as_ref()?;
    Some((format!("build {}", last.id), made.layers_size))
}
