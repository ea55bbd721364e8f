//! Redirects: followed without credentials.

use std::sync::Arc;

use ureq::http::Uri;

use super::failure::{Failure, Problem};
use super::origin::{Origin, origin_of};
use super::request::Request;

/// Who is asked before a redirect is followed; nobody at first.
#[derive(Clone, Default)]
pub struct Hops(Option<Arc<Ask>>);

/// What speaks against a URL, in one clause.
type Ask = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Hops {
    /// Follows none that `ask` says something against.
    pub fn asking(ask: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(ask)))
    }

    pub(super) fn check(&self, from: &Origin, target: &str) -> Result<(), Failure> {
        let refused = |cause| Failure { origin: from.clone(), problem: Problem::Forbidden, cause };
        self.0.as_ref().and_then(|ask| ask(target)).map_or(Ok(()), |cause| Err(refused(cause)))
    }
}

impl std::fmt::Debug for Hops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Hops(asked)" } else { "Hops(all)" })
    }
}

/// How far a server may send us elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Redirects {
    /// More than so many lead nowhere.
    pub most: u32,
    /// Whether they may lead from https to http.
    pub may_leave_tls: bool,
}

impl Redirects {
    /// For those who send logins: what began encrypted stays so.
    pub const STRICT: Self = Self { most: 5, may_leave_tls: false };
    /// As Go's client has it, and so BuildKit's ADD.
    pub const USUAL: Self = Self { most: 10, may_leave_tls: true };

    /// The request to make after a redirect. Credentials stay with the origin that they were for.
    pub(super) fn follow<'a>(
        self,
        request: Request<'a>,
        from: &Origin,
        target: String,
    ) -> Result<Request<'a>, Failure> {
        let to = origin_of(&target).map_err(|f| Failure { origin: from.clone(), ..f })?;
        if from.secure && !to.secure && !self.may_leave_tls {
            let cause = format!("it redirects from https to http, on `{}`", to.host);
            return Err(Failure { origin: from.clone(), problem: Problem::Protocol, cause });
        }
        let authorization = request.authorization.filter(|_| to == *from);
        let trust = request.trust.filter(|_| to.host == from.host);
        Ok(Request { url: target, authorization, trust, ..request })
    }
}

/// RFC 3986's reference resolution, as far as Location headers need it.
pub(super) fn join(base: &str, location: &str) -> Option<String> {
    let location = location.split('#').next().unwrap_or(location);
    // A query may have another URL in it.
    if location.split(['/', '?']).next().is_some_and(|scheme| scheme.ends_with(':')) {
        return Some(location.to_owned());
    }
    let base: Uri = base.parse().ok()?;
    let origin = Origin::of_url(&base)?;
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{}://{rest}", base.scheme_str()?));
    }
    if location.starts_with('/') {
        return Some(origin.url(location));
    }
    if location.starts_with('?') {
        return Some(origin.url(&format!("{}{location}", base.path())));
    }
    let mut folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut location = location;
    while let Some(rest) = location.strip_prefix("../") {
        folder = folder.rsplit_once('/').map_or("", |(parent, _)| parent);
        location = rest;
    }
    let location = location.strip_prefix("./").unwrap_or(location);
    Some(origin.url(&format!("{folder}/{location}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::Method;
    use super::*;

    #[test]
    fn resolves_locations() {
        for (location, expected) in [
            ("/v2/x?a=b", "http://localhost:5000/v2/x?a=b"),
            ("https://cdn.example/x", "https://cdn.example/x"),
            ("//cdn.example/x", "http://cdn.example/x"),
            ("y", "http://localhost:5000/v2/a/y"),
            ("./y", "http://localhost:5000/v2/a/y"),
            ("../../../y", "http://localhost:5000/y"),
            ("?c", "http://localhost:5000/v2/a/b?c"),
            ("/login?back=https://b.example/#x", "http://localhost:5000/login?back=https://b.example/"),
            ("HTTPS://cdn.example/x", "HTTPS://cdn.example/x"),
        ] {
            assert_eq!(join("http://localhost:5000/v2/a/b?q", location).unwrap(), expected);
        }
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let request = |url: &str| {
            let mut request = Request::new(Method::GET, url.to_owned());
            request.authorization = Some("Basic c2VjcmV0".to_owned());
            request
        };
        let from = origin_of("https://a.example/v2/").unwrap();
        for (target, kept) in [
            ("https://a.example/other", true),
            ("https://a.example:8443/", false),
            ("https://b.example/", false),
            ("https://b.a.example/", false),
        ] {
            let next =
                Redirects::STRICT.follow(request("https://a.example/v2/"), &from, target.to_owned()).unwrap();
            assert_eq!(next.authorization.is_some(), kept, "{target}");
        }
        let plain = |redirects: Redirects| {
            redirects.follow(request("https://a.example/v2/"), &from, "http://a.example/".to_owned())
        };
        assert!(plain(Redirects::STRICT).is_err());
        assert_eq!(plain(Redirects::USUAL).unwrap().authorization, None);
    }
}
