//! What two files have around the first byte that differs.

/// The bytes of two files at the first place where they differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The place, in bytes from the beginning of the file.
    pub offset: u64,
    /// What the first has there, as text when both are text, else in hexadecimal.
    pub first: String,
    /// What the second has there.
    pub second: String,
}

/// So many bytes are shown before the place, and behind it.
const BEFORE: usize = 20;
const BEHIND: usize = 28;

impl Excerpt {
    /// Of two pieces of files that begin `start` bytes into them and differ; `None` if they do not.
    pub(super) fn of(first: &[u8], second: &[u8], start: u64) -> Option<Self> {
        let same = first.iter().zip(second).take_while(|(a, b)| a == b).count();
        if same == first.len() && same == second.len() {
            return None;
        }
        let from = same.saturating_sub(BEFORE);
        let part = |bytes: &[u8]| bytes[from..bytes.len().min(same + BEHIND)].to_vec();
        let (one, two) = (part(first), part(second));
        let (first, second) = match (text(&one), text(&two)) {
            (Some(one), Some(two)) => (one, two),
            _ => (hex(&one), hex(&two)),
        };
        Some(Self { offset: start + same as u64, first, second })
    }
}

/// The bytes as text, unless that is not what they are. Characters that are cut at an end do not count.
fn text(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_matches(char::REPLACEMENT_CHARACTER);
    let is_plain =
        |c: char| c != char::REPLACEMENT_CHARACTER && (!c.is_control() || matches!(c, '\n' | '\t' | '\r'));
    text.chars()
        .all(is_plain)
        .then(|| text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_is_shown_as_text_and_the_rest_in_hexadecimal() {
        let excerpt = Excerpt::of(b"built on Monday, by me\n", b"built on Tuesday, by me\n", 100).unwrap();
        assert_eq!(excerpt.offset, 109);
        assert_eq!(
            (excerpt.first.as_str(), excerpt.second.as_str()),
            ("built on Monday, by me\\n", "built on Tuesday, by me\\n")
        );
        let excerpt = Excerpt::of(&[0, 1, 2, 3], &[0, 1, 255], 0).unwrap();
        assert_eq!(
            (excerpt.offset, excerpt.first.as_str(), excerpt.second.as_str()),
            (2, "00 01 02 03", "00 01 ff")
        );
        assert_eq!(Excerpt::of(b"same", b"same", 0), None);
        assert_eq!(Excerpt::of(b"", b"more", 0).unwrap().second, "more");
    }
}
