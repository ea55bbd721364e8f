//! `rbuild cache`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::configuration::{Configuration, RegistryArgs};
use crate::cli::options::{caches, filter, request};
use crate::cli::show::listing::Format;
use crate::oci::rfc3339;
use crate::registry::Client;
use crate::report::Diagnostic;
use crate::shared_cache::mounts::Snapshot;
use crate::shared_cache::spec::shown;
use crate::shared_cache::{Backend, Bounds, Entry, Error, Pack, Pruned, Sealed, Trust, backend, care};
use crate::signature::SigningKey;
use crate::text::duration::seconds;
use crate::text::size::bytes;

/// Look after a cache that machines share: what is in it, who wrote it, making it smaller, removing it
///
/// CACHE is written as for --cache-from: `NAME` or `type=registry,ref=NAME`, `type=local,src=DIR`, … Nothing is taken into the
/// local store.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the steps that a cache has, those that were used last first
    ///
    /// SIZE is that of the step's layer, TOOK is how long the step ran, WRITER is what the pipeline that wrote the record calls
    /// itself; SIGNED BY, where somebody signs, is the key that a signature names, which nobody has verified here. Cache mounts follow, and lines
    /// about everything else; with `json` they are objects with a `Mount`.
    #[command(
        after_help = "Fields of templates: Key, Slot, Layer, Size, Bytes, Took, Written, WrittenSince, Used, UsedSince, Writer,
Generation, Secrets, SignedBy."
    )]
    Inspect {
        #[command(flatten)]
        at: At,
        /// `table`, `json` (an object on each line), or a template such as '{{.Writer}} {{.Size}}'
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
    },
    /// Drop steps from a cache: those not used for long, then those that save the least time for each byte
    ///
    /// A folder gives the bytes back at once; a registry when its own garbage collector runs.
    Prune {
        #[command(flatten)]
        at: At,
        /// Until the layers and indexes that it names are no larger, such as 10g
        #[arg(long, value_name = "SIZE", required_unless_present_any = ["max_age", "mounts_max_size"])]
        max_size: Option<String>,
        /// What no build has used for so long, such as 14d
        #[arg(long, value_name = "TIME")]
        max_age: Option<String>,
        /// Until the cache mounts are no larger, those first that were used longest ago; at most half of --max-size in any case
        #[arg(long, value_name = "SIZE")]
        mounts_max_size: Option<String>,
        /// Prune what was signed with this key; without it, what is not signed
        #[arg(long, value_name = "KEYFILE")]
        sign: Option<PathBuf>,
    },
    /// Remove a cache
    Rm {
        #[command(flatten)]
        at: At,
    },
}

/// Which cache, and how it is asked.
#[derive(Debug, Args)]
struct At {
    /// The cache
    #[arg(value_name = "CACHE")]
    cache: String,
    #[command(flatten)]
    registries: RegistryArgs,
}

impl At {
    fn backend(&self) -> Result<Arc<dyn Backend>, Failure> {
        let configuration = Configuration::load()?;
        let (caches, _) = caches::from(std::slice::from_ref(&self.cache), &configuration)?;
        let client = Client::new(configuration.registries(&self.registries)?);
        let nothing = || Failure::usage(Diagnostic::error(format!("`{}` is no cache", shown(&self.cache))));
        Ok(backend::at(&caches.first().ok_or_else(nothing)?.location, &client))
    }

    fn failure(&self, error: &Error) -> Failure {
        Failure::message(format!("the cache `{}`: {error}", shown(&self.cache)))
    }

    fn absent(&self) -> Failure {
        Failure::message(format!("there is no cache at `{}`", shown(&self.cache)))
    }
}

const COLUMNS: [(&str, &str); 6] = [
    ("STEP", "Key"),
    ("SIZE", "Size"),
    ("TOOK", "Took"),
    ("WRITTEN", "WrittenSince"),
    ("USED", "UsedSince"),
    ("WRITER", "Writer"),
];

const MOUNT_COLUMNS: [(&str, &str); 6] = [
    ("CACHE MOUNT", "Mount"),
    ("SIZE", "Size"),
    ("FILES", "Files"),
    ("WRITTEN", "WrittenSince"),
    ("USED", "UsedSince"),
    ("WRITER", "Writer"),
];

/// Does what the verb says.
pub(crate) fn run(args: &CacheArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::Inspect { at, format } => {
            let format = Format::parse(format.as_deref())?;
            let backend = at.backend()?;
            let packs = care::read(&*backend).map_err(|e| at.failure(&e))?.ok_or_else(|| at.absent())?;
            print(&listing(&packs, &format)?)
        }
        Verb::Prune { at, max_size, max_age, mounts_max_size, sign } => {
            let bounds = bounds(max_size.as_deref(), max_age.as_deref(), mounts_max_size.as_deref())?;
            let backend = at.backend()?;
            let key = sign.as_deref().map(SigningKey::read).transpose();
            let key = key.map_err(|e| Failure::message(format!("--sign: {e}")))?;
            let pruned = care::prune(&*backend, key.as_ref(), bounds).map_err(|e| at.failure(&e))?;
            print(&told(pruned.ok_or_else(|| at.absent())?))
        }
        Verb::Rm { at } => {
            let backend = at.backend()?;
            let freed = care::remove(&*backend).map_err(|e| at.failure(&e))?.ok_or_else(|| at.absent())?;
            let freed = if freed > 0 { format!(", {} freed", bytes(freed)) } else { String::new() };
            print(&format!("removed {}{freed}\n", backend.name()))
        }
    }
}

fn bounds(size: Option<&str>, age: Option<&str>, mounts: Option<&str>) -> Result<Bounds, Failure> {
    let age = age.map(filter::duration).transpose()?;
    Ok(Bounds {
        size: size.map(|text| request::size("--max-size", text)).transpose()?,
        age: age.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
        // Otherwise they have no bound of their own here.
        mounts: Some(mounts.map_or(Ok(u64::MAX), |text| request::size("--mounts-max-size", text))?),
    })
}

fn listing(packs: &Sealed, format: &Format) -> Result<String, Failure> {
    let is_table = matches!(format, Format::Table);
    let mut entries: Vec<(&Entry, Option<String>)> = Vec::new();
    for (pack, key) in packs.claims() {
        entries.extend(pack.entries.values().map(|entry| (entry, key.clone())));
    }
    entries.sort_by_key(|(entry, _)| (std::cmp::Reverse((entry.used, entry.written)), entry.record.key));
    let rows: Vec<Value> = entries.iter().map(|(entry, key)| row(entry, key.as_deref(), is_table)).collect();
    let mut columns = COLUMNS.to_vec();
    if entries.iter().any(|(_, key)| key.is_some()) {
        columns.push(("SIGNED BY", "SignedBy"));
    }
    let mut text = format.render(&columns, &rows)?;
    let all = packs.believed(&Trust::Anybody, "").0;
    let mounts: Vec<Value> =
        all.mounts.iter().map(|(name, mount)| mount_row(name, mount, is_table)).collect();
    match format {
        Format::Table if !mounts.is_empty() => {
            text.push('\n');
            text.push_str(&format.render(&MOUNT_COLUMNS, &mounts)?);
        }
        Format::Json => text.push_str(&format.render(&MOUNT_COLUMNS, &mounts)?),
        // The fields of a template are those of steps.
        Format::Table | Format::Columns(_) | Format::Lines(_) => {}
    }
    if is_table {
        text.push_str(&summary(&all));
    }
    Ok(text)
}

/// A cache mount. What it is for cannot be told: its name is a hash of its id, its platform and its owners.
fn mount_row(name: &str, mount: &Snapshot, is_short: bool) -> Value {
    let (written, used) = (rfc3339(mount.written), rfc3339(mount.used));
    json!({
        "Mount": if is_short { name.get(..12).unwrap_or(name) } else { name },
        "Size": bytes(mount.total()),
        "Bytes": mount.total(),
        "Files": mount.files,
        "FileBytes": mount.bytes,
        "WrittenSince": local::age(Some(&written)),
        "Written": written,
        "UsedSince": days(mount.used),
        "Used": used,
        "Writer": if mount.writer.is_empty() { "-" } else { &mount.writer },
        "Secrets": mount.secrets,
    })
}

fn row(entry: &Entry, signer: Option<&str>, is_short: bool) -> Value {
    let (written, used) = (rfc3339(entry.written), rfc3339(entry.used));
    let key = entry.record.key.hex();
    let layer = &entry.record.layer.descriptor;
    json!({
        "Key": if is_short { &key[..12] } else { &key },
        "Slot": entry.slot,
        "Layer": layer.digest,
        "Size": bytes(layer.size),
        "Bytes": layer.size,
        "Took": entry.record.took.map_or_else(|| "-".to_owned(), seconds),
        "WrittenSince": local::age(Some(&written)),
        "Written": written,
        "UsedSince": days(entry.used),
        "Used": used,
        "Writer": if entry.writer.is_empty() { "-" } else { &entry.writer },
        "Generation": entry.generation,
        "Secrets": entry.had_secrets,
        "SignedBy": signer.unwrap_or("-"),
    })
}

/// Of the last use only the day is known.
fn days(used: i64) -> String {
    match (crate::clock::now() - used) / (24 * 3600) {
        ..=0 => "today".to_owned(),
        1 => "yesterday".to_owned(),
        days => format!("{days} days ago"),
    }
}

/// What it comes to, and what is no step.
fn summary(pack: &Pack) -> String {
    let blobs = pack.blobs();
    let total: u64 = blobs.iter().map(|blob| blob.size).sum();
    let of_indexes: u64 = pack.indexes.values().map(|index| index.size).sum();
    let (steps, indexes) = (pack.entries.len(), pack.indexes.len());
    let mut text = format!(
        "\n{steps} steps, {} in {} blobs; {indexes} indexes of layers are {} of it\n",
        bytes(total),
        blobs.len(),
        bytes(of_indexes)
    );
    for image in pack.images.keys() {
        text.push_str(&format!("pushed with it: {}\n", crate::text::terminal::harmless(image)));
    }
    text
}

fn told(pruned: Pruned) -> String {
    let Pruned { dropped, kept, mounts_dropped, mounts_kept, released_bytes, freed_bytes } = pruned;
    let mounts = match (mounts_dropped, mounts_kept) {
        (0, 0) => String::new(),
        (dropped, kept) => format!("; {dropped} cache mounts dropped, {kept} kept"),
    };
    let freed = match (released_bytes, freed_bytes) {
        (0, 0) => String::new(),
        (released, 0) => {
            format!("; {} are named no more, and go when the server collects garbage", bytes(released))
        }
        (_, freed) => format!("; {} freed", bytes(freed)),
    };
    format!("{dropped} steps dropped, {kept} kept{mounts}{freed}\n")
}
