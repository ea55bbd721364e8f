//! Where a server is: scheme, host and port.

use std::net::{IpAddr, Ipv6Addr};

use ureq::http::Uri;

use super::failure::{Failure, Problem};

/// Scheme, host and port: what credentials, certificates and proxies belong to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin {
    /// Whether it is https.
    pub(crate) secure: bool,
    /// In lower case; an IPv6 address has its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// The origin of an absolute http or https URL.
    pub(crate) fn of_url(url: &Uri) -> Option<Self> {
        let secure = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = url.host().filter(|h| !h.is_empty())?.to_ascii_lowercase();
        Some(Self { secure, host, port: url.port_u16().unwrap_or(if secure { 443 } else { 80 }) })
    }

    /// Whether it is this machine, which docker trusts without TLS.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback_host(&self.host)
    }

    /// The address without brackets, when the host is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        let bare = self.host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&self.host);
        bare.parse().ok()
    }

    /// The URL of an absolute path.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.authority())
    }

    /// `host`, or `host:port` when that is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let default = if self.secure { 443 } else { 80 };
        if self.port == default { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// The origin of an absolute URL.
pub(crate) fn origin_of(url: &str) -> Result<Origin, Failure> {
    let parsed: Option<Origin> = url.parse::<Uri>().ok().as_ref().and_then(Origin::of_url);
    parsed.ok_or_else(|| Failure {
        origin: Origin { secure: true, host: String::new(), port: 443 },
        problem: Problem::Protocol,
        cause: "it names a place that is no http or https URL".to_owned(),
    })
}

/// `host` and `port` of `host[:port]`.
pub(crate) fn split_port(name: &str) -> (&str, Option<u16>) {
    match name.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (name, None),
    }
}

/// Whether a host, without its port, is this machine.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match bare.parse() {
        Ok(IpAddr::V4(v4)) => v4.is_loopback(),
        Ok(IpAddr::V6(v6)) => v6 == Ipv6Addr::LOCALHOST,
        Err(_) => bare.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn knows_this_machine() {
        for (name, loopback) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.3.2.1:80", true),
            ("[::1]:5000", true),
            ("localhost.example.com", false),
            ("128.0.0.1", false),
            ("127.0.0.1.example.com", false),
        ] {
            assert_eq!(is_loopback_host(split_port(name).0), loopback, "{name}");
        }
    }
}
