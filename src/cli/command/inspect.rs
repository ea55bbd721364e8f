//! `rbuild inspect NAME…`

use std::collections::{BTreeMap, HashMap};

use clap::Args;
use serde_json::{Map, Value, json};

use super::index;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::configuration::{Configuration, RegistryArgs};
use crate::cli::show::listing::bad;
use crate::cli::show::template::Template;
use crate::image::{Image, MANIFEST_LIMIT, StoredPlatform};
use crate::oci::{Digest, Platform, Reference};
use crate::registry::Client;
use crate::store::Store;
use crate::text::terminal::harmless_json;

/// Show everything about images as JSON
///
/// An array with an object for each image, with the fields of `docker image inspect`. `Id` and `Digest` are what the name
/// points at; in an image for several platforms that is the index, and `ManifestDigest`, `Config` and `RootFS` are those of
/// the platform that was asked for. `Size` is that of `rbuild images`: the bytes of the layers, of all platforms that are
/// here, or of the one that was asked for. `Manifest` and `ImageConfig` are the documents themselves. `Missing` are blobs that should be
/// here; `Promised` are layers that only registries have, under these names.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The images: names, or beginnings of digests; with `docker://` before a name, what its registry has
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// `json`, or a template for each image, such as '{{.Config.Env}}' or '{{json .RepoTags}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print the manifest or index as it is
    #[arg(long, conflicts_with_all = ["format", "platform"])]
    raw: bool,
    #[command(flatten)]
    registries: RegistryArgs,
    /// The platform to show of an image that has several [default: this machine's, else the first]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
}

/// What is meant in a registry begins so, as with `rbuild copy`.
const REMOTE: &str = "docker://";

/// Prints the array, or what the template makes of each image.
pub(crate) fn run(global: &Global, args: &InspectArgs) -> Result<(), Failure> {
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(text) => Some(Template::parse(text).map_err(bad)?),
    };
    let (remote, names): (Vec<&String>, Vec<&String>) =
        args.names.iter().partition(|name| name.starts_with(REMOTE));
    if !remote.is_empty() {
        let client = Client::new(Configuration::load()?.registries(&args.registries)?);
        for name in remote {
            index::show(&client, &name[REMOTE.len()..], args.raw, args.format.as_deref())?;
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    let store = local::open_store(global)?;
    if args.raw {
        return names.iter().try_for_each(|name| {
            let bytes = store.read_blob(&local::find_target(&store, name)?, MANIFEST_LIMIT)?;
            print(&String::from_utf8_lossy(&bytes))
        });
    }
    let values = names.iter().map(|name| value(&store, name, args.platform.as_ref()));
    let values: Vec<Value> = values.collect::<Result<_, _>>()?;
    match template {
        None => print(&harmless_json(format!("{:#}\n", Value::Array(values)))),
        Some(template) => {
            let lines = values.iter().map(|value| Ok(template.render(value).map_err(bad)? + "\n"));
            print(&lines.collect::<Result<String, Failure>>()?)
        }
    }
}

fn value(store: &Store, name: &str, wanted: Option<&Platform>) -> Result<Value, Failure> {
    let target = local::find_target(store, name)?;
    let image = Image::read(store, &target)?;
    let platform = match wanted {
        None => image.for_this_machine().ok_or_else(|| local::unreadable(name, &image))?,
        Some(wanted) => image.for_platform(wanted).ok_or_else(|| local::no_platform(name, &image, wanted))?,
    };
    let config = platform.config.clone().ok_or_else(|| local::unreadable(name, &image))?;
    let names: Vec<Reference> = local::names_of(store, &target.digest)?;
    let digests: Vec<String> = digests(&names, &target.digest.to_string());
    let comment = config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default();
    let mut value = json!({
        "Id": target.digest,
        "RepoTags": names.iter().map(Reference::to_string).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Comment": comment,
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Config": config.config,
        "Architecture": config.architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "Os": config.os,
        "Size": size(&wanted.map_or_else(|| image.layers(), |_| image.layers_of(platform))),
        "RootFS": json!({ "Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids }),
        "Digest": target.digest,
        "MediaType": target.media_type,
        "Platforms": platforms(&image),
        "ManifestDigest": platform.descriptor.digest,
        "Manifest": *platform.manifest,
        "ImageConfig": *config,
    });
    if let Some(fields) = value.as_object_mut().filter(|_| !image.missing.is_empty()) {
        let remote = store.remote_names_of(&target.digest)?;
        match remote.is_empty() || !image.lacks_layers_only() {
            true => fields.insert("Missing".to_owned(), json!(image.missing)),
            false => fields.insert("Promised".to_owned(), promised(&image, &remote)),
        };
    }
    Ok(value)
}

/// What registries have of it, and the store has not.
fn promised(image: &Image, names: &[Reference]) -> Value {
    let layers = image.absent_layers();
    json!({
        "By": names.iter().map(Reference::to_string).collect::<Vec<_>>(),
        "Layers": layers.keys().collect::<Vec<_>>(),
        "Size": layers.values().map(|layer| layer.size).sum::<u64>(),
    })
}

fn digests(names: &[Reference], digest: &str) -> Vec<String> {
    let mut digests: Vec<String> =
        names.iter().map(|name| format!("{}@{digest}", local::repository(name))).collect();
    digests.dedup();
    digests
}

fn size(layers: &BTreeMap<Digest, u64>) -> u64 {
    layers.values().sum()
}

fn platforms(image: &Image) -> Vec<Value> {
    // An index may name a manifest of thousands of layers for thousands of platforms.
    let mut sizes: HashMap<Digest, u64> = HashMap::new();
    let entry = |platform: &StoredPlatform| {
        let size =
            *sizes.entry(platform.descriptor.digest).or_insert_with(|| size(&image.layers_of(platform)));
        let mut entry = Map::new();
        let name = platform.platform().map(|p| p.to_string());
        entry.insert("Platform".to_owned(), json!(name.unwrap_or_default()));
        entry.insert("Digest".to_owned(), json!(platform.descriptor.digest));
        entry.insert("Size".to_owned(), json!(size));
        Value::Object(entry)
    };
    image.platforms.iter().map(entry).collect()
}
