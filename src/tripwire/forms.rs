//! The forms that a value is written in.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::Form;

/// Shorter values are found by chance.
const MIN_BYTES: usize = 8;
/// So much of a longer value is searched for.
const EXCERPT_BYTES: usize = 96;
/// So much of a value is searched for at once in base64, whose lines have 48 or 57 bytes: of two such parts, one behind the other, each line
/// break leaves one whole.
const BASE64_BYTES: usize = 24;
/// The same in hexadecimal, whose lines have 16, 30 or 32 bytes.
const HEX_BYTES: usize = 8;
const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";
/// What encodings for URLs leave as it is, beside letters and digits; and whether a blank is a plus.
const URL_FORMS: [(&[u8], bool); 6] = [
    (b"-._~", false),
    (b"-._~/", false),
    (b"-._~", true),
    (b"-._*", true),
    (b"-._~!*'()", false),
    (b"-._~!*'();,/?:@&=+$#", false),
];

/// The value in all its forms, each once; none of what is not searched for.
pub(super) fn of(value: &[u8]) -> Vec<(Form, Vec<u8>)> {
    let secret = without_certificates(value);
    let whole = secret.trim_ascii();
    let value = excerpt(whole, EXCERPT_BYTES, EXCERPT_BYTES / 2);
    if value.len() < MIN_BYTES {
        return Vec::new();
    }
    let mut forms: Vec<(Form, Vec<u8>)> = vec![(Form::Plain, value.to_vec())];
    let mut add = |form, bytes: Vec<u8>| {
        if !forms.iter().any(|(_, known)| *known == bytes) {
            forms.push((form, bytes));
        }
    };
    for part in parts(whole, BASE64_BYTES, BASE64_BYTES / 2) {
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            (0..3).for_each(|before| add(Form::Base64, within_base64(engine, part, before)));
        }
    }
    for digits in [LOWER, UPPER] {
        let hex = |b: &u8| [digits[usize::from(b >> 4)], digits[usize::from(b & 15)]];
        for part in parts(whole, HEX_BYTES, HEX_BYTES) {
            add(Form::Hex, part.iter().flat_map(hex).collect());
        }
        URL_FORMS.iter().for_each(|form| add(Form::Url, percent(value, *form, digits)));
    }
    if let Ok(text) = std::str::from_utf8(value) {
        let quoted = serde_json::Value::from(text).to_string();
        add(Form::Json, quoted.as_bytes()[1..quoted.len() - 1].to_vec());
    }
    forms
}

/// The digits that a value surely has in base64 when `before` bytes of a group of three stand before it, whatever these are and
/// whatever follows.
fn within_base64(engine: &base64::engine::GeneralPurpose, value: &[u8], before: usize) -> Vec<u8> {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(value);
    let digits = engine.encode(&bytes).into_bytes();
    // A digit holds six bits: those with bits of what stands before or behind are not known.
    let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    digits[first..end].to_vec()
}

/// All but letters, digits and what is `kept` as `%XX`.
fn percent(value: &[u8], (kept, is_plus): (&[u8], bool), digits: &[u8; 16]) -> Vec<u8> {
    let encode = |b: &u8| match b {
        b' ' if is_plus => vec![b'+'],
        b if b.is_ascii_alphanumeric() || kept.contains(b) => vec![*b],
        b => vec![b'%', digits[usize::from(b >> 4)], digits[usize::from(b & 15)]],
    };
    value.iter().flat_map(encode).collect()
}

/// Two neighbours in a value, of at most `most` bytes each; as much of it as is searched for at once where it has not `least` bytes for each, or
/// none that stand nowhere by chance.
fn parts(value: &[u8], most: usize, least: usize) -> Vec<&[u8]> {
    let len = most.min(value.len() / 2);
    let whole = || vec![excerpt(value, EXCERPT_BYTES, EXCERPT_BYTES / 2)];
    if len < least {
        return whole();
    }
    let best = |is_wanted: fn(&[u8]) -> bool| {
        let windows = value.windows(2 * len).step_by(len);
        windows.filter(|window| window.chunks(len).all(is_wanted)).max_by_key(|window| distinct(window))
    };
    // A long value may be of words alone.
    let found = best(is_telling).or_else(|| best(is_unusual).filter(|_| value.len() >= 4 * len));
    found.map_or_else(whole, |window| window.chunks(len).collect())
}

/// Whether a piece of a value is no word or number by itself.
fn is_telling(part: &[u8]) -> bool {
    let kinds: [fn(&u8) -> bool; 4] =
        [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit, |byte| {
            !byte.is_ascii_alphanumeric()
        }];
    is_unusual(part) && kinds.iter().filter(|kind| part.iter().any(*kind)).count() >= 2
}

/// Whether it is not what addresses and headers begin with, and no filling.
fn is_unusual(part: &[u8]) -> bool {
    let is_usual =
        ["://", "Bearer ", "Basic ", "\"auth"].iter().any(|usual| contains(part, usual.as_bytes()));
    !is_usual && distinct(part) >= 6
}

fn distinct(part: &[u8]) -> usize {
    let mut seen = [false; 256];
    part.iter().filter(|byte| !std::mem::replace(&mut seen[usize::from(**byte)], true)).count()
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// The part of a long value that has the most different bytes: what formats have in common is seldom there. Of a key in PEM that is
/// within the key, for it begins as all keys do.
fn excerpt(value: &[u8], len: usize, step: usize) -> &[u8] {
    if value.len() <= len {
        return value;
    }
    // The latest of several that are alike.
    value.windows(len).step_by(step).max_by_key(|window| distinct(window)).unwrap_or(value)
}

/// A value without the certificates in it, which everybody may know.
fn without_certificates(value: &[u8]) -> Vec<u8> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let (mut rest, mut kept) = (value, Vec::with_capacity(value.len()));
    while let Some(begin) = find(rest, BEGIN) {
        let Some(len) = find(&rest[begin..], END) else { break };
        kept.extend_from_slice(&rest[..begin]);
        rest = &rest[begin + len + END.len()..];
    }
    kept.extend_from_slice(rest);
    kept
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_values_and_certificates_are_not_searched_for() {
        assert_eq!(of(b"short\n"), []);
        assert_eq!(of(b" 7bytes \n"), []);
        let certificate = b"-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ\n-----END CERTIFICATE-----\n";
        assert_eq!(of(&certificate.repeat(3)), []);
        let mut both = certificate.to_vec();
        both.extend_from_slice(b"the key that belongs to it");
        assert_eq!(of(&both)[0].1, b"the key that belongs to it");
    }

    proptest! {
        /// In base64 a value is found at whatever place, with whatever around it.
        #[test]
        fn base64_is_found_within(
            before in prop::collection::vec(any::<u8>(), 0..40),
            value in "[!-~]{8,90}",
            after in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let text = STANDARD.encode([&before, value.as_bytes(), &after].concat());
            let forms = of(value.as_bytes());
            let is_in = |(form, bytes): &(Form, Vec<u8>)| *form == Form::Base64 && find(text.as_bytes(), bytes).is_some();
            prop_assert!(forms.iter().any(is_in));
        }

        /// Also in lines, wherever these break.
        #[test]
        fn lines_are_no_hiding_place(
            before in prop::collection::vec(any::<u8>(), 0..80),
            value in "[!-~]{24,300}",
            is_upper in any::<bool>(),
        ) {
            let whole = [before.as_slice(), value.as_bytes()].concat();
            let wrapped = |text: &str, width: usize| -> Vec<u8> {
                text.as_bytes().chunks(width).collect::<Vec<_>>().join(&b'\n')
            };
            let hex = |b: &u8| if is_upper { format!("{b:02X}") } else { format!("{b:02x}") };
            let hex: String = whole.iter().map(hex).collect();
            let base64 = STANDARD.encode(&whole);
            let forms = of(value.as_bytes());
            for (form, text, width) in [
                (Form::Base64, &base64, 76),
                (Form::Base64, &base64, 64),
                (Form::Hex, &hex, 60),
                (Form::Hex, &hex, 64),
                (Form::Hex, &hex, 32),
            ] {
                let text = wrapped(text, width);
                let is_in = |(known, bytes): &(Form, Vec<u8>)| *known == form && find(&text, bytes).is_some();
                prop_assert!(forms.iter().any(is_in), "{:?} {}", form, width);
            }
        }

        #[test]
        fn no_form_is_longer_than_the_window(value in prop::collection::vec(any::<u8>(), 0..2000)) {
            for (_, bytes) in of(&value) {
                prop_assert!(bytes.len() <= super::super::WINDOW_BYTES);
                prop_assert!(bytes.len() >= MIN_BYTES);
            }
        }

        /// A part of a long value is enough.
        #[test]
        fn what_is_searched_for_is_in_the_value(value in prop::collection::vec(any::<u8>(), 8..2000)) {
            if let Some((_, plain)) = of(&value).first() {
                prop_assert!(find(&value, plain).is_some());
            }
        }
    }
}
