//! Tells paths from URLs and git repositories, among the sources of ADD and among contexts.

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A path of a context, stage or image.
    Path,
    /// A file behind http(s).
    Url,
    /// A git repository.
    Git,
}

/// What `text` is. A git repository is `git://…`, `ssh://…`, `user@host:path`, or an http(s) URL whose
/// path ends in `.git`, whatever query or fragment follows.
pub fn kind(text: &str) -> Kind {
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
        return if is_scp_style(text) { Kind::Git } else { Kind::Path };
    };
    let lower = scheme.to_ascii_lowercase();
    match lower.as_str() {
        "git" | "ssh" => Kind::Git,
        "http" | "https" => {
            let path = rest.split(['?', '#']).next().unwrap_or_default();
            if path.contains('/') && path.ends_with(".git") {
                Kind::Git
            } else if scheme == lower {
                Kind::Url
            } else {
                Kind::Path
            }
        }
        _ => Kind::Path,
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// `git@host.tld:path`
fn is_scp_style(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let word = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    word(user, b"-_") && word(host, b"-.")
}

/// Whether `text` is `sha256:`, `sha384:` or `sha512:` with as many hex digits as belong to it.
pub(super) fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let digits = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == digits && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `text` is a commit's name, or its beginning.
pub(super) fn is_commit_start(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_kinds_apart() {
        for (text, expected) in [
            ("a.tar", Kind::Path),
            ("./git@host:x", Kind::Path),
            ("http://h/x", Kind::Url),
            ("https://h/x.git/y", Kind::Url),
            ("https://h/x.git", Kind::Git),
            ("https://h/x.git?branch=b&subdir=d", Kind::Git),
            ("http://h/x.git#main:sub", Kind::Git),
            ("https://h/x?y=.git", Kind::Url),
            ("git://h/x", Kind::Git),
            ("ssh://git@h/x", Kind::Git),
            ("git@github.com:a/b.git", Kind::Git),
            ("me@x", Kind::Path),
            ("ftp://h/x", Kind::Path),
            ("a b://x", Kind::Path),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
    }
}
