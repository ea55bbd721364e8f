//! Signature version 4 of Amazon's web services ("Authenticating Requests (AWS Signature Version 4)").

use sha2::{Digest as _, Sha256};

use super::keys::Keys;
use crate::http::Request;
use crate::oci::{Digest, Seconds};
use crate::shared_cache::spec::Secret;

/// In place of the payload's digest, when nobody knows it.
pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The header that says it; who sends a blob sets it, as its digest is known.
pub(super) const CONTENT: &str = "x-amz-content-sha256";

/// What a signature holds for.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) region: String,
    pub(super) service: &'static str,
}

/// Signs a request: adds headers and `Authorization`. `payload` is the SHA-256 of what it carries, in hex, or [`UNSIGNED`]. The
/// path of the URL is encoded already, and its query sorted.
pub(super) fn sign(request: &mut Request<'_>, scope: &Scope, keys: &Keys, payload: &str, now: Seconds) {
    let (date, day) = times(now);
    let (host, path, query) = parts(&request.url);
    let mut headers: Vec<(String, String)> = vec![
        ("host".to_owned(), host.to_owned()),
        (CONTENT.to_owned(), payload.to_owned()),
        ("x-amz-date".to_owned(), date.clone()),
    ];
    request.headers.push((CONTENT, payload.to_owned()));
    request.headers.push(("x-amz-date", date.clone()));
    if let Some(Secret(session)) = &keys.session {
        request.headers.push(("x-amz-security-token", session.clone()));
    }
    let is_signed = |name: &str| name.starts_with("x-amz-") && !matches!(name, CONTENT | "x-amz-date");
    let more = request.headers.iter().filter(|(name, _)| is_signed(name) || *name == "range");
    headers.extend(more.map(|(name, value)| ((*name).to_owned(), value.trim().to_owned())));
    headers.sort();
    let canonical = Canonical { method: request.method.as_str(), path, query, headers: &headers, payload };
    let credential = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let to_sign =
        format!("AWS4-HMAC-SHA256\n{date}\n{credential}\n{}", Digest::of(canonical.text().as_bytes()).hex());
    let signature = hex(&hmac(&signing_key(&keys.secret, &day, scope), to_sign.as_bytes()));
    request.authorization = Some(format!(
        "AWS4-HMAC-SHA256 Credential={}/{credential},SignedHeaders={},Signature={signature}",
        keys.id.0,
        canonical.names()
    ));
}

/// A request as it is signed.
struct Canonical<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    /// Sorted, in lower case.
    headers: &'a [(String, String)],
    payload: &'a str,
}

impl Canonical<'_> {
    fn names(&self) -> String {
        self.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<&str>>().join(";")
    }

    fn text(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        // A key without a value has `=` all the same.
        let query = self.query.split('&').filter(|part| !part.is_empty());
        let query: Vec<String> =
            query.map(|part| if part.contains('=') { part.to_owned() } else { format!("{part}=") }).collect();
        let (method, path, query) = (self.method, self.path, query.join("&"));
        format!("{method}\n{path}\n{query}\n{headers}\n{}\n{}", self.names(), self.payload)
    }
}

fn signing_key(secret: &Secret, day: &str, scope: &Scope) -> [u8; 32] {
    let first = hmac(format!("AWS4{}", secret.0).as_bytes(), day.as_bytes());
    let words = [scope.region.as_str(), scope.service, "aws4_request"];
    words.iter().fold(first, |key, word| hmac(&key, word.as_bytes()))
}

/// `20130524T000000Z` and `20130524`.
fn times(now: Seconds) -> (String, String) {
    let time = jiff::Timestamp::from_second(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let date = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = date[..8].to_owned();
    (date, day)
}

/// Host and port, path and query of a URL.
fn parts(url: &str) -> (&str, &str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    match rest.find('/') {
        Some(at) => (&rest[..at], &rest[at..], query),
        None => (rest, "/", query),
    }
}

/// HMAC-SHA-256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    match key.len() {
        0..=64 => block[..key.len()].copy_from_slice(key),
        _ => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let with = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(with(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(with(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8; 32]) -> String {
    Digest::from_bytes(*bytes).hex()
}

/// Percent-encodes all but letters, digits and `-._~`; `/` stays in paths.
pub(super) fn encoded(text: &str, is_path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if is_path => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::http::Method;

    /// The key of Amazon's examples.
    fn keys() -> Keys {
        Keys {
            id: Secret("AKIAIOSFODNN7EXAMPLE".to_owned()),
            secret: Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
            session: None,
            until: None,
        }
    }

    fn signature(mut request: Request<'_>, payload: &str) -> String {
        let scope = Scope { region: "us-east-1".to_owned(), service: "s3" };
        let now = "2013-05-24T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
        sign(&mut request, &scope, &keys(), payload, now);
        request.authorization.unwrap()
    }

    /// The examples of "Signature Calculations for the Authorization Header".
    #[test]
    fn signs_as_published() {
        let at = |path: &str| format!("https://examplebucket.s3.amazonaws.com/{path}");
        let empty = Digest::of(b"").hex();
        for (path, signature_of) in [
            ("?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            ("?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ] {
            let authorization = signature(Request::new(Method::GET, at(path)), &empty);
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
                 SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature={signature_of}"
            );
            assert_eq!(authorization, expected);
        }
        let range = Request::new(Method::GET, at("test.txt")).header("range", "bytes=0-9");
        let expected = "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
                        Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert!(signature(range, &empty).ends_with(expected));
    }

    #[test]
    fn codes_messages_as_rfc_4231_does() {
        for (key, message, expected) in [
            (
                &[0x0b; 20][..],
                &b"Hi There"[..],
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(hex(&hmac(key, message)), expected);
        }
    }

    #[test]
    fn encodes_as_amazon_does() {
        assert_eq!(encoded("a/b c+d~é:", true), "a/b%20c%2Bd~%C3%A9%3A");
        assert_eq!(encoded("a/b", false), "a%2Fb");
    }
}
