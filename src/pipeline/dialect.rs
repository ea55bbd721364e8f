//! What manifests and indexes say beside what they name: annotations, and whose media types.

use std::collections::BTreeMap;

use super::Request;
use crate::layer::Compression;
use crate::oci::image::Dialect;
use crate::oci::{Annotation, AnnotationLevel, Platform};
use crate::plan::graph::Goal;
use crate::report::{Event, Events};

impl Request {
    /// The annotations of one document.
    pub(super) fn annotations_at(
        &self,
        level: AnnotationLevel,
        platform: Option<&Platform>,
    ) -> BTreeMap<String, String> {
        Annotation::at(self.all_annotations(), level, platform)
    }

    /// All that were asked for, those of outputs included.
    pub(super) fn all_annotations(&self) -> impl Iterator<Item = &Annotation> {
        self.annotations.iter().chain(self.outputs.iter().flat_map(|output| &output.annotations))
    }

    /// Whose media types the image has.
    pub(super) fn dialect(&self) -> Dialect {
        match self.wants_dockers_types() && self.needs_oci().is_none() {
            true => Dialect::Docker,
            false => Dialect::Oci,
        }
    }

    fn wants_dockers_types(&self) -> bool {
        self.dockers_types || self.outputs.iter().any(|output| output.dockers_types)
    }

    /// What docker's media types cannot say, as with BuildKit.
    fn needs_oci(&self) -> Option<&'static str> {
        let compression = self.layer_options(None).compression;
        match compression {
            Compression::Zstd { .. } => Some("compression=zstd"),
            Compression::Estargz { .. } => Some("compression=estargz"),
            Compression::None | Compression::Gzip { .. } => {
                self.all_annotations().next().map(|_| "annotations")
            }
        }
    }

    /// Says what was asked for and cannot be had.
    pub(super) fn note_dialect(&self, goals: &[Goal], events: &Events) {
        let note = |text: String| events.send(Event::Note(text));
        if let Some(reason) = self.needs_oci().filter(|_| self.wants_dockers_types()) {
            note(format!("oci-mediatypes=false: the image has OCI's media types nevertheless, for {reason}"));
        }
        let mut told: Vec<String> = Vec::new();
        for Annotation { place, key, .. } in self.all_annotations() {
            let text = match (&place.platform, place.level) {
                (None, level @ (AnnotationLevel::Index | AnnotationLevel::IndexDescriptor))
                    if goals.len() < 2 =>
                {
                    format!(
                        "the annotation `{}:{key}` is left out: an image of one platform has no index",
                        level.name()
                    )
                }
                (Some(platform), level) if goals.iter().all(|goal| goal.platform != *platform) => {
                    format!(
                        "the annotation `{}[{platform}]:{key}` is left out: this build is not for {platform}",
                        level.name()
                    )
                }
                _ => continue,
            };
            if !told.contains(&text) {
                note(text.clone());
                told.push(text);
            }
        }
    }
}
