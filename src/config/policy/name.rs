//! Names in one spelling: what rules are about is told by where it leads, not by how it is written.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A URL in its parts: no user, the host in lower case, a port only where it is not the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    scheme: String,
    host: String,
    port: Port,
    /// From the path on; begins with a slash.
    rest: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Port {
    /// The scheme's own.
    Usual,
    Is(String),
    /// Of a pattern whose host ends in a star.
    Any,
}

impl Url {
    /// The parts of `SCHEME://…`, of `HOST:PATH` as git has it, and of `github.com/…`.
    pub(super) fn of(text: &str) -> Option<Self> {
        let (scheme, behind) = match text.split_once("://") {
            Some((scheme, behind)) => (scheme.to_ascii_lowercase(), behind.to_owned()),
            None if text.to_ascii_lowercase().starts_with("github.com/") => {
                ("https".to_owned(), text.to_owned())
            }
            None => secure_shell(text)?,
        };
        let (authority, rest) = behind.split_at(authority_end(&behind));
        let (host, port) = host_and_port(authority);
        let host = spelled(&String::from_utf8_lossy(&crate::text::url::percent_decoded(host)));
        // No client goes there, so no pattern of a host is about it.
        let host = if host.contains('\\') { String::new() } else { host };
        let port = port_of(&scheme, port);
        Some(Self { scheme, host, port, rest: path(rest) })
    }

    /// The parts of a pattern; `None` of one that is about the whole text.
    fn pattern(text: &str) -> Option<Self> {
        let (scheme, behind) = match text.split_once("://") {
            Some((scheme, behind)) => (scheme.to_ascii_lowercase(), behind.to_owned()),
            None => secure_shell(text)?,
        };
        let (authority, rest) = behind.split_at(authority_end(&behind));
        let (host, port) = host_and_port(authority);
        let port = match port {
            None if host.ends_with('*') => Port::Any,
            port => port_of(&scheme, port),
        };
        // `https://**`
        let rest = match rest {
            "" if authority.ends_with("**") => "**".to_owned(),
            rest if rest.starts_with('/') && rest.contains('%') => path(rest),
            rest if rest.starts_with('/') => rest.to_owned(),
            rest => format!("/{rest}"),
        };
        Some(Self { scheme, host: spelled(host), port, rest })
    }

    /// Whether a pattern is about the URL that is spelled `text`, and stays so where a server reads escaped slashes as slashes.
    pub(super) fn is(&self, text: &str, pattern: &str) -> bool {
        let climbs = || {
            let bytes = crate::text::url::percent_decoded(self.path_and_behind().0);
            bytes.split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"..")
        };
        self.is_matched(text, pattern) && (!climbs() || self.decoded().is_matched(text, pattern))
    }

    /// Whether a pattern can be read to be about it: part by part or as one text, and however a server reads escapes and slashes.
    pub(super) fn may_be(&self, text: &str, pattern: &str) -> bool {
        let is_about = |url: &Self| {
            url.is_matched(text, pattern) || url.written().iter().any(|written| matches(pattern, written))
        };
        matches(pattern, text) || is_about(self) || is_about(&self.decoded())
    }

    /// As one text, without and with the scheme's own port.
    fn written(&self) -> Vec<String> {
        let Self { scheme, host, rest, port } = self;
        match port {
            Port::Is(port) => vec![format!("{scheme}://{host}:{port}{rest}")],
            Port::Usual | Port::Any => {
                vec![format!("{scheme}://{host}{rest}"), format!("{scheme}://{host}:{}{rest}", usual(scheme))]
            }
        }
    }

    /// With a path in which nothing is escaped, and no slash stands beside another.
    fn decoded(&self) -> Self {
        let (path, behind) = self.path_and_behind();
        let plain = String::from_utf8_lossy(&crate::text::url::percent_decoded(path)).replace('\\', "/");
        let parts: Vec<&str> = plain.split('/').filter(|part| !part.is_empty()).collect();
        let slash = if plain.ends_with('/') && !parts.is_empty() { "/" } else { "" };
        let rest = format!("{}{behind}", resolved(&format!("{}{slash}", parts.join("/"))));
        Self { rest, ..self.clone() }
    }

    /// The path, and the query and fragment.
    fn path_and_behind(&self) -> (&str, &str) {
        self.rest.split_at(self.rest.find(['?', '#']).unwrap_or(self.rest.len()))
    }

    /// The same part by part. Stars in the place of a host stay within the host.
    fn is_matched(&self, text: &str, pattern: &str) -> bool {
        let Some(pattern) = Self::pattern(pattern) else { return matches(pattern, text) };
        let is_port = match (&pattern.port, &self.port) {
            (Port::Any, _) => true,
            (Port::Is(pattern), Port::Is(port)) => matches(pattern, port),
            (wanted, port) => {
                wanted == port || matches!((wanted, port), (Port::Is(all), _) if all.starts_with('*'))
            }
        };
        is_port
            && matches(&pattern.scheme, &self.scheme)
            && matches(&pattern.host, &self.host)
            && matches(&pattern.rest, &self.rest)
    }
}

/// `HOST:PATH`
fn secure_shell(text: &str) -> Option<(String, String)> {
    let (host, path) = text.split_once(':').filter(|(host, _)| !host.contains('/'))?;
    Some(("ssh".to_owned(), format!("{host}/{}", path.trim_start_matches('/'))))
}

fn matches(pattern: &str, text: &str) -> bool {
    super::matches(pattern.as_bytes(), text.as_bytes())
}

fn authority_end(text: &str) -> usize {
    text.find(['/', '?', '#']).unwrap_or(text.len())
}

/// Without the user.
fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    }
}

/// The port of a scheme; 0 of one that is not known.
fn usual(scheme: &str) -> u16 {
    match scheme {
        "http" => 80,
        "https" => 443,
        "ssh" => 22,
        "git" => 9418,
        _ => 0,
    }
}

fn port_of(scheme: &str, port: Option<&str>) -> Port {
    let usual = usual(scheme);
    match port.map(|port| (port, port.parse::<u16>())) {
        None | Some(("", _)) => Port::Usual,
        Some((_, Ok(port))) if port == usual => Port::Usual,
        Some((_, Ok(port))) => Port::Is(port.to_string()),
        Some((port, Err(_))) => Port::Is(port.to_owned()),
    }
}

/// A host as everybody writes it.
fn spelled(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(Ok(address)) = bracketed.map(str::parse::<Ipv6Addr>) {
        return address.to_ipv4_mapped().map_or_else(|| format!("[{address}]"), |mapped| mapped.to_string());
    }
    numeric(host).map_or_else(|| host.to_owned(), |address| address.to_string())
}

/// What the system's resolver takes for an address: `127.1`, `0x7f000001`.
fn numeric(host: &str) -> Option<Ipv4Addr> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    };
    let parts = host.split('.').map(number).collect::<Option<Vec<u32>>>()?;
    let (last, first) = parts.split_last().filter(|(_, first)| first.len() < 4)?;
    let bits = 32 - 8 * u32::try_from(first.len()).ok()?;
    let fits = u64::from(*last) < 1 << bits && first.iter().all(|part| *part < 256);
    fits.then(|| {
        let high = first.iter().zip([24, 16, 8]).map(|(part, by)| part << by).sum::<u32>();
        Ipv4Addr::from(high | last)
    })
}

/// A path without `.` and `..`, without needless escapes; what follows it stays.
fn path(rest: &str) -> String {
    let (path, behind) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let (mut plain, mut from) = (String::with_capacity(path.len()), 0);
    while let Some(at) = path[from..].find('%').map(|at| from + at) {
        plain.push_str(&path[from..at]);
        let byte = path.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte)) {
            Some(byte) => {
                plain.push(char::from(byte));
                from = at + 3;
            }
            // Its digits may be small.
            None => {
                plain.push('%');
                let digits = path
                    .get(at + 1..at + 3)
                    .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                plain.push_str(&digits.unwrap_or("").to_ascii_uppercase());
                from = at + 1 + digits.map_or(0, str::len);
            }
        }
    }
    plain.push_str(&path[from..]);
    format!("{}{behind}", resolved(&plain))
}

/// An absolute path without `.` and `..`.
fn resolved(plain: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let plain = plain.strip_prefix('/').unwrap_or(plain);
    let last = plain.split('/').next_back().is_some_and(|part| part == "." || part == "..");
    for part in plain.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let slash = if last && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

/// The name of an image with its registry in one spelling; of a pattern, too.
pub(super) fn image(name: &str) -> String {
    let Some((registry, rest)) = name.split_once('/') else { return name.to_owned() };
    let (host, port) = host_and_port(registry);
    // A star stands for other ports, too.
    if host.contains('*') && port.is_some() {
        return name.to_owned();
    }
    let host = match spelled(host).as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
        host => host.to_owned(),
    };
    match port_of("https", port) {
        Port::Is(port) => format!("{host}:{port}/{rest}"),
        Port::Usual | Port::Any => format!("{host}/{rest}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn is_about(pattern: &str, url: &str) -> bool {
        Url::of(url).unwrap().is_matched(url, pattern)
    }

    #[test]
    fn what_denies_is_about_all_that_it_can_be_read_as() {
        for (pattern, url) in [
            ("https://h/@scope/**", "https://h/%40scope/x"),
            ("https://h/a%2Fb/**", "https://h/a%2fb/x"),
            ("https://h/secret/**", "https://h//secret/x"),
            ("https://h/secret/**", "https://h/ok/..%2fsecret/x"),
            ("https://h/%7Eu/**", "https://h/~u/x"),
            ("https://h/%7Eu/**", "https://h/%7Eu/x"),
            ("https://**.sh", "https://h/a/b.sh"),
            ("https://**secret**", "https://h/a/secret/b"),
            ("**evil.example/**", "http://EVIL.example/x"),
            ("**evil.example/**", "http://evi%6c.example/x"),
            ("http**", "HTTP://h/x.git"),
            ("http:**", "http://h/x"),
            ("**:8080/**", "http://h:8080/x"),
            ("*://h:443/**", "https://h:443/x"),
            ("https://127.0.0.1/**", "https://[::ffff:127.0.0.1]/x"),
        ] {
            assert!(Url::of(url).unwrap().may_be(url, pattern), "{pattern} {url}");
        }
        for (pattern, url) in [("https://h/secret/**", "https://h/secrets/x"), ("http:**", "https://h/x")] {
            assert!(!Url::of(url).unwrap().may_be(url, pattern), "{pattern} {url}");
        }
        // What allows is not about what leads elsewhere.
        let is = |pattern: &str, url: &str| Url::of(url).unwrap().is(url, pattern);
        assert!(!is("https://h/ok/**", "https://h/ok/..%2fsecret"));
        assert!(!is("https://h/ok/**", "https://h/ok/%2e%2e%5Csecret"));
        assert!(is("https://h/ok/**", "https://h/ok/a%2fb") && is("https://h/%7Eu/**", "https://h/~u/x"));
        assert!(!is("https://**.sh", "https://h/a/b.sh"), "a host alone");
        assert_eq!(numeric("255.256.0.1"), None);
        assert_eq!(image("*:443/**"), "*:443/**");
    }

    #[test]
    fn a_star_in_the_place_of_a_host_stays_there() {
        let pattern = "http://*.example.org/**";
        for url in ["http://a.example.org/x", "http://a.example.org", "HTTP://u:p@A.Example.org:80/x?y"] {
            assert!(is_about(pattern, url), "{url}");
        }
        for url in [
            "http://127.0.0.1:5919?.example.org/x",
            "http://u@127.0.0.1:5919#.example.org/x",
            "http://u@127.0.0.1:5919/.example.org/x",
            "http://127.0.0.1\\.example.org/x",
            "http://a.example.org@127.0.0.1/x",
            "http://a.example.org\\@127.0.0.1/x",
            "http://a.example.org:81/x",
            "https://a.example.org/x",
        ] {
            assert!(!is_about(pattern, url), "{url}");
        }
        assert!(is_about("**", "http://h:1/x") && is_about("https://**", "https://h:1/x/y"));
        assert!(is_about("http://*/**", "http://h:81/x") && is_about("*://h/x", "https://h/x"));
        assert!(is_about("http://h:*/x", "http://h/x") && is_about("http://h:*/x", "http://h:81/x"));
        assert!(!is_about("https://h/*", "https://h/x/y") && is_about("https://h", "https://h/"));
    }

    #[test]
    fn other_spellings_are_the_same_place() {
        for url in [
            "http://LOCALHOST:5919/x",
            "http://u@localhost:5919/x",
            "http://localhost:05919/x",
            "http://localhost:5919?/x",
            "http://localhost.:5919/x",
            "http://%6cocalhost:5919/x",
        ] {
            assert!(is_about("http://localhost:5919/**", url), "{url}");
        }
        for (pattern, url) in [
            ("http://localhost:80/**", "http://localhost/x"),
            ("http://127.0.0.1/**", "http://127.1/x"),
            ("http://127.0.0.1/**", "http://0x7f000001/x"),
            ("http://127.0.0.1/**", "http://0177.0.0.1/x"),
            ("http://[::1]:5/**", "http://[0:0:0:0:0:0:0:1]:5/x"),
            ("https://h/secret/*", "https://h/a/../%73ecret/%2e/x"),
            ("ssh://h.example/**", "git@H.example:o/r.git"),
            ("git@h.example:o/**", "git@h.example:o/r.git"),
            ("https://github.com/o/*", "github.com/o/r"),
        ] {
            assert!(is_about(pattern, url), "{pattern} {url}");
        }
        assert!(!is_about("https://h/a/**", "https://h/a/../b"));
    }

    #[test]
    fn registries_have_one_spelling() {
        for (name, spelled) in [
            ("LOCALHOST:5918/bb:1", "localhost:5918/bb:1"),
            ("r.example.org:443/A", "r.example.org/A"),
            ("r.example.org.:05000/a", "r.example.org:5000/a"),
            ("registry-1.docker.io/library/a", "docker.io/library/a"),
            ("**", "**"),
            ("*/a", "*/a"),
        ] {
            assert_eq!(image(name), spelled);
        }
    }
}
