//! Statements of in-toto, version 1: what is said, and of which digests.

use serde::Deserialize;
use serde_json::{Value, json};

use super::artifact::{Artifact, IN_TOTO};
use super::document::Document;
use crate::oci::Digest;
use crate::signature::image::{Bundle, is_bundle};

const STATEMENT: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// What a statement is about: each thing by a name and its digest. As bytes, with a line break at the end.
pub(super) fn of(document: &Document, subjects: impl IntoIterator<Item = (String, Digest)>) -> Vec<u8> {
    let subject =
        |(name, digest): (String, Digest)| json!({ "name": name, "digest": { "sha256": digest.hex() } });
    let subject: Vec<Value> = subjects.into_iter().map(subject).collect();
    let predicate: Value = serde_json::from_slice(&document.predicate).unwrap_or_default();
    let statement = json!({
        "_type": STATEMENT[0], "subject": subject, "predicateType": document.predicate_type, "predicate": predicate,
    });
    format!("{statement}\n").into_bytes()
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

/// What a statement says, as it says so itself.
pub fn predicate_of(statement: &[u8]) -> Option<String> {
    let statement: Value = serde_json::from_slice(statement).ok()?;
    Some(statement["predicateType"].as_str()?.to_owned())
}

/// Whether a document that hangs on `subject` is about it. Nobody's signature is looked at.
///
/// # Errors
/// Why not, in words.
pub fn check(artifact: &Artifact, subject: &Digest) -> Result<(), String> {
    check_subject(artifact, subject)?;
    // Of a bundle that signs something else than a statement the manifest alone says what it is about.
    if is_bundle(artifact.kind())
        && let Ok(statement) = Bundle::statement(&artifact.payload)
    {
        return check_statement(&statement, artifact.predicate(), subject);
    }
    match artifact.kind() == IN_TOTO {
        true => Ok(()),
        false => serde_json::from_slice::<Value>(&artifact.payload)
            .map(drop)
            .map_err(|error| format!("it is no JSON: {error}")),
    }
}

/// The same of documents of any form, as others hang them on images: of those that are no statements the manifest alone says it.
///
/// # Errors
/// Why not, in words.
pub fn check_subject(artifact: &Artifact, subject: &Digest) -> Result<(), String> {
    if artifact.subject != *subject {
        return Err(format!("its subject is {}", artifact.subject));
    }
    match artifact.kind() == IN_TOTO {
        true => check_statement(&artifact.payload, artifact.predicate(), subject),
        false => Ok(()),
    }
}

/// Whether these bytes are a statement about `subject`, and say what they are listed to say.
///
/// # Errors
/// Why not, in words.
pub fn check_statement(bytes: &[u8], predicate: Option<&str>, subject: &Digest) -> Result<(), String> {
    let statement: Statement =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no statement of in-toto: {error}"))?;
    if !STATEMENT.contains(&statement.kind.as_str()) {
        return Err(format!("it is no statement of in-toto, but `{}`", statement.kind));
    }
    if predicate.is_some_and(|predicate| predicate != statement.predicate_type) {
        return Err(format!("it says `{}`, and is listed as something else", statement.predicate_type));
    }
    let hex = subject.hex();
    match statement.subject.iter().any(|one| one.digest.get("sha256") == Some(&hex)) {
        true => Ok(()),
        false => Err("the statement is about other digests".to_owned()),
    }
}
