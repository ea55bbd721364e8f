//! What the outputs want of new layers.

use super::Request;
use crate::export::{self, LayerOptions, Output};
use crate::key::LayerForm;
use crate::layer;
use crate::oci::Seconds;
use crate::report::{Diagnostic, Event, Events};

/// `zstd` without a level: as the program of that name.
const ZSTD_LEVEL: i32 = 3;
/// Numbers above it are this level, and those below 1 are 1, as BuildKit takes each for the nearest speed of its encoder.
const ZSTD_LEVEL_MAX: i64 = 22;
/// `estargz` without a level: as gzip without one.
const ESTARGZ_LEVEL: u8 = 1;

impl Request {
    /// How new layers are written. `epoch` is what `rewrite-timestamp=true` rewrites times to.
    pub(super) fn form(&self, epoch: Option<Seconds>) -> LayerForm {
        let wanted = self.outputs.iter().find(|output| names_compression(&output.layers));
        let rewrites = self.outputs.iter().any(|output| output.layers.rewrite_timestamp);
        LayerForm {
            compression: wanted.map_or_else(Default::default, |output| compression(&output.layers)),
            newest: epoch.filter(|_| rewrites),
        }
    }

    /// Says that `rewrite-timestamp=true` has nothing to rewrite times to, as BuildKit does.
    pub(super) fn warn_of_form(&self, epoch: Option<Seconds>, events: &Events) {
        if epoch.is_none() && self.outputs.iter().any(|output| output.layers.rewrite_timestamp) {
            let text = "rewrite-timestamp=true does nothing without SOURCE_DATE_EPOCH";
            events.send(Event::Note(text.to_owned()));
        }
    }
}

/// Refuses what cannot be done: a build makes its layers once, so its outputs must agree about them.
pub fn check(outputs: &[Output]) -> Result<(), Diagnostic> {
    let mut wanted = outputs.iter().map(|output| &output.layers).filter(|layers| names_compression(layers));
    let Some(first) = wanted.next() else { return Ok(()) };
    match wanted.find(|other| compression(other) != compression(first)) {
        None => Ok(()),
        Some(_) => {
            let message = "the outputs want different compressions, but an image has its layers only once";
            Err(Diagnostic::error(message).help("give all of them the same `compression=`, or build twice"))
        }
    }
}

fn names_compression(layers: &LayerOptions) -> bool {
    layers.compression.is_some() || layers.level.is_some() || layers.force
}

fn compression(layers: &LayerOptions) -> layer::Compression {
    let usual = layer::Compression::default();
    match (layers.compression, layers.level) {
        (Some(export::Compression::None), _) => layer::Compression::None,
        (Some(export::Compression::Zstd), level) => layer::Compression::Zstd {
            level: level.map_or(ZSTD_LEVEL, |level| level.clamp(1, ZSTD_LEVEL_MAX) as i32),
        },
        (Some(export::Compression::Estargz), level) => layer::Compression::Estargz {
            level: level.and_then(|level| u8::try_from(level).ok()).unwrap_or(ESTARGZ_LEVEL),
        },
        (Some(export::Compression::Gzip) | None, level) => match level.and_then(|l| u8::try_from(l).ok()) {
            Some(level) => layer::Compression::Gzip { level },
            None => usual,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn checked(outputs: &[&str]) -> Result<(), String> {
        let outputs: Vec<Output> = outputs.iter().map(|text| Output::parse(text).unwrap()).collect();
        check(&outputs).map_err(|diagnostic| diagnostic.message)
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

    #[test]
    fn compressions_by_name() {
        let of = |text: &str| compression(&Output::parse(text).unwrap().layers);
        assert_eq!(of("type=oci,dest=a"), layer::Compression::default());
        assert_eq!(of("type=oci,dest=a,compression=uncompressed"), layer::Compression::None);
        assert_eq!(of("type=oci,dest=a,compression=zstd"), layer::Compression::Zstd { level: 3 });
        assert_eq!(of("type=oci,dest=a,compression=estargz"), layer::Compression::Estargz { level: 1 });
        let best = of("type=oci,dest=a,compression=estargz,compression-level=9");
        assert_eq!(best, layer::Compression::Estargz { level: 9 });
        let usual = |form: &str| of(&format!("type=oci,dest=a,compression={form},compression-level=-1"));
        assert_eq!(usual("gzip"), layer::Compression::default());
        assert_eq!(usual("estargz"), layer::Compression::Estargz { level: 1 });
        for (level, expected) in [("-7", 1), ("-1", 1), ("0", 1), ("9", 9), ("22", 22), ("4000000000", 22)] {
            let zstd = of(&format!("type=oci,dest=a,compression=zstd,compression-level={level}"));
            assert_eq!(zstd, layer::Compression::Zstd { level: expected }, "{level}");
        }
        assert_eq!(of("type=oci,dest=a,compression-level=9"), layer::Compression::Gzip { level: 9 });
    }
}
