//! The markers of here-documents: `<<EOF`, `<<-EOF`, `3<<"EOF"`.

use super::words::{self, ExpandError};

/// A marker, before its body is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) name: String,
    pub(super) file_descriptor: u32,
    pub(super) expand: bool,
    /// `<<-`
    pub(super) chomp: bool,
}

/// Reads one word; `None` when it is no marker.
pub(super) fn marker(word: &str) -> Result<Option<Marker>, ExpandError> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let Some(rest) = word[digits..].strip_prefix("<<") else { return Ok(None) };
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let file_descriptor = word[..digits].parse().unwrap_or(if digits == 0 { 0 } else { u32::MAX });
    // Nearly every marker: nothing to remove from the name.
    if rest.chars().all(|c| !c.is_whitespace() && !"'\"\\$".contains(c)) {
        return Ok(Some(Marker { name: rest.to_owned(), file_descriptor, expand: true, chomp }));
    }
    // The body is not expanded when any part of the word is quoted: when the quotes that vanish make a
    // difference. (A backslash does not count as a quote here, unlike in a shell.)
    let [name] = words::heredoc_words(rest, false)?.try_into().unwrap_or_default();
    let [raw] = words::heredoc_words(rest, true)?.try_into().unwrap_or_default();
    let name: String = name;
    if name.is_empty() {
        return Ok(None);
    }
    let expand = quotes(&name) == quotes(&raw);
    Ok(Some(Marker { name, file_descriptor, expand, chomp }))
}

fn quotes(text: &str) -> usize {
    text.matches(['\'', '"']).count()
}

/// Removes the tabs at the beginning of every line.
pub(super) fn without_tabs(body: &str) -> String {
    body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Marker, marker, without_tabs};

    fn found(name: &str, file_descriptor: u32, expand: bool, chomp: bool) -> Option<Marker> {
        Some(Marker { name: name.to_owned(), file_descriptor, expand, chomp })
    }

    #[test]
    fn markers() {
        for (word, expected) in [
            ("<<EOF", found("EOF", 0, true, false)),
            ("<<-EOF", found("EOF", 0, true, true)),
            ("<<\"EOF\"", found("EOF", 0, false, false)),
            ("<<-'EOF'", found("EOF", 0, false, true)),
            ("<<E\"O\"F", found("EOF", 0, false, false)),
            ("<<\\EOF", found("EOF", 0, true, false)),
            ("<< EOF", found("EOF", 0, true, false)),
            ("3<<EOF", found("EOF", 3, true, false)),
            ("<<\"EO F\"", found("EO F", 0, false, false)),
            ("<<EO F", None),
            ("<<", None),
            ("<<-", None),
            ("<<\"\"", None),
            ("<<<EOF", None),
            ("<EOF", None),
            ("EOF", None),
            ("x<<EOF", None),
            ("<<EOF<", None),
            ("<<$X", found("$X", 0, true, false)),
        ] {
            assert_eq!(marker(word).unwrap(), expected, "{word}");
        }
        assert!(marker("<<\"EOF").is_err());
    }

    #[test]
    fn tabs_vanish_at_line_beginnings_only() {
        assert_eq!(without_tabs("\t\ta\tb\n \tc\r\n\t\n\td"), "a\tb\n \tc\r\n\nd");
    }
}
