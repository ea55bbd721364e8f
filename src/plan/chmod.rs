//! `--chmod`: octal or symbolic, checked before anything runs.

use super::graph::Chmod;

/// Reads a mode. The error tells what is wrong.
pub(super) fn parse(text: &str) -> Result<Chmod, String> {
    const OCTAL: &str = "it should be octal string and between 0 and 07777, such as `0644` or `0755`";
    let is_octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o7777);
        return mode.map(Chmod::Octal).ok_or_else(|| format!("invalid chmod parameter: `{text}`: {OCTAL}"));
    }
    if text.split(',').all(is_clause) {
        return Ok(Chmod::Symbolic(text.to_owned()));
    }
    Err(format!("invalid chmod parameter: `{text}` is neither octal nor clauses such as `u+x,go-w`"))
}

/// `[ugoa]*([-+=][rwxXstugo]*)+`
fn is_clause(clause: &str) -> bool {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    actions.starts_with(['+', '-', '='])
        && actions
            .chars()
            .all(|c| matches!(c, '+' | '-' | '=' | 'r' | 'w' | 'x' | 'X' | 's' | 't' | 'u' | 'g' | 'o'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_modes_from_nonsense() {
        for (text, expected) in [
            ("755", Chmod::Octal(0o755)),
            ("0", Chmod::Octal(0)),
            ("07777", Chmod::Octal(0o7777)),
            ("u+x,go-w", Chmod::Symbolic("u+x,go-w".to_owned())),
            ("+x", Chmod::Symbolic("+x".to_owned())),
            ("go=u-w", Chmod::Symbolic("go=u-w".to_owned())),
            ("u=rwX,o=", Chmod::Symbolic("u=rwX,o=".to_owned())),
        ] {
            assert_eq!(parse(text), Ok(expected));
        }
        for text in ["", "10000", "888", "0o755", "u", "u+x,", "z+x", "u+y", "rwx", "-1", "7a"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
