//! Lists of patterns with exceptions, as moby's patternmatcher applies them in a walk: a match of a parent
//! counts for everything below it, and the last pattern that matches decides.

use std::collections::HashMap;

use super::glob::BadPattern;
use super::path;
use super::pattern::{Pattern, Scope};

/// An ordered list of patterns, some of them exceptions (`!`).
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    rules: Vec<Rule>,
    index: Index,
}

/// A list no longer than this is gone through for each path.
const SHORT: usize = 32;

/// Which rules can match a path at all, so that ten thousand of them do not cost a look at each for each file.
/// Numbers of rules, in order.
#[derive(Debug, Clone, Default)]
struct Index {
    whole: HashMap<Vec<u8>, Vec<usize>>,
    first: HashMap<Vec<u8>, Vec<usize>>,
    last: HashMap<Vec<u8>, Vec<usize>>,
    any: Vec<usize>,
    /// Exceptions by the first component of what they can match.
    exceptions: HashMap<Vec<u8>, Vec<usize>>,
    /// Exceptions that can match below anything.
    wide_exceptions: Vec<usize>,
}

impl Index {
    fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            let place = match rule.pattern.scope() {
                Scope::Whole(path) => index.whole.entry(path.to_vec()).or_default(),
                Scope::First(name) => index.first.entry(name.to_vec()).or_default(),
                Scope::Last(name) => index.last.entry(name.to_vec()).or_default(),
                Scope::Any => &mut index.any,
            };
            place.push(number);
            if rule.exception {
                match rule.pattern.first_component() {
                    Some(name) => index.exceptions.entry(name.to_vec()).or_default().push(number),
                    None if rule.pattern.is_plain_name() => {}
                    None => index.wide_exceptions.push(number),
                }
            }
        }
        index
    }

    /// The rules that may match `path`, and those that its parent matched, in order.
    fn candidates(&self, path: &[u8], inherited: &[usize]) -> Vec<usize> {
        let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let keyed = [self.whole.get(path), self.first.get(first), self.last.get(last)];
        let mut found: Vec<usize> = keyed.into_iter().flatten().flatten().copied().collect();
        found.extend(&self.any);
        found.extend(inherited);
        found.sort_unstable();
        found.dedup();
        found
    }
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    exception: bool,
}

/// Which patterns matched a directory, by number and in order: what its children inherit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inherited(Vec<usize>);

impl Matcher {
    /// Compiles patterns as `--exclude` gives them; an error carries the index of the bad one.
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, (usize, BadPattern)> {
        let mut rules = Vec::new();
        for (index, text) in patterns.into_iter().enumerate() {
            rules.extend(Rule::parse(text.as_ref()).map_err(|error| (index, error))?);
        }
        let index = if rules.len() > SHORT { Index::new(&rules) } else { Index::default() };
        Ok(Self { rules, index })
    }

    /// Whether there is nothing to match.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether any pattern begins with `!`.
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.exception)
    }

    /// Whether `path` matches; for the entries of the top directory, `parent` is the default.
    pub fn matches(&self, path: &[u8], parent: &Inherited) -> bool {
        self.decide(path, parent, |_| {}).is_some()
    }

    /// As [`Matcher::matches`], and what the children of the directory `path` inherit.
    pub fn matches_directory(&self, path: &[u8], parent: &Inherited) -> (bool, Inherited) {
        let mut inherited = Inherited::default();
        let decided = self.decide(path, parent, |index| inherited.0.push(index));
        (decided.is_some(), inherited)
    }

    /// The index of the pattern that decides that `path` matches, wherever it lies; see [`Matcher::matches`].
    pub fn deciding_pattern(&self, path: &[u8]) -> Option<usize> {
        self.last_match(path).filter(|index| !self.is_exception(*index))
    }

    /// The index of the last pattern that matches `path`, wherever it lies; it may be an exception.
    pub fn last_match(&self, path: &[u8]) -> Option<usize> {
        let mut inherited = Inherited::default();
        for end in path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at) {
            inherited = self.matches_directory(&path[..end], &inherited).1;
        }
        let mut last = None;
        self.decide(path, &inherited, |index| last = Some(index));
        last
    }

    /// Whether the pattern with this index begins with `!`.
    pub fn is_exception(&self, index: usize) -> bool {
        self.rules[index].exception
    }

    /// Whether something below the directory `path`, which matches, may not match: only then is a walk into it
    /// worth its while. Errs on the side of yes.
    pub fn may_spare_below(&self, path: &[u8], inherited: &Inherited) -> bool {
        // What an exception spares must be listed after the last pattern that its directory matches.
        let hit = inherited.0.iter().rfind(|index| !self.rules[**index].exception);
        let after = hit.map_or(0, |index| index + 1);
        if self.rules.len() <= SHORT {
            return self.rules[after..]
                .iter()
                .any(|rule| rule.exception && rule.pattern.may_match_below(path));
        }
        let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        let own = self.index.exceptions.get(first).into_iter().flatten();
        own.chain(&self.index.wide_exceptions)
            .any(|index| *index >= after && self.rules[*index].pattern.may_match_below(path))
    }

    /// Whether something below the directory `path`, which does not match, may match. Errs on the side of yes.
    pub fn may_match_below(&self, path: &[u8]) -> bool {
        self.rules.iter().any(|rule| !rule.exception && rule.pattern.may_match_below(path))
    }

    /// Moby's `MatchesUsingParentResults`, including that a rule which could not change the verdict is not
    /// looked at and so is not inherited, either.
    fn decide(&self, path: &[u8], parent: &Inherited, matched: impl FnMut(usize)) -> Option<usize> {
        match self.rules.len() <= SHORT {
            true => Self::decide_by(self.rules.iter().enumerate(), path, parent, matched),
            false => {
                let candidates = self.index.candidates(path, &parent.0);
                Self::decide_by(candidates.into_iter().map(|at| (at, &self.rules[at])), path, parent, matched)
            }
        }
    }

    fn decide_by<'r>(
        rules: impl Iterator<Item = (usize, &'r Rule)>,
        path: &[u8],
        parent: &Inherited,
        mut matched: impl FnMut(usize),
    ) -> Option<usize> {
        let mut verdict = None;
        let mut inherited: &[usize] = &parent.0;
        for (index, rule) in rules {
            let is_inherited = inherited.first() == Some(&index);
            if is_inherited {
                inherited = &inherited[1..];
            } else if rule.exception != verdict.is_some() || !rule.pattern.matches(path) {
                continue;
            }
            matched(index);
            verdict = (!rule.exception).then_some(index);
        }
        verdict
    }
}

impl Rule {
    /// Blank patterns are none.
    fn parse(text: &[u8]) -> Result<Option<Self>, BadPattern> {
        let trimmed = path::trim(text);
        if trimmed.is_empty() {
            return Ok(None);
        }
        let cleaned = path::clean(trimmed);
        let (exception, pattern) = match cleaned.strip_prefix(b"!") {
            Some([]) => return Err(BadPattern),
            Some(rest) => (true, rest),
            None => (false, cleaned.as_slice()),
        };
        Ok(Some(Self { pattern: Pattern::new(pattern)?, exception }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Walks down to `path`, as a scan does.
    fn matches(patterns: &[&str], path: &str) -> bool {
        Matcher::new(patterns).unwrap().deciding_pattern(path.as_bytes()).is_some()
    }

    /// From moby's patternmatcher_test.go and Docker's documentation of .dockerignore.
    #[test]
    fn single_patterns() {
        for (pattern, path, expected) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "dir", false),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "dir/file", true),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/*.txt2", "file.txt", false),
            ("a**/b", "ab", true),
            ("a**/b", "axb", false),
            ("a**/b", "a/x/b", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            ("abc.def", "abcdef", false),
            ("abc.def", "abc.def", true),
            ("abc?def", "abcZdef", true),
            ("a\\\\", "a\\", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def/**", "abc.def/x", true),
            ("*", "a/b/c", true),
            ("foo", "x/foo", false),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "xfoo/bar", false),
            ("./x/../y/", "y/z", true),
            ("(", "(", true),
            ("a+b|c", "a+b|c", true),
            ("*.☺", "x.☺", true),
            ("a[^b]c", "a/c", true),
            ("*/temp*", "sub/temporary.txt", true),
            ("*/*/temp*", "sub/temporary.txt", false),
            ("temp?", "tempa", true),
        ] {
            assert_eq!(matches(&[pattern], path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn exceptions_and_their_order() {
        for (patterns, path, expected) in [
            (&["*.md", "!README.md"] as &[&str], "README.md", false),
            (&["*.md", "!README.md"], "other.md", true),
            (&["!README.md", "*.md"], "README.md", true),
            (&["*", "!d/e"], "d/e/f", false),
            (&["*", "!d/e"], "d/x", true),
            (&["**", "!docs/*.md"], "docs/a.md", false),
            (&["docs", "!docs/README.md"], "docs/README.md", false),
            (&["*.go", "!a.go", "a.go"], "a.go", true),
            (&["a", "!a/b", "a/b/c"], "a/b/c", true),
            (&["a", "!a/b", "a/b/c"], "a/b/d", false),
            // A rule that could not change anything for the directory is not inherited.
            (&["a", "!a/c/d", "a/c"], "a/c/d", false),
        ] {
            assert_eq!(matches(patterns, path), expected, "{patterns:?} on {path}");
        }
    }

    #[test]
    fn bad_patterns_say_which() {
        for (patterns, index) in [(&["a", "b["] as &[&str], 1), (&["!"], 0), (&["\\"], 0), (&["", "[]x]"], 1)]
        {
            assert_eq!(Matcher::new(patterns).unwrap_err().0, index, "{patterns:?}");
        }
    }

    #[test]
    fn walks_enter_an_ignored_directory_only_for_a_possible_exception() {
        for (patterns, dir, expected) in [
            (&["*"] as &[&str], "d", false),
            (&["*", "!d/e"], "d", true),
            (&["*", "!d/e"], "x", false),
            (&["*", "!d/e"], "d/x", false),
            (&["*", "!*.md"], "d", false),
            (&["*", "!*/*.md"], "d", true),
            (&["*", "!*/*.md"], "d/e", false),
            (&["*", "!**/*.md"], "d/e", true),
            (&["!d/e", "*"], "d", false),
            (&["*", "!d[^x]e"], "d", true),
        ] {
            let matcher = Matcher::new(patterns).unwrap();
            let mut inherited = Inherited::default();
            for parent in path::prefixes(dir.as_bytes()) {
                inherited = matcher.matches_directory(parent, &inherited).1;
            }
            assert_eq!(
                matcher.may_spare_below(dir.as_bytes(), &inherited),
                expected,
                "{patterns:?} in {dir}"
            );
        }
    }

    #[test]
    fn hostile_patterns_take_bounded_time() {
        let pattern = "**/a*".repeat(200);
        let path = "b/".repeat(200) + "b";
        assert!(!matches(&[&pattern], &path));
    }

    proptest! {
        /// The index of long lists leaves out nothing that could match.
        #[test]
        fn long_lists_match_as_short_ones(
            patterns in proptest::collection::vec("!?(\\*\\*/)?[ab*]{1,2}(/[ab*?]{1,2}){0,2}", 1..6),
            path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
        ) {
            let Ok(short) = Matcher::new(&patterns) else { return Ok(()) };
            // What nothing matches makes the list long, and stands before all others.
            let filler = (0..SHORT).map(|at| format!("nothing/{at}"));
            let long = Matcher::new(filler.chain(patterns.iter().cloned())).unwrap();
            let behind = short.last_match(path.as_bytes()).map(|at| at + SHORT);
            prop_assert_eq!(long.last_match(path.as_bytes()), behind);
            let (mut in_short, mut in_long) = (Inherited::default(), Inherited::default());
            for parent in path::prefixes(path.as_bytes()) {
                in_short = short.matches_directory(parent, &in_short).1;
                in_long = long.matches_directory(parent, &in_long).1;
                prop_assert_eq!(
                    short.may_spare_below(parent, &in_short),
                    long.may_spare_below(parent, &in_long)
                );
            }
        }

        #[test]
        fn never_panics(pattern in "[a*?\\[\\]^!/.\\\\ é-]{0,16}", path in "[ab/.é-]{0,16}") {
            if let Ok(matcher) = Matcher::new([&pattern]) {
                matcher.deciding_pattern(path.as_bytes());
            }
        }

        /// Nothing is lost by not entering a directory.
        #[test]
        fn unentered_directories_hold_nothing(
            patterns in proptest::collection::vec("!?[ab*/]{1,6}", 1..5),
            dir in "[ab](/[ab]){0,2}", name in "[ab](/[ab]){0,2}",
        ) {
            let Ok(matcher) = Matcher::new(&patterns) else { return Ok(()) };
            let mut inherited = Inherited::default();
            let mut ignored = false;
            for parent in path::prefixes(dir.as_bytes()) {
                (ignored, inherited) = matcher.matches_directory(parent, &inherited);
            }
            if ignored && !matcher.may_spare_below(dir.as_bytes(), &inherited) {
                let below = format!("{dir}/{name}");
                prop_assert!(matcher.deciding_pattern(below.as_bytes()).is_some(), "{below}");
            }
        }
    }
}
