//! Finds the word that a user may have meant.

/// The option nearest to `word` without regard to case, unless one of them is the word itself: then the
/// mistake lies elsewhere. The first of equally near options wins.
pub fn closest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(64).flat_map(char::to_lowercase).collect();
    // BuildKit takes anything within two changes; in short words so many change everything.
    let farthest = match word.len() {
        0 | 1 => 0,
        2 | 3 => 1,
        _ => 2,
    };
    let mut best: Option<(usize, &'a str)> = None;
    for option in options {
        let letters: Vec<char> = option.chars().flat_map(char::to_lowercase).collect();
        if letters == word {
            return None;
        }
        let Some(distance) = distance_within(&word, &letters, farthest) else { continue };
        if best.is_none_or(|(shortest, _)| distance < shortest) {
            best = Some((distance, option));
        }
    }
    best.map(|(_, option)| option)
}

/// How many letters must be added, dropped, replaced or swapped with their neighbour, if at most `limit`.
fn distance_within(a: &[char], b: &[char], limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(row[j - 1] + 1).min(above[j] + 1);
            let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if swapped {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    Some(above[b.len()]).filter(|distance| *distance <= limit)
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
            ("EOF", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(closest(word, options), expected, "{word}");
        }
        assert_eq!(closest("ab", []), None);
        assert_eq!(closest(&"a".repeat(1 << 20), options), None);
    }
}
