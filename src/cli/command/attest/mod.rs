//! `rbuild attest`

mod find;
mod signed;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use find::{Found, Listed, Place, find, none};

use crate::attest::{self, IN_TOTO, SPDX, SPDX_PREDICATE};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::command::sign::FormArgs;
use crate::cli::error::print;
use crate::cli::options::configuration::RegistryArgs;
use crate::cli::show::listing::Format;
use crate::oci::{Descriptor, Digest};
use crate::signature::image::Bundle;
use crate::text::size::bytes;
use crate::text::terminal::harmless_json;

/// Look at the documents that are kept with an image: SBOMs, provenance and other attestations
///
/// `--sbom` and `--provenance` of a build make them. IMAGE is an image of the local store; with `docker://` before a name, one of a
/// registry. They are found by the API for referrers, by the referrers tag, and in the image's index, where BuildKit has them. An image
/// of several platforms has those of each.
#[derive(Debug, Args)]
pub(crate) struct AttestArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the documents
    #[command(after_help = "Fields of templates: ID, Type, Predicate, Platform, Subject, Size.")]
    Ls {
        #[command(flatten)]
        at: At,
        /// `table`, `json` (an object on each line), or a template such as '{{.Type}} {{.ID}}'
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
    },
    /// Print a document
    Get {
        #[command(flatten)]
        at: At,
        /// Which
        #[arg(long = "type", value_name = "TYPE", value_enum, default_value = "spdx")]
        kind: Kind,
        /// Of which platform of an image that has several, such as linux/arm64
        #[arg(long, value_name = "OS/ARCH")]
        platform: Option<String>,
        /// The document with that digest, or these first digits of it, whatever its type
        #[arg(long, value_name = "DIGEST", conflicts_with_all = ["kind", "platform"])]
        id: Option<String>,
        /// The file that gets it [default: standard output]
        #[arg(short, long, value_name = "PATH")]
        output: Option<PathBuf>,
    },
    /// Check that each document is what its digest says, and is about the image that it hangs on
    ///
    /// With --key each statement of in-toto, in a bundle or not, must also be one that the key signed, and those that it signed count whether
    /// they are listed or not. An SPDX document is held to the statement that has it.
    Verify {
        #[command(flatten)]
        at: At,
        /// Only documents of this type
        #[arg(long = "type", value_name = "TYPE", value_enum)]
        kind: Option<Kind>,
        /// A public key in PEM, any of several; may be repeated
        #[arg(long, value_name = "FILE")]
        key: Vec<PathBuf>,
    },
    /// Sign the statements beside an image in its registry with a key
    ///
    /// As `cosign attest` does it, in both of its forms: each statement in a bundle of Sigstore that hangs on the image, and in a signed
    /// envelope under the tag `sha256-….att`. `cosign verify-attestation --key` reads them. What is signed is what a registry has now. A
    /// registry that does not take bundles gets the envelopes alone.
    #[command(after_help = "Exit codes: 0 signed, 1 not, 2 wrong usage.")]
    Sign(SignArgs),
}

/// What is signed, and with what.
#[derive(Debug, Args)]
struct SignArgs {
    #[command(flatten)]
    at: At,
    /// A private key of P-256 or ed25519 in PEM, or one that cosign encrypted (its password in $COSIGN_PASSWORD); `env://NAME` for one in a variable
    #[arg(long, value_name = "FILE", required = true)]
    key: String,
    /// A file with the password of the key
    #[arg(long, value_name = "FILE")]
    sign_passphrase_file: Option<PathBuf>,
    /// Only documents of this type
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    kind: Option<Kind>,
    #[command(flatten)]
    form: FormArgs,
}

/// Which image, and how its registry is asked.
#[derive(Debug, Args)]
struct At {
    /// The image: a name, or the beginning of its digest; with `docker://` before a name, what its registry has
    #[arg(value_name = "IMAGE")]
    image: String,
    #[command(flatten)]
    registries: RegistryArgs,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The SPDX document; of an image with a statement alone, what that says
    Spdx,
    /// The statement of in-toto that has the SPDX document in it
    InToto,
    /// The statement of in-toto about how the image came about, as SLSA has it
    Provenance,
}

impl Kind {
    fn fits(self, entry: &Descriptor) -> bool {
        let predicate = attest::predicate(entry);
        let kind = entry.artifact_type.as_deref();
        // What a generator says of other things than the image has a title.
        let is_of_image = !entry.annotations.contains_key("org.opencontainers.image.title");
        match self {
            Kind::Spdx => kind == Some(SPDX) && is_of_image,
            Kind::InToto => kind == Some(IN_TOTO) && predicate == Some(SPDX_PREDICATE) && is_of_image,
            Kind::Provenance => kind == Some(IN_TOTO) && predicate.is_some_and(|p| p.starts_with(SLSA)),
        }
    }

    /// Whether a statement of this predicate is of this type, or has a document of it.
    fn says(self, predicate: &str) -> bool {
        match self {
            Kind::Spdx | Kind::InToto => predicate == SPDX_PREDICATE,
            Kind::Provenance => predicate.starts_with(SLSA),
        }
    }
}

/// What the types of all its predicates begin with.
const SLSA: &str = "https://slsa.dev/provenance/";

/// Lists, prints or checks.
pub(crate) fn run(global: &Global, args: &AttestArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::Ls { at, format } => {
            let Found { listed, .. } = find(global, at)?;
            let format = Format::parse(format.as_deref())?;
            print(&format.render(&COLUMNS, &listed.iter().map(row).collect::<Vec<_>>())?)
        }
        Verb::Get { at, kind, platform, id, output } => {
            let found = find(global, at)?;
            let Found { place, listed, .. } = &found;
            let is_wanted = |listed: &&Listed| match id {
                Some(id) => listed.entry.digest.hex().starts_with(id.strip_prefix("sha256:").unwrap_or(id)),
                None => {
                    let its = listed.entry.annotations.get("io.rbuild.platform");
                    kind.fits(&listed.entry) && platform.as_ref().is_none_or(|platform| its == Some(platform))
                }
            };
            let text = match listed.iter().find(is_wanted) {
                Some(found) => String::from_utf8_lossy(&place.read(found)?.payload).into_owned(),
                None => {
                    said(&found, *kind, platform.as_deref())?.ok_or_else(|| none(&at.image, listed.len()))?
                }
            };
            match output {
                None => print(&harmless_json(text)),
                Some(path) => std::fs::write(path, text)
                    .map_err(|error| Failure::message(format!("cannot write `{}`: {error}", path.display()))),
            }
        }
        Verb::Verify { at, kind, key } => signed::verify(global, at, *kind, key),
        Verb::Sign(args) => signed::sign(global, args),
    }
}

/// What is not there by itself: the SPDX document of a statement, and a statement of a bundle, whoever signed it.
fn said(
    Found { place, listed, platforms, .. }: &Found,
    kind: Kind,
    platform: Option<&str>,
) -> Result<Option<String>, Failure> {
    let is_of = |listed: &Listed| {
        let its = listed.entry.annotations.get("io.rbuild.platform").map(String::as_str);
        platform.is_none_or(|platform| its == Some(platform))
    };
    let in_statement = listed.iter().find(|listed| Kind::InToto.fits(&listed.entry) && is_of(listed));
    let statement = match in_statement.filter(|_| kind == Kind::Spdx) {
        Some(found) => place.read(found)?.payload,
        None => {
            let says =
                |entry: &Descriptor| attest::predicate(entry).is_some_and(|predicate| kind.says(predicate));
            // A bundle tells nothing of platforms, but hangs on the image of one.
            let is_about = |subject: &Digest| {
                platform.is_none_or(|platform| platforms.get(subject).is_some_and(|its| its == platform))
            };
            let is_it =
                |listed: &&Listed| listed.is_bundle() && says(&listed.entry) && is_about(&listed.subject);
            let Some(found) = listed.iter().find(is_it) else { return Ok(None) };
            let (artifact, digest) = (place.read(found)?, found.entry.digest);
            let statement = Bundle::statement(&artifact.payload)
                .map_err(|why| Failure::message(format!("the attestation {digest} cannot be read: {why}")))?;
            attest::check(&artifact, &found.subject).map_err(|why| {
                Failure::message(format!("the attestation {digest} is not about {}: {why}", found.subject))
            })?;
            statement
        }
    };
    match kind {
        Kind::Spdx => {
            let statement: Value = serde_json::from_slice(&statement).unwrap_or_default();
            Ok(Some(format!("{:#}\n", statement["predicate"])))
        }
        Kind::InToto | Kind::Provenance => Ok(Some(String::from_utf8_lossy(&statement).into_owned())),
    }
}

const COLUMNS: [(&str, &str); 6] = [
    ("ID", "ID"),
    ("TYPE", "Type"),
    ("PREDICATE", "Predicate"),
    ("PLATFORM", "Platform"),
    ("SUBJECT", "Subject"),
    ("SIZE", "Size"),
];

fn row(Listed { subject, entry, .. }: &Listed) -> Value {
    let told = |key: &str| entry.annotations.get(key).cloned().unwrap_or_else(|| "-".to_owned());
    json!({
        "ID": entry.digest.short(), "Type": entry.artifact_type.as_deref().unwrap_or("-"),
        "Predicate": attest::predicate(entry).unwrap_or("-"), "Platform": told("io.rbuild.platform"),
        "Subject": subject.short(), "Size": bytes(entry.size),
    })
}
