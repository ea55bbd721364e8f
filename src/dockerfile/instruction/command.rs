//! CMD, ENTRYPOINT, RUN and SHELL.

use super::{Body, Context, Fallible};
use crate::dockerfile::flags::{Flags, Kind};
use crate::dockerfile::lines::Part;
use crate::dockerfile::split::Header;
use crate::dockerfile::syntax::{Command, Run, Word};
use crate::dockerfile::{excerpt, mount};

/// The JSON form or the shell form.
pub(super) fn form(cx: &Context<'_>, arguments: Part<'_>) -> Fallible<Command> {
    Ok(match cx.json(arguments)? {
        Some(strings) => {
            let strings = strings.into_iter().map(|string| string.text.into_owned()).collect();
            Command::Exec(strings, cx.line.span_of(arguments.range()))
        }
        None => Command::Shell(cx.part(arguments)),
    })
}

/// CMD and ENTRYPOINT.
pub(super) fn command(cx: &Context<'_>, header: &Header<'_>) -> Fallible<Command> {
    form(cx, header.arguments)
}

const RUN_FLAGS: [(&str, Kind); 4] = [
    ("mount", Kind::Several),
    ("network", Kind::Single),
    ("security", Kind::Single),
    ("device", Kind::Several),
];

pub(super) fn run(cx: &Context<'_>, header: &Header<'_>) -> Fallible<Run> {
    let mut flags = Flags::parse(cx, &header.flags, &RUN_FLAGS)?;
    let mounts = flags.texts("mount");
    for mount in &mounts {
        mount::from(&mount.text).map_err(|error| bad(cx, mount, &error))?;
    }
    let devices = flags.texts("device");
    for device in &devices {
        mount::Device::parse(&device.text).map_err(|error| bad(cx, device, &error))?;
    }
    Ok(Run {
        mounts,
        network: choice(cx, flags.texts("network").pop(), "network mode", &["default", "none", "host"])?,
        security: choice(cx, flags.texts("security").pop(), "security mode", &["insecure", "sandbox"])?,
        devices,
        command: form(cx, header.arguments)?,
        heredocs: cx.bodies.iter().map(|body: &Body<'_>| body.heredoc(cx)).collect(),
    })
}

fn bad(cx: &Context<'_>, word: &Word, error: &mount::Error) -> super::Fault {
    let fault = cx.error_at(word.span, error.to_string(), "");
    match error.help() {
        Some(help) => fault.help(help),
        None => fault,
    }
}

/// A flag with a closed set of values, none of which may hold variables.
fn choice(cx: &Context<'_>, word: Option<Word>, what: &str, allowed: &[&str]) -> Fallible<Option<Word>> {
    match word {
        Some(word) if !allowed.contains(&word.text.as_str()) => {
            let message = format!("invalid {what} `{}`", excerpt(&word.text));
            let all = allowed.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
            Err(cx.error_at(word.span, message, "not one of the modes").help(format!("allowed are {all}")))
        }
        word => Ok(word),
    }
}

pub(super) fn shell(cx: &Context<'_>, header: &Header<'_>) -> Fallible<Vec<String>> {
    match form(cx, header.arguments)? {
        Command::Exec(words, _) if !words.is_empty() => Ok(words),
        Command::Shell(word) if !word.text.is_empty() => {
            let message = "SHELL requires the arguments to be in JSON form";
            let fault = cx.error(header.arguments.range(), message, "not a JSON list of strings");
            Err(fault.help("write `SHELL [\"/bin/sh\", \"-c\"]`"))
        }
        _ => Err(cx.at_least_one(header, "SHELL")),
    }
}
