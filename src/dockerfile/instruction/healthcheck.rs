//! HEALTHCHECK.

use super::{Context, Fallible, command};
use crate::dockerfile::excerpt;
use crate::dockerfile::flags::{Flags, Kind};
use crate::dockerfile::lines::Part;
use crate::dockerfile::split::Header;
use crate::dockerfile::syntax::{Command, Healthcheck, Word};
use crate::text::duration;

const FLAGS: [(&str, Kind); 5] = [
    ("interval", Kind::Single),
    ("timeout", Kind::Single),
    ("start-period", Kind::Single),
    ("start-interval", Kind::Single),
    ("retries", Kind::Single),
];

const MILLISECOND: i64 = 1_000_000;

pub(super) fn healthcheck(cx: &Context<'_>, header: &Header<'_>) -> Fallible<Healthcheck> {
    let arguments = header.arguments;
    let length = arguments.text.find(char::is_whitespace).unwrap_or(arguments.text.len());
    let kind = arguments.slice(0..length);
    let rest = arguments.slice(length..arguments.text.len()).trim();
    match kind.text.to_ascii_uppercase().as_str() {
        "" => Err(cx.at_least_one(header, "HEALTHCHECK")),
        // BuildKit does not even look at the flags of NONE.
        "NONE" if rest.text.is_empty() => Ok(Healthcheck::None),
        "NONE" => Err(cx.error(rest.range(), "HEALTHCHECK NONE takes no arguments", "unexpected")),
        "CMD" => cmd(cx, header, kind, rest),
        _ => {
            let message = format!("unknown type `{}` in HEALTHCHECK", excerpt(kind.text));
            Err(cx.error(kind.range(), message, "neither CMD nor NONE").help("try CMD"))
        }
    }
}

fn cmd(cx: &Context<'_>, header: &Header<'_>, kind: Part<'_>, rest: Part<'_>) -> Fallible<Healthcheck> {
    let mut flags = Flags::parse(cx, &header.flags, &FLAGS)?;
    let command = command::form(cx, rest)?;
    let missing = match &command {
        Command::Shell(word) => word.text.is_empty(),
        Command::Exec(words, _) => words.is_empty(),
    };
    if missing {
        return Err(cx.error(kind.range(), "missing command after HEALTHCHECK CMD", "no command follows"));
    }
    let mut time = |name| flags.text(name).map(|word| interval(cx, name, &word)).transpose();
    Ok(Healthcheck::Cmd {
        command,
        interval: time("interval")?,
        timeout: time("timeout")?,
        start_period: time("start-period")?,
        start_interval: time("start-interval")?,
        retries: flags.text("retries").map(|word| retries(cx, &word)).transpose()?,
    })
}

/// Zero is allowed and means the default; else a millisecond is the least.
fn interval(cx: &Context<'_>, name: &str, word: &Word) -> Fallible<i64> {
    match duration::parse_go(&word.text) {
        Some(time) if time == 0 || time >= MILLISECOND => Ok(time),
        Some(_) => {
            let message = format!("interval `{name}` cannot be less than 1ms");
            Err(cx.error_at(word.span, message, "too short"))
        }
        None => {
            let message = format!("invalid duration `{}` for --{name}", excerpt(&word.text));
            let fault = cx.error_at(word.span, message, "no duration");
            Err(fault.help("write a number with a unit: `500ms`, `30s`, `5m`, `1h30m`"))
        }
    }
}

fn retries(cx: &Context<'_>, word: &Word) -> Fallible<i64> {
    match word.text.parse::<i32>() {
        Ok(retries) if retries >= 0 => Ok(i64::from(retries)),
        Ok(retries) => {
            Err(cx.error_at(word.span, format!("--retries cannot be negative ({retries})"), "negative"))
        }
        Err(_) => {
            let message = format!("invalid number `{}` for --retries", excerpt(&word.text));
            Err(cx.error_at(word.span, message, "no number"))
        }
    }
}
