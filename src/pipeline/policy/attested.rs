//! What a rule wants said of an image, and whether somebody who is trusted said it.

use serde_json::Value;

use super::Problem;
use crate::attest;
use crate::config::policy::Attested;
use crate::oci::{Digest, Reference};
use crate::registry::Client;
use crate::transport::{self, SignatureError, Statements};

/// Why an image has no such attestation: one about its index is as good as one about the manifest of its platform, which are these
/// `digests`.
pub(super) fn missing(
    wanted: &Attested,
    client: &Client,
    (name, digests): (&Reference, &[Digest]),
) -> Option<Problem> {
    match find(wanted, client, (name, digests)) {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(Problem::missing(why)),
        Err(error) => Some(Problem::of(&error)),
    }
}

fn find(
    wanted: &Attested,
    client: &Client,
    (name, digests): (&Reference, &[Digest]),
) -> Result<Result<(), String>, SignatureError> {
    let (mut reasons, mut others) = (Vec::new(), 0);
    for digest in digests {
        let Statements { believed, refused, .. } =
            transport::signed_statements(client, (name, digest), &wanted.keys)?;
        reasons.extend(refused.iter().map(ToString::to_string));
        for bytes in believed {
            let statement: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if !statement["predicateType"].as_str().is_some_and(|predicate| wanted.fits(predicate)) {
                others += 1;
                continue;
            }
            if let Err(why) = attest::check_statement(&bytes, None, digest) {
                reasons.push(why);
                continue;
            }
            match builder(&statement["predicate"]) {
                builder if wanted.is_by(builder) => return Ok(Ok(())),
                Some(builder) => reasons.push(format!("its builder is `{builder}`")),
                None => reasons.push("it names no builder".to_owned()),
            }
        }
    }
    reasons.extend((others > 0).then(|| "what one of the keys signed says other things".to_owned()));
    reasons.sort();
    reasons.dedup();
    Ok(Err(match reasons.is_empty() {
        false => reasons.join("; "),
        true => "nothing that is signed with a key is said of it".to_owned(),
    }))
}

/// Who built it, as SLSA's provenance has it: version 1, or those before.
fn builder(predicate: &Value) -> Option<&str> {
    predicate["runDetails"]["builder"]["id"].as_str().or_else(|| predicate["builder"]["id"].as_str())
}
