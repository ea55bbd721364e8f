//! What builds may take from elsewhere: rules for images and URLs.
//!
//! ```toml
//! default = "deny"
//!
//! [[image]]
//! match = ["docker.io/library/*"]
//! digest = true
//!
//! [[image]]
//! match = "registry.example.org/**"
//! keys = ["cosign.pub"]
//!
//! [[url]]
//! match = "https://example.org/**"
//! checksum = true
//! ```
//!
//! The first rule that matches counts. Who asks for images and checks signatures is not known here.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::error::{self, Error};
use crate::signature::image::PublicKey;

/// Rules from one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    path: PathBuf,
    denies_others: bool,
    images: Vec<Rule>,
    urls: Vec<Rule>,
}

/// What holds for what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    patterns: Vec<String>,
    /// Why it is not allowed, if it is not; may be empty.
    pub denied: Option<String>,
    /// It must be named by its content: an image by digest, a URL with a checksum, a repository by commit.
    pub pinned: bool,
    /// One of these must have signed it; anybody may when empty.
    pub keys: Arc<Vec<PublicKey>>,
    /// `policy.toml:4`
    pub place: String,
}

/// What a policy says about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'p> {
    /// No rule is about it, and all else is allowed.
    Free,
    /// This rule is about it.
    Ruled(&'p Rule),
    /// No rule is about it, and all else is denied.
    Unnamed,
}

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct PolicyTable {
    default: Option<Spanned<String>>,
    image: Vec<Spanned<RuleTable>>,
    url: Vec<Spanned<RuleTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleTable {
    #[serde(rename = "match")]
    patterns: Patterns,
    deny: Option<Deny>,
    digest: Option<Spanned<bool>>,
    checksum: Option<Spanned<bool>>,
    #[serde(default)]
    keys: Vec<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Patterns {
    One(String),
    Several(Vec<String>),
}

/// `deny = true`, or what people are told.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Deny {
    Is(bool),
    Because(String),
}

impl Policy {
    /// Reads a file of rules.
    ///
    /// # Errors
    /// It is not there, or holds what does not belong there: with the line.
    pub fn load(path: &Path) -> Result<Self, Error> {
        match error::read_toml::<PolicyTable>(path)? {
            Some((table, text)) => Self::of(table, path, &text),
            None => {
                Err(Error::Unreadable { path: path.to_owned(), reason: "there is no such file".to_owned() })
            }
        }
    }

    /// The rules of a table; `path` and `text` are of the file that it stands in.
    pub(super) fn of(table: PolicyTable, path: &Path, text: &str) -> Result<Self, Error> {
        let reading = Reading { path, text };
        let denies_others = match table.default.as_ref().map(|word| (word.as_ref().as_str(), word)) {
            None | Some(("allow", _)) => false,
            Some(("deny", _)) => true,
            Some((_, word)) => return Err(reading.bad(word.span(), "it is \"allow\" or \"deny\"")),
        };
        let rules = |tables: Vec<Spanned<RuleTable>>, is_url: bool| {
            tables.into_iter().map(|table| reading.rule(table, is_url)).collect::<Result<Vec<_>, _>>()
        };
        let (images, urls) = (rules(table.image, false)?, rules(table.url, true)?);
        Ok(Self { path: path.to_owned(), denies_others, images, urls })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of an image, by its whole name with and without the tag.
    pub fn image(&self, name: &str, with_tag: &str) -> Verdict<'_> {
        self.verdict(&self.images, &[name, with_tag])
    }

    /// What it says of a URL, without a password.
    pub fn url(&self, url: &str) -> Verdict<'_> {
        self.verdict(&self.urls, &[url])
    }

    fn verdict<'p>(&'p self, rules: &'p [Rule], names: &[&str]) -> Verdict<'p> {
        let is_about = |rule: &&Rule| {
            rule.patterns
                .iter()
                .any(|pattern| names.iter().any(|name| matches(pattern.as_bytes(), name.as_bytes())))
        };
        match (rules.iter().find(is_about), self.denies_others) {
            (Some(rule), _) => Verdict::Ruled(rule),
            (None, true) => Verdict::Unnamed,
            (None, false) => Verdict::Free,
        }
    }
}

struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reading<'_> {
    fn rule(&self, table: Spanned<RuleTable>, is_url: bool) -> Result<Rule, Error> {
        let span = table.span();
        let RuleTable { patterns, deny, digest, checksum, keys } = table.into_inner();
        let patterns = match patterns {
            Patterns::One(pattern) => vec![pattern],
            Patterns::Several(patterns) => patterns,
        };
        if patterns.is_empty() {
            return Err(self.bad(span, "`match` names nothing"));
        }
        let (pinned, other) = if is_url { (checksum, digest) } else { (digest, checksum) };
        if let Some(other) = other {
            let reason = if is_url { "URLs have a `checksum`" } else { "images have a `digest`" };
            return Err(self.bad(other.span(), reason));
        }
        if let Some(key) = keys.first().filter(|_| is_url) {
            return Err(self.bad(key.span(), "only images are signed"));
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut read = Vec::new();
        for key in &keys {
            let path = folder.join(key.as_ref());
            let pem = error::read(&path)?.ok_or_else(|| self.bad(key.span(), "there is no such file"))?;
            read.push(PublicKey::parse(&pem).map_err(|error| self.bad(key.span(), &error.to_string()))?);
        }
        let denied = match deny {
            None | Some(Deny::Is(false)) => None,
            Some(Deny::Is(true)) => Some(String::new()),
            Some(Deny::Because(reason)) => Some(reason),
        };
        let line =
            self.text[..span.start.min(self.text.len())].bytes().filter(|byte| *byte == b'\n').count() + 1;
        let place = format!("{}:{line}", self.path.display());
        Ok(Rule {
            patterns,
            denied,
            pinned: pinned.is_some_and(|pinned| *pinned.as_ref()),
            keys: Arc::new(read),
            place,
        })
    }

    fn bad(&self, span: Range<usize>, reason: &str) -> Error {
        Error::at(self.path, self.text, Some(span), reason)
    }
}

/// `**` stands for anything, `*` for anything without a slash.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Of each star the place to go back to; one of two kinds is enough, for a later one can do what an earlier could.
    let (mut at, mut from) = (0, 0);
    let mut single: Option<(usize, usize)> = None;
    let mut double: Option<(usize, usize)> = None;
    loop {
        let rest = &pattern[at..];
        if rest.starts_with(b"**") {
            (double, single) = (Some((at + 2, from)), None);
            at += 2;
        } else if rest.first() == Some(&b'*') {
            single = Some((at + 1, from));
            at += 1;
        } else if from < name.len() && rest.first() == Some(&name[from]) {
            (at, from) = (at + 1, from + 1);
        } else if from == name.len() && rest.is_empty() {
            return true;
        } else if let Some((next, begin)) =
            single.filter(|(_, begin)| *begin < name.len() && name[*begin] != b'/')
        {
            single = Some((next, begin + 1));
            (at, from) = (next, begin + 1);
        } else if let Some((next, begin)) = double.filter(|(_, begin)| *begin < name.len()) {
            (double, single) = (Some((next, begin + 1)), None);
            (at, from) = (next, begin + 1);
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn policy(text: &str) -> Result<Policy, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        Policy::load(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let policy = policy(
            "default = 'deny'\n[[image]]\nmatch = 'docker.io/library/evil'\ndeny = 'no'\n\
             [[image]]\nmatch = ['docker.io/library/*', 'ghcr.io/**']\ndigest = true\n[[url]]\nmatch = 'https://a/**'\n",
        )
        .unwrap();
        let denied = |verdict: Verdict<'_>| match verdict {
            Verdict::Ruled(rule) => rule.denied.clone(),
            Verdict::Free | Verdict::Unnamed => None,
        };
        assert_eq!(
            denied(policy.image("docker.io/library/evil", "docker.io/library/evil:1")).as_deref(),
            Some("no")
        );
        assert!(
            matches!(policy.image("docker.io/library/a", ""), Verdict::Ruled(rule) if rule.pinned && rule.place.ends_with("policy.toml:5"))
        );
        assert!(matches!(policy.image("ghcr.io/a/b/c", ""), Verdict::Ruled(_)));
        assert_eq!(policy.image("docker.io/other/a", ""), Verdict::Unnamed);
        assert!(matches!(policy.url("https://a/b/c"), Verdict::Ruled(_)));
    }

    #[test]
    fn what_does_not_belong_there_is_told_with_its_line() {
        for (text, told) in [
            ("defaul = 'deny'", "`FILE`, line 1: unknown field `defaul`"),
            ("default = 'maybe'", "`FILE`, line 1: it is \"allow\" or \"deny\""),
            ("[[image]]\nmatch = []", "`FILE`, line 1: `match` names nothing"),
            ("[[image]]\nmatch = 'a'\nchecksum = true", "`FILE`, line 3: images have a `digest`"),
            ("[[url]]\nmatch = 'a'\nkeys = ['k']", "`FILE`, line 3: only images are signed"),
            ("[[image]]\nmatch = 'a'\nkeys = ['k']", "`FILE`, line 3: there is no such file"),
            ("[[image]]\nkeys = []", "missing field `match`"),
        ] {
            let error = policy(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    /// What a regular expression says.
    fn oracle(pattern: &str, name: &str) -> bool {
        let parts: Vec<String> = pattern
            .split("**")
            .map(|part| part.split('*').map(str::to_owned).collect::<Vec<_>>().join("[^/]*"))
            .collect();
        regex_lite::Regex::new(&format!("^{}$", parts.join(".*"))).unwrap().is_match(name)
    }

    proptest! {
        #[test]
        fn stars_are_those_of_an_expression(pattern in "[ab/*]{0,8}", name in "[ab/]{0,8}") {
            prop_assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), oracle(&pattern, &name), "{} {}", pattern, name);
        }
    }
}
