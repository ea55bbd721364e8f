//! What is explained: a build with its image, and what these are compared with.

use std::sync::Arc;

use crate::cache::{Cache, Key};
use crate::cli::Failure;
use crate::cli::command::history::find;
use crate::cli::local;
use crate::image::{Image, StoredPlatform, described};
use crate::insight::layers::{Brought, layers};
use crate::insight::missed::{Miss, misses};
use crate::insight::place;
use crate::layer::index::Index;
use crate::record::{Record, Target, kept};
use crate::report::Diagnostic;
use crate::store::Store;

/// A build, or an image that nobody built here.
pub(super) struct Subject {
    /// As people call it.
    pub(super) name: String,
    /// Its record.
    pub(super) record: Option<Record>,
    /// The layers of its image; none where that is gone, or was never made.
    pub(super) layers: Vec<Brought>,
    /// What it is compared with.
    pub(super) before: Option<Box<Subject>>,
    /// Builds of the same place before it, the newest first.
    pub(super) earlier: Vec<Record>,
    /// Why its steps ran.
    pub(super) misses: Vec<Miss>,
}

/// So many builds are looked at for what happens again and again.
const EARLIER: usize = 9;

impl Subject {
    /// What a word means, else the last build; and what it is compared with.
    pub(super) fn find(store: &Store, word: Option<&str>, against: Option<&str>) -> Result<Self, Failure> {
        let mut subject = Self::one(store, word)?;
        if let Some(record) = &subject.record {
            subject.earlier = place::earlier(record, &kept::list(store)).take(EARLIER).collect();
        }
        subject.before = match (against, &subject.record) {
            (Some(word), _) => Some(Box::new(Self::one(store, Some(word))?)),
            (None, Some(record)) => {
                let last = place::last_before(record, &kept::list(store));
                last.map(|last| Self::of_record(store, last)).transpose()?.map(Box::new)
            }
            (None, None) => None,
        };
        let last = subject.before.as_ref().and_then(|before| before.record.as_ref());
        let cache = Cache::new(store.clone());
        let preimages = |key: &str| cache.preimage(&Key::from_hex(key)?).ok()?;
        subject.misses =
            subject.record.as_ref().map(|record| misses(record, last, &preimages)).unwrap_or_default();
        Ok(subject)
    }

    /// A build by its id, else an image by its name.
    fn one(store: &Store, word: Option<&str>) -> Result<Self, Failure> {
        let Some(word) = word.filter(|word| !word.is_empty()) else {
            return Self::of_record(store, find::last_readable(store)?);
        };
        if let Ok(kept) = find::one(store, Some(word)) {
            return Self::of_record(store, find::read(&kept)?);
        }
        let (image, config) = local::find(store, word).map_err(|_| {
            let error =
                Diagnostic::error(format!("`{word}` is neither a build nor an image of the local store"));
            Failure::build(vec![error.help("`rbuild history ls` lists builds, `rbuild images` images")])
        })?;
        let recorded = kept::of_image(store, &image.descriptor.digest).map(|(record, _)| record);
        let layers = layers(store, &image, &config, recorded.as_ref());
        Ok(Self { name: word.to_owned(), layers, ..Self::bare(recorded) })
    }

    fn of_record(store: &Store, record: Record) -> Result<Self, Failure> {
        let layers = match record.targets.first().map(|target| image_of(store, target)).transpose()?.flatten()
        {
            None => Vec::new(),
            Some(image) => match image.config.clone() {
                Some(config) => layers(store, &image, &config, Some(&record)),
                None => Vec::new(),
            },
        };
        Ok(Self { name: format!("build {}", record.id), layers, ..Self::bare(Some(record)) })
    }

    fn bare(record: Option<Record>) -> Self {
        let (name, layers, before, earlier, misses) =
            (String::new(), Vec::new(), None, Vec::new(), Vec::new());
        Self { name, record, layers, before, earlier, misses }
    }

    /// Whether its build has a step of that number, from 1.
    pub(super) fn has_step(&self, number: usize) -> bool {
        self.record.as_ref().is_some_and(|record| (1..=record.steps.len()).contains(&number))
    }

    /// The indexes of its layers.
    pub(super) fn indexes(&self) -> Vec<Option<Arc<Index>>> {
        self.layers.iter().map(|layer| layer.index.clone()).collect()
    }

    /// What layers are not known, as a line.
    pub(super) fn absent(&self) -> Option<String> {
        let mut absent = self.layers.iter().filter_map(|layer| layer.absent.as_deref());
        let first = absent.next()?;
        let more = absent.count();
        let others = if more > 0 { format!(", nor are {more} others") } else { String::new() };
        Some(format!("the files of {} layers are not known: {first}{others}\n", more + 1))
    }

    /// `#4 RUN make (line 5)`, or as much of that as is known.
    pub(super) fn layer(&self, layer: usize) -> String {
        let Some(brought) = self.layers.get(layer) else { return format!("layer {}", layer + 1) };
        let base = if brought.is_base == Some(true) { "the base: " } else { "" };
        let line = brought.lines.map_or_else(String::new, |(line, _)| format!(" (line {line})"));
        let number = brought.step.map(|at| format!("#{} ", at + 1)).unwrap_or_default();
        match brought.instruction.as_str() {
            "" => format!("layer {}", layer + 1),
            text => format!("{base}{number}{}{line}", crate::text::terminal::cut(text, WIDTH)),
        }
    }
}

/// Instructions are cut to so many columns.
pub(super) const WIDTH: usize = 70;

/// The image of a target for this machine, else the first; nothing where the store does not have it.
fn image_of(store: &Store, target: &Target) -> Result<Option<StoredPlatform>, Failure> {
    let Some(made) = &target.made else { return Ok(None) };
    let Ok(digest) = made.digest.parse() else { return Ok(None) };
    let Some(descriptor) = described(store, digest)? else { return Ok(None) };
    let image = Image::read(store, &descriptor)?;
    Ok(image.for_this_machine().cloned())
}
