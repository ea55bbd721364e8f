//! One image of the store: its layers with what is known of each, and what made them.

use super::document::{Base, StagePackages, Step, Subject};
use super::keep::{Error, Layered, layered};
use super::origin::Origins;
use super::stages::{StageKnown, stages};
use super::steps::history;
use super::unowned::unowned;
use crate::image::StoredPlatform;
use crate::oci::{ImageConfig, Layer, parse_rfc3339, rfc3339};
use crate::record::{Record, kept};
use crate::store::Store;
use crate::text::url::without_passwords;
use crate::upkeep::StepNotes;

/// An image whose packages are known.
#[derive(Debug)]
pub struct Known {
    /// Its layers, lowest first.
    pub layers: Vec<Layered>,
    /// What made each of them.
    pub steps: Vec<Step>,
    /// When it was made.
    pub created: String,
    /// What it stands on, if it says so.
    pub base: Option<Base>,
}

impl Known {
    /// Looks into an image.
    ///
    /// # Errors
    /// When a layer is not here, or cannot be read.
    pub fn of(store: &Store, image: &StoredPlatform, config: &ImageConfig) -> Result<Self, Error> {
        let layers = image.manifest.layers.iter().zip(&config.rootfs.diff_ids);
        let layers: Vec<Layer> = layers
            .map(|(descriptor, diff_id)| Layer { descriptor: descriptor.clone(), diff_id: *diff_id })
            .collect();
        let notes = StepNotes::load(store, &image.descriptor.digest);
        let steps = steps(config, &notes, layers.len());
        let annotation = |key: &str| image.manifest.annotations.get(key).cloned();
        let base = annotation("org.opencontainers.image.base.name")
            .map(|name| Base { name, digest: annotation("org.opencontainers.image.base.digest") });
        let created = config.created.as_deref().and_then(parse_rfc3339).unwrap_or(0);
        Ok(Self { layers: layered(store, &layers)?, steps, created: rfc3339(created), base })
    }

    /// What a document about it is to say: of the `image` that is called `name`, and of what it is made of, which `origins` tell. By step
    /// stages are looked into, too, and `with_stages` what they have beside is told.
    pub fn described<T>(
        &self,
        store: &Store,
        (name, image): (&str, &StoredPlatform),
        origins: &Origins,
        wanted: Depth,
        then: impl FnOnce(&Subject<'_>) -> T,
    ) -> T {
        let history = history(&self.layers);
        let by_step = wanted != Depth::Packages;
        let unowned = if by_step { unowned(&history.view, &history.state) } else { Vec::new() };
        let looks_into_stages = matches!(wanted, Depth::Steps | Depth::Stages);
        let known = if looks_into_stages { stages(store, origins) } else { Vec::new() };
        let stages: Vec<StagePackages<'_>> = known.iter().map(packages_of).collect();
        then(&Subject {
            name: name.to_owned(),
            digest: image.descriptor.digest,
            platform: image.platform().map(|platform| platform.to_string()).unwrap_or_default(),
            created: self.created.clone(),
            layers: self.layers.iter().map(|layered| layered.layer.clone()).collect(),
            steps: self.steps.clone(),
            base: self.base.clone().or_else(|| origins.base.clone()),
            history: &history,
            unowned: &unowned,
            unread: self.unread(),
            by_step,
            origins,
            stages: &stages,
            with_stages: wanted == Depth::Stages,
        })
    }

    /// What the image is made of, if there is a record of its build here.
    pub fn origins(&self, store: &Store, image: &StoredPlatform) -> Origins {
        let recorded = kept::of_image(store, &image.descriptor.digest);
        recorded.map(|(record, at)| self.recorded(&record, at)).unwrap_or_default()
    }

    /// The same of the record of its build, whose target number `at` it is.
    pub fn recorded(&self, record: &Record, at: usize) -> Origins {
        let layers: Vec<Layer> = self.layers.iter().map(|layered| layered.layer.clone()).collect();
        Origins::of(record, at, &layers)
    }

    /// Files that look as if they told of packages and could not be read, with the reason.
    pub fn unread(&self) -> Vec<(String, String)> {
        let all = self.layers.iter().flat_map(|layered| &layered.inventory.unread);
        all.map(|unread| (unread.path.clone(), unread.why.clone())).collect()
    }
}

/// How much a document says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Packages, and what the image is made of.
    Packages,
    /// Which step brought each, too, without a look into stages: whether their layers are here is chance.
    Image,
    /// The same, and where in stages copied packages were.
    Steps,
    /// What stages have beside, too.
    Stages,
}

fn packages_of(stage: &StageKnown) -> StagePackages<'_> {
    StagePackages {
        source: stage.source,
        steps: &stage.steps,
        history: history(&stage.layers),
        absent: stage.absent.as_deref(),
    }
}

/// What the history says of each layer; of layers that it does not tell of, only that they are there.
pub(super) fn steps(config: &ImageConfig, notes: &StepNotes, layers: usize) -> Vec<Step> {
    let entries = config.history.iter().enumerate().filter(|(_, entry)| !entry.empty_layer);
    let mut steps: Vec<Step> = entries
        .map(|(at, entry)| Step {
            number: at + 1,
            instruction: instruction(entry.created_by.as_deref().unwrap_or("")),
            line: notes.step(at).and_then(|note| note.line),
            base: notes.steps.get(at).map(Option::is_none),
        })
        .take(layers)
        .collect();
    let told = config.history.len();
    for extra in 1..=layers - steps.len() {
        let instruction = "the image's history says nothing of it".to_owned();
        steps.push(Step { number: told + extra, instruction, ..Step::default() });
    }
    steps
}

/// On one line, as it was written.
fn instruction(created_by: &str) -> String {
    let text = created_by.strip_suffix(" # buildkit").unwrap_or(created_by);
    let text = without_passwords(text);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
