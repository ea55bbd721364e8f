//! Paths as bytes, in the way of Go's `path/filepath`.

/// The shortest equivalent path (`filepath.Clean`): no `.`, no empty components, `..` resolved as far as
/// possible; `.` for nothing.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            b".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/".as_slice(), &joined].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// `path` below a root that it cannot leave: cleaned as if absolute, without the leading `/`; empty for the root.
pub fn below_root(path: &[u8]) -> Vec<u8> {
    clean(&[b"/", path].concat())[1..].to_vec()
}

/// The components of a relative path; none for the empty path.
pub fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
}

/// `a`, `a/b`, `a/b/c` for `a/b/c`.
pub fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).map(|end| &path[..end]).filter(|prefix| !prefix.is_empty())
}

/// `dir/name`, or `name` in the root.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match (dir.is_empty(), name.is_empty()) {
        (true, _) => name.to_vec(),
        (_, true) => dir.to_vec(),
        _ => [dir, b"/", name].concat(),
    }
}

/// Directory and last component; the directory of a top entry is empty.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Without white space around it (`strings.TrimSpace`); bytes that are no UTF-8 stay.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}

/// The order of a walk: by components, each by its bytes, a directory before what it holds.
pub fn compare(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    // Comparing as a whole first is what the processor does fastest, and in walks most paths are equal.
    if a == b {
        return std::cmp::Ordering::Equal;
    }
    let common = a.iter().zip(b).position(|(x, y)| x != y);
    // `/` sorts before every other byte, so that what a directory holds follows it directly.
    let key = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    match common {
        Some(at) => key(a[at]).cmp(&key(b[at])),
        None => a.len().cmp(&b.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_go_does() {
        for (path, expected) in [
            ("", "."),
            ("abc", "abc"),
            ("abc/def", "abc/def"),
            ("a/b/../..", "."),
            ("/", "/"),
            ("/abc/", "/abc"),
            ("abc//def//", "abc/def"),
            ("/../abc", "/abc"),
            ("../..", "../.."),
            ("abc/../../x", "../x"),
            ("/abc/./../def", "/def"),
            ("./x", "x"),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
        assert_eq!(below_root(b"../../a/./b/"), b"a/b");
        assert_eq!(below_root(b"/"), b"");
    }

    #[test]
    fn walk_order() {
        let mut paths = ["a.b", "a/x", "a", "a-b", "a/b/c", "a/b"].map(|p| p.as_bytes().to_vec());
        paths.sort_by(|a, b| compare(a, b));
        let texts: Vec<_> = paths.iter().map(|p| String::from_utf8_lossy(p)).collect();
        assert_eq!(texts, ["a", "a/b", "a/b/c", "a/x", "a-b", "a.b"]);
    }
}
