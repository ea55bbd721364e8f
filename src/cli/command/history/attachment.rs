//! `rbuild history inspect attachment`: what else there is of what a build made.

use clap::Args;
use serde_json::{Map, Value, json};

use super::{Daemon, REFERENCE, find};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::image::{CONFIG_LIMIT, MANIFEST_LIMIT};
use crate::oci::{Descriptor, Digest, MediaType};
use crate::record::Record;
use crate::record::provenance::{Mode, SLSA_1, SLSA_02, Subject};
use crate::report::Diagnostic;
use crate::store::Store;
use crate::text::terminal::harmless_json;

/// Print a manifest, or the provenance, of what a build made
#[derive(Debug, Args)]
pub(super) struct AttachmentArgs {
    #[arg(value_name = "REF", help = REFERENCE)]
    reference: Option<String>,
    /// That with this digest
    #[arg(value_name = "DIGEST", required_unless_present_any = ["kind", "platform"])]
    digest: Option<String>,
    /// `provenance`, `manifest`, `index`, `image` (the configuration), or the type that `history inspect` shows
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// That of this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

/// Something that belongs to a result.
pub(super) struct Attached {
    digest: String,
    platform: String,
    kind: String,
    what: What,
}

enum What {
    /// In the store, if it is still there.
    Blob(u64),
    /// Made of the record.
    Made(Vec<u8>),
}

impl Attached {
    /// As `history inspect` lists it.
    pub(super) fn object(&self) -> Value {
        let mut object = Map::from_iter([("Digest".to_owned(), json!(self.digest))]);
        if !self.platform.is_empty() {
            object.insert("Platform".to_owned(), json!(self.platform));
        }
        object.insert("Type".to_owned(), json!(self.kind));
        Value::Object(object)
    }
}

/// All that there is of a build, target by target: indexes, manifests, configurations, provenance.
pub(super) fn all(record: &Record) -> Vec<Attached> {
    let mut all: Vec<Attached> = Vec::new();
    for target in &record.targets {
        let Some(made) = &target.made else { continue };
        let is_index = made.images.iter().all(|image| image.manifest != made.digest);
        if is_index {
            let (digest, kind) = (made.digest.clone(), made.media_type.clone());
            all.push(Attached { digest, platform: String::new(), kind, what: What::Blob(made.size) });
        }
        for image in &made.images {
            let of = |digest: &str, kind: &str, what| Attached {
                digest: digest.to_owned(),
                platform: image.platform.clone(),
                kind: kind.to_owned(),
                what,
            };
            let provenance = Subject { record, target, image: Some(image) }.slsa_1().to_string().into_bytes();
            let digest = Digest::of(&provenance).to_string();
            all.push(of(&image.manifest, &image.media_type, What::Blob(image.size)));
            all.push(of(&digest, SLSA_1, What::Made(provenance)));
        }
    }
    all
}

/// Prints the first that fits.
pub(super) fn run(global: &Global, args: &AttachmentArgs) -> Result<(), Failure> {
    let store = local::open_store(global)?;
    let record = find::record(&store, args.reference.as_deref())?;
    // As with buildx, the version before the newest can be asked for by its whole name.
    if args.kind.as_deref() == Some(SLSA_02) {
        return print_old(&record, args.platform.as_deref());
    }
    let fits = |attached: &&Attached| {
        let is_type = args.kind.as_deref().is_none_or(|kind| is_of_type(attached, kind));
        let is_platform = args.platform.as_deref().is_none_or(|platform| attached.platform == platform);
        let is_digest = args.digest.as_deref().is_none_or(|digest| attached.digest == digest);
        is_type && is_platform && is_digest
    };
    if args.kind.as_deref() == Some("image") {
        return configuration(&store, &record, args);
    }
    let attached = all(&record);
    match attached.iter().find(fits) {
        Some(Attached { what: What::Made(bytes), .. }) => {
            print(&harmless_json(String::from_utf8_lossy(bytes).into_owned()))
        }
        Some(Attached { digest, what: What::Blob(size), .. }) => blob(&store, digest, *size, MANIFEST_LIMIT),
        None => Err(nothing(&record)),
    }
}

fn is_of_type(attached: &Attached, kind: &str) -> bool {
    let media_type = MediaType::new(attached.kind.as_str());
    match kind {
        "provenance" => attached.kind == SLSA_1,
        "index" => media_type.is_index(),
        "manifest" => media_type.is_manifest(),
        other => attached.kind == other,
    }
}

fn nothing(record: &Record) -> Failure {
    let error = Diagnostic::error(format!("the build `{}` has nothing of that kind", record.id));
    Failure::build(vec![error.help(format!("`rbuild history inspect {}` lists what there is", record.id))])
}

fn print_old(record: &Record, platform: Option<&str>) -> Result<(), Failure> {
    for target in &record.targets {
        let mut images = target.made.iter().flat_map(|made| &made.images);
        let is_meant =
            |image: &&crate::record::Image| platform.is_none_or(|platform| image.platform == platform);
        if let Some(image) = images.find(is_meant) {
            let predicate = Subject { record, target, image: Some(image) }.slsa_02(Mode::Max);
            return print(&harmless_json(predicate.to_string()));
        }
    }
    Err(nothing(record))
}

/// The configuration of an image, which no list names, as in buildx.
fn configuration(store: &Store, record: &Record, args: &AttachmentArgs) -> Result<(), Failure> {
    let images =
        record.targets.iter().filter_map(|target| target.made.as_ref()).flat_map(|made| &made.images);
    let fits = |platform: &str| args.platform.as_deref().is_none_or(|wanted| wanted == platform);
    let mut fitting = images.filter(|image| fits(&image.platform));
    let image = fitting.next().ok_or_else(|| nothing(record))?;
    let digest: Digest = image.config.parse().map_err(|_| nothing(record))?;
    let size = store.has_blob(&digest).ok_or_else(|| gone(&image.config))?;
    blob(store, &image.config, size, CONFIG_LIMIT)
}

fn blob(store: &Store, digest: &str, size: u64, limit: u64) -> Result<(), Failure> {
    let parsed: Digest = digest.parse().map_err(|_| gone(digest))?;
    if store.has_blob(&parsed).is_none() {
        return Err(gone(digest));
    }
    let bytes = store.read_blob(&Descriptor::new(MediaType::OCTET_STREAM, parsed, size), limit)?;
    print(&harmless_json(String::from_utf8_lossy(&bytes).into_owned()))
}

fn gone(digest: &str) -> Failure {
    let error = Diagnostic::error(format!("`{digest}` is no longer in the store"));
    Failure::build(vec![
        error.help("a record stays when its image is removed; the same build makes it again"),
    ])
}
