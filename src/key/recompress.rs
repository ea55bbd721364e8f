//! The key of a layer that is compressed anew.

use super::layer_options::push_gzip_version;
use crate::cache::Preimage;
use crate::layer::Compression;
use crate::oci::Digest;

/// The key of the blob `layer` in another compression.
pub fn recompress(layer: &Digest, compression: Compression) -> Preimage {
    let mut key = Preimage::new("force compression/1");
    key.push("layer", layer.to_string());
    push_gzip_version(compression, &mut key);
    key.push("compression", compression.to_string());
    key
}
