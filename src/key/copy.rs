//! The key of COPY and ADD, as far as the instruction itself says it.

use super::{Value, push_epoch};
use crate::cache::Preimage;
use crate::oci::ChainId;
use crate::plan::graph::{Chmod, CopyKind, CopyOp, CopySource};

/// The key of COPY or ADD on `parent`, without what it reads: the caller adds the files ([`files`](super::files)), or, for a
/// key that costs nothing, the identity of each root that it reads from ([`push_from`]).
pub fn copy<R>(op: &CopyOp<R>, parent: ChainId) -> Preimage {
    let CopyOp {
        kind,
        sources,
        destination,
        chown,
        chmod,
        link,
        parents,
        excludes,
        unpack,
        checksum,
        keep_git_dir,
        epoch,
    } = op;
    let mut key = Preimage::new(match kind {
        CopyKind::Copy => "copy/2",
        CopyKind::Add => "add/2",
    });
    key.push("parent", parent.to_string());
    for source in sources {
        push_source(&mut key, source);
    }
    key.push("destination", destination);
    if let Some(chown) = chown {
        key.push("chown", chown);
    }
    match chmod {
        None => {}
        Some(Chmod::Octal(mode)) => key.push("chmod", Value::of("octal").mode(*mode)),
        Some(Chmod::Symbolic(clauses)) => key.push("chmod", Value::of("symbolic").text("clauses", clauses)),
    }
    key.push("link", word(*link));
    key.push("parents", word(*parents));
    for exclude in excludes {
        key.push("exclude", exclude);
    }
    if let Some(unpack) = unpack {
        key.push("unpack", word(*unpack));
    }
    // That of a repository says what to expect of it, and it was compared when it was fetched; files enter by content.
    let is_repository = matches!(sources.as_slice(), [CopySource::Git { .. }]);
    if let Some(checksum) = checksum.as_ref().filter(|_| !is_repository) {
        key.push("checksum", checksum);
    }
    key.push("keep-git-dir", word(*keep_git_dir));
    push_epoch(&mut key, *epoch);
    key
}

/// Adds the root that a source is taken from.
pub fn push_from(key: &mut Preimage, root: ChainId) {
    key.push("from", root.to_string());
}

fn word(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

fn push_source<R>(key: &mut Preimage, source: &CopySource<R>) {
    match source {
        // Which files these are is told by the files, or by the root that they are in.
        CopySource::Path { from: _, pattern, span: _ } => key.push("source", pattern),
        CopySource::Inline { name, content } => key.push(format!("heredoc:{name}"), content),
        // What is behind a URL counts by content; the address itself may hold a password.
        CopySource::Url { url, span: _ } => key.push("url", without_user_info(url)),
        CopySource::Git { url, span: _ } => key.push("git", without_user_info(url)),
    }
}

/// `https://user:password@host/x` as `https://host/x`.
fn without_user_info(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_in_no_key() {
        assert_eq!(without_user_info("https://me:pw@host/a@b"), "https://host/a@b");
        assert_eq!(without_user_info("https://host/a@b"), "https://host/a@b");
        assert_eq!(without_user_info("git@host:a"), "git@host:a");
    }
}
