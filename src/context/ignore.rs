//! `.dockerignore`: the file, its rules, and who is to blame when a file is not there.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Error;
use super::matcher::{Inherited, Matcher};
use super::path;
use crate::rootfs::{Root, Symlinks};

/// More than anyone writes by hand; bounds what a hostile context can make rbuild compile.
const SIZE_LIMIT_BYTES: u64 = 4 << 20;

/// The rules of one ignore file.
#[derive(Debug, Clone)]
pub struct Ignore {
    matcher: Matcher,
    rules: Vec<RuleText>,
    file: String,
}

/// One rule as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleText {
    /// The pattern, trimmed.
    pub pattern: String,
    /// Counted from 1.
    pub line: usize,
}

/// A rule that keeps a path out of the context; its text reads: ignored by `*.log`, .dockerignore line 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    /// The ignore file's name.
    pub file: String,
    /// The rule.
    pub rule: RuleText,
}

/// The rule that has the last word on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The ignore file's name.
    pub file: String,
    /// The rule.
    pub rule: RuleText,
    /// Whether it is an exception, which keeps the path in the context.
    pub keeps: bool,
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} line {}: `{}`", self.file, self.rule.line, self.rule.pattern)
    }
}

impl std::fmt::Display for Blame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "excluded by {} line {}: `{}`", self.file, self.rule.line, self.rule.pattern)
    }
}

/// Reads the ignore file of a context: the one named after the Dockerfile, beside it, if there is one
/// (`app.Dockerfile.dockerignore`), else `.dockerignore` of the context. A link in the context that leads out of it is an
/// error: a message could show what it leads to.
pub fn load(context: &Path, dockerfile: Option<&Path>) -> Result<Option<Ignore>, Error> {
    let beside = dockerfile.map(|dockerfile| {
        let mut name = dockerfile.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for file in beside.into_iter().chain([context.join(".dockerignore")]) {
        if let Some(text) = read_bounded(context, &file)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return parse(&text, &name).map(Some);
        }
    }
    Ok(None)
}

/// Parses an ignore file called `file`. The error of a bad pattern names its line.
pub fn parse(text: &[u8], file: &str) -> Result<Ignore, Error> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut rules = Vec::new();
    let mut patterns = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let Some(pattern) = parse_line(line) else { continue };
        rules.push(RuleText {
            pattern: String::from_utf8_lossy(path::trim(line)).into_owned(),
            line: number + 1,
        });
        patterns.push(pattern);
    }
    let matcher = Matcher::new(&patterns).map_err(|(index, _)| {
        let RuleText { pattern, line } = rules[index].clone();
        Error::IgnorePattern { file: file.to_owned(), line, pattern }
    })?;
    Ok(Ignore { matcher, rules, file: file.to_owned() })
}

/// The cleaned pattern of one line, relative to the context; `#` makes a comment only as the very first byte.
fn parse_line(line: &[u8]) -> Option<Vec<u8>> {
    let trimmed = path::trim(line);
    if line.starts_with(b"#") || trimmed.is_empty() {
        return None;
    }
    let (mark, pattern) = match trimmed.strip_prefix(b"!") {
        Some(rest) => (b"!".as_slice(), path::trim(rest)),
        None => (b"".as_slice(), trimmed),
    };
    if pattern.is_empty() {
        return Some(mark.to_vec());
    }
    let cleaned = path::clean(pattern);
    let relative = cleaned.strip_prefix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(&cleaned);
    Some([mark, relative].concat())
}

fn read_bounded(context: &Path, file: &Path) -> Result<Option<Vec<u8>>, Error> {
    let fail = |source| Error::Read { path: file.to_owned(), source };
    let opened = match (file.parent() == Some(context), file.file_name()) {
        (true, Some(name)) => open_inside(context, name),
        _ => File::open(file),
    };
    let opened = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match file.symlink_metadata() {
                Ok(_) => Err(Error::LeadsOut { path: file.to_owned() }),
                Err(_) => Ok(None),
            };
        }
        opened => opened.map_err(fail)?,
    };
    let mut text = Vec::new();
    opened.take(SIZE_LIMIT_BYTES + 1).read_to_end(&mut text).map_err(fail)?;
    match text.len() as u64 > SIZE_LIMIT_BYTES {
        true => Err(Error::IgnoreTooLarge { path: file.to_owned(), limit: SIZE_LIMIT_BYTES }),
        false => Ok(Some(text)),
    }
}

/// A file of the context's own folder; links are followed as long as they stay in the context.
pub fn open_inside(context: &Path, name: &OsStr) -> io::Result<File> {
    // A fifo must not hold anybody up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    // Mostly it is no link.
    let options = (flags | OFlags::NOFOLLOW).bits() as i32;
    match OpenOptions::new().read(true).custom_flags(options).open(context.join(name)) {
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {}
        opened => return opened,
    }
    let root = match context.as_os_str().is_empty() {
        true => Root::open(Path::new(".")),
        false => Root::open(context),
    };
    root?.open_at(Path::new(name), flags, 0, Symlinks::FollowInside).map(File::from)
}

impl Ignore {
    /// Whether the file holds no rule.
    pub fn is_empty(&self) -> bool {
        self.matcher.is_empty()
    }

    /// Whether some rule brings back what another one ignores.
    pub fn has_exceptions(&self) -> bool {
        self.matcher.has_exceptions()
    }

    /// The rules in order.
    pub fn rules(&self) -> &[RuleText] {
        &self.rules
    }

    /// The rule because of which `path` (relative, cleaned) is not in the context, if one ignores it.
    pub fn blame(&self, path: &[u8]) -> Option<Blame> {
        let index = self.matcher.deciding_pattern(path)?;
        Some(Blame { file: self.file.clone(), rule: self.rules[index].clone() })
    }

    /// The rule that leaves out everything there is, if one does: `*`, `**` or `**/*`.
    pub fn blame_all(&self) -> Option<Blame> {
        let all = |rule: &&RuleText| matches!(rule.pattern.as_str(), "*" | "**" | "**/*");
        let rule = self.rules.iter().find(all)?;
        Some(Blame { file: self.file.clone(), rule: rule.clone() })
    }

    /// The rule that has the last word on `path` (relative, cleaned): an exception, if the path is in the context.
    pub fn decision(&self, path: &[u8]) -> Option<Decision> {
        let index = self.matcher.last_match(path)?;
        let rule = self.rules[index].clone();
        Some(Decision { file: self.file.clone(), rule, keeps: self.matcher.is_exception(index) })
    }

    /// The ignore file's name.
    pub fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn matcher(&self) -> &Matcher {
        &self.matcher
    }
}

/// What a scan does with one entry.
pub(super) enum Verdict {
    Keep(Inherited),
    Drop,
    /// An ignored directory that is there all the same if something in it is.
    KeepIfUsed(Inherited),
}

/// Decides on the entry at `path`.
pub(super) fn judge(ignore: Option<&Ignore>, path: &[u8], is_dir: bool, parent: &Inherited) -> Verdict {
    let Some(matcher) = ignore.map(Ignore::matcher) else { return Verdict::Keep(Inherited::default()) };
    if !is_dir {
        let ignored = matcher.matches(path, parent);
        return if ignored { Verdict::Drop } else { Verdict::Keep(Inherited::default()) };
    }
    match matcher.matches_directory(path, parent) {
        (false, inherited) => Verdict::Keep(inherited),
        (true, inherited) if matcher.may_spare_below(path, &inherited) => Verdict::KeepIfUsed(inherited),
        (true, _) => Verdict::Drop,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_read_as_docker_reads_them() {
        for (line, expected) in [
            ("*.log", Some("*.log")),
            ("  b.log \r", Some("b.log")),
            ("# comment", None),
            (" #x", Some("#x")),
            ("", None),
            ("   ", None),
            ("/a.txt", Some("a.txt")),
            ("/", Some("/")),
            ("d/e/", Some("d/e")),
            ("./node", Some("node")),
            ("docs/../README.md", Some("README.md")),
            ("! # not", Some("!# not")),
            ("!/x/", Some("!x")),
        ] {
            let found = parse_line(line.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(found.as_deref(), expected, "{line:?}");
        }
    }

    #[test]
    fn a_rule_is_blamed_by_line() {
        let ignore = parse(b"\xef\xbb\xbf# first\r\n\r\n*.log\r\n!keep.log\r\n", ".dockerignore").unwrap();
        assert_eq!(ignore.rules().len(), 2);
        let blame = ignore.blame(b"x.log").unwrap();
        assert_eq!(blame.to_string(), "excluded by .dockerignore line 3: `*.log`");
        assert_eq!(ignore.blame(b"keep.log"), None);
        assert_eq!(ignore.blame(b"d/x.log"), None);
    }

    #[test]
    fn exceptions_have_the_last_word_too() {
        let ignore = parse(b"*\n!src\nsrc/*.o\n", ".dockerignore").unwrap();
        let decision = |path: &str| ignore.decision(path.as_bytes()).map(|d| (d.to_string(), d.keeps));
        assert_eq!(decision("x"), Some((".dockerignore line 1: `*`".to_owned(), false)));
        assert_eq!(decision("src/a"), Some((".dockerignore line 2: `!src`".to_owned(), true)));
        assert_eq!(decision("src/a.o"), Some((".dockerignore line 3: `src/*.o`".to_owned(), false)));
        assert_eq!(parse(b"", "f").unwrap().decision(b"x"), None);
    }

    #[test]
    fn a_bad_pattern_names_its_line() {
        let error = parse(b"ok\n\na[\n", ".dockerignore").unwrap_err();
        assert_eq!(error.to_string(), "syntax error in pattern `a[`, .dockerignore line 3");
    }

    #[test]
    fn the_file_beside_the_dockerfile_wins() {
        let dir = tempfile::tempdir().unwrap();
        let dockerfile = dir.path().join("app.Dockerfile");
        assert!(load(dir.path(), Some(&dockerfile)).unwrap().is_none());
        std::fs::write(dir.path().join(".dockerignore"), "a").unwrap();
        assert!(load(dir.path(), Some(&dockerfile)).unwrap().unwrap().blame(b"a").is_some());
        std::fs::write(dir.path().join("app.Dockerfile.dockerignore"), "b").unwrap();
        let ignore = load(dir.path(), Some(&dockerfile)).unwrap().unwrap();
        assert_eq!(ignore.blame(b"a"), None);
        assert_eq!(ignore.blame(b"b").unwrap().file, "app.Dockerfile.dockerignore");
    }
}
