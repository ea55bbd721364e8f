//! Words as they are meant: which one a mistyped one stands for, and what counts as true.

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

/// How many file names are offered for one that does not exist.
const SUGGESTED_NAMES: usize = 3;

/// Those of `names` that are most like `wanted`, best first and upper and lower case alike: at most three, in which no more
/// than every third byte is another.
pub fn nearest_names<'n>(wanted: &[u8], names: impl Iterator<Item = &'n [u8]>) -> Vec<&'n [u8]> {
    let limit = wanted.len().div_ceil(3);
    let lower = wanted.to_ascii_lowercase();
    let scored = names.filter_map(|name| {
        // Names of very different lengths need not be compared, nor copied for it.
        let comparable = name.len().abs_diff(wanted.len()) <= limit;
        let distance =
            comparable.then(|| distance_within(&lower, &name.to_ascii_lowercase(), limit)).flatten()?;
        Some((distance, name))
    });
    let mut scored: Vec<(usize, &[u8])> = scored.collect();
    scored.sort_unstable();
    scored.into_iter().take(SUGGESTED_NAMES).map(|(_, name)| name).collect()
}

/// How many letters must be added, dropped, replaced or swapped with their neighbour, if at most `limit`.
fn distance_within<T: PartialEq>(a: &[T], b: &[T], limit: usize) -> Option<usize> {
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

/// What Go's `strconv.ParseBool` takes for true or false.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn finds_names_of_files() {
        let names = ["package.json", "package-lock.json", "src", "README.md"].map(str::as_bytes);
        for (wanted, expected) in [
            ("pakage.json", vec!["package.json"]),
            ("Src", vec!["src"]),
            ("scr", vec!["src"]),
            ("zzz", vec![]),
        ] {
            let found: Vec<_> = nearest_names(wanted.as_bytes(), names.into_iter())
                .into_iter()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect();
            assert_eq!(found, expected, "{wanted}");
        }
    }
}
