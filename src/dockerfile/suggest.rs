//! Finds the word that a user may have meant.

/// Words further away than this are no typing mistakes (the bound of BuildKit and HCL).
const FARTHEST: usize = 2;

/// The option nearest to `word` without regard to case, unless one of them is the word itself: then the
/// mistake lies elsewhere. The first of equally near options wins.
pub fn closest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(64).flat_map(char::to_lowercase).collect();
    let mut best: Option<(usize, &'a str)> = None;
    for option in options {
        let letters: Vec<char> = option.chars().flat_map(char::to_lowercase).collect();
        if letters == word {
            return None;
        }
        // A word of two letters is "near" everything short: at least one letter must remain.
        let farthest = FARTHEST.min(word.len().saturating_sub(1));
        let Some(distance) = distance_within(&word, &letters, farthest) else { continue };
        if best.is_none_or(|(shortest, _)| distance < shortest) {
            best = Some((distance, option));
        }
    }
    best.map(|(_, option)| option)
}

/// The Levenshtein distance, if it is at most `limit`.
fn distance_within(a: &[char], b: &[char], limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    Some(row[b.len()]).filter(|distance| *distance <= limit)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn finds_typing_mistakes_and_nothing_else() {
        let options = ["RUN", "COPY", "CMD", "FROM"];
        for (word, expected) in [
            ("RUNN", Some("RUN")),
            ("rnu", Some("RUN")),
            ("COPPY", Some("COPY")),
            ("form", Some("FROM")),
            ("RUN", None),
            ("run", None),
            ("echo", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(closest(word, options), expected, "{word}");
        }
        assert_eq!(closest("ab", []), None);
        assert_eq!(closest(&"a".repeat(1 << 20), options), None);
    }
}
