//! What the name of an archive says: `NAME-VERSION.jar`.

/// Name and version in a file's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileName {
    pub(super) name: String,
    pub(super) version: String,
}

impl FileName {
    /// Of a path.
    pub(super) fn of(path: &str) -> Self {
        let base = path.rsplit('/').next().unwrap_or(path);
        let stem = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
        for (at, _) in stem.match_indices('-') {
            let (name, version) = (&stem[..at], &stem[at + 1..]);
            if is_version(version) && is_name(name) {
                return Self { name: name.to_owned(), version: version.to_owned() };
            }
        }
        if !is_name(stem) {
            return Self { name: String::new(), version: String::new() };
        }
        // Some write `NAME_VERSION` or `NAME.VERSION`.
        let border = stem.match_indices(['.', '_', '-']).find(|(at, _)| is_version(&stem[at + 1..]));
        match border {
            Some((at, _)) if at > 0 => {
                Self { name: stem[..at].to_owned(), version: stem[at + 1..].to_owned() }
            }
            _ => Self { name: stem.to_owned(), version: String::new() },
        }
    }
}

/// Words of letters, digits, underscores and points, with dashes between them; each begins with a letter.
fn is_name(text: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
    };
    text.trim_end_matches('-').split('-').all(is_word)
}

/// Begins with a digit, or is `build` or `rc` and a number.
fn is_version(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let begins = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let rest = |prefix: &str| lower.strip_prefix(prefix).map(str::to_owned);
    begins(&lower)
        || rest("build").is_some_and(|rest| begins(&rest))
        || rest("rc").or_else(|| rest("r")).is_some_and(|rest| is_number(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions() {
        for (path, name, version) in [
            ("lib/some-package-4.0.1.jar", "some-package", "4.0.1"),
            ("prefix.thing-4.jar", "prefix.thing", "4"),
            ("my-http2-server-5.jar", "my-http2-server", "5"),
            ("jetpack-build235-rc5.jar", "jetpack", "build235-rc5"),
            ("ironman-r4-2009.jar", "ironman-r4", "2009"),
            ("ant.jar", "ant", ""),
            ("org.eclipse.core_3.1.2.v2.jar", "org.eclipse.core", "3.1.2.v2"),
            ("ueber@all.jar", "", ""),
        ] {
            assert_eq!(FileName::of(path), FileName { name: name.into(), version: version.into() }, "{path}");
        }
    }
}
