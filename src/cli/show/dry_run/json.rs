//! For programs: one object with a list of steps.

use serde_json::{Value, json};

use super::table::{Line, lines};
use crate::pipeline::DryRun;
use crate::solve::Outlook;
use crate::text::terminal::harmless_json;

/// `{"platforms": […], "steps": […]}`
pub(in crate::cli) fn render(dry_run: &DryRun) -> String {
    let platforms: Vec<String> = dry_run.platforms.iter().map(ToString::to_string).collect();
    let steps: Vec<Value> = lines(dry_run).iter().map(object).collect();
    harmless_json(format!("{:#}\n", json!({"platforms": platforms, "steps": steps})))
}

/// Steps are counted from 1, as in progress; `layer` is the digest of a cached layer's blob.
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
        Some(Outlook::Cached(layer)) => {
            object["outlook"] = json!("cached");
            object["layer"] = json!(layer.descriptor.digest.to_string());
        }
        Some(Outlook::Run { why }) => {
            object["outlook"] = json!("run");
            object["why"] = json!(why);
        }
    }
    object
}
