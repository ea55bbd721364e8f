//! Names in archives, made safe.

use super::error::Problem;

/// The longest path that Linux takes (`PATH_MAX` less its NUL).
pub const PATH_LIMIT: usize = 4095;
/// The longest component (`NAME_MAX`).
const COMPONENT_LIMIT: usize = 255;
/// Reserved by the image-spec for whiteouts ("Whiteouts").
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// What AUFS keeps for itself: `.wh..wh.plnk`, `.wh..wh.aufs` and others, ignored as docker does.
const META_PREFIX: &[u8] = b".wh..wh.";
/// The one of them that means something: the directory that holds it is opaque.
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// The canonical form of a name: relative, without empty or `.` components; `..` goes up, but never
/// above the root. The root itself is the empty name.
pub fn clean(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => out.truncate(out.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            component => {
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(component);
            }
        }
    }
    out
}

/// [`clean`] for a name that must be one that a file system can hold.
pub(super) fn checked(name: &[u8]) -> Result<Vec<u8>, Problem> {
    if name.contains(&0) {
        return Err(Problem::Nul);
    }
    let path = clean(name);
    too_long("path", path.len(), PATH_LIMIT)?;
    for component in path.split(|byte| *byte == b'/') {
        too_long("name", component.len(), COMPONENT_LIMIT)?;
    }
    Ok(path)
}

/// Checks a symlink's target, which is kept as it stands.
pub(super) fn checked_target(target: &[u8]) -> Result<(), Problem> {
    if target.contains(&0) {
        return Err(Problem::Nul);
    }
    if target.is_empty() {
        return Err(Problem::NoName);
    }
    too_long("link target", target.len(), PATH_LIMIT)
}

fn too_long(what: &'static str, len: usize, limit: usize) -> Result<(), Problem> {
    if len > limit {
        return Err(Problem::TooLong { what, len: len as u64, limit: limit as u64 });
    }
    Ok(())
}

/// What a cleaned path means in a layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Something at this path.
    Path(Vec<u8>),
    /// This path of a lower layer is gone.
    Whiteout(Vec<u8>),
    /// What lower layers have in this directory is gone; empty for the root.
    Opaque(Vec<u8>),
    /// Something that AUFS left behind, to be ignored.
    AufsMetadata,
}

/// Recognises whiteouts.
pub(super) fn meaning(path: Vec<u8>) -> Result<Meaning, Problem> {
    if !path.starts_with(WHITEOUT_PREFIX) && !contains(&path, b"/.wh.") {
        return Ok(Meaning::Path(path));
    }
    let (parent, name) = split(&path);
    if name == OPAQUE_NAME && !contains_reserved(parent) {
        return Ok(Meaning::Opaque(parent.to_vec()));
    }
    if path.split(|byte| *byte == b'/').any(|component| component.starts_with(META_PREFIX)) {
        return Ok(Meaning::AufsMetadata);
    }
    match name.strip_prefix(WHITEOUT_PREFIX) {
        Some(b"" | b"." | b"..") | None => Err(Problem::Whiteout),
        Some(_) if contains_reserved(parent) => Err(Problem::Whiteout),
        Some(hidden) => Ok(Meaning::Whiteout(join(parent, hidden))),
    }
}

fn contains_reserved(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|component| component.starts_with(WHITEOUT_PREFIX))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The parent (empty for the root) and the last component of a cleaned path.
pub(in crate::layer) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// `name` in the directory `parent`; both cleaned.
pub(in crate::layer) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() || name.is_empty() {
        return [parent, name].concat();
    }
    [parent, b"/", name].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_cut_at_the_root() {
        for (name, path) in [
            ("", ""),
            ("/", ""),
            ("./", ""),
            ("./a//b/./c/", "a/b/c"),
            ("/etc/passwd", "etc/passwd"),
            ("../../etc", "etc"),
            ("a/../../b", "b"),
            ("a/b/../..", ""),
            ("a/b/..", "a"),
            ("...", "..."),
        ] {
            assert_eq!(clean(name.as_bytes()), path.as_bytes(), "{name}");
        }
    }

    #[test]
    fn whiteouts_are_recognised() {
        let of = |path: &str| meaning(path.as_bytes().to_vec());
        assert_eq!(of("a/.wh.b"), Ok(Meaning::Whiteout(b"a/b".to_vec())));
        assert_eq!(of(".wh.b"), Ok(Meaning::Whiteout(b"b".to_vec())));
        assert_eq!(of("a/.wh..wh..opq"), Ok(Meaning::Opaque(b"a".to_vec())));
        assert_eq!(of(".wh..wh..opq"), Ok(Meaning::Opaque(b"".to_vec())));
        assert_eq!(of(".wh..wh.plnk/1"), Ok(Meaning::AufsMetadata));
        assert_eq!(of("a/.wha"), Ok(Meaning::Path(b"a/.wha".to_vec())));
        for bad in [".wh.", "a/.wh..", ".wh...", ".wh.d/f", "a/.wh.d/.wh.f", ".wh.d/.wh..wh..opq2"] {
            let result = of(bad);
            assert!(
                matches!(result, Err(Problem::Whiteout) | Ok(Meaning::AufsMetadata)),
                "{bad}: {result:?}"
            );
        }
    }

    #[test]
    fn long_names_are_refused() {
        assert!(checked(&[b'a'; 256]).is_err());
        assert!(checked(&b"ab/".repeat(2000)).is_err());
        assert!(checked(b"a\0b").is_err());
    }
}
