//! `rbuild attest`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::attest::{self, Artifact, IN_TOTO, Local, Remote, SPDX};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::configuration::{Configuration, RegistryArgs};
use crate::cli::show::listing::Format;
use crate::image::{Image, StoredPlatform};
use crate::oci::{Descriptor, Digest, Reference};
use crate::registry::{Client, Error as RegistryError};
use crate::report::Diagnostic;
use crate::store::Store;
use crate::text::size::bytes;
use crate::text::terminal::harmless_json;

/// Look at the documents that are kept beside an image: SBOMs and other attestations
///
/// `rbuild build --sbom` keeps them. IMAGE is an image of the local store; with `docker://` before a name, one of a registry, where
/// they are found by the API for referrers and by the referrers tag. An image of several platforms has those of each.
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
    /// Who wrote it is not checked: rbuild knows no signatures of attestations.
    Verify {
        #[command(flatten)]
        at: At,
    },
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
    /// The SPDX document
    Spdx,
    /// The statement of in-toto, which has the document in it
    InToto,
}

impl Kind {
    fn media_type(self) -> &'static str {
        match self {
            Kind::Spdx => SPDX,
            Kind::InToto => IN_TOTO,
        }
    }
}

/// What is meant in a registry begins so, as with `rbuild inspect`.
const REMOTE: &str = "docker://";

/// Where the documents of an image are.
enum Place {
    Here(Store),
    There(Box<Client>, Reference),
}

/// A document that is listed, and of what.
struct Listed {
    subject: Digest,
    entry: Descriptor,
}

impl Place {
    fn read(&self, entry: &Descriptor) -> Result<Artifact, Failure> {
        let read = match self {
            Place::Here(store) => Local(store).read(entry),
            Place::There(client, name) => Remote::read(client, name, entry),
        };
        read.map_err(|error| failure(&error))
    }
}

fn failure(error: &attest::Error) -> Failure {
    let diagnostic = Diagnostic::error(error.to_string());
    Failure::build(vec![match error {
        attest::Error::Registry(error) => error.help().into_iter().fold(diagnostic, Diagnostic::help),
        attest::Error::Store(_) | attest::Error::Inventory(_) | attest::Error::Wrong { .. } => diagnostic,
    }])
}

/// Lists, prints or checks.
pub(crate) fn run(global: &Global, args: &AttestArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::Ls { at, format } => {
            let (_, listed) = find(global, at)?;
            let format = Format::parse(format.as_deref())?;
            print(&format.render(&COLUMNS, &listed.iter().map(row).collect::<Vec<_>>())?)
        }
        Verb::Get { at, kind, platform, id, output } => {
            let (place, listed) = find(global, at)?;
            let is_wanted = |listed: &&Listed| match id {
                Some(id) => listed.entry.digest.hex().starts_with(id.strip_prefix("sha256:").unwrap_or(id)),
                None => {
                    let its = listed.entry.annotations.get("io.rbuild.platform");
                    listed.entry.artifact_type.as_deref() == Some(kind.media_type())
                        && platform.as_ref().is_none_or(|platform| its == Some(platform))
                }
            };
            let Some(found) = listed.iter().find(is_wanted) else {
                return Err(none(&at.image, listed.len()));
            };
            let text = String::from_utf8_lossy(&place.read(&found.entry)?.payload).into_owned();
            match output {
                None => print(&harmless_json(text)),
                Some(path) => std::fs::write(path, text)
                    .map_err(|error| Failure::message(format!("cannot write `{}`: {error}", path.display()))),
            }
        }
        Verb::Verify { at } => verify(global, at),
    }
}

fn verify(global: &Global, at: &At) -> Result<(), Failure> {
    let (place, listed) = find(global, at)?;
    if listed.is_empty() {
        return Err(none(&at.image, 0));
    }
    let mut faults = Vec::new();
    for Listed { subject, entry } in &listed {
        let checked = match place.read(entry) {
            Ok(artifact) => attest::check(&artifact, subject).map_err(|why| {
                Diagnostic::error(format!("the attestation {} is not about {subject}: {why}", entry.digest))
            }),
            Err(failure) => {
                Err(failure.diagnostics.into_iter().next().unwrap_or_else(|| Diagnostic::error("unreadable")))
            }
        };
        faults.extend(checked.err());
    }
    if !faults.is_empty() {
        return Err(Failure::build(faults));
    }
    print(&format!("verified {} documents; no signature was looked at\n", listed.len()))
}

fn none(image: &str, others: usize) -> Failure {
    let text = match others {
        0 => format!("nothing is kept beside `{image}`"),
        _ => format!("`{image}` has no such document beside it"),
    };
    let help = "`rbuild attest ls` lists what there is; `rbuild build --sbom` makes SBOMs; `rbuild sbom IMAGE` prints one of any image";
    Failure::build(vec![Diagnostic::error(text).help(help)])
}

/// Documents of an image and of all its platforms, each once.
fn find(global: &Global, at: &At) -> Result<(Place, Vec<Listed>), Failure> {
    let mut found: Vec<Listed> = Vec::new();
    let mut add = |subject: Digest, entries: Vec<Descriptor>| {
        found.extend(entries.into_iter().map(|entry| Listed { subject, entry }));
    };
    let Some(name) = at.image.strip_prefix(REMOTE) else {
        let store = local::open_store(global)?;
        let target = local::find_target(&store, &at.image)?;
        let image = Image::read(&store, &target)?;
        let platforms = image.platforms.iter().map(|StoredPlatform { descriptor, .. }| descriptor.digest);
        let subjects: std::collections::BTreeSet<Digest> = platforms.chain([target.digest]).collect();
        for subject in subjects {
            add(subject, Local(&store).list(&subject).map_err(|error| failure(&error))?);
        }
        return Ok((Place::Here(store), found));
    };
    let name: Reference = name.parse().map_err(|error: crate::oci::ReferenceError| {
        Failure::usage(Diagnostic::error(format!("bad name `{name}`: {}", error.reason)))
    })?;
    let client = Client::new(Configuration::load()?.registries(&at.registries)?);
    let name = name.with_default_tag();
    let refused = |error: RegistryError| failure(&error.into());
    let Some(top) = client.manifest(&name).map_err(refused)? else {
        return Err(Failure::message(format!("{name} is not in its registry")));
    };
    let mut subjects = vec![Digest::of(&top)];
    let index: Option<crate::oci::Index> = serde_json::from_slice(&top).ok();
    subjects.extend(index.iter().flat_map(|index| &index.manifests).map(|entry| entry.digest));
    subjects.truncate(attest::REFERRERS);
    for subject in subjects {
        add(subject, attest::fetch(&client, &name, &subject).map_err(|error| failure(&error))?.entries);
    }
    Ok((Place::There(Box::new(client), name), found))
}

const COLUMNS: [(&str, &str); 6] = [
    ("ID", "ID"),
    ("TYPE", "Type"),
    ("PREDICATE", "Predicate"),
    ("PLATFORM", "Platform"),
    ("SUBJECT", "Subject"),
    ("SIZE", "Size"),
];

fn row(Listed { subject, entry }: &Listed) -> Value {
    let told = |key: &str| entry.annotations.get(key).cloned().unwrap_or_else(|| "-".to_owned());
    json!({
        "ID": entry.digest.short(), "Type": entry.artifact_type.as_deref().unwrap_or("-"),
        "Predicate": told("in-toto.io/predicate-type"), "Platform": told("io.rbuild.platform"),
        "Subject": subject.short(), "Size": bytes(entry.size),
    })
}
