//! For Graphviz: a box for each stage, a node for each instruction, an arrow to whoever needs it.

use super::table::{Line, lines};
use crate::pipeline::DryRun;
use crate::solve::Outlook;
use crate::text::terminal::cut;

/// Longer instructions make unreadable graphs.
const LONGEST_TITLE: usize = 60;

/// One graph; what is of one platform stands in a box with its name.
pub(in crate::cli) fn render(dry_run: &DryRun) -> String {
    let mut out = String::from(
        "digraph plan {\n  rankdir=TB;\n  node [shape=box, style=filled, fontname=\"monospace\"];\n",
    );
    let lines = lines(dry_run);
    let mut stages: Vec<(&str, Vec<&Line<'_>>)> = Vec::new();
    for line in &lines {
        let stage = stage(line.place);
        match stages.iter_mut().find(|(name, _)| *name == stage) {
            Some((_, lines)) => lines.push(line),
            None => stages.push((stage, vec![line])),
        }
    }
    for (number, (stage, lines)) in stages.iter().enumerate() {
        out.push_str(&format!("  subgraph cluster_{number} {{\n    label={};\n", quoted(stage)));
        lines.iter().for_each(|line| out.push_str(&node(line)));
        out.push_str("  }\n");
    }
    for line in &lines {
        for input in line.parent.iter().chain(&line.reads) {
            out.push_str(&format!("  s{} -> s{};\n", input + 1, line.number + 1));
        }
    }
    out.push_str("}\n");
    out
}

/// `build` of `[build 2/5]`, `linux/arm64 build` of `[linux/arm64 build 2/5]`.
fn stage(place: &str) -> &str {
    let inner = place.trim_start_matches('[').trim_end_matches(']');
    inner.rsplit_once(' ').map_or("", |(stage, _)| stage.trim())
}

fn node(line: &Line<'_>) -> String {
    let (color, remark) = match line.outlook {
        None | Some(Outlook::Here) => ("white", ""),
        Some(Outlook::Fetch { .. }) => ("lightyellow", "fetch"),
        Some(Outlook::Cached { from, .. }) => {
            ("palegreen", if from.is_some() { "cached elsewhere" } else { "cached" })
        }
        Some(Outlook::Run { why }) => ("lightsalmon", why.as_str()),
    };
    let title = cut(line.title, LONGEST_TITLE);
    let label = if remark.is_empty() { title.into_owned() } else { format!("{title}\n{remark}") };
    format!("    s{} [label={}, fillcolor={color}];\n", line.number + 1, quoted(&label))
}

/// A string of the DOT language.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
