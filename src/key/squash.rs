//! The key of a layer that stands for several.

use super::LayerOptions;
use crate::cache::Preimage;
use crate::oci::{ChainId, DiffId};

/// The key of the layer that makes of the root `base` what `new` make of it together.
pub fn squash(base: ChainId, new: &[DiffId], form: LayerOptions) -> Preimage {
    let mut key = Preimage::new("squash/1");
    key.push("base", base.to_string());
    new.iter().for_each(|layer| key.push("layer", layer.to_string()));
    form.push_to(&mut key);
    key
}
