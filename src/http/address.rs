//! URLs as people write them: with user info, which is sent and never shown.

use base64::Engine as _;

pub(crate) use crate::text::url::percent_decoded;

/// A URL to ask, and what its user info says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Without user info and fragment.
    pub(crate) shown: String,
    /// The value of `Authorization`, if there is user info.
    pub(crate) authorization: Option<String>,
}

impl Address {
    /// Parses what stands before the path; without a scheme it is http.
    pub(crate) fn new(url: &str) -> Self {
        let url = url.split('#').next().unwrap_or(url);
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (user_info, rest) = split_user_info(rest);
        let authorization = user_info.map(|user_info| {
            let text = percent_decoded(user_info);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
        });
        Self { shown: format!("{scheme}://{rest}"), authorization }
    }

    /// The host without its port and without brackets.
    pub(crate) fn host(&self) -> &str {
        let rest = self.shown.split_once("://").map_or("", |(_, rest)| rest);
        without_port(&rest[..authority_end(rest)])
    }
}

/// A URL without user info; what is none stays as it is.
pub(crate) fn without_user_info(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", split_user_info(rest).1),
        None => url.to_owned(),
    }
}

fn authority_end(rest: &str) -> usize {
    rest.find(['/', '?']).unwrap_or(rest.len())
}

/// `user:password` and the rest of what stands behind `://`.
fn split_user_info(rest: &str) -> (Option<&str>, &str) {
    match rest[..authority_end(rest)].rfind('@') {
        Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
        None => (None, rest),
    }
}

/// `[::1]:80` and `::1`, `a.example:80` and `a.example`.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

/// A text as a part of a path or query.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_is_sent_but_never_shown() {
        let address = Address::new("http://me:se%63ret@host:1/x#y");
        assert_eq!((address.shown.as_str(), address.host()), ("http://host:1/x", "host"));
        assert_eq!(address.authorization.as_deref(), Some("Basic bWU6c2VjcmV0"));
        for (url, shown) in [
            ("https://u:p@h/r.git", "https://h/r.git"),
            ("https://h/r@v1", "https://h/r@v1"),
            ("https://u@h?x=a@b", "https://h?x=a@b"),
            ("git@h:o/r.git", "git@h:o/r.git"),
        ] {
            assert_eq!(without_user_info(url), shown);
        }
    }

    #[test]
    fn hosts() {
        for (url, host) in [
            ("http://[::1]:80/x", "::1"),
            ("https://a.example:80", "a.example"),
            ("https://u:p@a.example?x", "a.example"),
        ] {
            assert_eq!(Address::new(url).host(), host, "{url}");
        }
    }
}
