//! What is in URLs: escapes, and passwords, which are kept from being shown.

use std::borrow::Cow;
use std::ops::Range;

/// Where URLs in `text` have a user with a password, or over http(s) one without, which is a token.
///
/// A URL ends with a blank, a quotation mark or a bracket: what is known to be one URL goes to [`without_password`].
pub fn user_infos(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    // Whole records are looked through, and hardly any has one.
    for at in memchr::memmem::find_iter(text.as_bytes(), "://") {
        let scheme = text[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
        let scheme = scheme.take(1).collect::<String>();
        let start = at + "://".len();
        let ends = |c: char| c.is_whitespace() || "/?#\"'`<>\\".contains(c);
        let end = text[start..].find(ends).map_or(text.len(), |length| start + length);
        if let Some(length) = secret(&scheme, &text[start..end]) {
            found.push(start..start + length);
        }
    }
    found
}

/// How long the user is at the beginning of an authority, if it is nobody's to see.
fn secret(scheme: &str, authority: &str) -> Option<usize> {
    let length = authority.rfind('@').filter(|length| *length > 0)?;
    let is_token = scheme.to_ascii_lowercase().starts_with("http");
    (!scheme.is_empty() && (is_token || authority[..length].contains(':'))).then_some(length)
}

/// What stands in the place of `user`.
fn mask(user: &str) -> &'static str {
    if user.contains(':') { "xxxxx:xxxxx" } else { "xxxxx" }
}

/// `text` with `xxxxx` in the place of users and passwords of URLs.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    let ranges = user_infos(text);
    if ranges.is_empty() {
        return text.into();
    }
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for range in ranges {
        out.push_str(&text[at..range.start]);
        out.push_str(mask(&text[range.clone()]));
        at = range.end;
    }
    (out + &text[at..]).into()
}

/// A whole URL for people, whatever characters its password has.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match secret(scheme, &rest[..end]) {
        Some(length) => format!("{scheme}://{}{}", mask(&rest[..length]), &rest[length..]),
        None => url.to_owned(),
    }
}

/// The bytes that `%41` and the like stand for.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_wherever_the_url_stands() {
        for (text, expected) in [
            ("ADD https://me:pw@h/x /", "ADD https://xxxxx:xxxxx@h/x /"),
            ("ADD [\"https://tok@h/x\", \"/\"]", "ADD [\"https://xxxxx@h/x\", \"/\"]"),
            ("x=http://a:b@h y=HTTPS://c@h", "x=http://xxxxx:xxxxx@h y=HTTPS://xxxxx@h"),
            ("ssh://git@h/x git://u:p@h", "ssh://git@h/x git://xxxxx:xxxxx@h"),
            ("https://a:b@c:d@h", "https://xxxxx:xxxxx@h"),
            ("https://h/x@y and me@h", "https://h/x@y and me@h"),
            ("`https://u:p@h`: 404", "`https://xxxxx:xxxxx@h`: 404"),
            ("://a:b@h", "://a:b@h"),
        ] {
            assert_eq!(without_passwords(text), expected);
        }
    }

    #[test]
    fn passwords_of_one_url_are_hidden() {
        for (url, expected) in [
            ("https://h/x", "https://h/x"),
            ("https://me:pw@h/x", "https://xxxxx:xxxxx@h/x"),
            ("https://me:p\"w'@h/x", "https://xxxxx:xxxxx@h/x"),
            ("https://token@h/x@y", "https://xxxxx@h/x@y"),
            ("HTTPS://token@h/x", "HTTPS://xxxxx@h/x"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            ("https://a:b@c:d@h", "https://xxxxx:xxxxx@h"),
            ("git@h:x", "git@h:x"),
        ] {
            assert_eq!(without_password(url), expected);
        }
    }
}
