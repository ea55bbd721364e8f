//! Gives every layer of a result the form that `force-compression=true` asks for, those of bases included.
//!
//! The tars stay, and with them diff ids, configuration and history. That is why eStargz is left out: its table is part of
//! the tar.

use std::sync::Arc;

use super::Request;
use crate::cache::Record;
use crate::key::{self, LayerOptions};
use crate::layer::Compression;
use crate::oci::{ChainId, Descriptor, Layer};
use crate::plan::graph::{Op, Plan};
use crate::report::{Diagnostic, Event, Source};
use crate::solve::{Services, recompressed};

impl Request {
    /// What every layer has to be; `None` when they may stay as they are.
    pub(super) fn forced(&self) -> Option<Compression> {
        let LayerOptions { compression, .. } = self.layer_options(None);
        self.outputs.iter().any(|output| output.layers.force).then_some(compression)
    }
}

/// Refuses what could not be done in the end, before anything runs: `source` is the Dockerfile.
pub(super) fn check(forced: Compression, plan: &Plan, source: &Arc<Source>) -> Result<(), Vec<Diagnostic>> {
    let Compression::Estargz { .. } = forced else { return Ok(()) };
    let mut steps = plan.graph.chain(plan.goal.image.result);
    let base = steps.find_map(|id| match &plan.graph.steps[id.0].op {
        Op::Base(op) => Some((&op.image, plan.graph.steps[id.0].span)),
        _ => None,
    });
    let Some((base, span)) = base else { return Ok(()) };
    if base.layers.iter().all(|layer| forced.is_form_of(&layer.descriptor)) {
        return Ok(());
    }
    let diagnostic = not_made_estargz();
    Err(vec![span.into_iter().fold(diagnostic, |diagnostic, span| diagnostic.at(source, span, ""))])
}

fn not_made_estargz() -> Diagnostic {
    Diagnostic::error("layers of the base image are not eStargz, and cannot be made so")
        .note("the table of an eStargz layer would change the base's diff ids")
        .help("leave out `force-compression=true`, so that only new layers are eStargz; or build the base, too, with `compression=estargz`")
}

/// The layers as `forced` wants them. Those that are so already stay, whatever their level; of the others each is made
/// once, and then found in the cache.
pub(super) fn convert(
    layers: &[Layer],
    forced: Compression,
    services: &Services,
) -> Result<Vec<Layer>, Vec<Diagnostic>> {
    let conversion = Conversion { forced, services };
    layers.iter().map(|layer| conversion.of(layer)).collect()
}

struct Conversion<'a> {
    forced: Compression,
    services: &'a Services,
}

impl Conversion<'_> {
    fn of(&self, layer: &Layer) -> Result<Layer, Vec<Diagnostic>> {
        if self.forced.is_form_of(&layer.descriptor) {
            return Ok(layer.clone());
        }
        let fail = |e: crate::cache::Error| vec![Diagnostic::error(e.to_string())];
        let preimage = key::recompress(&layer.descriptor.digest, self.forced);
        let known = self.services.lookup.find(&preimage).map_err(fail)?.record();
        if let Some(known) = known.filter(|known| known.layer.diff_id == layer.diff_id) {
            return Ok(known.layer);
        }
        let made = self.make(layer)?;
        // A record names a chain and a time, which matter to steps alone: a recompressed layer is its own chain, at 1970.
        let record = Record::new(preimage.key(), made.clone(), ChainId::of(&[made.diff_id]), 0);
        self.services.lookup.publish_alias(record, &preimage).map_err(fail)?;
        Ok(made)
    }

    fn make(&self, layer: &Layer) -> Result<Layer, Vec<Diagnostic>> {
        if let Compression::Estargz { .. } = self.forced {
            return Err(vec![not_made_estargz()]);
        }
        let Descriptor { digest, .. } = layer.descriptor;
        let note =
            format!("making layer {} {} anew, for force-compression=true", digest.short(), self.forced);
        self.services.events.send(Event::Note(note));
        recompressed(self.services, layer, self.forced)
            .map_err(|error| vec![error.explain(self.services.store.root())])
    }
}
