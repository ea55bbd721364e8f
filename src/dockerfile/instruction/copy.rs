//! COPY and ADD.

use std::collections::HashMap;

use super::{Context, Fallible, heredoc};
use crate::dockerfile::MAX_SOURCE_BYTES;
use crate::dockerfile::excerpt;
use crate::dockerfile::flags::{Flags, Kind};
use crate::dockerfile::heredoc::marker;
use crate::dockerfile::split::{Header, RawWord};
use crate::dockerfile::syntax::{CopyFlags, CopyInstruction};

const ADD_FLAGS: [(&str, Kind); 7] = [
    ("chown", Kind::Single),
    ("chmod", Kind::Single),
    ("link", Kind::Boolean),
    ("keep-git-dir", Kind::Boolean),
    ("checksum", Kind::Single),
    ("unpack", Kind::Boolean),
    ("exclude", Kind::Several),
];

const COPY_FLAGS: [(&str, Kind); 6] = [
    ("chown", Kind::Single),
    ("from", Kind::Single),
    ("chmod", Kind::Single),
    ("link", Kind::Boolean),
    ("exclude", Kind::Several),
    ("parents", Kind::Boolean),
];

pub(super) fn add(cx: &Context<'_>, header: &Header<'_>) -> Fallible<CopyInstruction> {
    transfer(cx, header, "ADD", &ADD_FLAGS)
}

pub(super) fn copy(cx: &Context<'_>, header: &Header<'_>) -> Fallible<CopyInstruction> {
    transfer(cx, header, "COPY", &COPY_FLAGS)
}

fn transfer(
    cx: &Context<'_>,
    header: &Header<'_>,
    name: &str,
    known: &[(&'static str, Kind)],
) -> Fallible<CopyInstruction> {
    let mut sources = cx.list(header.arguments)?;
    let destination = match (sources.pop(), sources.is_empty()) {
        (Some(destination), false) => destination,
        (last, _) => {
            let message = format!(
                "{name} requires at least two arguments, but only one was provided. \
                 Destination could not be determined"
            );
            let range = last.map_or(header.keyword.range(), |word| word.range);
            let source = header.arguments.text.trim();
            let source = if source.is_empty() { "FILE".to_owned() } else { excerpt(source) };
            let fault = cx.error(range, message, "a destination must follow");
            return Err(
                fault.help(format!("write `{name} {source} DESTINATION`; `.` is the working directory"))
            );
        }
    };
    let flags = flags(Flags::parse(cx, &header.flags, known)?);
    if matches!(marker(&destination.text), Ok(Some(_))) {
        let message = format!("{name} cannot accept a heredoc as a destination");
        return Err(cx.error(destination.range, message, "the last word is the destination"));
    }
    let mut transfer = CopyInstruction {
        flags,
        sources: Vec::new(),
        heredocs: Vec::new(),
        destination: cx.word(destination),
    };
    distribute(cx, sources, &mut transfer)?;
    Ok(transfer)
}

fn flags(mut flags: Flags) -> CopyFlags {
    CopyFlags {
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.boolean("link"),
        parents: flags.boolean("parents"),
        excludes: flags.texts("exclude"),
        keep_git_dir: flags.boolean("keep-git-dir"),
        checksum: flags.text("checksum"),
        unpack: flags.boolean("unpack"),
    }
}

/// Parts paths from here-documents. A marker's body is found by name: of two bodies with one name the
/// last counts, and a marker in the JSON form has none.
fn distribute(cx: &Context<'_>, sources: Vec<RawWord<'_>>, transfer: &mut CopyInstruction) -> Fallible<()> {
    let bodies: HashMap<&str, &str> =
        cx.bodies.iter().map(|body| (body.marker.name.as_str(), body.text)).collect();
    let mut copied = 0;
    for source in sources {
        let Ok(Some(marker)) = marker(&source.text) else {
            transfer.sources.push(cx.word(source));
            continue;
        };
        let body = bodies.get(marker.name.as_str()).copied().unwrap_or_default();
        // Many markers of one name would multiply one large body.
        copied += body.len();
        if copied > MAX_SOURCE_BYTES {
            return Err(cx.error(source.range, "the here-documents are too large together", "repeated"));
        }
        transfer.heredocs.push(heredoc(&marker, body, cx.line.span_of(source.range)));
    }
    Ok(())
}
