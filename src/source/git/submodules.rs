//! Judges what a repository says of its submodules. From bytes to values: nothing is run or opened here.
//!
//! Their URLs come from whoever wrote the repository. A server must not reach repositories of this machine through
//! them (CVE-2022-39253), nor start programs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// A submodule: its name, and its URL, which is absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submodule {
    /// As `.gitmodules` has it.
    pub name: String,
    /// Where it is.
    pub url: String,
}

/// Where a repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On a server.
    Server,
    /// A folder of this machine.
    Here,
}

/// Where git looks for `url`: a path, and `file:`, are this machine's.
pub fn place(url: &str) -> Place {
    if let Some((scheme, _)) = url.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
        return if scheme.eq_ignore_ascii_case("file") { Place::Here } else { Place::Server };
    }
    let colon = url.find(':').unwrap_or(url.len());
    // `host:path`; what has a slash first is a path with a colon in it.
    match url[..colon].contains('/') || colon == url.len() {
        true => Place::Here,
        false => Place::Server,
    }
}

/// The submodules in what `git config --null --get-regexp '^submodule\.'` printed: `KEY\nVALUE\0`, one after another.
pub fn parse(listing: &[u8]) -> Vec<Submodule> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let url = |record: &[u8]| {
        let end = record.iter().position(|byte| *byte == b'\n')?;
        let name = record[..end].strip_prefix(b"submodule.")?.strip_suffix(b".url")?;
        Some(Submodule { name: text(name), url: text(&record[end + 1..]) })
    };
    listing.split(|byte| *byte == 0).filter_map(url).collect()
}

/// What speaks against fetching `submodule` for a repository that is at `parent`.
///
/// # Errors
/// A sentence without the URL.
pub fn judge(submodule: &Submodule, parent: Place) -> Result<(), &'static str> {
    let Submodule { name, url } = submodule;
    if name.is_empty() || name.starts_with('-') || name.split(['/', '\\']).any(|part| part == "..") {
        return Err("its name leads elsewhere");
    }
    if name.contains(char::is_control) || url.contains(char::is_control) {
        return Err("its name or URL has control characters");
    }
    if url.is_empty() || url.starts_with('-') {
        return Err("its URL would be an option of git");
    }
    if is_helper(url) {
        return Err("its URL names a program as transport");
    }
    match (parent, place(url)) {
        (Place::Server, Place::Here) => {
            Err("its URL is a path of this machine, which only a repository of this machine may name")
        }
        (Place::Here, _) | (Place::Server, Place::Server) => Ok(()),
    }
}

/// Whether git takes what stands before `://` for a protocol; else all of it is a path, or a host and a path.
fn is_scheme(text: &str) -> bool {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_inside)
}

/// `HELPER::ADDRESS`
fn is_helper(url: &str) -> bool {
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    url.trim_start_matches(is_scheme).starts_with("::")
}

/// The paths of submodules in what `git ls-files --stage -z` printed: entries of mode 160000.
pub fn links(listing: &[u8]) -> Vec<OsString> {
    let link = |record: &[u8]| {
        let rest = record.strip_prefix(b"160000 ")?;
        let tab = rest.iter().position(|byte| *byte == b'\t')?;
        Some(OsString::from_vec(rest[tab + 1..].to_vec()))
    };
    listing.split(|byte| *byte == 0).filter_map(link).collect()
}

/// The filters in what `git config --null --name-only --get-regexp '^filter\.'` printed, each once.
pub fn filters(listing: &[u8]) -> Vec<OsString> {
    let name = |key: &[u8]| {
        let rest = key.strip_prefix(b"filter.")?;
        let dot = rest.iter().rposition(|byte| *byte == b'.')?;
        Some(OsString::from_vec(rest[..dot].to_vec()))
    };
    let mut names: Vec<OsString> = listing.split(|byte| *byte == 0).filter_map(name).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_judged_by_where_they_lead() {
        let verdict = |name: &str, url: &str, parent| {
            judge(&Submodule { name: name.to_owned(), url: url.to_owned() }, parent).err().unwrap_or("fine")
        };
        for (url, there, here) in [
            ("https://h/x.git", "fine", "fine"),
            ("ssh://git@h/x", "fine", "fine"),
            ("git@h:x/y", "fine", "fine"),
            ("/srv/x.git", "path of this machine", "fine"),
            ("./x", "path of this machine", "fine"),
            ("../x:y", "path of this machine", "fine"),
            ("x", "path of this machine", "fine"),
            // No protocol has a slash.
            ("/srv/x://y", "path of this machine", "fine"),
            ("./xhttps://h/y", "path of this machine", "fine"),
            ("file:///srv/x.git", "path of this machine", "fine"),
            ("FILE:///srv/x.git", "path of this machine", "fine"),
            ("file::/srv/x.git", "program", "program"),
            ("ext::sh -c id", "program", "program"),
            ("::x", "program", "program"),
            ("-u./program", "option", "option"),
            ("--upload-pack=id", "option", "option"),
            ("", "option", "option"),
            ("https://h/x\nhost=other", "control", "control"),
        ] {
            for (parent, expected) in [(Place::Server, there), (Place::Here, here)] {
                let verdict = verdict("m", url, parent);
                assert!(verdict.contains(expected), "{url} {parent:?}: {verdict}");
            }
        }
        for name in ["..", "a/../b", "../../hooks", "a\\..\\b", "", "-x"] {
            assert!(verdict(name, "https://h/x", Place::Server).contains("name"), "{name}");
        }
        assert_eq!(verdict("a..b/c", "https://h/x", Place::Server), "fine");
    }

    #[test]
    fn listings_of_git() {
        let listing = b"submodule.a.active\ntrue\0submodule.a.url\n/x\0submodule.b.c.url\nhttps://h\ny\0bad\0core.x\n1\0";
        let found: Vec<_> = parse(listing).into_iter().map(|found| (found.name, found.url)).collect();
        let expected = [("a", "/x"), ("b.c", "https://h\ny")];
        assert_eq!(found, expected.map(|(name, url)| (name.to_owned(), url.to_owned())));
        let stage = b"100644 ab 0\ta\x00160000 cd 0\tsub/m\x00160000 x\0";
        assert_eq!(links(stage), ["sub/m"]);
        assert_eq!(
            filters(b"filter.lfs.smudge\0filter.a.b.clean\0filter.lfs.process\0filter.x\0"),
            ["a.b", "lfs"]
        );
    }
}
