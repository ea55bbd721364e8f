//! `rbuild history NAME`: how an image came to be, newest instruction first.

use std::time::Duration;

use serde_json::{Value, json};

use super::HistoryArgs;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::show::listing::Format;
use crate::oci::{Descriptor, DiffId, History};
use crate::text::terminal::is_unsafe;
use crate::text::url::without_passwords;
use crate::text::{duration::seconds, size::bytes};
use crate::upkeep::{StepNote, StepNotes};

/// Instructions longer than this are cut without `--no-trunc`.
const WIDTH: usize = 70;

const COLUMNS: [(&str, &str); 6] = [
    ("LAYER", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
    ("TOOK", "Took"),
    ("CACHED", "Cached"),
    ("CREATED BY", "CreatedBy"),
];

/// Shown where a layer is only in a registry.
const HERE: (&str, &str) = ("HERE", "Here");

/// Prints the list of the image `name`.
pub(super) fn run(global: &Global, name: &str, args: &HistoryArgs) -> Result<(), Failure> {
    let format = Format::parse(args.format.as_deref())?;
    let store = local::open_store(global)?;
    let (image, config) = local::find(&store, name)?;
    let notes = StepNotes::load(&store, &image.descriptor.digest);
    let mut layers = image.manifest.layers.iter().zip(&config.rootfs.diff_ids);
    let mut rows = Vec::new();
    for (at, entry) in config.history.iter().enumerate() {
        let layer = if entry.empty_layer { None } else { layers.next() };
        let is_here = layer.map(|(layer, _)| store.has_blob(&layer.digest).is_some());
        rows.push(row(entry, layer, (notes.step(at), is_here), args.no_trunc));
    }
    rows.reverse();
    let mut columns = COLUMNS.to_vec();
    if rows.iter().any(|row| row["Here"] == "no") {
        columns.insert(columns.len() - 1, HERE);
    }
    if args.quiet {
        let ids = rows.iter().filter_map(|row| row["ID"].as_str()).filter(|id| *id != "-");
        return print(&ids.map(|id| format!("{id}\n")).collect::<String>());
    }
    print(&format.render(&columns, &rows)?)
}

fn row(
    entry: &History,
    layer: Option<(&Descriptor, &DiffId)>,
    (note, is_here): (Option<&StepNote>, Option<bool>),
    whole: bool,
) -> Value {
    let none = || "-".to_owned();
    let text = entry.created_by.as_deref().unwrap_or("");
    let text = text.strip_suffix(" # buildkit").unwrap_or(text);
    // What only changes the configuration neither runs nor is cached.
    let note = note.filter(|_| layer.is_some());
    let cached = note.map_or("-", |note| if note.cached { "yes" } else { "no" });
    let took = note.and_then(|note| note.took_ms).map(Duration::from_millis);
    json!({
        "ID": layer.map_or_else(none, |(l, _)| if whole { l.digest.to_string() } else { l.digest.short() }),
        "Layer": layer.map_or_else(none, |(_, diff_id)| diff_id.to_string()),
        "CreatedAt": entry.created.as_deref().unwrap_or(""),
        "CreatedSince": local::age(entry.created.as_deref()),
        "CreatedBy": one_line(text, whole),
        "Size": layer.map_or_else(none, |(l, _)| bytes(l.size)),
        "Comment": entry.comment.as_deref().unwrap_or(""),
        "Cached": cached,
        "Took": took.map_or_else(none, seconds),
        "Here": is_here.map_or("-", |is_here| if is_here { "yes" } else { "no" }),
    })
}

/// The text without line breaks and control characters, cut unless `whole`.
pub(super) fn one_line(text: &str, whole: bool) -> String {
    let text = without_passwords(text);
    let text: String =
        text.chars().map(|c| if c.is_whitespace() || is_unsafe(c) { ' ' } else { c }).collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if whole || text.chars().count() <= WIDTH {
        return text;
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}
