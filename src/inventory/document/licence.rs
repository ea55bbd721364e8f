//! Licences as expressions of SPDX; what is none gets a name of the document's own.

use spdx::Expression;

use crate::text::url::without_passwords;

/// What a package says of its licences, for a document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Licences {
    /// An expression of SPDX, with references to `extracted`; none when the package says nothing.
    pub(super) expression: Option<String>,
    /// Names of the document's own, and the words that they stand for.
    pub(super) extracted: Vec<(String, String)>,
}

/// Longer texts are no names of licences.
const LONGEST: usize = 64;

/// Of what a package says, word by word.
pub(super) fn licences(said: &[&str]) -> Licences {
    let mut found = Licences::default();
    let mut parts: Vec<String> = Vec::new();
    for text in said.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        let part = valid(text).unwrap_or_else(|| {
            // A name made of the words has no form by which a password is known.
            let text = without_passwords(text);
            let reference = reference(&text);
            found.extracted.push((reference.clone(), text.into_owned()));
            reference
        });
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    let is_one = parts.len() == 1;
    let wrapped = |part: String| if is_one || !part.contains(' ') { part } else { format!("({part})") };
    let parts: Vec<String> = parts.into_iter().map(wrapped).collect();
    found.expression = (!parts.is_empty()).then(|| parts.join(" AND "));
    found
}

/// The expression, with names in the case that the list has.
pub(super) fn valid(text: &str) -> Option<String> {
    if text.len() > 4096 {
        return None;
    }
    if Expression::parse(text).is_ok() {
        return Some(text.to_owned());
    }
    // A name of the list in another case.
    let (id, _) = spdx::imprecise_license_id(text)?;
    id.name.eq_ignore_ascii_case(text).then(|| id.name.to_owned())
}

/// `LicenseRef-` and the words, of letters, digits, points and dashes.
fn reference(text: &str) -> String {
    let digest = || crate::oci::Digest::of(text.as_bytes()).hex()[..12].to_owned();
    if text.len() > LONGEST || text.contains('\n') {
        return format!("LicenseRef-{}", digest());
    }
    let word: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let word = word.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    // `GPL-2` and `GPL-2+` are two.
    let is_exact = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b' '));
    if word.is_empty() || !is_exact {
        format!("LicenseRef-{word}-{}", digest()).replace("--", "-")
    } else {
        format!("LicenseRef-{word}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn expressions_stay_and_words_are_named() {
        for (said, expected) in [
            (&["MIT"][..], "MIT"),
            (&["MIT OR Apache-2.0", "Zlib"], "(MIT OR Apache-2.0) AND Zlib"),
            (&["apache-2.0"], "Apache-2.0"),
            (&["Do what you like"], "LicenseRef-Do-what-you-like"),
            (&["MIT", "MIT"], "MIT"),
        ] {
            let licences = licences(said);
            assert_eq!(licences.expression.as_deref(), Some(expected), "{said:?}");
            assert!(Expression::parse(expected).is_ok(), "{expected}");
        }
        assert_eq!(licences(&["", " "]), Licences::default());
        let odd = licences(&["GPL-2+ with openssl!", "©"]).expression.unwrap();
        assert!(Expression::parse(&odd).is_ok(), "{odd}");
    }
}
