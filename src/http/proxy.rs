//! Which proxy a request goes through, by the rules of Go's `httpproxy`, which docker follows.

use std::net::IpAddr;

use super::environment::Environment;
use super::origin::{Origin, split_port};

/// The URL of the proxy for `origin`; `None` means to go there directly. This machine never needs one.
pub(crate) fn proxy_for<'a>(environment: &'a Environment, origin: &Origin) -> Option<&'a str> {
    if origin.is_loopback() {
        return None;
    }
    let names: &[&str] = if origin.secure {
        &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    } else {
        &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    };
    let proxy = environment.text(names)?;
    let exempt = environment.text(&["NO_PROXY", "no_proxy"]).unwrap_or("");
    let direct = exempt.split(',').map(str::trim).any(|rule| matches(rule, origin));
    (!direct).then_some(proxy)
}

/// One entry of NO_PROXY: `*`, an address, a network, or a domain with an optional port.
fn matches(rule: &str, origin: &Origin) -> bool {
    if rule.is_empty() {
        return false;
    }
    if rule == "*" {
        return true;
    }
    if let Some(ip) = origin.ip() {
        if let Some((network, bits)) = rule.split_once('/') {
            return in_network(ip, network, bits);
        }
        if rule.parse() == Ok(ip) {
            return true;
        }
    }
    let (name, port) = split_port(rule);
    if port.is_some_and(|p| p != origin.port) {
        return false;
    }
    let name = name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase();
    match name.strip_prefix('.') {
        Some(_) => origin.host.ends_with(&name),
        None => origin.host == name || origin.host.ends_with(&format!(".{name}")),
    }
}

fn in_network(ip: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            (ip.to_bits() ^ network.to_bits()) & mask == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            (ip.to_bits() ^ network.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::origin_of;
    use super::*;

    #[test]
    fn obeys_no_proxy_as_go_does() {
        let environment = |no_proxy: &str| {
            Environment::empty()
                .with("https_proxy", "http://secure:1")
                .with("HTTP_PROXY", "http://plain:1")
                .with("NO_PROXY", no_proxy)
        };
        for (no_proxy, host, plain, expected) in [
            ("", "ghcr.io", false, Some("http://secure:1")),
            ("", "ghcr.io", true, Some("http://plain:1")),
            ("", "localhost:5000", true, None),
            ("*", "ghcr.io", false, None),
            ("example.com, ghcr.io", "ghcr.io", false, None),
            ("io", "ghcr.io", false, None),
            (".ghcr.io", "ghcr.io", false, Some("http://secure:1")),
            (".ghcr.io", "a.ghcr.io", false, None),
            ("*.ghcr.io", "a.ghcr.io", false, None),
            ("cr.io", "ghcr.io", false, Some("http://secure:1")),
            ("ghcr.io:5000", "ghcr.io", false, Some("http://secure:1")),
            ("ghcr.io:443", "ghcr.io", false, None),
            ("10.0.0.0/8", "10.1.2.3:5000", false, None),
            ("10.0.0.0/8", "11.1.2.3:5000", false, Some("http://secure:1")),
            ("0.0.0.0/0", "11.1.2.3:5000", false, None),
            ("fe80::/10", "[fe80::1]:5000", false, None),
        ] {
            let scheme = if plain { "http" } else { "https" };
            let origin = origin_of(&format!("{scheme}://{host}/")).unwrap();
            assert_eq!(proxy_for(&environment(no_proxy), &origin), expected, "{no_proxy} {host}");
        }
    }
}
