//! Signed statements beside images in their registries: under the tag `sha256-….att`, where cosign 2 keeps them, and in bundles, where
//! cosign 3 does.

use super::SignatureError;
use super::bundles::{self, Form, Statements};
use super::signatures::{Fresh, append, lost, place, signed};
use crate::attest;
use crate::oci::{Digest, MediaType, Reference};
use crate::registry::Client;
use crate::signature::image::{ENVELOPE, Envelope, PrivateKey, PublicKey, Refused, SIGNATURE, SIGNED};

/// So many of an image are looked at, the newest.
const MAX_ENVELOPES: usize = 64;
/// An envelope of this many bytes is read.
const MAX_ENVELOPE: u64 = 384 << 20;
/// All of them, and bundles, have no more: they are held in memory.
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
    form: Form,
) -> Result<(), SignatureError> {
    if form != Form::Bundle {
        let envelope = Envelope::sign(statement, key).to_bytes();
        let annotations =
            [(SIGNATURE.to_owned(), String::new()), (PREDICATE.to_owned(), predicate.to_owned())];
        let fresh =
            Fresh { media_type: MediaType::new(ENVELOPE), bytes: envelope, annotations: annotations.into() };
        append(client, &place(name, digest, SUFFIX), fresh)?;
    }
    match form {
        Form::Both | Form::Bundle => bundles::put(client, (name, digest), key, (statement, predicate), form),
        Form::Tag => Ok(()),
    }
}

/// The statements beside the image of this digest that one of `keys` signed, each once, and why others are not believed. Signatures of the
/// image itself are none of them.
///
/// # Errors
/// What the registry says.
pub fn signed_statements(
    client: &Client,
    (name, digest): (&Reference, &Digest),
    keys: &[PublicKey],
) -> Result<Statements, SignatureError> {
    let mut found = under_tag(client, (name, digest), keys)?;
    let left = MAX_TOGETHER.saturating_sub(found.bytes);
    let is_other = |predicate: &str| predicate != SIGNED;
    let in_bundles = bundles::find(client, (name, digest), keys, (&is_other, left))?;
    for statement in in_bundles.believed {
        if !found.believed.contains(&statement) && attest::predicate_of(&statement).as_deref() != Some(SIGNED)
        {
            found.believed.push(statement);
        }
    }
    found.refused.extend(in_bundles.refused);
    Ok(found)
}

fn under_tag(
    client: &Client,
    (name, digest): (&Reference, &Digest),
    keys: &[PublicKey],
) -> Result<Statements, SignatureError> {
    let place = place(name, digest, SUFFIX);
    let mut found = Statements::default();
    let Some(manifest) = signed(client, &place)? else { return Ok(found) };
    let layers = manifest.layers.iter().rev().filter(|layer| layer.media_type.as_str() == ENVELOPE);
    for layer in layers.take(MAX_ENVELOPES) {
        if layer.size > MAX_ENVELOPE {
            found.refused.push(Refused::Envelope(format!("it has {} bytes", layer.size)));
            continue;
        }
        if found.bytes.saturating_add(layer.size) > MAX_TOGETHER {
            let why = format!("with newer ones it has more than {MAX_TOGETHER} bytes");
            found.refused.push(Refused::Envelope(why));
            continue;
        }
        found.bytes += layer.size;
        let envelope = match client.read_blob(&place, layer) {
            Ok(envelope) => envelope,
            Err(error) => {
                found.refused.push(lost(error.into())?);
                continue;
            }
        };
        match Envelope::verified(&envelope, keys) {
            Ok(statement) => found.believed.push(statement),
            Err(reason) => found.refused.push(reason),
        }
    }
    Ok(found)
}
