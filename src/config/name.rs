//! Names of registries and places in them, as configurations write them.

/// What a text such as `https://mirror.example.org/hub/` names: `host[:port][/path]`, and whether it says http.
/// The error says what is wrong with it.
pub(super) fn location(text: &str) -> Result<(String, bool), String> {
    let (rest, plain) = match text.split_once("://") {
        Some(("http", rest)) => (rest, true),
        Some(("https", rest)) => (rest, false),
        Some((scheme, _)) => return Err(format!("`{scheme}` is neither http nor https")),
        None => (text, false),
    };
    let rest = rest.trim_end_matches('/');
    if rest.contains('@') {
        return Err("a login does not belong there; use `rbuild login`".to_owned());
    }
    let host = rest.split('/').next().unwrap_or("");
    if !is_host(host) || rest.contains([' ', '?', '#']) {
        return Err("write it as HOST[:PORT][/PATH]".to_owned());
    }
    Ok((canonical(rest), plain))
}

/// The one spelling of a registry with several names.
pub(super) fn canonical(name: &str) -> String {
    let (host, path) = match name.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (name, None),
    };
    let host = match host.to_ascii_lowercase() {
        hub if matches!(hub.as_str(), "index.docker.io" | "registry-1.docker.io") => "docker.io".to_owned(),
        host => host,
    };
    path.map_or(host.clone(), |path| format!("{host}/{path}"))
}

/// Whether it is `host` or `host:port`; in `*.host` the star stands for any number of labels.
pub(super) fn is_host(text: &str) -> bool {
    let text = text.strip_prefix("*.").unwrap_or(text);
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    bare.map_or_else(|| is_name(host), |v6| v6.parse::<std::net::Ipv6Addr>().is_ok())
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn locations_are_hosts_with_paths() {
        for (text, expected, plain) in [
            ("mirror.example.org", "mirror.example.org", false),
            ("https://Mirror.example.org/", "mirror.example.org", false),
            ("http://localhost:5000/hub", "localhost:5000/hub", true),
            ("registry-1.docker.io", "docker.io", false),
            ("[::1]:5000", "[::1]:5000", false),
        ] {
            assert_eq!(location(text).unwrap(), (expected.to_owned(), plain));
        }
        for text in ["", "ftp://x", "https://u:p@x", "a b", "x:port", "http:///x", "x?y"] {
            assert!(location(text).is_err(), "{text}");
        }
    }
}
