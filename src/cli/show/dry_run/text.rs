//! For people: a line for each instruction, what becomes of it in front.

use super::table::{Counts, Line, count, lines};
use crate::pipeline::DryRun;
use crate::solve::{Fetch, Outlook};
use crate::text::terminal::for_people;
use crate::text::{size::bytes, terminal::cut};

const DIM: &str = "\u{1b}[2m";
const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
const RESET: &str = "\u{1b}[0m";

/// The plan. `width` cuts lines, if it is known.
pub(in crate::cli) fn render(dry_run: &DryRun, color: bool, width: Option<usize>) -> String {
    let mut out = String::new();
    let lines = lines(dry_run);
    lines.iter().for_each(|line| push(&mut out, line, color, width));
    out.push_str(&summary(&count(&lines)));
    for Fetch { from, layers, bytes: size } in &dry_run.fetches {
        let plural = if *layers == 1 { "" } else { "s" };
        out.push_str(&format!(
            "{layers} layer{plural} would come from {} ({})\n",
            for_people(from),
            bytes(*size)
        ));
    }
    out
}

fn push(out: &mut String, line: &Line<'_>, color: bool, width: Option<usize>) {
    let (word, paint, tail) = match line.outlook {
        None => ("config", DIM, String::new()),
        Some(Outlook::Here) => ("here", DIM, String::new()),
        Some(Outlook::Fetch { layers, bytes: size }) => {
            let plural = if *layers == 1 { "" } else { "s" };
            ("fetch", YELLOW, format!("{layers} layer{plural}, {}", bytes(*size)))
        }
        Some(Outlook::Cached { layer, from: None }) => ("cached", GREEN, layer.descriptor.digest.short()),
        Some(Outlook::Cached { layer, from: Some(from) }) => {
            let size = bytes(layer.descriptor.size);
            ("remote", GREEN, format!("{} ({size}) at {}", layer.descriptor.digest.short(), for_people(from)))
        }
        Some(Outlook::Run { why }) => ("run", YELLOW, for_people(why)),
    };
    let (paint, dim, reset) = if color { (paint, DIM, RESET) } else { ("", "", "") };
    let number = format!("#{}", line.number + 1);
    let gap = if line.place.is_empty() { "" } else { " " };
    let title = format!("{}{gap}{}", line.place, line.title);
    let title = width.map_or(title.clone(), |width| cut(&title, width.saturating_sub(12)).into_owned());
    out.push_str(&format!("{number:>4} {paint}{word:<6}{reset} {title}\n"));
    let mut remarks: Vec<String> = Vec::new();
    if !line.reads.is_empty() {
        let reads: Vec<String> = line.reads.iter().map(|read| format!("#{}", read + 1)).collect();
        remarks.push(format!("reads {}", reads.join(", ")));
    }
    remarks.extend((!tail.is_empty()).then_some(tail));
    if !remarks.is_empty() {
        let remark = remarks.join("; ");
        let remark =
            width.map_or(remark.clone(), |width| cut(&remark, width.saturating_sub(12)).into_owned());
        out.push_str(&format!("            {dim}{remark}{reset}\n"));
    }
}

fn summary(counts: &Counts) -> String {
    let Counts { cached, remote, run, fetch, fetch_bytes } = counts;
    let plural = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    let elsewhere = if *remote > 0 { format!(" ({remote} remote)") } else { String::new() };
    let mut parts =
        vec![format!("{} cached{elsewhere}", plural(*cached, "step")), format!("{run} would run")];
    if *fetch > 0 {
        parts.push(format!("{} not here ({})", plural(*fetch, "image"), bytes(*fetch_bytes)));
    }
    format!("{}\n", parts.join(", "))
}
