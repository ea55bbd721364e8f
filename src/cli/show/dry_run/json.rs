//! For programs: one object with a list of steps.

use serde_json::{Value, json};

use super::table::{Line, lines};
use crate::pipeline::DryRun;
use crate::solve::{Fetch, Outlook};
use crate::text::terminal::harmless_json;

/// `{"platforms": […], "steps": […], "fetches": […]}`
pub(in crate::cli) fn render(dry_run: &DryRun) -> String {
    let platforms: Vec<String> = dry_run.platforms.iter().map(ToString::to_string).collect();
    let steps: Vec<Value> = lines(dry_run).iter().map(object).collect();
    let fetches: Vec<Value> = dry_run.fetches.iter().map(fetch).collect();
    harmless_json(format!("{:#}\n", json!({"platforms": platforms, "steps": steps, "fetches": fetches})))
}

fn fetch(Fetch { from, layers, bytes }: &Fetch) -> Value {
    json!({"from": from, "layers": layers, "bytes": bytes})
}

/// Steps are counted from 1, as in progress; `layer` is the digest of a cached layer's blob, `from` the cache that has it where
/// it is not here.
fn object(line: &Line<'_>) -> Value {
    let mut object = json!({
        "step": line.number + 1,
        "place": line.place,
        "title": line.title,
        "platform": line.platform.map(ToString::to_string),
        "parent": line.parent.map(|parent| parent + 1),
        "reads": line.reads.iter().map(|read| read + 1).collect::<Vec<_>>(),
    });
    match line.outlook {
        None => object["outlook"] = json!("config-only"),
        Some(Outlook::Here) => object["outlook"] = json!("here"),
        Some(Outlook::Fetch { layers, bytes }) => {
            object["outlook"] = json!("fetch");
            object["missing_layers"] = json!(layers);
            object["missing_bytes"] = json!(bytes);
        }
        Some(Outlook::Cached { layer, from }) => {
            object["outlook"] = json!("cached");
            object["size"] = json!(layer.descriptor.size);
            if let Some(from) = from {
                object["from"] = json!(from);
            }
            object["layer"] = json!(layer.descriptor.digest.to_string());
        }
        Some(Outlook::Run { why }) => {
            object["outlook"] = json!("run");
            object["why"] = json!(why);
        }
    }
    object
}
