//! Stages that an image was copied from: their layers are looked into as those of the image are.

use super::document::{Base, Step};
use super::image::steps;
use super::keep::{Layered, layered};
use super::origin::{Origins, Source, Stage};
use crate::image::{PlatformImage, described};
use crate::oci::{Layer, Platform};
use crate::store::Store;
use crate::upkeep::StepNotes;

/// A stage with what is known of its layers.
#[derive(Debug)]
pub(super) struct StageKnown {
    /// Its place in [`Origins::sources`].
    pub(super) source: usize,
    /// Its layers, lowest first; those of its base only if that is here.
    pub(super) layers: Vec<Layered>,
    /// What made each of them.
    pub(super) steps: Vec<Step>,
    /// Why some layers are missing.
    pub(super) absent: Option<String>,
}

/// Looks into all stages that were copied from. What is not in the store any more is said, and is no error.
pub(super) fn stages(store: &Store, origins: &Origins) -> Vec<StageKnown> {
    let of_source = |(source, kind): (usize, &Source)| match kind {
        Source::Stage(stage) => Some(known(store, source, stage)),
        Source::Image(_) | Source::Http { .. } | Source::Git { .. } | Source::Context { .. } => None,
    };
    origins.sources.iter().enumerate().filter_map(of_source).collect()
}

fn known(store: &Store, source: usize, stage: &Stage) -> StageKnown {
    let mut absent = None;
    let (mut layers, mut made_by) = (Vec::new(), Vec::new());
    if let Some(base) = &stage.base {
        match of_base(store, base, stage.platform.as_deref()) {
            Some((lower, steps)) => (layers, made_by) = (lower, steps),
            None => absent = Some(format!("{} is not in the local store", base.words())),
        }
    }
    layers.extend(stage.layers.iter().map(|(layer, _)| layer.clone()));
    made_by.extend(stage.layers.iter().map(|(_, step)| step.clone()));
    match layered(store, &layers) {
        Ok(layers) => StageKnown { source, layers, steps: made_by, absent },
        Err(error) => {
            StageKnown { source, layers: Vec::new(), steps: Vec::new(), absent: Some(error.to_string()) }
        }
    }
}

fn of_base(store: &Store, base: &Base, platform: Option<&str>) -> Option<(Vec<Layer>, Vec<Step>)> {
    let digest = base.digest.as_deref()?.parse().ok()?;
    let target = described(store, digest).ok()??;
    let wanted = platform.and_then(|platform| platform.parse().ok()).unwrap_or_else(Platform::host);
    let image = PlatformImage::in_store(store, &target, &wanted).ok()?;
    let notes = StepNotes::default();
    let mut made_by = steps(&image.config, &notes, image.layers.len());
    made_by.iter_mut().for_each(|step| step.base = Some(true));
    Some((image.layers, made_by))
}
