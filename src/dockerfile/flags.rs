//! The flags of instructions: which there are, and BuildKit's rules for giving them.

use super::instruction::{Context, Fallible};
use super::split::RawFlag;
use super::syntax::{Flag, Word};
use crate::text::closest;

/// How often a flag may be given, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `--x`, `--x=true`, `--x=false`; once
    Boolean,
    /// `--x=value`; once
    Single,
    /// `--x=value`, any number of times
    Several,
}

/// The flags that an instruction was given, checked against those it has.
#[derive(Debug, Default)]
pub(super) struct Flags {
    given: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
enum Value {
    Boolean(Flag),
    Text(Word),
}

impl Flags {
    /// Checks what was given against `known`.
    pub(super) fn parse(
        cx: &Context<'_>,
        given: &[RawFlag<'_>],
        known: &[(&'static str, Kind)],
    ) -> Fallible<Self> {
        let mut flags = Flags::default();
        for raw in given {
            let (name, value) = match raw.text.split_once('=') {
                Some((name, value)) => (&name[2..], Some(value)),
                None => (&raw.text[2..], None),
            };
            let Some((name, kind)) = known.iter().find(|(known, _)| *known == name).copied() else {
                return Err(unknown(cx, raw, name, known));
            };
            if kind != Kind::Several && flags.given.iter().any(|(earlier, _)| *earlier == name) {
                let message = format!("duplicate flag specified: --{name}");
                return Err(cx.error(raw.range.clone(), message, "given before"));
            }
            flags.given.push((name, flag_value(cx, raw, name, kind, value)?));
        }
        Ok(flags)
    }

    /// The value of a flag that may be given once; an empty one counts as none.
    pub(super) fn text(&mut self, name: &str) -> Option<Word> {
        self.texts(name).pop().filter(|word| !word.text.is_empty())
    }

    /// All values of a flag, in order.
    pub(super) fn texts(&mut self, name: &str) -> Vec<Word> {
        if self.given.is_empty() {
            return Vec::new();
        }
        let texts =
            self.given.extract_if(.., |(given, value)| *given == name && matches!(value, Value::Text(_)));
        texts.filter_map(|(_, value)| if let Value::Text(word) = value { Some(word) } else { None }).collect()
    }

    /// A boolean flag.
    pub(super) fn boolean(&self, name: &str) -> Option<Flag> {
        self.given.iter().find_map(|(given, value)| match value {
            Value::Boolean(flag) if *given == name => Some(*flag),
            _ => None,
        })
    }
}

fn unknown(
    cx: &Context<'_>,
    raw: &RawFlag<'_>,
    name: &str,
    known: &[(&'static str, Kind)],
) -> super::instruction::Fault {
    let excerpt = super::excerpt(name);
    let end = raw.value_at.map_or(raw.range.end, |value| value - 1);
    let fault = cx.error(raw.range.start..end, format!("unknown flag: --{excerpt}"), "unknown flag");
    let all = || known.iter().map(|(known, _)| format!("`--{known}`")).collect::<Vec<_>>().join(", ");
    match closest(name, known.iter().map(|(known, _)| *known)) {
        Some(near) => fault.help(format!("did you mean `--{near}`?")),
        None if known.is_empty() => fault.help("this instruction has no flags"),
        None => fault.help(format!("its flags are {}", all())),
    }
}

fn flag_value(
    cx: &Context<'_>,
    raw: &RawFlag<'_>,
    name: &str,
    kind: Kind,
    value: Option<&str>,
) -> Fallible<Value> {
    let missing = || {
        let fault = cx.error(raw.range.clone(), format!("missing a value on flag: --{name}"), "no value");
        fault.help(format!("write `--{name}=VALUE`, without blanks"))
    };
    if kind != Kind::Boolean {
        let range = raw.value_at.ok_or_else(missing)?..raw.range.end;
        return Ok(Value::Text(cx.line.word(value.unwrap_or_default(), range)));
    }
    let value = match value.map(str::to_ascii_lowercase).as_deref() {
        Some("") => return Err(missing()),
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => {
            let value = super::excerpt(value.unwrap_or_default());
            let message = format!("expecting boolean value for flag --{name}, not: {value}");
            let range = raw.value_at.unwrap_or(raw.range.start)..raw.range.end;
            return Err(cx.error(range, message, "neither true nor false"));
        }
    };
    Ok(Value::Boolean(Flag { value, span: cx.line.span_of(raw.range.clone()) }))
}
