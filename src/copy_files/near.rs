//! Names that a mistyped one may have meant.

/// More differences than this, for each three characters of the name, are no typing mistake.
const CHARACTERS_PER_EDIT: usize = 3;
const SUGGESTIONS: usize = 3;

/// Those of `names` that are most like `wanted`, best first.
pub(super) fn nearest<'n>(wanted: &[u8], names: impl Iterator<Item = &'n [u8]>) -> Vec<&'n [u8]> {
    let limit = wanted.len().div_ceil(CHARACTERS_PER_EDIT);
    let mut scored: Vec<(usize, &[u8])> = names
        // Names of very different lengths need not be compared.
        .filter(|name| name.len().abs_diff(wanted.len()) <= limit)
        .map(|name| (distance(wanted, name), name))
        .filter(|(score, _)| *score <= limit)
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect()
}

/// Levenshtein's distance, upper and lower case alike.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let names = ["package.json", "package-lock.json", "src", "README.md"].map(str::as_bytes);
        for (wanted, expected) in
            [("pakage.json", vec!["package.json"]), ("Src", vec!["src"]), ("zzz", vec![])]
        {
            let found: Vec<_> = nearest(wanted.as_bytes(), names.into_iter())
                .into_iter()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect();
            assert_eq!(found, expected, "{wanted}");
        }
    }
}
