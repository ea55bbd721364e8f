//! Finds what must not be in an image: secrets that a build was given, and what looks like a credential.
//!
//! [`Needles`] are the values, in all forms that people write them in; a [`Scanner`] searches bytes for them. Where the bytes come
//! from, and what becomes of a find, is not known here. No value is in what this module shows.

mod credentials;
mod forms;

use aho_corasick::{AhoCorasick, packed};
use serde::{Deserialize, Serialize};

/// So many patterns the searcher of [`packed`] takes at once.
const GROUP: usize = 64;
/// As long as the longest needle, and as what is read behind a credential's first bytes.
pub const WINDOW_BYTES: usize = 512;

/// What is searched for. Holds secrets: it is sent to workers, and never kept or shown.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Needles(Vec<Needle>);

#[derive(Clone, Serialize, Deserialize)]
struct Needle {
    /// What it is called in messages.
    name: String,
    form: Form,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Needles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} needles", self.0.len())
    }
}

/// How a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Form {
    /// As it is.
    Plain,
    /// In base64, with either alphabet, alone or within something longer.
    Base64,
    /// In hexadecimal.
    Hex,
    /// With percent signs, as in a URL.
    Url,
    /// With backslashes, as in JSON.
    Json,
}

impl Form {
    /// Words that follow a name.
    pub fn words(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Base64 => ", in base64",
            Self::Hex => ", in hexadecimal",
            Self::Url => ", encoded as in a URL",
            Self::Json => ", encoded as in JSON",
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum What {
    /// A value that was given.
    Given {
        /// What it is called.
        name: String,
        /// How it is written.
        form: Form,
    },
    /// Something that has the looks of a credential, and is in no list of values.
    Looks {
        /// Such as `a private key`.
        like: String,
    },
}

/// Something that was found in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Found {
    /// The file's path in its layer.
    pub path: String,
    /// What is in it.
    pub what: What,
}

/// Something that was found in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Where it begins.
    pub at: u64,
    what: usize,
}

impl Needles {
    /// Adds all forms of a value that messages call `name`. One that is too short to be told from chance is left out, and so are
    /// certificates, which are no secrets.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        let forms = forms::of(value);
        self.0.extend(forms.into_iter().map(|(form, bytes)| Needle { name: name.to_owned(), form, bytes }));
    }

    /// A path with a name in the place of each part that has a value in it, in whatever form; none where none has. All of the part goes:
    /// of a long value only a piece is searched for, and what stands beside it may be the rest.
    pub fn masked(&self, path: &str) -> Option<String> {
        let named = |part: &str| {
            let is_in = |value: &[u8]| std::str::from_utf8(value).is_ok_and(|value| part.contains(value));
            self.0.iter().find(|needle| is_in(&needle.bytes)).map(|needle| format!("[{}]", needle.name))
        };
        let whole = named(path)?;
        let parts: Vec<(&str, Option<String>)> = path.split('/').map(|part| (part, named(part))).collect();
        // A value may have slashes.
        if parts.iter().all(|(_, name)| name.is_none()) {
            return Some(whole);
        }
        let parts: Vec<String> =
            parts.into_iter().map(|(part, name)| name.unwrap_or_else(|| part.to_owned())).collect();
        let joined = parts.join("/");
        Some(if named(&joined).is_some() { whole } else { joined })
    }

    /// Whether no value is searched for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Searches.
#[derive(Debug)]
pub struct Scanner {
    groups: Vec<Group>,
    whats: Vec<What>,
    /// Credentials have the numbers from here on.
    credentials: usize,
}

#[derive(Debug)]
struct Group {
    first: usize,
    searcher: Searcher,
}

#[derive(Debug)]
enum Searcher {
    /// Five to nine GB/s: docs/performance.md.
    Packed(Box<packed::Searcher>),
    /// On processors that have not what that needs.
    Automaton(Box<AhoCorasick>),
}

impl Scanner {
    /// For these values, and for credentials.
    pub fn new(needles: &Needles) -> Self {
        Self::with(needles, &credentials::KINDS)
    }

    /// For these values only.
    pub fn of_values(needles: &Needles) -> Self {
        Self::with(needles, &[])
    }

    fn with(needles: &Needles, kinds: &[credentials::Kind]) -> Self {
        let given = |needle: &Needle| What::Given { name: needle.name.clone(), form: needle.form };
        let looks = |kind: &credentials::Kind| What::Looks { like: kind.name.to_owned() };
        let whats = needles.0.iter().map(given).chain(kinds.iter().map(looks)).collect();
        let patterns: Vec<&[u8]> = (needles.0.iter().map(|needle| needle.bytes.as_slice()))
            .chain(kinds.iter().map(|kind| kind.prefix.as_bytes()))
            .collect();
        let group = |(number, patterns): (usize, &[&[u8]])| {
            Some(Group { first: number * GROUP, searcher: Searcher::new(patterns)? })
        };
        let groups = patterns.chunks(GROUP).enumerate().filter_map(group).collect();
        Self { groups, whats, credentials: needles.0.len() }
    }

    /// Whether values are searched for, not only credentials.
    pub fn has_values(&self) -> bool {
        self.credentials > 0
    }

    /// Adds to `hits` what begins in `bytes`, the first of which is at `start`.
    pub fn scan(&self, bytes: &[u8], start: u64, hits: &mut Vec<Hit>) {
        for Group { first, searcher } in &self.groups {
            searcher.each(bytes, |pattern, at| {
                let what = first + pattern;
                let is_one = what < self.credentials
                    || credentials::KINDS[what - self.credentials].fits(&bytes[..at], &bytes[at..]);
                if is_one {
                    hits.push(Hit { at: start + at as u64, what });
                }
            });
        }
    }

    /// What a hit is.
    pub fn what(&self, hit: Hit) -> &What {
        &self.whats[hit.what]
    }

    /// All that is in these bytes, each once.
    pub fn whats(&self, bytes: &[u8]) -> Vec<What> {
        let mut hits = Vec::new();
        self.scan(bytes, 0, &mut hits);
        let mut whats: Vec<What> = hits.into_iter().map(|hit| self.what(hit).clone()).collect();
        whats.sort();
        whats.dedup();
        whats
    }
}

impl Searcher {
    fn new(patterns: &[&[u8]]) -> Option<Self> {
        if let Some(packed) = packed::Config::new().builder().extend(patterns).build() {
            return Some(Self::Packed(Box::new(packed)));
        }
        // Fails only with more bytes of patterns than there can be here.
        AhoCorasick::new(patterns).ok().map(|automaton| Self::Automaton(Box::new(automaton)))
    }

    fn each(&self, bytes: &[u8], mut found: impl FnMut(usize, usize)) {
        match self {
            Self::Packed(packed) => {
                packed.find_iter(bytes).for_each(|m| found(m.pattern().as_usize(), m.start()));
            }
            Self::Automaton(automaton) => {
                automaton.find_iter(bytes).for_each(|m| found(m.pattern().as_usize(), m.start()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanner(values: &[(&str, &str)]) -> Scanner {
        let mut needles = Needles::default();
        values.iter().for_each(|(name, value)| needles.add(name, value.as_bytes()));
        Scanner::new(&needles)
    }

    #[test]
    fn a_value_is_found_in_each_of_its_forms() {
        let scanner = scanner(&[("secret `a`", "s3cr3t/with?signs\"\n")]);
        for (text, form) in [
            ("x s3cr3t/with?signs\" y", Form::Plain),
            // What an editor adds to the file is not searched for.
            ("s3cr3t/with?signs\"", Form::Plain),
            ("czNjcjN0L3dpdGg/c2lnbnMi", Form::Base64),
            ("czNjcjN0L3dpdGg_c2lnbnMi", Form::Base64),
            // user:value
            ("dXNlcjpzM2NyM3Qvd2l0aD9zaWducyI=", Form::Base64),
            // us:value!
            ("dXM6czNjcjN0L3dpdGg/c2lnbnMiIQ==", Form::Base64),
            ("7333637233742f776974683f7369676e7322", Form::Hex),
            ("7333637233742F776974683F7369676E7322", Form::Hex),
            ("https://u:s3cr3t%2Fwith%3Fsigns%22@host", Form::Url),
            ("https://u:s3cr3t%2fwith%3fsigns%22@host", Form::Url),
            ("{\"a\":\"s3cr3t/with?signs\\\"\"}", Form::Json),
        ] {
            let whats = scanner.whats(text.as_bytes());
            assert_eq!(whats, [What::Given { name: "secret `a`".to_owned(), form }], "{text}");
        }
        assert_eq!(scanner.whats(b"s3cr3t/with?sign"), []);
    }

    #[test]
    fn a_value_is_found_as_any_tool_writes_it_in_a_url() {
        let scanner = scanner(&[("secret `a`", "pass/word with:signs!~é")]);
        for text in [
            "pass%2Fword%20with%3Asigns%21~%C3%A9",
            "pass%2fword%20with%3asigns%21~%c3%a9",
            "pass/word%20with%3Asigns%21~%C3%A9",
            "pass%2Fword+with%3Asigns%21~%C3%A9",
            "pass%2Fword+with%3Asigns%21%7E%C3%A9",
            "pass%2Fword%20with%3Asigns!~%C3%A9",
            "pass/word%20with:signs!~%C3%A9",
        ] {
            let whats = scanner.whats(text.as_bytes());
            assert_eq!(whats, [What::Given { name: "secret `a`".to_owned(), form: Form::Url }], "{text}");
        }
    }

    #[test]
    fn a_value_costs_few_needles() {
        let needles = |value: &[u8]| {
            let mut needles = Needles::default();
            needles.add("a", value);
            needles.0.len()
        };
        assert!(needles(b"ghx0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX2") <= 17);
        assert!(needles(b"a/b c:d!e~f?g+h'i(j)k,l;m&n=o$p#q@r*s \xff\xfe\xfd") < GROUP / 2);
    }

    #[test]
    fn many_values_are_more_than_one_group() {
        let values: Vec<(String, String)> =
            (0..100).map(|n| (format!("secret `{n}`"), format!("value-{n:03}-of-many"))).collect();
        let given: Vec<(&str, &str)> = values.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let scanner = scanner(&given);
        for (name, value) in given {
            let text = format!("{}{value}{}", "-".repeat(1000), "-".repeat(1000));
            assert_eq!(
                scanner.whats(text.as_bytes()),
                [What::Given { name: name.to_owned(), form: Form::Plain }]
            );
        }
    }

    #[test]
    fn nothing_of_a_value_is_shown() {
        let mut needles = Needles::default();
        needles.add("secret `a`", b"hunter2-hunter2");
        assert!(!format!("{needles:?}").contains("hunter2"));
    }
}
