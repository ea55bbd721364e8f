//! `rbuild attest get`

use std::collections::BTreeSet;

use serde_json::Value;

use super::signed::{Signed, unsigned};
use super::{Found, Kind, Listed, Wanted, none};
use crate::attest::{self, IN_TOTO};
use crate::cli::Failure;
use crate::cli::command::sign::public_key;
use crate::cli::show::notes::note;
use crate::oci::Platform;
use crate::report::Diagnostic;
use crate::signature::image::{Bundle, PublicKey};

/// A document, and what of it somebody signs.
struct Document {
    text: String,
    kind: String,
    signed: Vec<u8>,
}

/// How what is wanted lies in what is listed.
#[derive(Clone, Copy)]
enum Lies {
    /// It is that.
    Whole,
    /// It is said by the statement that this is.
    InStatement,
    /// It is, or is said by, the statement in this bundle.
    InBundle,
}

/// The document that is wanted of `image`. With keys the first that one of them signed.
pub(super) fn text(found: &Found, image: &str, wanted: &Wanted) -> Result<String, Failure> {
    let keys = wanted.key.iter().map(|file| public_key(file)).collect::<Result<Vec<_>, _>>()?;
    let mut refusal = None;
    for (listed, lies) in candidates(found, image, wanted)? {
        let document = read(found, listed, lies, wanted.kind).and_then(|document| {
            believe(found, listed, &document, &keys)?;
            Ok(document.text)
        });
        match document {
            Ok(text) => return Ok(text),
            Err(failure) if keys.is_empty() => return Err(failure),
            Err(failure) => drop(refusal.get_or_insert(failure)),
        }
    }
    Err(refusal.unwrap_or_else(|| none(image, found.listed.len())))
}

/// What may be printed, best first.
fn candidates<'f>(
    found: &'f Found,
    image: &str,
    wanted: &Wanted,
) -> Result<Vec<(&'f Listed, Lies)>, Failure> {
    if let Some(id) = &wanted.id {
        let begin = id.strip_prefix("sha256:").unwrap_or(id);
        let named = found.listed.iter().filter(|listed| listed.entry.digest.hex().starts_with(begin));
        return Ok(named.map(|listed| (listed, Lies::Whole)).collect());
    }
    let kind = wanted.kind;
    let says =
        |listed: &Listed| attest::predicate(&listed.entry).is_some_and(|predicate| kind.says(predicate));
    let fits = |listed: &Listed, lies: Lies| match lies {
        Lies::Whole => kind.fits(&listed.entry),
        Lies::InStatement => kind == Kind::Spdx && Kind::InToto.fits(&listed.entry),
        Lies::InBundle => listed.is_bundle() && says(listed),
    };
    let all = [Lies::Whole, Lies::InStatement, Lies::InBundle].into_iter();
    let mut all: Vec<(&Listed, Lies)> = all
        .flat_map(|lies| found.listed.iter().map(move |listed| (listed, lies)))
        .filter(|(listed, lies)| fits(listed, *lies))
        .collect();
    let platforms: BTreeSet<&str> = all.iter().filter_map(|(listed, _)| found.platform(listed)).collect();
    let platform = match &wanted.platform {
        Some(platform) => Some(platform.clone()),
        None => usual(&platforms, image)?,
    };
    all.retain(|(listed, _)| platform.is_none() || found.platform(listed) == platform.as_deref());
    Ok(all)
}

/// Of several platforms this machine's; nothing to choose of one.
fn usual(platforms: &BTreeSet<&str>, image: &str) -> Result<Option<String>, Failure> {
    if platforms.len() < 2 {
        return Ok(None);
    }
    let all = platforms.iter().copied().collect::<Vec<_>>().join(", ");
    let host = Platform::host().to_string();
    if platforms.contains(host.as_str()) {
        note(&format!("this is of {host}; `--platform` prints another of {all}"));
        return Ok(Some(host));
    }
    let error = Diagnostic::error(format!("`{image}` has several, and none for {host}"));
    Err(Failure::build(vec![error.help(format!("say which with `--platform`: {all}"))]))
}

fn read(found: &Found, listed: &Listed, lies: Lies, kind: Kind) -> Result<Document, Failure> {
    let digest = listed.entry.digest;
    let artifact = found.place.read(listed)?;
    let of_statement = |statement: Vec<u8>| {
        let text = match kind {
            Kind::Spdx => {
                let statement: Value = serde_json::from_slice(&statement).unwrap_or_default();
                format!("{:#}\n", statement["predicate"])
            }
            Kind::InToto | Kind::Provenance => String::from_utf8_lossy(&statement).into_owned(),
        };
        Document { text, kind: IN_TOTO.to_owned(), signed: statement }
    };
    match lies {
        Lies::Whole => Ok(Document {
            text: String::from_utf8_lossy(&artifact.payload).into_owned(),
            kind: artifact.kind().to_owned(),
            signed: artifact.payload,
        }),
        Lies::InStatement => Ok(of_statement(artifact.payload)),
        Lies::InBundle => {
            let statement = Bundle::statement(&artifact.payload)
                .map_err(|why| Failure::message(format!("the attestation {digest} cannot be read: {why}")))?;
            attest::check(&artifact, &listed.subject).map_err(|why| {
                Failure::message(format!("the attestation {digest} is not about {}: {why}", listed.subject))
            })?;
            Ok(of_statement(statement))
        }
    }
}

/// Refuses what none of the keys signed about the image that it hangs on.
fn believe(found: &Found, listed: &Listed, document: &Document, keys: &[PublicKey]) -> Result<(), Failure> {
    if keys.is_empty() {
        return Ok(());
    }
    let Listed { subject, entry, .. } = listed;
    let signed = Signed::find(&found.place, &[*subject], keys, None)?;
    // A bundle that was asked for by its digest.
    let bundled = Bundle::verified(&document.signed, keys).ok();
    let is_signed = match bundled.filter(|_| listed.is_bundle()) {
        Some(statement) => signed.has(subject, IN_TOTO, &statement),
        None => signed.has(subject, &document.kind, &document.signed),
    };
    if is_signed {
        return Ok(());
    }
    let error =
        Diagnostic::error(unsigned(entry, keys)).help("without `--key` it is printed, whoever wrote it");
    Err(Failure::build(vec![error]))
}
