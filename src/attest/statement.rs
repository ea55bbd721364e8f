//! Statements of in-toto, version 1: what is said, and of which digests.

use serde::Deserialize;
use serde_json::{Value, json};

use super::artifact::{Artifact, IN_TOTO};
use crate::oci::{Descriptor, Digest};

/// That a statement is an SPDX document.
pub const SPDX_PREDICATE: &str = "https://spdx.dev/Document";
const STATEMENT: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// The statement that `document` is of these manifests.
pub(super) fn of_spdx(name: &str, subjects: &[&Descriptor], document: &str) -> String {
    let subject: Vec<Value> = subjects
        .iter()
        .map(|subject| json!({ "name": name, "digest": { "sha256": subject.digest.hex() } }))
        .collect();
    let predicate: Value = serde_json::from_str(document).unwrap_or_default();
    let statement = json!({
        "_type": STATEMENT[0], "subject": subject, "predicateType": SPDX_PREDICATE, "predicate": predicate,
    });
    format!("{statement}\n")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(default)]
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: std::collections::BTreeMap<String, String>,
}

/// Whether a document that hangs on `subject` is about it. Nobody's signature is looked at.
///
/// # Errors
/// Why not, in words.
pub fn check(artifact: &Artifact, subject: &Digest) -> Result<(), String> {
    if artifact.subject != *subject {
        return Err(format!("its subject is {}", artifact.subject));
    }
    let parsed: Value =
        serde_json::from_slice(&artifact.payload).map_err(|error| format!("it is no JSON: {error}"))?;
    if artifact.kind() != IN_TOTO {
        return Ok(());
    }
    let statement: Statement =
        serde_json::from_value(parsed).map_err(|error| format!("it is no statement of in-toto: {error}"))?;
    if !STATEMENT.contains(&statement.kind.as_str()) {
        return Err(format!("it is no statement of in-toto, but `{}`", statement.kind));
    }
    if artifact.predicate().is_some_and(|predicate| predicate != statement.predicate_type) {
        return Err(format!("it says `{}`, and is listed as something else", statement.predicate_type));
    }
    let hex = subject.hex();
    match statement.subject.iter().any(|one| one.digest.get("sha256") == Some(&hex)) {
        true => Ok(()),
        false => Err("the statement is about other digests".to_owned()),
    }
}
