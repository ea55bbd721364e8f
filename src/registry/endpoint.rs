//! Where a registry is: scheme, host and port.

use std::net::{IpAddr, Ipv6Addr};

use ureq::http::Uri;

/// Scheme, host and port: what credentials, certificates and proxies belong to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Origin {
    /// Whether it is https.
    pub(super) secure: bool,
    /// In lower case; an IPv6 address has its brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    /// The origin of a registry's name. `plain` asks for http.
    pub(super) fn of_registry(name: &str, plain: bool) -> Self {
        // Docker Hub answers under another name than images carry.
        let name = if name == "docker.io" { "registry-1.docker.io" } else { name };
        let (host, port) = split_port(name);
        let port = port.unwrap_or(if plain { 80 } else { 443 });
        Self { secure: !plain, host: host.to_ascii_lowercase(), port }
    }

    /// The origin of an absolute http or https URL.
    pub(super) fn of_url(url: &Uri) -> Option<Self> {
        let secure = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = url.host().filter(|h| !h.is_empty())?.to_ascii_lowercase();
        Some(Self { secure, host, port: url.port_u16().unwrap_or(if secure { 443 } else { 80 }) })
    }

    /// Whether it is this machine, which docker trusts without TLS.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// The address without brackets, when the host is one.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        let bare = self.host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&self.host);
        bare.parse().ok()
    }

    /// The URL of an absolute path.
    pub(super) fn url(&self, path: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.authority())
    }

    /// `host`, or `host:port` when that is not the scheme's own.
    pub(super) fn authority(&self) -> String {
        let default = if self.secure { 443 } else { 80 };
        if self.port == default { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// Whether the registry of that name is on this machine.
pub(super) fn is_loopback_registry(name: &str) -> bool {
    is_loopback(split_port(name).0)
}

/// `host` and `port` of `host[:port]`.
pub(super) fn split_port(name: &str) -> (&str, Option<u16>) {
    match name.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (name, None),
    }
}

fn is_loopback(host: &str) -> bool {
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
    fn finds_the_place_of_a_registry() {
        for (name, plain, url) in [
            ("docker.io", false, "https://registry-1.docker.io/v2/"),
            ("localhost:5000", true, "http://localhost:5000/v2/"),
            ("[::1]:5000", true, "http://[::1]:5000/v2/"),
            ("[::1]", true, "http://[::1]/v2/"),
            ("ghcr.io:443", false, "https://ghcr.io/v2/"),
        ] {
            assert_eq!(Origin::of_registry(name, plain).url("/v2/"), url);
        }
    }

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
            assert_eq!(is_loopback_registry(name), loopback, "{name}");
        }
    }
}
