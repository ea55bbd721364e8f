//! One path of an image: which instruction brought it, which later ones changed or removed it.

use super::subject::Subject;
use crate::cli::Failure;
use crate::insight::contents::Contents;
use crate::insight::path::{Event, of_file, of_folder};
use crate::report::Diagnostic;
use crate::text::closest;
use crate::text::size::bytes;

pub(super) fn text(subject: &Subject, word: &str) -> Result<String, Failure> {
    if subject.layers.is_empty() {
        let error = Diagnostic::error(format!("{} made no image that is still here", subject.name));
        return Err(Failure::build(vec![error.help("name an image: `rbuild explain PATH IMAGE`")]));
    }
    let path = word.trim_matches('/').as_bytes();
    let indexes = subject.indexes();
    let contents = Contents::of(&indexes);
    let events = of_file(&contents, path);
    if !events.is_empty() {
        return Ok(file(subject, word, &events));
    }
    let folder = folder(subject, &contents, path);
    match folder.is_empty() {
        false => Ok(format!("{word} in {}\n{folder}", subject.name)),
        true => Err(missing(subject, &contents, word)),
    }
}

fn file(subject: &Subject, word: &str, events: &[Event<'_>]) -> String {
    let mut text = format!("{word} in {}\n", subject.name);
    let mut shipped = 0;
    for event in events {
        text.push_str(&match event {
            Event::Brought { layer, size, replaces } => {
                shipped += size;
                let verb = if *replaces { "replaced by" } else { "brought by" };
                format!("  {verb} {}, {}\n", subject.layer(*layer), bytes(*size))
            }
            Event::Removed { layer, with } => {
                let with = format!("/{}", String::from_utf8_lossy(with));
                let with =
                    if with == word.trim_end_matches('/') { String::new() } else { format!(" with {with}") };
                format!("  removed{with} by {}\n", subject.layer(*layer))
            }
        });
    }
    let left = match events.last() {
        Some(Event::Brought { size, .. }) => *size,
        Some(Event::Removed { .. }) | None => 0,
    };
    if shipped > left {
        text.push_str(&format!("{} of it ship in lower layers, and are never seen\n", bytes(shipped - left)));
    }
    text
}

fn folder(subject: &Subject, contents: &Contents<'_>, path: &[u8]) -> String {
    let mut text = String::new();
    for below in of_folder(contents, path) {
        let counts = [(below.added, "added"), (below.changed, "changed"), (below.removed, "removed")];
        let counts =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, verb)| format!("{count} {verb}"));
        let hidden = match below.hidden_bytes {
            0 => String::new(),
            hidden => format!(", {} of it hidden later", bytes(hidden)),
        };
        text.push_str(&format!(
            "  {:>8}  {}{hidden}  by {}\n",
            bytes(below.bytes),
            counts.collect::<Vec<_>>().join(", "),
            subject.layer(below.layer)
        ));
    }
    text
}

fn missing(subject: &Subject, contents: &Contents<'_>, word: &str) -> Failure {
    let error = Diagnostic::error(format!("no layer of {} has `{word}`", subject.name));
    let error = subject.absent().map(|absent| error.clone().note(absent.trim().to_owned())).unwrap_or(error);
    // A neighbour is a likelier meaning than something far away.
    let folder = word.trim_matches('/').rsplit_once('/').map_or("", |(folder, _)| folder);
    let names = contents.visible.iter().filter_map(|(path, ..)| std::str::from_utf8(path).ok());
    let beside = names.filter(|path| path.rsplit_once('/').map_or("", |(folder, _)| folder) == folder);
    let near = closest(word.trim_matches('/'), beside);
    Failure::build(vec![match near {
        Some(near) => error.help(format!("did you mean `/{near}`?")),
        None => error.help("paths are those in layers: links of directories are not followed"),
    }])
}
