//! Sigstore's bundles beside images in their registries: referrers, where cosign 3 and others look for signatures and signed statements.

use super::SignatureError;
use super::signatures::lost;
use crate::attest::{self, Artifact, Error as AttestError, Remote};
use crate::image::{Fault, document};
use crate::oci::{Descriptor, Digest, Reference};
use crate::registry::{Client, Error as RegistryError};
use crate::signature::image::{Bundle, PrivateKey, PublicKey, Refused, is_bundle};

/// So many of an image are looked at: those first that are listed as what is looked for.
const MAX_COUNT: usize = 1000;

/// In which forms something is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// As a bundle, and under a tag; a registry that takes no bundles gets the latter alone.
    #[default]
    Both,
    /// As a bundle, which cosign 3 looks for.
    Bundle,
    /// Under a tag, where older ones look, and podman and skopeo.
    Tag,
}

/// What was signed with keys that are trusted, and why the rest is not believed.
#[derive(Debug, Default)]
pub struct Statements {
    /// The statements, each as it was signed.
    pub believed: Vec<Vec<u8>>,
    /// A reason for each other.
    pub refused: Vec<Refused>,
    /// How many bytes were read for that.
    pub(super) bytes: u64,
}

/// Hangs a signed statement on the image of this digest. With [`Form::Both`] a registry that does not take its form is told of, and is no
/// error.
pub(super) fn put(
    client: &Client,
    (name, digest): (&Reference, &Digest),
    key: &PrivateKey,
    (statement, predicate): (&[u8], &str),
    form: Form,
) -> Result<(), SignatureError> {
    let subject = subject(client, name, digest)?;
    let artifact = Artifact::bundle(Bundle::sign(statement, key).to_bytes(), predicate, &subject);
    match attest::push(client, name, &[artifact]) {
        Err(AttestError::Registry(refusal)) if form == Form::Both && attest::is_about_form(&refusal) => {
            client.note(no_bundles(name, &refusal));
            Ok(())
        }
        pushed => Ok(pushed.map(drop)?),
    }
}

fn no_bundles(name: &Reference, refusal: &RegistryError) -> String {
    format!(
        "{} takes no bundles of Sigstore, so there is the older form of signatures only: {refusal}",
        name.registry()
    )
}

/// What a bundle is about, as its manifest names it.
fn subject(client: &Client, name: &Reference, digest: &Digest) -> Result<Descriptor, SignatureError> {
    let name = name.pinned(*digest);
    let damaged = |fault| SignatureError::Damaged { reference: name.clone(), fault };
    let bytes = client.manifest(&name)?.ok_or_else(|| SignatureError::NoImage(name.clone()))?;
    let found = document::parse(&bytes, None).map_err(damaged)?.descriptor;
    match found.digest == *digest {
        true => Ok(found),
        false => Err(damaged(Fault::Malformed(format!("it is {}, not {digest}", found.digest)))),
    }
}

/// The statements in bundles that hang on the image of this digest. Those that are listed as something that does not fit come last; all
/// together have no more than `limit` bytes.
pub(super) fn find(
    client: &Client,
    (name, digest): (&Reference, &Digest),
    keys: &[PublicKey],
    (fits, limit): (&dyn Fn(&str) -> bool, u64),
) -> Result<Statements, SignatureError> {
    let mut found = Statements::default();
    let listed = attest::fetch(client, name, digest)?.entries.into_iter();
    let mut bundles: Vec<Descriptor> =
        listed.filter(|entry| entry.artifact_type.as_deref().is_some_and(is_bundle)).collect();
    bundles.sort_by_key(|entry| !attest::predicate(entry).is_none_or(fits));
    for (number, entry) in bundles.iter().enumerate() {
        if number == MAX_COUNT {
            let why = format!(
                "{} bundles hang on the image, and {MAX_COUNT} are looked at: remove some",
                bundles.len()
            );
            found.refused.push(Refused::Lost(why));
            break;
        }
        let artifact = match Remote::read_within(client, name, entry, limit.saturating_sub(found.bytes)) {
            Ok(artifact) => artifact,
            Err(error) => {
                found.refused.push(lost(error)?);
                continue;
            }
        };
        found.bytes = found.bytes.saturating_add(artifact.payload.len() as u64);
        match Bundle::verified(&artifact.payload, keys) {
            Ok(statement) => found.believed.push(statement),
            Err(reason) => found.refused.push(reason),
        }
    }
    Ok(found)
}
