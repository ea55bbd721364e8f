//! What the outputs want of new layers.

use super::Request;
use crate::export::{Epoch, Output};
use crate::key::LayerOptions;
use crate::oci::Seconds;
use crate::plan::graph::Goal;
use crate::report::{Diagnostic, Event, Events};

impl Request {
    /// How new layers are written. `epoch` is what `rewrite-timestamp=true` rewrites times to.
    pub(super) fn layer_options(&self, epoch: Option<Seconds>) -> LayerOptions {
        let wanted = self.outputs.iter().find_map(|output| output.layers.compression);
        let rewrites = self.rewrites_times();
        let newest = self.image_epoch(epoch).filter(|_| rewrites);
        LayerOptions { compression: wanted.unwrap_or_default(), newest }
    }

    /// Whether times of files that are newer than SOURCE_DATE_EPOCH become it.
    pub(super) fn rewrites_times(&self) -> bool {
        let asks = |output: &Output| output.layers.rewrite_timestamp;
        self.reproducible || self.rewrite_timestamp || self.outputs.iter().any(asks)
    }

    /// How new layers of all goals are written.
    ///
    /// # Errors
    /// A layer that several platforms share has one time, and these want several.
    pub(super) fn layer_options_of(&self, goals: &[Goal]) -> Result<LayerOptions, Vec<Diagnostic>> {
        let mut forms = goals.iter().map(|goal| self.layer_options(goal.epoch));
        let form = forms.next().unwrap_or_default();
        if forms.all(|other| other == form) {
            return Ok(form);
        }
        let message =
            "the platforms have different SOURCE_DATE_EPOCH, and rewrite-timestamp=true knows only one";
        Err(vec![Diagnostic::error(message).help("build one platform after the other")])
    }

    /// The time of the image: what an output says, else `epoch`, the build's SOURCE_DATE_EPOCH.
    pub(super) fn image_epoch(&self, epoch: Option<Seconds>) -> Option<Seconds> {
        epochs(&self.outputs).next().unwrap_or_default().or(epoch)
    }

    /// Says that `rewrite-timestamp=true` has nothing to rewrite times to, as BuildKit does.
    pub(super) fn warn_of_rewriting(&self, goals: &[Goal], events: &Events) {
        if goals.iter().any(|goal| self.image_epoch(goal.epoch).is_none()) && self.rewrites_times() {
            let text = "rewrite-timestamp=true does nothing without SOURCE_DATE_EPOCH";
            events.send(Event::Note(text.to_owned()));
        }
    }
}

/// The times that outputs give the image.
fn epochs(outputs: &[Output]) -> impl Iterator<Item = Epoch> {
    let images = outputs.iter().filter(|output| output.is_image());
    images.map(|output| output.epoch).filter(|epoch| *epoch != Epoch::OfBuild)
}

/// Refuses what cannot be done: a build makes its image once, so its outputs must agree about it.
pub fn agree(outputs: &[Output]) -> Result<(), Diagnostic> {
    let first = epochs(outputs).next();
    if epochs(outputs).any(|other| Some(other) != first) {
        let message = "the outputs want different times, but an image is made only once";
        return Err(Diagnostic::error(message).help("give all of them the same `source-date-epoch=`"));
    }
    let mut wanted = outputs.iter().filter_map(|output| output.layers.compression);
    let Some(first) = wanted.next() else { return Ok(()) };
    match wanted.find(|other| *other != first) {
        None => Ok(()),
        Some(_) => {
            let message = "the outputs want different compressions, but an image has its layers only once";
            Err(Diagnostic::error(message).help("give all of them the same `compression=`, or build twice"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn checked(outputs: &[&str]) -> Result<(), String> {
        let outputs: Vec<Output> = outputs.iter().map(|text| Output::parse(text).unwrap()).collect();
        agree(&outputs).map_err(|diagnostic| diagnostic.message)
    }

    #[test]
    fn outputs_agree_about_times() {
        let several = ["type=oci,dest=a,source-date-epoch=1", "type=image,source-date-epoch=2"];
        assert!(checked(&several).unwrap_err().contains("different times"));
        assert_eq!(checked(&["type=oci,dest=a,source-date-epoch=1", "type=tar,source-date-epoch=2"]), Ok(()));
    }

    #[test]
    fn outputs_agree_about_layers() {
        assert_eq!(checked(&["type=oci,dest=a,compression=zstd", "type=local,dest=d"]), Ok(()));
        assert_eq!(
            checked(&["type=oci,dest=a,compression=gzip", "type=oci,dest=b,compression-level=1"]),
            Ok(())
        );
        let several = ["type=oci,dest=a,compression=zstd", "type=oci,dest=b,compression=gzip"];
        assert!(checked(&several).unwrap_err().contains("different compressions"));
        assert_eq!(
            checked(&["type=oci,dest=a,force-compression=true,compression=zstd", "type=image"]),
            Ok(())
        );
        // It forces gzip.
        let several = ["type=oci,dest=a,force-compression=true", "type=oci,dest=b,compression=zstd"];
        assert!(checked(&several).is_err());
    }
}
