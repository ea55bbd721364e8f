//! Signed statements beside images in their registries: under the tag `sha256-….att`, where cosign keeps them.

use super::SignatureError;
use super::signatures::{Fresh, append, place, signed};
use crate::oci::{Digest, MediaType, Reference};
use crate::registry::Client;
use crate::signature::image::{ENVELOPE, Envelope, PrivateKey, PublicKey, Refused, SIGNATURE};

/// So many of an image are looked at, the newest.
const MAX_ENVELOPES: usize = 64;
/// An envelope of this many bytes is read.
const MAX_ENVELOPE: u64 = 384 << 20;
/// All of them have no more: they are held in memory.
const MAX_TOGETHER: u64 = 1 << 30;
/// What cosign calls the predicate's type.
const PREDICATE: &str = "predicateType";
const SUFFIX: &str = "att";

/// Signs a statement about the image of this digest in the repository of `name`; one that is there is not added twice.
///
/// # Errors
/// What the registry refuses, and signed statements there that cannot be read.
pub fn sign_statement(
    client: &Client,
    (name, digest): (&Reference, &Digest),
    key: &PrivateKey,
    (statement, predicate): (&[u8], &str),
) -> Result<(), SignatureError> {
    let envelope = Envelope::sign(statement, key).to_bytes();
    let annotations = [(SIGNATURE.to_owned(), String::new()), (PREDICATE.to_owned(), predicate.to_owned())];
    let fresh =
        Fresh { media_type: MediaType::new(ENVELOPE), bytes: envelope, annotations: annotations.into() };
    append(client, &place(name, digest, SUFFIX), fresh)
}

/// The statements beside the image of this digest that one of `keys` signed, and why others are not believed.
///
/// # Errors
/// What the registry says.
pub fn signed_statements(
    client: &Client,
    (name, digest): (&Reference, &Digest),
    keys: &[PublicKey],
) -> Result<(Vec<Vec<u8>>, Vec<Refused>), SignatureError> {
    let place = place(name, digest, SUFFIX);
    let Some(manifest) = signed(client, &place)? else { return Ok((Vec::new(), Vec::new())) };
    let (mut believed, mut refused, mut together) = (Vec::new(), Vec::new(), 0_u64);
    let layers = manifest.layers.iter().rev().filter(|layer| layer.media_type.as_str() == ENVELOPE);
    for layer in layers.take(MAX_ENVELOPES) {
        if layer.size > MAX_ENVELOPE {
            refused.push(Refused::Envelope(format!("it has {} bytes", layer.size)));
            continue;
        }
        together = together.saturating_add(layer.size);
        if together > MAX_TOGETHER {
            refused.push(Refused::Envelope(format!("with newer ones it has more than {MAX_TOGETHER} bytes")));
            continue;
        }
        match Envelope::verified(&client.read_blob(&place, layer)?, keys) {
            Ok(statement) => believed.push(statement),
            Err(reason) => refused.push(reason),
        }
    }
    Ok((believed, refused))
}
