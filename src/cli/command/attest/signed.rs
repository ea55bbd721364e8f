//! `rbuild attest verify` and `rbuild attest sign`

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use super::find::REMOTE;
use super::{At, Found, Kind, Listed, Place, SignArgs, find, none};
use crate::attest::{self, IN_TOTO};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::command::sign::{private_key, public_key, told};
use crate::cli::error::print;
use crate::oci::{Descriptor, Digest, Reference};
use crate::registry::Client;
use crate::report::Diagnostic;
use crate::signature::image::{Bundle, PublicKey, SIGNED};
use crate::transport::{self, Statements};

/// Checks documents, and with keys who signed them.
pub(super) fn verify(global: &Global, at: &At, kind: Option<Kind>, keys: &[PathBuf]) -> Result<(), Failure> {
    let keys = keys.iter().map(|file| public_key(file)).collect::<Result<Vec<_>, _>>()?;
    let Found { place, subjects, mut listed, .. } = find(global, at)?;
    let all = listed.len();
    // With keys what is in bundles is a statement like others; what is listed as something else need not be read.
    let may_say =
        |entry: &Descriptor| attest::predicate(entry).is_none_or(|predicate| is_wanted(kind, predicate));
    let bundles: Vec<Listed> = match keys.is_empty() {
        true => Vec::new(),
        false => {
            listed.extract_if(.., |listed| listed.is_bundle()).filter(|one| may_say(&one.entry)).collect()
        }
    };
    listed.retain(|listed| kind.is_none_or(|kind| kind.fits(&listed.entry)));
    let signed = match keys.is_empty() {
        true => Signed::default(),
        false => Signed::find(&place, &subjects, &keys, kind)?,
    };
    let mut faults = signed.faults.clone();
    for bundle in &bundles {
        faults.extend(signed.fault(&place, bundle, kind, &keys));
    }
    if listed.is_empty() && signed.statements().is_empty() && faults.is_empty() {
        return Err(none(&at.image, all));
    }
    for found in &listed {
        let Listed { subject, entry, .. } = found;
        match place.read(found) {
            Ok(artifact) => {
                let checked = attest::check(&artifact, subject);
                let fault = checked
                    .map_err(|why| format!("the attestation {} is not about {subject}: {why}", entry.digest));
                let is_signed = keys.is_empty() || signed.has(subject, artifact.kind(), &artifact.payload);
                let fault = fault.err().or_else(|| (!is_signed).then(|| unsigned(entry, &keys)));
                faults.extend(fault.map(Diagnostic::error));
            }
            Err(failure) => faults.extend(failure.diagnostics.into_iter().next()),
        }
    }
    if !faults.is_empty() {
        let help = "`rbuild attest sign --key KEY` signs what a registry has; `--type` holds to documents of one type";
        let is_about_keys = faults.iter().any(|fault| fault.message.contains(" is not signed with "));
        if let Some(last) = faults.last_mut().filter(|_| is_about_keys) {
            last.help.push(help.to_owned());
        }
        return Err(Failure::build(faults));
    }
    let documents = count(listed.len(), "document");
    let about_keys = match keys.is_empty() {
        true => "no signature was looked at".to_owned(),
        false => format!("{} signed with {}", count(signed.statements().len(), "statement"), a_key(&keys)),
    };
    print(&format!("verified {documents}; {about_keys}\n"))
}

/// Whether a statement of this predicate is looked at; one that does not tell is. Signatures of images are `rbuild verify-signature`'s.
fn is_wanted(kind: Option<Kind>, predicate: &str) -> bool {
    predicate != SIGNED && kind.is_none_or(|kind| predicate.is_empty() || kind.says(predicate))
}

pub(super) fn unsigned(entry: &Descriptor, keys: &[PublicKey]) -> String {
    format!("the attestation {} is not signed with {}", entry.digest, a_key(keys))
}

fn a_key(keys: &[PublicKey]) -> &'static str {
    if keys.len() == 1 { "the key" } else { "one of the keys" }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What the keys signed.
#[derive(Default)]
pub(super) struct Signed {
    /// Each once, by what it is signed beside: what is said of one platform is not said of another.
    by_subject: BTreeMap<Digest, BTreeSet<Vec<u8>>>,
    faults: Vec<Diagnostic>,
}

impl Signed {
    /// Beside each of these digests; what is signed has to be about that. With a type, what is clearly of another one is left out.
    pub(super) fn find(
        place: &Place,
        subjects: &[Digest],
        keys: &[PublicKey],
        kind: Option<Kind>,
    ) -> Result<Self, Failure> {
        let (client, name) = registry(place)?;
        let mut signed = Self::default();
        for subject in subjects {
            let found = transport::signed_statements(client, (name, subject), keys);
            let Statements { believed, refused, .. } = found.map_err(|error| told(&error))?;
            let says = |statement: &[u8]| attest::predicate_of(statement).unwrap_or_default();
            for statement in believed.into_iter().filter(|statement| is_wanted(kind, &says(statement))) {
                if let Err(why) = attest::check_statement(&statement, None, subject) {
                    let text = format!("a signed statement beside {subject} is not about it: {why}");
                    signed.faults.push(Diagnostic::error(text));
                    continue;
                }
                signed.by_subject.entry(*subject).or_default().insert(statement);
            }
            refused
                .iter()
                .for_each(|reason| tracing::debug!(%subject, %reason, "a signed statement is not believed"));
        }
        Ok(signed)
    }

    /// Each once, whatever it is about.
    fn statements(&self) -> BTreeSet<&[u8]> {
        self.by_subject.values().flatten().map(Vec::as_slice).collect()
    }

    /// What is wrong with a bundle that is listed: that it cannot be had, or holds a statement that is wanted and that nobody signed who is
    /// believed. What has no statement says nothing.
    fn fault(
        &self,
        place: &Place,
        bundle: &Listed,
        kind: Option<Kind>,
        keys: &[PublicKey],
    ) -> Option<Diagnostic> {
        let artifact = match place.read(bundle) {
            Ok(artifact) => artifact,
            Err(failure) => return failure.diagnostics.into_iter().next(),
        };
        let statement = Bundle::statement(&artifact.payload).ok()?;
        let says = attest::predicate_of(&statement).unwrap_or_default();
        let is_believed = !is_wanted(kind, &says) || self.has(&bundle.subject, IN_TOTO, &statement);
        (!is_believed).then(|| Diagnostic::error(unsigned(&bundle.entry, keys)))
    }

    /// Whether a document about `subject` was signed, or is what a statement signed beside that says.
    pub(super) fn has(&self, subject: &Digest, kind: &str, document: &[u8]) -> bool {
        let Some(statements) = self.by_subject.get(subject) else { return false };
        if kind == IN_TOTO {
            return statements.contains(document);
        }
        let document: Option<Value> = serde_json::from_slice(document).ok();
        let says = |statement: &Vec<u8>| {
            let statement: Option<Value> = serde_json::from_slice(statement).ok();
            document.is_some()
                && statement.is_some_and(|statement| Some(&statement["predicate"]) == document.as_ref())
        };
        statements.iter().any(says)
    }
}

/// Signatures are in registries.
fn registry(place: &Place) -> Result<(&Client, &Reference), Failure> {
    match place {
        Place::There(client, name) => Ok((client, name)),
        Place::Here(_) => {
            let error = Diagnostic::error("signatures of attestations are kept in registries");
            Err(Failure::usage(error.help("write `docker://` before the name")))
        }
    }
}

/// Signs what a registry has beside an image.
pub(super) fn sign(global: &Global, args: &SignArgs) -> Result<(), Failure> {
    let key = private_key(&args.key, args.sign_passphrase_file.as_deref())?;
    let image = match args.at.image.starts_with(REMOTE) {
        true => args.at.image.clone(),
        false => format!("{REMOTE}{}", args.at.image),
    };
    let at = At { image, registries: args.at.registries.clone() };
    let Found { place, mut listed, .. } = find(global, &at)?;
    let (client, name) = registry(&place)?;
    listed.retain(|listed| {
        listed.entry.artifact_type.as_deref() == Some(IN_TOTO)
            && args.kind.is_none_or(|kind| kind.fits(&listed.entry))
    });
    if listed.is_empty() {
        return Err(none(&args.at.image, 0));
    }
    let mut lines = String::new();
    for found in &listed {
        let Listed { subject, entry, .. } = found;
        let artifact = place.read(found)?;
        // Nobody signs what is not so.
        attest::check(&artifact, subject).map_err(|why| {
            Failure::message(format!("the attestation {} is not about {subject}: {why}", entry.digest))
        })?;
        // Others' need not be annotated with it.
        let predicate = attest::predicate_of(&artifact.payload).unwrap_or_default();
        let said = (artifact.payload.as_slice(), predicate.as_str());
        let signed = transport::sign_statement(client, (name, subject), &key, said, args.form.form());
        signed.map_err(|error| told(&error))?;
        lines.push_str(&format!("{} {predicate}\n", name.without_digest().pinned(*subject)));
    }
    print(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_of_one_platform_is_not_of_another() {
        let (one, two) = (Digest::of(b"amd64"), Digest::of(b"arm64"));
        let statement = br#"{"predicateType":"https://spdx.dev/Document","predicate":{"name":"amd64"}}"#;
        let by_subject = BTreeMap::from([(one, BTreeSet::from([statement.to_vec()]))]);
        let signed = Signed { by_subject, faults: Vec::new() };
        let spdx = br#"{"name": "amd64"}"#;
        assert!(signed.has(&one, "application/spdx+json", spdx) && signed.has(&one, IN_TOTO, statement));
        assert!(!signed.has(&two, "application/spdx+json", spdx) && !signed.has(&two, IN_TOTO, statement));
    }
}
