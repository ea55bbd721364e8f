//! Signatures of images, beside the images in their registries: under the tag `sha256-….sig`, where cosign 2 keeps them, and in bundles,
//! where cosign 3 does.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::bundles::{self, Form};
use crate::attest;
use crate::image::{Fault, document};
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Reference};
use crate::registry::{self, Client};
use crate::signature::image::{self, Payload, PrivateKey, PublicKey, Refused, SIGNED, image_statement};

/// So many signatures of an image are looked at.
const MAX_SIGNATURES: usize = 64;
const SUFFIX: &str = "sig";
/// A document of this many bytes is read.
const MAX_PAYLOAD: u64 = 1 << 20;
/// Bundles have no more bytes together: there are statements about much else among them.
const MAX_TOGETHER: u64 = 1 << 30;

/// Why an image cannot be signed, or its signatures not be believed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// A registry refuses something.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// What hangs on the image cannot be had.
    #[error(transparent)]
    Beside(attest::Error),
    /// There is no such image.
    #[error("there is no image `{0}`")]
    NoImage(Reference),
    /// A document is not what it should be.
    #[error("`{reference}` is damaged: {fault}")]
    Damaged {
        /// The document.
        reference: Reference,
        /// What is wrong.
        fault: Fault,
    },
    /// Nobody signed it.
    #[error("`{image}` has no signature")]
    Unsigned {
        /// The image, with its digest.
        image: Reference,
    },
    /// None of its signatures is believed.
    #[error("no signature of `{image}` is believed: {}", reasons(.refused))]
    Refused {
        /// The image, with its digest.
        image: Reference,
        /// Why not, each signature's reason.
        refused: Vec<Refused>,
    },
}

impl From<attest::Error> for SignatureError {
    fn from(error: attest::Error) -> Self {
        match error {
            attest::Error::Registry(error) => Self::Registry(error),
            other => Self::Beside(other),
        }
    }
}

fn reasons(refused: &[Refused]) -> String {
    let mut reasons: Vec<String> = refused.iter().map(ToString::to_string).collect();
    reasons.sort();
    reasons.dedup();
    reasons.join("; ")
}

impl SignatureError {
    /// Whether the same may succeed a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Registry(error) if error.is_transient())
    }

    /// How to go on.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.help(),
            Self::Unsigned { image } => Some(format!("`rbuild sign --key KEY {image}` signs it")),
            Self::Refused { .. } => Some(
                "the keys are those of other signers, or somebody replaced the image or its signature"
                    .to_owned(),
            ),
            Self::Beside(_) | Self::NoImage(_) | Self::Damaged { .. } => None,
        }
    }
}

/// The digest of what a name stands for in its registry, and the digests of its platforms if that is an index.
///
/// # Errors
/// There is none, or it is damaged.
pub fn digests(client: &Client, name: &Reference) -> Result<(Digest, Vec<Digest>), SignatureError> {
    let bytes = client.manifest(name)?.ok_or_else(|| SignatureError::NoImage(name.clone()))?;
    let damaged = |fault| SignatureError::Damaged { reference: name.clone(), fault };
    let document = document::parse(&bytes, None).map_err(damaged)?;
    let digest = document.descriptor.digest;
    if let Some(wanted) = name.digest().filter(|wanted| *wanted != digest) {
        return Err(damaged(Fault::Malformed(format!("it is {digest}, not {wanted}"))));
    }
    let parts = match document.content {
        document::Content::Index(index) => index.manifests.iter().map(|part| part.digest).collect(),
        document::Content::Manifest(_) => Vec::new(),
    };
    Ok((digest, parts))
}

/// Signs the image of this digest in the repository of `name`; a signature of the same key and the same words is not added twice.
///
/// # Errors
/// What the registry refuses, and signatures there that cannot be read.
pub fn sign(
    client: &Client,
    (name, digest): (&Reference, &Digest),
    key: &PrivateKey,
    annotations: &BTreeMap<String, String>,
    form: Form,
) -> Result<(), SignatureError> {
    if form != Form::Bundle {
        sign_under_tag(client, (name, digest), key, annotations)?;
    }
    match form {
        Form::Both | Form::Bundle => {
            let statement = image_statement(digest, annotations);
            bundles::put(client, (name, digest), key, (&statement, SIGNED), form)
        }
        Form::Tag => Ok(()),
    }
}

fn sign_under_tag(
    client: &Client,
    (name, digest): (&Reference, &Digest),
    key: &PrivateKey,
    annotations: &BTreeMap<String, String>,
) -> Result<(), SignatureError> {
    let payload = Payload::new(&repository(name), digest, annotations.clone()).to_bytes();
    let signature = STANDARD.encode(key.sign(&payload));
    let annotations = [(image::SIGNATURE.to_owned(), signature)];
    let media_type = MediaType::new(image::MEDIA_TYPE);
    append(
        client,
        &place(name, digest, SUFFIX),
        Fresh { media_type, bytes: payload, annotations: annotations.into() },
    )
}

/// A document that is new beside an image.
pub(super) struct Fresh {
    pub(super) media_type: MediaType,
    pub(super) bytes: Vec<u8>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// Adds a document to those under a tag, unless it is there.
pub(super) fn append(client: &Client, place: &Reference, fresh: Fresh) -> Result<(), SignatureError> {
    let mut layers = match signed(client, place)? {
        Some(manifest) => manifest.layers,
        None => Vec::new(),
    };
    let Fresh { media_type, bytes, annotations } = fresh;
    let layer =
        Descriptor { annotations, ..Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64) };
    let is_same = |known: &Descriptor| {
        known.digest == layer.digest
            && known.annotations.get(image::SIGNATURE) == layer.annotations.get(image::SIGNATURE)
    };
    if layers.iter().any(is_same) {
        return Ok(());
    }
    layers.push(layer);
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    // As cosign writes it: an image that is none, without a time.
    let config = json!({
        "architecture": "", "created": "0001-01-01T00:00:00Z", "history": [{"created": "0001-01-01T00:00:00Z"}],
        "os": "", "rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {},
    });
    let config = config.to_string().into_bytes();
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(), "digest": Digest::of(&config).to_string(),
        },
        "layers": layers,
    });
    client.write_blob(place, &bytes)?;
    client.write_blob(place, &config)?;
    let manifest = manifest.to_string().into_bytes();
    client.write_manifest(place, &MediaType::new(manifest_type), &manifest)?;
    Ok(())
}

/// What one of `keys` signed of the image of this digest: documents under the tag, or, where none of these is believed, statements in bundles.
///
/// # Errors
/// [`SignatureError::Unsigned`] and [`SignatureError::Refused`], and what the registry says.
pub fn verify(
    client: &Client,
    (name, digest): (&Reference, &Digest),
    keys: &[PublicKey],
) -> Result<Vec<Vec<u8>>, SignatureError> {
    let image = || name.without_digest().pinned(*digest);
    let (believed, mut refused) = under_tag(client, (name, digest), keys)?;
    if !believed.is_empty() {
        return Ok(believed.iter().map(Payload::to_bytes).collect());
    }
    let is_signature = |predicate: &str| predicate == SIGNED;
    let found = bundles::find(client, (name, digest), keys, (&is_signature, MAX_TOGETHER))?;
    refused.extend(found.refused);
    let mut believed = Vec::new();
    for statement in found.believed {
        // The key signed something about the image, and not that it is signed.
        if attest::predicate_of(&statement).as_deref() != Some(SIGNED) {
            continue;
        }
        match attest::check_statement(&statement, None, digest) {
            Ok(()) => believed.push(statement),
            Err(why) => refused.push(Refused::Bundle(why)),
        }
    }
    match (believed.is_empty(), refused.is_empty()) {
        (false, _) => Ok(believed),
        (true, true) => Err(SignatureError::Unsigned { image: image() }),
        (true, false) => Err(SignatureError::Refused { image: image(), refused }),
    }
}

fn under_tag(
    client: &Client,
    (name, digest): (&Reference, &Digest),
    keys: &[PublicKey],
) -> Result<(Vec<Payload>, Vec<Refused>), SignatureError> {
    let place = place(name, digest, SUFFIX);
    let (mut believed, mut refused) = (Vec::new(), Vec::new());
    let Some(manifest) = signed(client, &place)? else { return Ok((believed, refused)) };
    let layers = manifest.layers.iter().filter(|layer| layer.media_type.as_str() == image::MEDIA_TYPE);
    for layer in layers.take(MAX_SIGNATURES) {
        let signature = layer.annotations.get(image::SIGNATURE).and_then(|text| STANDARD.decode(text).ok());
        let (Some(signature), true) = (signature, layer.size <= MAX_PAYLOAD) else {
            refused.push(Refused::Document("it is damaged".to_owned()));
            continue;
        };
        let payload = match client.read_blob(&place, layer) {
            Ok(payload) => payload,
            Err(error) => {
                refused.push(lost(error.into())?);
                continue;
            }
        };
        match Payload::verified(&payload, &signature, keys, digest) {
            Ok(payload) => believed.push(payload),
            Err(reason) => refused.push(reason),
        }
    }
    Ok((believed, refused))
}

/// Why one document is not believed that cannot be had: others beside it may be good. What may hold for all of them is an error.
pub(super) fn lost(error: attest::Error) -> Result<Refused, SignatureError> {
    match error {
        attest::Error::Registry(error) if error.is_transient() || !error.may_differ_elsewhere() => {
            Err(SignatureError::Registry(error))
        }
        attest::Error::Registry(_) | attest::Error::Foreign { .. } | attest::Error::Wrong { .. } => {
            Ok(Refused::Lost(error.to_string()))
        }
        attest::Error::Store(_) | attest::Error::Inventory(_) | attest::Error::Import(_) => Err(error.into()),
    }
}

/// Where the signatures of an image are kept, or what else is signed of it.
pub(super) fn place(name: &Reference, digest: &Digest, suffix: &str) -> Reference {
    let text = format!("{}:sha256-{}.{suffix}", repository(name), digest.hex());
    // A repository's name and hexadecimal digits are a name.
    text.parse().unwrap_or_else(|_| name.clone())
}

/// Registry and repository.
fn repository(name: &Reference) -> String {
    format!("{}/{}", name.registry(), name.repository())
}

/// The manifest under such a tag.
pub(super) fn signed(client: &Client, place: &Reference) -> Result<Option<Manifest>, SignatureError> {
    let Some(bytes) = client.manifest(place)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| SignatureError::Damaged {
        reference: place.clone(),
        fault: Fault::Malformed(error.to_string()),
    })
}
