//! Paths as text, by the rules of BuildKit for WORKDIR and destinations.

/// `path` made absolute under `parent`. An absolute one is kept as written (`//a//b//` stays), a
/// relative one is cleaned; an empty one is `parent`.
pub(super) fn join(parent: &str, path: &str) -> String {
    let parent = if parent.starts_with('/') { parent.to_owned() } else { clean(&format!("/{parent}")) };
    match path {
        "" => parent,
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        relative => clean(&format!("{parent}/{relative}")),
    }
}

/// The destination of COPY and ADD: absolute, clean, with a slash at the end when it was written as a
/// directory (`x/`, `x/.`, `.`).
pub(super) fn destination(directory: &str, path: &str) -> String {
    let mut clean = clean(&join(directory, path));
    let is_directory = matches!(path, "" | ".") || path.ends_with('/') || path.ends_with("/.");
    if is_directory && clean != "/" {
        clean.push('/');
    }
    clean
}

/// Go's `path.Clean` of an absolute path; `..` stops at the root.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Go's `path.Base`: the last part; `/` for the root, `.` for nothing.
pub(super) fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        trimmed => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_as_workdir_does() {
        for (parent, path, joined) in [
            ("", "a", "/a"),
            ("/w", "a/../b/", "/w/b"),
            ("/w", "//a//b//", "//a//b//"),
            ("/w", "", "/w"),
            ("/w", "..", "/"),
            ("/w", "../../..", "/"),
            ("rel", "x", "/rel/x"),
        ] {
            assert_eq!(join(parent, path), joined, "{parent} {path}");
        }
    }

    #[test]
    fn marks_directories_with_a_slash() {
        for (directory, path, expected) in [
            ("/w", ".", "/w/"),
            ("/w", "./", "/w/"),
            ("/w", "x", "/w/x"),
            ("/w", "x/", "/w/x/"),
            ("/w", "x/.", "/w/x/"),
            ("/w", "/a//b/", "/a/b/"),
            ("/w", "/", "/"),
            ("/", ".", "/"),
            ("/w", "..", "/"),
            ("/w", "../..x", "/..x"),
        ] {
            assert_eq!(destination(directory, path), expected, "{directory} {path}");
        }
    }

    #[test]
    fn takes_the_last_part() {
        for (path, expected) in [("/a/b", "b"), ("/a/b/", "b"), ("a", "a"), ("/", "/"), ("", ".")] {
            assert_eq!(base(path), expected, "{path}");
        }
    }
}
