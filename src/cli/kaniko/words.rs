//! The command line as it was typed: options with their values, read as Go's `pflag` reads them.

use std::ffi::OsString;

use super::flags::{Becomes, FLAGS, Flag, Id, Kind, lettered, named};
use crate::cli::Failure;
use crate::cli::options::request::bad;
use crate::report::Diagnostic;
use crate::text::closest;

/// What was typed.
#[derive(Debug, Default)]
pub(super) struct Typed {
    /// Options in their order, with their values; those of switches are `true` or `false`.
    options: Vec<(&'static Flag, String)>,
    /// What is no option and no option's value.
    pub(super) words: Vec<String>,
}

impl Typed {
    /// Reads the words behind the program's name.
    pub(super) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, Failure> {
        let mut typed = Self::default();
        let mut words = words.into_iter().map(text);
        while let Some(word) = words.next() {
            let word = word?;
            if word == "--" {
                typed.words.extend(words.collect::<Result<Vec<_>, _>>()?);
                break;
            }
            match (word.strip_prefix("--"), word.strip_prefix('-')) {
                (Some(long), _) => {
                    let (name, value) = match long.split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (long, None),
                    };
                    let flag = named(name).ok_or_else(|| unknown(&format!("--{name}")))?;
                    typed.push(flag, value, &mut words)?;
                }
                (None, Some(short)) if !short.is_empty() => {
                    let mut letters = short.chars();
                    let letter = letters.next().unwrap_or_default();
                    let flag = lettered(letter).ok_or_else(|| unknown(&format!("-{letter}")))?;
                    let rest = letters.as_str();
                    let rest = rest.strip_prefix('=').unwrap_or(rest);
                    typed.push(flag, (!rest.is_empty()).then(|| rest.to_owned()), &mut words)?;
                }
                _ => typed.words.push(word),
            }
        }
        Ok(typed)
    }

    fn push(
        &mut self,
        flag: &'static Flag,
        value: Option<String>,
        words: &mut impl Iterator<Item = Result<String, Failure>>,
    ) -> Result<(), Failure> {
        let option = format!("--{}", flag.name);
        let value = match (flag.kind, value) {
            (Kind::Switch, None) => "true".to_owned(),
            (Kind::Switch, Some(value)) => {
                let reason = "it is true or false";
                truth(&value).ok_or_else(|| bad(&option, &value, reason))?.to_string()
            }
            (Kind::Value, Some(value)) => value,
            (Kind::Value, None) => words
                .next()
                .ok_or_else(|| Failure::usage(Diagnostic::error(format!("`{option}` needs a value"))))??,
        };
        self.options.push((flag, value));
        Ok(())
    }

    /// All values of an option, in their order.
    pub(super) fn all(&self, id: Id) -> impl Iterator<Item = &str> {
        self.options
            .iter()
            .filter(move |(flag, _)| flag.becomes == Becomes::Meant(id))
            .map(|(_, value)| value.as_str())
    }

    /// The value that counts: the last one. An empty one is as none.
    pub(super) fn last(&self, id: Id) -> Option<&str> {
        self.all(id).last().filter(|value| !value.is_empty())
    }

    /// Whether a switch is on, which is `usually` on.
    pub(super) fn is_on(&self, id: Id, usually: bool) -> bool {
        self.all(id).last().map_or(usually, |value| value == "true")
    }

    /// The first option that is refused, and how to go on without it.
    pub(super) fn refused(&self) -> Option<(&'static Flag, &'static str)> {
        self.options.iter().find_map(|(flag, value)| match flag.becomes {
            Becomes::Refused(help) if value != "false" => Some((*flag, help)),
            Becomes::Refused(_) | Becomes::Meant(_) | Becomes::Nothing(_) => None,
        })
    }

    /// What is to be said of options that are taken and do nothing: a line for each reason.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
        for (flag, _) in &self.options {
            let Becomes::Nothing(reason) = flag.becomes else { continue };
            match by_reason.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, names)) if names.contains(&flag.name) => {}
                Some((_, names)) => names.push(flag.name),
                None => by_reason.push((reason, vec![flag.name])),
            }
        }
        let line = |(reason, names): &(&str, Vec<&str>)| {
            let names: Vec<String> = names.iter().map(|name| format!("`--{name}`")).collect();
            let verb = if names.len() == 1 { "changes" } else { "change" };
            format!("{} {verb} nothing: {reason}", names.join(", "))
        };
        by_reason.iter().map(line).collect()
    }
}

/// As Go's `strconv.ParseBool`.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn text(word: OsString) -> Result<String, Failure> {
    word.into_string().map_err(|word| {
        Failure::usage(Diagnostic::error(format!("`{}` is no UTF-8", word.to_string_lossy())))
    })
}

fn unknown(option: &str) -> Failure {
    let error = Diagnostic::error(format!("kaniko's executor has no option `{option}`"));
    let names = FLAGS.iter().map(|flag| flag.name);
    let help = match closest(option.trim_start_matches('-'), names) {
        Some(near) => format!("did you mean `--{near}`?"),
        None => "`executor --help` lists them; rbuild's own options belong to `rbuild`".to_owned(),
    };
    Failure::usage(error.help(help))
}
