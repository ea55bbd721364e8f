//! `rbuild attest`

mod find;
mod get;
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
use crate::oci::Descriptor;
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
    ///
    /// Of an image of several platforms that of this machine's, and a note says so; where there is none --platform has to say which. With
    /// --key only what one of the keys signed, of an image in a registry.
    Get {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        wanted: Wanted,
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

/// Which document is printed.
#[derive(Debug, Args)]
struct Wanted {
    /// Which
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value = "spdx")]
    kind: Kind,
    /// Of which platform of an image that has several, such as linux/arm64 [default: that of this machine]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// The document with that digest, or these first digits of it, whatever its type
    #[arg(long, value_name = "DIGEST", conflicts_with_all = ["kind", "platform"])]
    id: Option<String>,
    /// A public key in PEM that has to have signed it, any of several; may be repeated
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
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
            let Found { place, listed, .. } = find(global, at)?;
            let format = Format::parse(format.as_deref())?;
            let rows: Vec<Value> = listed.iter().map(|listed| row(listed, place.size(listed))).collect();
            print(&format.render(&COLUMNS, &rows)?)
        }
        Verb::Get { at, wanted, output } => {
            let text = get::text(&find(global, at)?, &at.image, wanted)?;
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

const COLUMNS: [(&str, &str); 6] = [
    ("ID", "ID"),
    ("TYPE", "Type"),
    ("PREDICATE", "Predicate"),
    ("PLATFORM", "Platform"),
    ("SUBJECT", "Subject"),
    ("SIZE", "Size"),
];

/// A document of so many bytes; of one that cannot be had nobody knows.
fn row(Listed { subject, entry, .. }: &Listed, size: Option<u64>) -> Value {
    let told = |key: &str| entry.annotations.get(key).cloned().unwrap_or_else(|| "-".to_owned());
    json!({
        "ID": entry.digest.short(), "Type": entry.artifact_type.as_deref().unwrap_or("-"),
        "Predicate": attest::predicate(entry).unwrap_or("-"), "Platform": told("io.rbuild.platform"),
        "Subject": subject.short(), "Size": size.map_or_else(|| "-".to_owned(), bytes),
    })
}
