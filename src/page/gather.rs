//! Gathers what is known of a build and of its image.

use std::sync::Arc;

use super::data::{
    Earlier, Efficiency, Finding, Growth, Image, Kind, Last, Layer, Link, Miss, Node, Packages, Report,
    Timeline, View,
};
use crate::cache::{Cache, Key};
use crate::image::{self, StoredPlatform};
use crate::insight::contents::Contents;
use crate::insight::findings::{self, Facts, findings};
use crate::insight::layers::{Brought, instruction, layers};
use crate::insight::{growth, missed, place, timeline, tree, waste};
use crate::inventory::{Change, Event, Known, history};
use crate::layer::index::Index;
use crate::oci::{Descriptor, Digest, ImageConfig, MediaType, Platform};
use crate::record::kept::Kept;
use crate::record::{Made, Record};
use crate::store::Store;

/// What a report is to be about.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The build, if there was one here.
    pub record: Option<Record>,
    /// Which of its targets, from 0.
    pub target: usize,
    /// The image, where it is not the build's.
    pub image: Option<Descriptor>,
    /// What the user called it.
    pub name: String,
    /// Of an image of several platforms, the one that is meant.
    pub platform: Option<Platform>,
}

/// All trees together have so many nodes: more are too small to be seen.
const NODES: usize = 2500;
/// Of many images in one page each has fewer, but so many.
const LEAST_NODES: usize = 150;
/// So many folders are told of that grew or shrank.
const GROWTHS: usize = 25;
/// So many pairs of layers of which one hides something of the other,
const PAIRS: usize = 60;
/// and so many packages.
const PACKAGES: usize = 2500;
/// So many builds of the same place.
const EARLIER: usize = 20;
/// So many names of other images with a layer.
const NAMES: usize = 3;
/// Packages are told apart by merging all layers again for each: not where that is more files than so many.
const MOST_MERGED: usize = 30_000_000;

/// So many targets of one build are told of.
const VIEWS: usize = 40;

/// Gathers it. `kept` are the records of the store, newest first. What is not known is left out, and said where it matters.
pub fn gather(store: &Store, kept: &[Kept], asked: &Asked) -> Report {
    let record = asked.record.as_ref();
    let times = record.map(timeline::Timeline::of).unwrap_or_default();
    let earlier: Vec<Record> =
        record.map(|record| place::earlier(record, kept).take(EARLIER).collect()).unwrap_or_default();
    let last = earlier.iter().find(|other| other.status == crate::record::Status::Completed);
    let cache = Cache::new(store.clone());
    let preimages = |key: &str| cache.preimage(&Key::from_hex(key)?).ok()?;
    let misses = record.map(|record| missed::misses(record, last, &preimages)).unwrap_or_default();
    let targets = record.map_or(1, |record| record.targets.len());
    // An image that was asked for, and is of no target that is told of, is told of alone.
    let mut shown: Vec<usize> = (0..targets.min(VIEWS)).collect();
    if !shown.contains(&asked.target) {
        shown = vec![asked.target];
    }
    let build =
        Build { store, asked, times: &times, misses: &misses, earlier: &earlier, last, of: shown.len() };
    let views: Vec<View> = shown.iter().map(|target| build.view(*target)).collect();
    Report {
        title: title(asked),
        rbuild: env!("CARGO_PKG_VERSION").to_owned(),
        shown: shown.iter().position(|target| *target == asked.target).unwrap_or(0),
        views,
        timeline: self::shown(&times),
        misses: misses.into_iter().map(miss).collect(),
        record: asked.record.clone(),
    }
}

/// What is known of a build, whatever its targets.
struct Build<'b> {
    store: &'b Store,
    asked: &'b Asked,
    times: &'b timeline::Timeline,
    misses: &'b [missed::Miss],
    earlier: &'b [Record],
    last: Option<&'b Record>,
    /// So many views share the room of the page.
    of: usize,
}

impl Build<'_> {
    fn view(&self, target: usize) -> View {
        let Self { store, times, misses, earlier, last, of, .. } = *self;
        let is_asked = target == self.asked.target;
        let image = self.asked.image.clone().filter(|_| is_asked);
        let asked = &Asked { target, image, ..self.asked.clone() };
        let seen = Seen::of(store, asked);
        let indexes: Vec<Option<Arc<Index>>> = match &seen {
            Ok(seen) => seen.layers.iter().map(|layer| layer.index.clone()).collect(),
            Err(_) => Vec::new(),
        };
        let contents = Contents::of(&indexes);
        let hidden = waste::hidden(&contents);
        let brought: &[Brought] = seen.as_ref().map_or(&[], |seen| &seen.layers);
        let record = asked.record.as_ref();
        let (layers, contents, hidden) = (brought, &contents, hidden.as_slice());
        let facts = Facts { record, timeline: times, misses, layers, contents, hidden };
        View {
            target,
            findings: findings(&facts).into_iter().map(finding).collect(),
            last: last.map(|last| compared(store, asked, last, (contents, seen.is_ok()))),
            earlier: earlier.iter().rev().filter_map(|other| before(other, target)).collect(),
            no_image: seen.as_ref().err().cloned(),
            image: seen.ok().map(|seen| seen.image(store, (&indexes, contents, hidden), of)),
        }
    }
}

fn title(asked: &Asked) -> String {
    let title = asked.record.as_ref().map(Record::title).unwrap_or_default();
    if title.is_empty() { asked.name.clone() } else { title }
}

/// An image, and what is in its layers.
struct Seen {
    platform: StoredPlatform,
    config: Arc<ImageConfig>,
    others: Vec<String>,
    names: Vec<String>,
    layers: Vec<Brought>,
}

impl Seen {
    /// The image that is asked for; why not, in a sentence.
    fn of(store: &Store, asked: &Asked) -> Result<Self, String> {
        let target = match (&asked.image, &asked.record) {
            (Some(image), _) => image.clone(),
            (None, None) => return Err("nothing was asked for".to_owned()),
            (None, Some(record)) => {
                let made = record.targets.get(asked.target).and_then(|target| target.made.as_ref());
                made.and_then(descriptor).ok_or("the build made no image")?
            }
        };
        let gone = || "the image is no longer in the store; the same build makes it again".to_owned();
        let found = image::Image::read(store, &target).map_err(|error| error.to_string())?;
        let platform = match &asked.platform {
            Some(platform) => found.for_platform(platform),
            None => found.for_this_machine(),
        };
        let platform = platform.ok_or_else(gone)?;
        let config = platform.config.clone().ok_or_else(gone)?;
        let others =
            found.platforms.iter().filter(|other| other.descriptor.digest != platform.descriptor.digest);
        let others = others.filter_map(|other| Some(other.platform()?.to_string())).collect();
        let tags = store.tags().unwrap_or_default();
        let names = tags.iter().filter(|(_, tagged)| tagged.digest == target.digest);
        Ok(Self {
            layers: layers(store, platform, &config, asked.record.as_ref()),
            names: names.map(|(name, _)| name.to_string()).collect(),
            platform: platform.clone(),
            others,
            config,
        })
    }

    fn image(
        self,
        store: &Store,
        (indexes, contents, hidden): (&[Option<Arc<Index>>], &Contents<'_>, &[waste::Hidden]),
        of: usize,
    ) -> Image {
        let efficiency = waste::efficiency(indexes, contents);
        let trees = tree::trees(contents, (NODES / of).max(LEAST_NODES));
        let others = Others::of(store, &self.platform);
        let mut shown = Vec::with_capacity(self.layers.len());
        for (at, (brought, tree)) in self.layers.iter().zip(trees).enumerate() {
            let shared_with = others.of_layer(&brought.digest);
            shown.push(Layer {
                digest: brought.digest.clone(),
                diff_id: brought.diff_id.clone(),
                blob_bytes: brought.blob_bytes,
                bytes: tree.size,
                files: tree.files,
                step: brought.step,
                lines: brought.lines,
                instruction: brought.instruction.clone(),
                is_base: brought.is_base,
                took_ms: brought.took_ms,
                absent: brought.absent.clone(),
                is_unique: shared_with.is_empty() && brought.is_base != Some(true),
                shared_with,
                hidden: tree.hidden,
                wasted: efficiency.wasted_by_layer.get(at).copied().unwrap_or(0),
                tree: brought.index.is_some().then(|| node(&tree)),
            });
        }
        let (packages, no_packages) = packages(store, &self, contents, PACKAGES / of);
        Image {
            digest: self.platform.descriptor.digest.to_string(),
            platform: self.platform.platform().map(|platform| platform.to_string()).unwrap_or_default(),
            other_platforms: self.others,
            names: self.names,
            created: self.config.created.clone(),
            // A manifest may claim any size.
            blob_bytes: shown.iter().fold(0, |sum, layer| sum.saturating_add(layer.blob_bytes)),
            bytes: shown.iter().map(|layer| layer.bytes).sum(),
            visible_bytes: visible_bytes(contents),
            visible_files: contents.visible.len() as u64,
            layers: shown,
            efficiency: Efficiency {
                score: efficiency.score,
                wasted_bytes: efficiency.wasted_bytes,
                paths: efficiency.paths,
            },
            hidden: hidden.iter().take((PAIRS / of).max(10)).cloned().collect(),
            packages,
            no_packages,
            empty_steps: empty_steps(&self.config),
        }
    }
}

/// What a build made, as something that the store can be asked for.
fn descriptor(made: &Made) -> Option<Descriptor> {
    let digest: Digest = made.digest.parse().ok()?;
    Some(Descriptor::new(MediaType::new(made.media_type.as_str()), digest, made.size))
}

fn visible_bytes(contents: &Contents<'_>) -> u64 {
    contents.visible.iter().map(|(_, layer, at)| contents.layers[*layer][*at].size).sum()
}

fn empty_steps(config: &ImageConfig) -> Vec<(usize, String)> {
    let mut below = 0;
    let mut found = Vec::new();
    for entry in &config.history {
        match entry.empty_layer {
            true => found.push((below, instruction(entry.created_by.as_deref().unwrap_or_default()))),
            false => below += 1,
        }
    }
    found
}

/// Which other images with names have a layer.
struct Others(Vec<(String, Vec<String>)>);

impl Others {
    fn of(store: &Store, own: &StoredPlatform) -> Self {
        let mut found = Vec::new();
        for (name, target) in store.tags().unwrap_or_default() {
            let Ok(image) = image::Image::read(store, &target) else { continue };
            let is_own = image.platforms.iter().any(|other| other.descriptor.digest == own.descriptor.digest);
            if !is_own {
                let layers = image.platforms.iter().flat_map(|platform| &platform.manifest.layers);
                found.push((name.to_string(), layers.map(|layer| layer.digest.to_string()).collect()));
            }
        }
        Self(found)
    }

    fn of_layer(&self, digest: &str) -> Vec<String> {
        let with = self.0.iter().filter(|(_, layers)| layers.iter().any(|layer| layer == digest));
        with.take(NAMES).map(|(name, _)| name.clone()).collect()
    }
}

fn packages(
    store: &Store,
    seen: &Seen,
    contents: &Contents<'_>,
    most: usize,
) -> (Vec<Packages>, Option<String>) {
    let none = |why: &str| (Vec::new(), Some(why.to_owned()));
    if contents.visible.len().saturating_mul(seen.layers.len()) > MOST_MERGED {
        return none("the image has too many files and layers for this page; `rbuild sbom --by-step` tells");
    }
    let known = match Known::of(store, &seen.platform, &seen.config) {
        Ok(known) => known,
        Err(error) => return none(&error.to_string()),
    };
    let history = history(&known.layers);
    let mut found: Vec<Packages> = Vec::new();
    let mut told = 0;
    for event in &history.events {
        if found.last().is_none_or(|last| last.layer != event.layer) {
            found.push(Packages { layer: event.layer, added: 0, changed: 0, removed: 0, events: Vec::new() });
        }
        let Some(last) = found.last_mut() else { continue };
        let row = row(event, last);
        if told < most {
            last.events.push(row);
            told += 1;
        }
    }
    (found, None)
}

fn row(event: &Event<'_>, sums: &mut Packages) -> (char, String, String, Option<String>, String) {
    let package = event.component.package;
    let (sign, from, sum) = match &event.change {
        Change::Added => ('+', None, &mut sums.added),
        Change::Changed { from } => ('~', Some(from.clone()), &mut sums.changed),
        Change::Removed => ('-', None, &mut sums.removed),
    };
    *sum += 1;
    (sign, package.name.clone(), package.version.clone(), from, package.kind.name().to_owned())
}

fn compared(store: &Store, asked: &Asked, last: &Record, (now, is_known): (&Contents<'_>, bool)) -> Last {
    let made = last.targets.get(asked.target).and_then(|target| target.made.as_ref());
    let before = Asked { record: Some(last.clone()), image: None, ..asked.clone() };
    let mut told = Last {
        id: last.id.clone(),
        started_ms: last.started_ms,
        took_ms: last.took_ms,
        ran: made.map_or(0, |made| made.ran),
        cached: made.map_or(0, |made| made.cached),
        blob_bytes: made.map(|made| made.layers_size),
        digest: made.map(|made| made.digest.clone()),
        ..Last::default()
    };
    if let Some(record) = &asked.record {
        let took = |step: &crate::record::Step| {
            (step.outcome? == crate::record::Outcome::Ran).then_some(step.took_ms?)
        };
        let both = record.steps.iter().enumerate().filter_map(|(at, step)| {
            took(step)?;
            Some((at, took(missed::counterpart(step, last)?)?))
        });
        told.steps = both.collect();
    }
    match Seen::of(store, &before) {
        Err(why) => told.no_growth = Some(why),
        Ok(_) if !is_known => told.no_growth = Some("this build has no image".to_owned()),
        Ok(seen) => {
            let indexes: Vec<_> = seen.layers.iter().map(|layer| layer.index.clone()).collect();
            if indexes.iter().any(Option::is_none) {
                told.no_growth = Some("layers of that build's image are no longer in the store".to_owned());
                return told;
            }
            let before = Contents::of(&indexes);
            told.visible_bytes = Some((visible_bytes(&before), visible_bytes(now)));
            told.growth = growth::growth(&before, now, GROWTHS).into_iter().map(grown).collect();
        }
    }
    told
}

fn before(record: &Record, target: usize) -> Option<Earlier> {
    let made = record.targets.get(target).and_then(|target| target.made.as_ref());
    Some(Earlier {
        id: record.id.clone(),
        started_ms: record.started_ms,
        took_ms: record.took_ms?,
        blob_bytes: made.map(|made| made.layers_size),
        ran: made.map_or(0, |made| made.ran),
    })
}

/// A path as it is shown; bytes that are no text become U+FFFD.
fn path(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn node(tree: &tree::Node) -> Node {
    let kind = match (tree.is_folder, tree.is_rest) {
        (_, true) => Kind::Rest,
        (true, false) => Kind::Folder,
        (false, false) => Kind::File,
    };
    let children = tree.children.iter().map(node).collect();
    Node(path(&tree.name), tree.size, tree.files, tree.hidden, kind, children)
}

fn grown(growth: growth::Growth) -> Growth {
    let growth::Growth { path: bytes, is_folder, before, after, layer } = growth;
    Growth { path: path(&bytes), is_folder, before, after, layer }
}

fn finding(finding: findings::Finding) -> Finding {
    let kind = match finding.kind {
        findings::Kind::Failure => "failure",
        findings::Kind::Time => "time",
        findings::Kind::Cache => "cache",
        findings::Kind::Size => "size",
        findings::Kind::Waste => "waste",
    };
    let findings::Finding { what, advice, step, layer, .. } = finding;
    Finding { kind, what, advice, step, layer }
}

fn shown(times: &timeline::Timeline) -> Timeline {
    let bar = |bar: &timeline::Bar| (bar.step, bar.ready, bar.start, bar.work, bar.end);
    let link = |link: &timeline::Link| {
        let timeline::Link { step, waited_ms, took_ms, saves_ms } = *link;
        Link { step, waited_ms, took_ms, saves_ms }
    };
    Timeline {
        total_ms: times.total_ms,
        bars: times.bars.iter().map(bar).collect(),
        critical: times.critical.iter().map(link).collect(),
        critical_ms: times.critical_ms(),
        under_way: times.under_way.clone(),
    }
}

fn miss(miss: missed::Miss) -> Miss {
    let missed::Miss { step, why, fields, more, cause, took_ms, then, then_ms } = miss;
    let fields = fields.into_iter().map(|field| (field.what, field.before, field.after)).collect();
    Miss { step, why, fields, more, cause, took_ms, then, then_ms }
}
