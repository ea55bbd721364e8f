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
                401 | 403 => return Err(self.refusal(&target, Asked::Manifest, response)),
                _ if is_first => return Ok(None),
                _ => return Err(self.refusal(&target, Asked::Manifest, response)),
            }
            let next = response.header("link").and_then(next_query).map(str::to_owned);
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
fn next_query(link: &str) -> Option<&str> {
    link.split(',').find_map(|link| {
        let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.trim().split_once('=').unwrap_or_default();
            name.eq_ignore_ascii_case("rel") && value.trim_matches('"').eq_ignore_ascii_case("next")
        });
        let query = &url[url.find('?').filter(|_| is_next)?..];
        // Nothing that would end the line of a request.
        query.bytes().all(|byte| byte.is_ascii_graphic()).then_some(query)
    })
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
            ("</v2/a>; rel=next", None),
            ("</v2/a?n=1>; rel=prev", None),
            ("</v2/a?n=1 HTTP/1.1>; rel=next", None),
            ("no link", None),
            ("", None),
        ] {
            assert_eq!(next_query(link), expected, "{link}");
        }
    }
}
