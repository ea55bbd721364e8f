//! `--filter KEY=VALUE` of the commands that list or prune.

use crate::cli::Failure;
use crate::cli::command::images::Row;
use crate::cli::local;
use crate::clock;
use crate::context::glob::Glob;
use crate::oci::Reference;
use crate::report::Diagnostic;
use crate::store::Store;
use crate::text;

/// What rows must fit. Values of one key: any reference may fit, all others must.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    references: Vec<(String, Glob)>,
    labels: Vec<(String, Option<String>)>,
    before: Vec<String>,
    since: Vec<String>,
    /// Seconds since 1970.
    until: Option<i64>,
    dangling: Option<bool>,
}

impl Filters {
    /// Reads the options; `known` are the keys that the command has.
    pub(crate) fn parse(texts: &[String], known: &[&str]) -> Result<Self, Failure> {
        let mut filters = Self::default();
        for text in texts {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            if !known.contains(&key) || value.is_empty() {
                let diagnostic = Diagnostic::error(format!("`{text}` is no filter"));
                return Err(Failure::usage(diagnostic.help(format!("there are {}", listed(known)))));
            }
            filters.add(key, value)?;
        }
        Ok(filters)
    }

    fn add(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        match key {
            "reference" => self.add_reference(value)?,
            "before" => self.before.push(value.to_owned()),
            "since" => self.since.push(value.to_owned()),
            "until" => self.until = Some(moment(value)?),
            "dangling" => self.dangling = Some(yes_or_no(value)?),
            _ => {
                let (name, wanted) = value.split_once('=').map_or((value, None), |(k, v)| (k, Some(v)));
                self.labels.push((name.to_owned(), wanted.map(str::to_owned)));
            }
        }
        Ok(())
    }

    /// A pattern for names.
    pub(crate) fn add_reference(&mut self, pattern: &str) -> Result<(), Failure> {
        let glob = Glob::new(pattern.as_bytes()).map_err(|_| {
            Failure::usage(Diagnostic::error(format!("`{pattern}` is no pattern: a `[` is not closed")))
        })?;
        self.references.push((pattern.to_owned(), glob));
        Ok(())
    }

    /// Whether images without a name are asked for.
    pub(crate) fn wants_unnamed(&self) -> bool {
        self.dangling == Some(true)
    }

    /// The moment of `until`.
    pub(crate) fn until(&self) -> Option<i64> {
        self.until
    }

    /// Takes away what does not fit.
    pub(crate) fn apply(&self, store: &Store, rows: &mut Vec<Row<'_>>) -> Result<(), Failure> {
        let time_of = |name: &String| -> Result<i64, Failure> {
            let (_, config) = local::find(store, name)?;
            Ok(config.created.as_deref().and_then(crate::oci::parse_rfc3339).unwrap_or(0))
        };
        let before = self.before.iter().map(time_of).collect::<Result<Vec<_>, _>>()?;
        let since = self.since.iter().map(time_of).collect::<Result<Vec<_>, _>>()?;
        rows.retain(|row| {
            let created = row.created();
            let is_younger_than = |time: &i64| created.is_some_and(|created| created > *time);
            let is_older_than = |time: &i64| created.is_some_and(|created| created < *time);
            self.fits_name(row.name)
                && self.fits_labels(row)
                && self.dangling.is_none_or(|wanted| wanted == row.name.is_none())
                && before.iter().all(is_older_than)
                && since.iter().all(is_younger_than)
                && self.until.iter().all(is_older_than)
        });
        Ok(())
    }

    fn fits_name(&self, name: Option<&Reference>) -> bool {
        if self.references.is_empty() {
            return true;
        }
        let Some(name) = name else { return false };
        let (whole, repository) = (name.to_string(), local::repository(name));
        let full = name.full();
        let full_repository = full.rsplit_once(':').map_or(full.as_str(), |(repository, _)| repository);
        self.references.iter().any(|(pattern, glob)| {
            [&whole, &repository, &full, full_repository]
                .iter()
                .any(|text| *text == pattern || glob.matches(text.as_bytes()))
        })
    }

    fn fits_labels(&self, row: &Row<'_>) -> bool {
        let labels = row.labels();
        self.labels.iter().all(|(key, wanted)| {
            labels.get(key).is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
        })
    }
}

fn listed(known: &[&str]) -> String {
    known.iter().map(|key| format!("`{key}=…`")).collect::<Vec<_>>().join(", ")
}

fn yes_or_no(text: &str) -> Result<bool, Failure> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Failure::usage(Diagnostic::error(format!("`{text}` is neither true nor false")))),
    }
}

/// A time as RFC 3339, a date, seconds since 1970, or a duration before now (`24h`, `7d`); in seconds since 1970.
pub(crate) fn moment(text: &str) -> Result<i64, Failure> {
    let date = format!("{text}T00:00:00Z");
    let time = crate::oci::parse_rfc3339(text).or_else(|| crate::oci::parse_rfc3339(&date));
    if let Some(time) = time.or_else(|| text.parse().ok()) {
        return Ok(time);
    }
    Ok(clock::now().saturating_sub(duration(text)?))
}

/// A duration such as `90s`, `10m`, `24h`, `1h30m`, `7d` or `2w`, in seconds.
pub(crate) fn duration(text: &str) -> Result<i64, Failure> {
    text::duration::parse_age(text).ok_or_else(|| {
        let diagnostic = Diagnostic::error(format!("`{text}` is no duration"));
        Failure::usage(diagnostic.help("write it as 90s, 10m, 24h, 7d or 2w, or several of them: 1h30m"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(moment("1970-01-02").unwrap(), 86_400);
        assert_eq!(moment("1970-01-01T00:01:00Z").unwrap(), 60);
        assert_eq!(moment("1234").unwrap(), 1234);
        assert!(moment("24h").unwrap() < clock::now());
    }
}
