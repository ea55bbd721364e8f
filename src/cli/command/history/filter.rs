//! `--filter` of `rbuild history ls`, with the words of `docker buildx history ls`.

use std::path::Path;

use crate::cli::Failure;
use crate::oci::parse_rfc3339;
use crate::record::{Record, Status};
use crate::report::Diagnostic;
use crate::source::git::here;
use crate::text::duration::parse_go;

/// Something that is true of a build, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    Text { of: Text, value: String, is_wanted: bool },
    Number { of: Number, value: i64, sign: Sign },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    Reference,
    Repository,
    Status,
}

/// In milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    StartedAt,
    CompletedAt,
    Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    AtMost,
    Less,
    AtLeast,
    More,
}

/// Those of several characters first.
const SIGNS: [(&str, Option<Sign>); 6] = [
    ("!=", None),
    ("=", None),
    ("<=", Some(Sign::AtMost)),
    ("<", Some(Sign::Less)),
    (">=", Some(Sign::AtLeast)),
    (">", Some(Sign::More)),
];

impl Filter {
    /// Reads a filter; ages count from `now`, in milliseconds since 1970.
    pub(super) fn parse(text: &str, now: u64) -> Result<Self, Failure> {
        let bad = |help: &str| {
            let error = Diagnostic::error(format!("bad value `{text}` for --filter"));
            Failure::usage(error.help(help.to_owned()))
        };
        let key: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
        let rest = &text[key.len()..];
        // `=` is a part of other signs, so it is looked for where the key ends.
        let found =
            SIGNS.iter().filter(|(sign, _)| rest.starts_with(sign)).max_by_key(|(sign, _)| sign.len());
        let Some((written, sign)) = found else {
            return Err(bad("it is KEY=VALUE, KEY!=VALUE, or with <, <=, > or >= for times and durations"));
        };
        let value = &rest[written.len()..];
        let of_text = match key.as_str() {
            "ref" => Some(Text::Reference),
            "repository" => Some(Text::Repository),
            "status" => Some(Text::Status),
            _ => None,
        };
        let of_number = match key.as_str() {
            "startedAt" => Some(Number::StartedAt),
            "completedAt" => Some(Number::CompletedAt),
            "duration" => Some(Number::Duration),
            _ => None,
        };
        match (of_text, of_number, sign) {
            (Some(of), _, None) => Ok(Self::Text { of, value: value.to_owned(), is_wanted: *written == "=" }),
            (Some(_), _, Some(_)) => Err(bad("ref, repository and status take `=` or `!=`")),
            (None, Some(_), None) => Err(bad("times and durations take `<`, `<=`, `>` or `>=`")),
            (None, Some(of), Some(sign)) => {
                let value = number(of, value, now).ok_or_else(|| match of {
                    Number::Duration => bad("a duration is such as 90s, 5m or 1h30m"),
                    Number::StartedAt | Number::CompletedAt => {
                        bad("a time is such as 2026-01-31T12:00:00Z, or 24h for a day ago")
                    }
                })?;
                Ok(Self::Number { of, value, sign: *sign })
            }
            (None, None, _) => {
                Err(bad("there are ref, repository, status, startedAt, completedAt and duration"))
            }
        }
    }

    /// Whether it is true of a build.
    pub(super) fn fits(&self, record: &Record) -> bool {
        match self {
            Self::Text { of, value, is_wanted } => {
                let is = match of {
                    // As buildx: a part is enough, but for what must not be.
                    Text::Reference if *is_wanted => record.id.contains(value.as_str()),
                    Text::Repository if *is_wanted => record.repository().contains(value.as_str()),
                    Text::Reference => record.id == *value,
                    Text::Repository => record.repository() == value,
                    Text::Status => status(record.status).contains(&value.as_str()),
                };
                is == *is_wanted
            }
            Self::Number { of, value, sign } => {
                let started = to_signed(record.started_ms);
                let took = record.took_ms.map(to_signed);
                let own = match of {
                    Number::StartedAt => started,
                    Number::CompletedAt => took.map_or(0, |took| started.saturating_add(took)),
                    Number::Duration => took.unwrap_or(0),
                };
                match sign {
                    Sign::AtMost => own <= *value,
                    Sign::Less => own < *value,
                    Sign::AtLeast => own >= *value,
                    Sign::More => own > *value,
                }
            }
        }
    }
}

/// What a status is called; the first is buildx's word.
fn status(status: Status) -> &'static [&'static str] {
    match status {
        Status::Running => &["running"],
        Status::Completed => &["completed"],
        Status::Failed => &["error", "failed"],
        Status::Canceled => &["canceled", "cancelled"],
        Status::Killed => &["killed"],
    }
}

fn number(of: Number, text: &str, now: u64) -> Option<i64> {
    let age = parse_go(text).map(|nanoseconds| nanoseconds / 1_000_000);
    match of {
        Number::Duration => age,
        Number::StartedAt | Number::CompletedAt => match age {
            Some(age) => Some(to_signed(now).saturating_sub(age)),
            None => parse_rfc3339(text)?.checked_mul(1000),
        },
    }
}

fn to_signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// `--local`
pub(super) fn here() -> Result<Filter, Failure> {
    match here::here(Path::new(".")).and_then(|found| found.remote) {
        Some(value) => Ok(Filter::Text { of: Text::Repository, value, is_wanted: true }),
        None => {
            let error = Diagnostic::error("this folder lies in no git repository that has a remote `origin`");
            Err(Failure::build(vec![error.help("`--filter repository=URL` names one")]))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::{Context, ContextKind, Target};

    #[test]
    fn filters_are_those_of_buildx() {
        let context = Context {
            kind: ContextKind::Git,
            at: "https://h/team/x.git#main".to_owned(),
            ..Context::default()
        };
        let record = Record {
            id: "0a1b2c3d4e5f".to_owned(),
            status: Status::Failed,
            started_ms: 1_800_000_000_000,
            took_ms: Some(90_000),
            targets: vec![Target { context, ..Target::default() }],
            ..Record::default()
        };
        let now = 1_800_000_000_000 + 3_600_000;
        for (text, expected) in [
            ("ref=b2c", true),
            ("ref!=b2c", true),
            ("ref!=0a1b2c3d4e5f", false),
            ("repository=team/x", true),
            ("repository!=https://h/team/x.git", false),
            ("status=error", true),
            ("status!=error", false),
            ("status=completed", false),
            ("startedAt>2h", true),
            ("startedAt>=30m", false),
            ("startedAt<=2027-01-15T08:00:00Z", true),
            ("completedAt<30m", true),
            ("duration>1m", true),
            ("duration<=90s", true),
            ("duration<1m30s", false),
        ] {
            assert_eq!(Filter::parse(text, now).unwrap().fits(&record), expected, "{text}");
        }
        for (text, expected) in [
            ("ref", "KEY=VALUE"),
            ("name=x", "there are ref"),
            ("ref>x", "take `=` or `!=`"),
            ("duration=5m", "take `<`"),
            ("duration>x", "such as 90s"),
            ("startedAt>yesterday", "for a day ago"),
            ("", "KEY=VALUE"),
        ] {
            let told = format!("{:?}", Filter::parse(text, now).unwrap_err());
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}
