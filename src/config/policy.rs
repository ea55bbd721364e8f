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
//! attestations = [{ type = "provenance", keys = ["ci.pub"], builder-id = "https://ci.example.org/*" }]
//!
//! [[url]]
//! match = "https://example.org/**"
//! checksum = true
//! ```
//!
//! The first rule that matches counts. Who asks for images and checks signatures is not known here.

mod name;

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
    /// All of this must be said of it by somebody who is trusted.
    pub attestations: Vec<Attested>,
    /// `policy.toml:4`
    pub place: String,
    /// Its place among the rules of its file for images, or for URLs.
    pub number: usize,
}

/// What must be said of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// What messages call it.
    pub shown: String,
    predicates: Vec<String>,
    builders: Vec<String>,
    /// One of these must have signed it.
    pub keys: Arc<Vec<PublicKey>>,
    /// `policy.toml:4`
    pub place: String,
}

impl Attested {
    /// Whether a statement with this predicate is one.
    pub fn fits(&self, predicate: &str) -> bool {
        any(&self.predicates, predicate)
    }

    /// Whether it may come from this builder.
    pub fn is_by(&self, builder: Option<&str>) -> bool {
        self.builders.is_empty() || builder.is_some_and(|builder| any(&self.builders, builder))
    }
}

fn any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern.as_bytes(), text.as_bytes()))
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
    #[serde(default)]
    attestations: Vec<Spanned<AttestedTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct AttestedTable {
    #[serde(rename = "type")]
    kind: Spanned<String>,
    keys: Vec<Spanned<PathBuf>>,
    builder_id: Option<Spanned<Patterns>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Patterns {
    One(String),
    Several(Vec<String>),
}

impl Patterns {
    fn all(self) -> Vec<String> {
        match self {
            Patterns::One(pattern) => vec![pattern],
            Patterns::Several(patterns) => patterns,
        }
    }
}

/// Words for predicates: the types that they stand for, and what messages say.
const PREDICATES: [(&str, &[&str], &str); 4] = [
    (PROVENANCE, &["https://slsa.dev/provenance/*"], "provenance"),
    ("spdx", SPDX, "an SBOM in SPDX"),
    ("cyclonedx", CYCLONEDX, "an SBOM in CycloneDX"),
    ("sbom", &[SPDX[0], SPDX[1], CYCLONEDX[0], CYCLONEDX[1]], "an SBOM"),
];
const PROVENANCE: &str = "provenance";
const SPDX: &[&str] = &["https://spdx.dev/Document", "https://spdx.dev/Document/*"];
const CYCLONEDX: &[&str] = &["https://cyclonedx.org/bom", "https://cyclonedx.org/bom/*"];

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
            let rules = tables.into_iter().enumerate();
            rules.map(|(number, table)| reading.rule(number, table, is_url)).collect::<Result<Vec<_>, _>>()
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
        let names = [name::image(name), name::image(with_tag)];
        let written = [name.to_owned(), with_tag.to_owned()];
        self.verdict(&self.images, |pattern, denies| {
            let patterns = [name::image(pattern), pattern.to_owned()];
            let is_one = |name: &String| patterns.iter().any(|one| matches(one.as_bytes(), name.as_bytes()));
            names.iter().any(is_one) || denies && written.iter().any(is_one)
        })
    }

    /// What it says of an image of this machine.
    pub fn local(&self, name: &str) -> Verdict<'_> {
        self.verdict(&self.images, |pattern, _| matches(pattern.as_bytes(), name.as_bytes()))
    }

    /// What it says of a URL, however that is spelled.
    pub fn url(&self, url: &str) -> Verdict<'_> {
        let parsed = name::Url::of(url);
        self.verdict(&self.urls, |pattern, denies| match &parsed {
            Some(parsed) if denies => parsed.may_be(url, pattern),
            Some(parsed) => parsed.is(url, pattern),
            None => matches(pattern.as_bytes(), url.as_bytes()),
        })
    }

    /// By whether a pattern matches, in a rule that denies or another. A rule that denies is about whatever it can be read to be about, the
    /// others about what a name in its one spelling is.
    fn verdict<'p>(&'p self, rules: &'p [Rule], is_matched: impl Fn(&str, bool) -> bool) -> Verdict<'p> {
        let is_about =
            |rule: &&Rule| rule.patterns.iter().any(|pattern| is_matched(pattern, rule.denied.is_some()));
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
    fn rule(&self, number: usize, table: Spanned<RuleTable>, is_url: bool) -> Result<Rule, Error> {
        let span = table.span();
        let RuleTable { patterns, deny, digest, checksum, keys, attestations } = table.into_inner();
        let patterns = patterns.all();
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
        if let Some(attested) = attestations.first().filter(|_| is_url) {
            return Err(self.bad(attested.span(), "only images have attestations"));
        }
        let attestations =
            attestations.into_iter().map(|table| self.attested(table)).collect::<Result<Vec<_>, _>>()?;
        let denied = match deny {
            None | Some(Deny::Is(false)) => None,
            Some(Deny::Is(true)) => Some(String::new()),
            Some(Deny::Because(reason)) => Some(reason),
        };
        let place = self.place(&span);
        Ok(Rule {
            patterns,
            denied,
            pinned: pinned.is_some_and(|pinned| *pinned.as_ref()),
            keys: self.keys(&keys)?,
            attestations,
            place,
            number,
        })
    }

    fn attested(&self, table: Spanned<AttestedTable>) -> Result<Attested, Error> {
        let place = self.place(&table.span());
        let span = table.span();
        let AttestedTable { kind, keys, builder_id } = table.into_inner();
        let word = kind.as_ref().as_str();
        let known = PREDICATES.iter().find(|(name, ..)| *name == word);
        let (predicates, shown) = match known {
            Some((_, predicates, shown)) => {
                (predicates.iter().map(|&one| one.to_owned()).collect(), (*shown).to_owned())
            }
            None if word.contains(':') => (vec![word.to_owned()], format!("an attestation `{word}`")),
            None => {
                let words = PREDICATES.map(|(name, ..)| format!("\"{name}\"")).join(", ");
                return Err(self.bad(kind.span(), &format!("it is {words}, or the URL of a predicate")));
            }
        };
        if keys.is_empty() {
            return Err(self.bad(span, "`keys` names nobody who is believed"));
        }
        let named = builder_id.map(|one| (one.span(), one.into_inner().all()));
        if let Some((at, _)) = named.as_ref().filter(|(_, builders)| builders.is_empty()) {
            return Err(self.bad(at.clone(), "`builder-id` names no builder"));
        }
        let (builder_at, builders) = named.unwrap_or_default();
        if !builders.is_empty() && word != PROVENANCE && !word.starts_with("https://slsa.dev/provenance/") {
            return Err(self.bad(builder_at, "only provenance tells of a builder"));
        }
        Ok(Attested { shown, predicates, builders, keys: self.keys(&keys)?, place })
    }

    /// Keys, beside the file.
    fn keys(&self, files: &[Spanned<PathBuf>]) -> Result<Arc<Vec<PublicKey>>, Error> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut read = Vec::new();
        for file in files {
            let path = folder.join(file.as_ref());
            let pem = error::read(&path)?.ok_or_else(|| {
                self.bad(file.span(), &format!("there is no key file `{}`", path.display()))
            })?;
            read.push(
                PublicKey::parse(&pem)
                    .map_err(|error| self.bad(file.span(), &format!("`{}`: {error}", path.display())))?,
            );
        }
        Ok(Arc::new(read))
    }

    /// `policy.toml:4`
    fn place(&self, span: &Range<usize>) -> String {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("{}:{line}", self.path.display())
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
            ("[[image]]\nmatch = 'a'\nkeys = ['k']", "`FILE`, line 3: there is no key file `"),
            ("[[image]]\nkeys = []", "missing field `match`"),
            (
                "[[image]]\nmatch = 'a'\nattestations = [\n{ type = 'slsa', keys = [] }]",
                "`FILE`, line 4: it is \"provenance\", \"spdx\", \"cyclonedx\", \"sbom\", or the URL of a predicate",
            ),
            (
                "[[image]]\nmatch = 'a'\nattestations = [{ type = 'spdx', keys = [] }]",
                "`FILE`, line 3: `keys` names nobody who is believed",
            ),
            ("[[image]]\nmatch = 'a'\nattestations = [{ type = 'spdx' }]", "missing field `keys`"),
            (
                "[[image]]\nmatch = 'a'\nattestations = [{ type = 'spdx', keys = ['k'], builder-id = 'a' }]",
                "`FILE`, line 3: only provenance tells of a builder",
            ),
            (
                "[[image]]\nmatch = 'a'\nattestations = [{ type = 'provenance', keys = ['k'], builder-id = [] }]",
                "`FILE`, line 3: `builder-id` names no builder",
            ),
            (
                "[[url]]\nmatch = 'a'\nattestations = [{ type = 'spdx', keys = ['k'] }]",
                "`FILE`, line 3: only images have attestations",
            ),
        ] {
            let error = policy(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn words_stand_for_predicates_and_builders_are_patterns() {
        let key = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("k"), key).unwrap();
        let of = |fields: &str| {
            let text = format!("[[image]]\nmatch = 'a'\nattestations = [{{ {fields}, keys = ['k'] }}]\n");
            std::fs::write(dir.path().join("policy.toml"), text).unwrap();
            let policy = Policy::load(&dir.path().join("policy.toml")).unwrap();
            let Verdict::Ruled(rule) = policy.image("a", "a:1") else { panic!("{fields}") };
            rule.attestations[0].clone()
        };
        let provenance = of("type = 'provenance', builder-id = ['https://ci/*', 'urn:b']");
        assert!(
            provenance.fits("https://slsa.dev/provenance/v1")
                && !provenance.fits("https://spdx.dev/Document")
        );
        assert!(provenance.is_by(Some("https://ci/1")) && provenance.is_by(Some("urn:b")));
        assert!(!provenance.is_by(Some("https://ci/1/2")) && !provenance.is_by(None));
        let sbom = of("type = 'sbom'");
        assert!(sbom.fits("https://spdx.dev/Document/v2.3") && sbom.fits("https://cyclonedx.org/bom"));
        assert!(sbom.is_by(None) && !sbom.fits("https://slsa.dev/provenance/v1"));
        let own = of("type = 'https://example.org/**'");
        assert!(own.fits("https://example.org/a/b") && own.shown.contains("https://example.org/**"));
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
