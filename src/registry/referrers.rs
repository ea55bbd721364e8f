//! What a registry lists as referrers of a manifest (distribution-spec, "Listing Referrers"), page by page.

use std::collections::BTreeSet;

use super::answer::{Asked, read_bounded};
use super::error::Error;
use super::{Access, Client, Target};
use crate::http::{Method, Request};
use crate::image::MANIFEST_LIMIT;
use crate::oci::{Descriptor, Digest, Index, MediaType, Reference};

/// More pages are not read,
const PAGES: usize = 100;
/// and more referrers are not kept in memory.
const REFERRERS: usize = 10_000;

impl Client {
    /// The referrers of a manifest, each once; `None` where there is no such API, or one that does not give a list.
    ///
    /// # Errors
    /// What the registry refuses; and a list that does not end, or whose later pages are none.
    pub fn referrers(
        &self,
        reference: &Reference,
        subject: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let place = self.place_to_push(reference)?;
        let target = Target { reference, place: &place, access: Access::Pull };
        let malformed = |reason: String| Error::Malformed { image: target.image(), reason };
        let (mut found, mut seen): (Vec<Descriptor>, BTreeSet<Digest>) = Default::default();
        let (mut query, mut asked) = (String::new(), BTreeSet::new());
        while asked.insert(query.clone()) {
            if asked.len() > PAGES || found.len() > REFERRERS {
                return Err(malformed(format!("its list of referrers of {subject} does not end")));
            }
            let path = target.path(&format!("referrers/{subject}{query}"));
            let request = Request::new(Method::GET, path).header("accept", MediaType::INDEX.as_str());
            let mut response = self.call(&target, None, &request)?;
            let is_first = query.is_empty();
            match response.status.as_u16() {
                200 => {}
                // What registries without the API answer; all else does not say that there is none.
                400 | 404 | 405 | 501 if is_first => return Ok(None),
                _ => return Err(self.refusal(&target, Asked::Manifest, response)),
            }
            let next = next_query(response.headers("link")).map_err(|link| {
                malformed(format!("the next page of referrers of {subject} is not understood: {link:?}"))
            })?;
            let bytes = read_bounded(&target.image(), ("list of referrers", MANIFEST_LIMIT), &mut response)?;
            let index = match serde_json::from_slice::<Index>(&bytes) {
                Ok(index) => index,
                Err(_) if is_first => return Ok(None),
                Err(error) => {
                    return Err(malformed(format!("a page of referrers of {subject} is none: {error}")));
                }
            };
            found.extend(index.manifests.into_iter().filter(|entry| seen.insert(entry.digest)));
            match next {
                None => return Ok(Some(found)),
                Some(next) => query = next,
            }
        }
        Err(malformed(format!("its list of referrers of {subject} goes round in a circle")))
    }
}

/// What the URL of the next page has behind its path, with the `?` (RFC 8288). The path is known, and a host of another name is not asked:
/// it would be told who we are.
///
/// # Errors
/// A link that may be that of the next page and is not understood: without it the list would be cut short, and nobody would know.
fn next_query<'h>(headers: impl Iterator<Item = &'h str>) -> Result<Option<String>, String> {
    for mut rest in headers {
        while let Some((_, link)) = rest.split_once('<') {
            let Some((url, more)) = link.split_once('>') else { return Err(rest.to_owned()) };
            let parameters;
            (parameters, rest) = cut(more, ',');
            if !is_next(parameters) {
                continue;
            }
            // Nothing that would end the line of a request.
            let query = url.find('?').map(|at| &url[at..]);
            let query = query.filter(|query| query.bytes().all(|byte| byte.is_ascii_graphic()));
            return query.map(|query| Some(query.to_owned())).ok_or_else(|| url.to_owned());
        }
    }
    Ok(None)
}

/// Whether parameters of a link have the relation `next`, maybe among others.
fn is_next(mut parameters: &str) -> bool {
    while !parameters.is_empty() {
        let parameter;
        (parameter, parameters) = cut(parameters, ';');
        let (name, value) = parameter.trim().split_once('=').unwrap_or_default();
        let mut relations = value.trim().trim_matches('"').split_whitespace();
        if name.trim().eq_ignore_ascii_case("rel") && relations.any(|one| one.eq_ignore_ascii_case("next")) {
            return true;
        }
    }
    false
}

/// What is before the first `end` outside of quotes, and what is behind it.
fn cut(text: &str, end: char) -> (&str, &str) {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            c if c == end && !is_quoted => return (&text[..at], &text[at + c.len_utf8()..]),
            _ => {}
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_that_of_the_same_list() {
        for (link, expected) in [
            ("</v2/a/referrers/sha256:1?n=2&last=x>; rel=\"next\"", Some("?n=2&last=x")),
            ("<https://other/v2/a/referrers/sha256:1?t=1>; title=x; rel=next", Some("?t=1")),
            ("</v2/a?n=1>; rel=prev, </v2/a?n=3>; rel=next", Some("?n=3")),
            ("</v2/a?n=1,2>; rel=\"last next\"", Some("?n=1,2")),
            ("</v2/a?n=1>; title=\"a, <b>; rel=next\", </v2/a?n=2>; rel=next", Some("?n=2")),
            ("</v2/a?n=1>; rel=prev", None),
            ("no link", None),
            ("", None),
        ] {
            assert_eq!(next_query([link].into_iter()), Ok(expected.map(str::to_owned)), "{link}");
            let second = next_query(["</v2/a?n=0>; rel=prev", link].into_iter());
            assert_eq!(second, Ok(expected.map(str::to_owned)), "{link}");
        }
    }

    #[test]
    fn a_next_page_that_is_not_understood_is_not_the_end() {
        for link in ["</v2/a>; rel=next", "</v2/a?n=1 HTTP/1.1>; rel=next", "</v2/a?n=1; rel=next"] {
            assert!(next_query([link].into_iter()).is_err(), "{link}");
        }
    }
}
