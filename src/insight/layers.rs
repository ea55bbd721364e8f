//! The layers of an image: what each holds, and which step brought it.

use std::sync::Arc;

use rayon::prelude::*;

use crate::image::StoredPlatform;
use crate::inventory;
use crate::layer::index::Index;
use crate::oci::{ImageConfig, Layer};
use crate::record::{Record, Step};
use crate::store::Store;
use crate::text::url::without_passwords;
use crate::upkeep::StepNotes;

/// A layer, as far as anything is known of it.
#[derive(Debug, Clone)]
pub struct Brought {
    /// Of its blob: `sha256:…`
    pub digest: String,
    /// Of its tar.
    pub diff_id: String,
    /// Bytes of its blob.
    pub blob_bytes: u64,
    /// Its files; none where these cannot be told.
    pub index: Option<Arc<Index>>,
    /// Why not.
    pub absent: Option<String>,
    /// The step that made it, as an index of the record.
    pub step: Option<usize>,
    /// The first and last line of its instruction in the Dockerfile.
    pub lines: Option<(usize, usize)>,
    /// Its instruction on one line: as the record has it, else as the image's history does.
    pub instruction: String,
    /// Whether the base brought it, if that is known.
    pub is_base: Option<bool>,
    /// How long its instruction took when it ran.
    pub took_ms: Option<u64>,
}

/// The layers of an image, lowest first. What is not known of their files is read from blobs, several at once, and kept in the store;
/// what cannot be read is said of each layer. `record` is that of the build that made the image, if there is one.
pub fn layers(
    store: &Store,
    image: &StoredPlatform,
    config: &ImageConfig,
    record: Option<&Record>,
) -> Vec<Brought> {
    let pairs = image.manifest.layers.iter().zip(&config.rootfs.diff_ids);
    let layers: Vec<Layer> = pairs
        .map(|(descriptor, diff_id)| Layer { descriptor: descriptor.clone(), diff_id: *diff_id })
        .collect();
    let indexes: Vec<_> = layers.par_iter().map(|layer| inventory::index(store, layer)).collect();
    let notes = StepNotes::load(store, &image.descriptor.digest);
    let told = config.history.iter().enumerate().filter(|(_, entry)| !entry.empty_layer);
    let mut told = told.map(|(at, entry)| (at, entry.created_by.as_deref().unwrap_or_default()));
    let mut found = Vec::with_capacity(layers.len());
    for (layer, index) in layers.iter().zip(indexes) {
        let diff_id = layer.diff_id.to_string();
        let step = record.and_then(|record| made(record, &diff_id));
        let entry = told.next();
        let note = entry.and_then(|(at, _)| notes.step(at));
        let is_base = match (&step, entry.and_then(|(at, _)| notes.steps.get(at))) {
            (Some(_), _) => Some(false),
            (None, Some(note)) => Some(note.is_none()),
            // What no step of the build made was there before it.
            (None, None) => record.map(|_| true),
        };
        let (index, absent) = match index {
            Ok(index) => (Some(index), None),
            Err(error) => (None, Some(error.to_string())),
        };
        found.push(Brought {
            digest: layer.descriptor.digest.to_string(),
            diff_id,
            blob_bytes: layer.descriptor.size,
            index,
            absent,
            lines: step
                .as_ref()
                .and_then(|(_, step)| step.lines)
                .or_else(|| note?.line.map(|line| (line, line))),
            instruction: match (&step, entry) {
                (Some((_, step)), _) => step.title.clone(),
                (None, Some((_, text))) => instruction(text),
                (None, None) => String::new(),
            },
            took_ms: note.and_then(|note| note.took_ms),
            step: step.map(|(at, _)| at),
            is_base,
        });
    }
    found
}

/// The first step of a record that made a layer.
fn made<'r>(record: &'r Record, diff_id: &str) -> Option<(usize, &'r Step)> {
    let is_it = |step: &&Step| step.layer.as_ref().is_some_and(|layer| layer.diff_id == diff_id);
    let at = record.steps.iter().position(|step| is_it(&step))?;
    Some((at, &record.steps[at]))
}

/// What the history of an image says, as it may have been written: on one line, without what builders put around it.
pub fn instruction(created_by: &str) -> String {
    let text = created_by.strip_suffix(" # buildkit").unwrap_or(created_by);
    let text = match text.strip_prefix("/bin/sh -c #(nop) ") {
        Some(instruction) => instruction.to_owned(),
        None => match text.strip_prefix("/bin/sh -c ") {
            Some(command) => format!("RUN {command}"),
            None => text.to_owned(),
        },
    };
    without_passwords(&text).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_read_as_in_a_dockerfile() {
        for (text, expected) in [
            ("RUN /bin/sh -c make # buildkit", "RUN /bin/sh -c make"),
            ("/bin/sh -c #(nop)  CMD [\"x\"]", "CMD [\"x\"]"),
            ("/bin/sh -c apt-get  update", "RUN apt-get update"),
            ("COPY a b", "COPY a b"),
            ("", ""),
        ] {
            assert_eq!(instruction(text), expected);
        }
    }
}
