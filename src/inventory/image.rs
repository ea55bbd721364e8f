//! One image of the store: its layers with what is known of each, and what made them.

use super::document::{Base, Step, Subject};
use super::keep::{Error, Layered, layered};
use super::origin::{Origins, UNKNOWN};
use super::steps::History;
use super::unowned::Unowned;
use crate::image::StoredPlatform;
use crate::oci::{ImageConfig, Layer, parse_rfc3339, rfc3339};
use crate::record::kept;
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

    /// What a document about it is to say: of the `image` that is called `name`, whose `history` is that of these layers, and which has
    /// these `unowned` files. Where it came from is not said: the record of a build is not there before its end, and the same image is to
    /// have the same document.
    pub fn subject<'a>(
        &self,
        (name, image): (&str, &StoredPlatform),
        history: &'a History<'a>,
        unowned: &'a [Unowned],
        by_step: bool,
    ) -> Subject<'a> {
        Subject {
            name: name.to_owned(),
            digest: image.descriptor.digest,
            platform: image.platform().map(|platform| platform.to_string()).unwrap_or_default(),
            created: self.created.clone(),
            layers: self.layers.iter().map(|layered| layered.layer.clone()).collect(),
            steps: self.steps.clone(),
            base: self.base.clone(),
            history,
            unowned,
            unread: self.unread(),
            by_step,
            origins: &UNKNOWN,
            stages: &[],
            with_stages: false,
        }
    }

    /// What the image is made of, if there is a record of its build here.
    pub fn origins(&self, store: &Store, image: &StoredPlatform) -> Origins {
        let layers: Vec<Layer> = self.layers.iter().map(|layered| layered.layer.clone()).collect();
        let recorded = kept::of_image(store, &image.descriptor.digest);
        recorded.map(|(record, at)| Origins::of(&record, at, &layers)).unwrap_or_default()
    }

    /// Files that look as if they told of packages and could not be read, with the reason.
    pub fn unread(&self) -> Vec<(String, String)> {
        let all = self.layers.iter().flat_map(|layered| &layered.inventory.unread);
        all.map(|unread| (unread.path.clone(), unread.why.clone())).collect()
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
