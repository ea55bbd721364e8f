//! Names of images, as docker writes and completes them.

use std::fmt;
use std::str::FromStr;

use super::Digest;

/// The registry that names without one mean.
const DEFAULT_REGISTRY: &str = "docker.io";

/// A name such as `localhost:5000/debian:bookworm`, `debian` or `x/y@sha256:…`, completed as docker
/// completes it (grammar: distribution's `reference` package).
///
/// `debian` is registry `docker.io`, repository `library/debian`, tag `latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
    spelling: Spelling,
}

/// How much of a name was written. Of no account when names are compared: `debian` is `docker.io/library/debian`.
#[derive(Debug, Clone, Copy)]
struct Spelling {
    has_registry: bool,
}

impl PartialEq for Spelling {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Spelling {}

impl PartialOrd for Spelling {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Spelling {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl std::hash::Hash for Spelling {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// Why a text is no name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no image name: {reason}")]
pub struct ReferenceError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Reference {
    /// `docker.io`, `localhost:5000`, …
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/debian`, …
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag as written; `None` when there was none (then `latest` is meant unless there is a digest).
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Whether the tag is one under which [referrers](Digest::referrers_tag) are, of whatever.
    pub fn is_of_referrers(&self) -> bool {
        let hex = self.tag().and_then(|tag| tag.strip_prefix("sha256-"));
        hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }

    /// The digest as written.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What to ask the registry for: the digest if there is one, else the tag, else `latest`.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// Gets the tag `latest` if it has neither tag nor digest.
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// Whether it was written without a registry, so that a configuration may say where it is looked for.
    pub fn is_short(&self) -> bool {
        !self.spelling.has_registry
    }

    /// The repository as it is written without a registry: `debian` for `library/debian`.
    pub fn short_name(&self) -> &str {
        let name = self.repository.as_str();
        match self.registry == DEFAULT_REGISTRY {
            true => name.strip_prefix("library/").filter(|n| !n.contains('/')).unwrap_or(name),
            false => name,
        }
    }

    /// Tag and digest of this name in the repository `name`, a full name; `None` when that is none.
    pub fn renamed(&self, name: &str) -> Option<Self> {
        let other: Reference = name.parse().ok()?;
        let (tag, digest) = (self.tag.clone(), self.digest);
        (!other.is_short()).then_some(Self { tag, digest, ..other })
    }

    /// Gets this digest and keeps its tag.
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// Loses its digest; gets `latest` if there is no tag.
    pub fn without_digest(&self) -> Self {
        Self { digest: None, ..self.clone() }.with_default_tag()
    }

    /// The name with nothing left out: `docker.io/library/debian:latest`. [`fmt::Display`] is the short
    /// form, `debian`.
    pub fn full(&self) -> String {
        format!("{}/{}{}", self.registry, self.repository, self.suffix())
    }

    fn suffix(&self) -> String {
        let mut out = String::new();
        if let Some(tag) = &self.tag {
            out.push(':');
            out.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            out.push('@');
            out.push_str(&digest.to_string());
        }
        if out.is_empty() { ":latest".to_owned() } else { out }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.short_name();
        if self.registry != DEFAULT_REGISTRY || means_another(short) {
            write!(f, "{}/{}", self.registry, self.repository)?;
        } else {
            f.write_str(short)?;
        }
        if self.tag.is_some() || self.digest.is_some() {
            f.write_str(&self.suffix())?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason| ReferenceError { text: text.to_owned(), reason };
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        if text.len() > 4096 {
            return Err(fail("it is longer than 4096 characters"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(digest.parse().map_err(|_| fail("after `@` there must be sha256:<64 hex digits>"))?),
            ),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag).map_err(fail)?;
        }
        let (registry, path, has_registry) = match name.split_once('/') {
            Some((first, path)) if is_registry(first) => (first, path, true),
            _ => (DEFAULT_REGISTRY, name, false),
        };
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        check_registry(registry).map_err(fail)?;
        check_repository(path).map_err(fail)?;
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if repository.len() > 255 {
            return Err(fail("the repository's name is longer than 255 characters"));
        }
        let tag = tag.map(str::to_owned);
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
            spelling: Spelling { has_registry },
        })
    }
}

/// Whether a name of the default registry that leaves the registry out would be read as something else, or as no name:
/// `docker.io/localhost/x` is not `localhost/x`.
fn means_another(short: &str) -> bool {
    short.split_once('/').is_some_and(|(first, _)| is_registry(first)) || is_identifier(short)
}

/// What docker takes for the number of an image.
fn is_identifier(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Docker's rule for telling `localhost/x` and `host.tld/x` from `user/x`.
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_registry(host: &str) -> Result<(), &'static str> {
    let bad = Err("the registry's name is not host or host:port");
    // No name of a host is longer.
    if host.len() > 255 {
        return Err("the registry's name is longer than 255 characters");
    }
    let (host, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    if port.is_some_and(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit())) {
        return bad;
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return if v6.parse::<std::net::Ipv6Addr>().is_ok() { Ok(()) } else { bad };
    }
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if host.split('.').all(label) { Ok(()) } else { bad }
}

fn check_repository(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("the repository's name is empty");
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the repository's name must be lower case");
    }
    if is_identifier(path) {
        return Err("64 hex digits are an identifier, not a name");
    }
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err(
            "a repository's name consists of a-z and 0-9, with single `.`, `_`, `__` or `-` between them, and `/` between parts",
        )
    }
}

/// `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes.split(|b| alphanumeric(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

/// `[\w][\w.-]{0,127}`
fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = tag.as_bytes();
    let first = bytes.first().copied().is_some_and(word);
    if first && bytes.len() <= 128 && bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'-')) {
        Ok(())
    } else {
        Err("a tag is 1 to 128 of A-Z, a-z, 0-9, `_`, `.` and `-`, and does not begin with `.` or `-`")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn completes_names_as_docker_does() {
        for (text, full, short) in [
            ("debian", "docker.io/library/debian:latest", "debian"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("me/app", "docker.io/me/app:latest", "me/app"),
            ("index.docker.io/debian", "docker.io/library/debian:latest", "debian"),
            (
                "localhost:5000/debian:bookworm",
                "localhost:5000/debian:bookworm",
                "localhost:5000/debian:bookworm",
            ),
            ("localhost/a/b", "localhost/a/b:latest", "localhost/a/b"),
            ("docker.io/a/b", "docker.io/a/b:latest", "a/b"),
            // Without its registry, another one would be asked.
            ("docker.io/localhost/b", "docker.io/localhost/b:latest", "docker.io/localhost/b"),
            ("docker.io/quay.io/b:1", "docker.io/quay.io/b:1", "docker.io/quay.io/b:1"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x"),
            ("ghcr.io/a/b-c_d__e.f:V1", "ghcr.io/a/b-c_d__e.f:V1", "ghcr.io/a/b-c_d__e.f:V1"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.full(), full);
            assert_eq!(reference.to_string(), short);
        }
    }

    #[test]
    fn refuses_what_docker_refuses() {
        for text in
            ["", "Debian", "a//b", "a:", "a:-x", "-a", "a..b", "a___b", "x@sha256:12", "host:port/x", "a b"]
        {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_the_same_name() {
        let identifier = format!("docker.io/library/{}", "a".repeat(64));
        let longest = "x".repeat(255 - "library/".len());
        for text in
            ["docker.io/localhost/b", "docker.io/a.b/c:1", "docker.io/library/a.b", &identifier, &longest]
        {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string().parse(), Ok(reference.clone()), "{text}");
            assert_eq!(reference.full().parse(), Ok(reference.with_default_tag()), "{text}");
        }
        assert!(format!("{longest}x").parse::<Reference>().is_err());
        assert!(format!("{}/x", "a.".repeat(2000)).parse::<Reference>().is_err());
        // With a digest it would be longer than any name.
        assert!(format!("W{}/x", "a".repeat(4050)).parse::<Reference>().is_err());
    }

    #[test]
    fn keeps_tag_beside_digest() {
        let digest = Digest::of(b"x");
        let reference: Reference = format!("localhost:5000/a:1@{digest}").parse().unwrap();
        assert_eq!((reference.tag(), reference.digest()), (Some("1"), Some(digest)));
        assert_eq!(reference.wanted(), digest.to_string());
    }
}
