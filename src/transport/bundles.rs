//! Sigstore's bundles beside images in their registries: referrers, where cosign 3 and others look for signatures and signed statements.

use super::SignatureError;
use crate::attest::{self, Artifact, Error as AttestError, Remote};
use crate::image::{Fault, document};
use crate::oci::{Descriptor, Digest, Reference};
use crate::registry::{Client, Error as RegistryError};
use crate::signature::image::{Bundle, PrivateKey, PublicKey, Refused, is_bundle};

/// So many of an image are looked at.
const MAX_BUNDLES: usize = 64;

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

/// The statements in bundles that hang on the image of this digest.
pub(super) fn find(
    client: &Client,
    (name, digest): (&Reference, &Digest),
    keys: &[PublicKey],
    limit: u64,
) -> Result<Statements, SignatureError> {
    let mut found = Statements::default();
    let listed = attest::fetch(client, name, digest)?.entries.into_iter();
    let bundles = listed.filter(|entry| entry.artifact_type.as_deref().is_some_and(is_bundle));
    for (number, entry) in bundles.enumerate() {
        if number == MAX_BUNDLES {
            found.refused.push(Refused::Bundle(format!("no more than {MAX_BUNDLES} are looked at")));
            break;
        }
        let artifact = match Remote::read(client, name, &entry) {
            Ok(artifact) => artifact,
            Err(error @ (AttestError::Foreign { .. } | AttestError::Wrong { .. })) => {
                found.refused.push(Refused::Bundle(error.to_string()));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        found.bytes = found.bytes.saturating_add(artifact.payload.len() as u64);
        if found.bytes > limit {
            found.refused.push(Refused::Bundle(format!("with others it has more than {limit} bytes")));
            break;
        }
        match Bundle::verified(&artifact.payload, keys) {
            Ok(statement) => found.believed.push(statement),
            Err(reason) => found.refused.push(reason),
        }
    }
    Ok(found)
}
