//! EXPOSE: ports, ranges and protocols.

/// What one word of EXPOSE says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exposed {
    /// `80/tcp`, one for each port of a range.
    pub(super) ports: Vec<String>,
    /// The protocol has capital letters.
    pub(super) odd_case: bool,
    /// An address or a port of the host was given; it is dropped.
    pub(super) has_host: bool,
}

/// Reads `[IP:][HOSTPORT:]PORT[-PORT][/PROTOCOL]`. The error tells what is wrong.
pub(super) fn parse(word: &str) -> Result<Exposed, String> {
    let (address, host_ports, container) = split(word);
    let (ports, protocol) = container.split_once('/').unwrap_or((container, ""));
    if ports.is_empty() {
        return Err(format!("invalid port `{word}`: no port specified"));
    }
    let protocol = if protocol.is_empty() { "tcp" } else { protocol };
    let lower = protocol.to_ascii_lowercase();
    if !matches!(lower.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid port `{word}`: invalid proto `{protocol}` is none of tcp, udp, sctp"));
    }
    check_address(address)?;
    let (first, last) = range(ports).map_err(|why| format!("invalid containerPort `{ports}`: {why}"))?;
    if !host_ports.is_empty() {
        let (from, to) =
            range(host_ports).map_err(|why| format!("invalid hostPort `{host_ports}`: {why}"))?;
        if first != last && last - first != to - from {
            return Err(format!(
                "invalid ranges specified for container and host ports: `{ports}` and `{host_ports}`"
            ));
        }
    }
    Ok(Exposed {
        ports: (first..=last).map(|port| format!("{port}/{lower}")).collect(),
        odd_case: protocol != lower,
        has_host: !address.is_empty() || !host_ports.is_empty(),
    })
}

fn split(word: &str) -> (&str, &str, &str) {
    match word.rsplit_once(':') {
        None => ("", "", word),
        Some((rest, container)) => match rest.rsplit_once(':') {
            None => ("", rest, container),
            Some((address, host)) => (address, host, container),
        },
    }
}

fn check_address(address: &str) -> Result<(), String> {
    let plain = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if plain.is_empty() || plain.parse::<std::net::IpAddr>().is_ok() {
        Ok(())
    } else {
        Err(format!("invalid IP address: `{address}`"))
    }
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(format!("invalid port range `{text}`"));
    }
    Ok((first, last))
}

fn number(text: &str) -> Result<u16, String> {
    match text.parse::<i64>() {
        Ok(port) => {
            u16::try_from(port).map_err(|_| format!("`{text}` is out of range, ports are 0 to 65535"))
        }
        Err(_) => Err(format!("`{text}` is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        for (word, ports, odd_case, has_host) in [
            ("80", "80/tcp", false, false),
            ("53/UDP", "53/udp", true, false),
            ("7000-7002", "7000/tcp 7001/tcp 7002/tcp", false, false),
            ("80-80/sctp", "80/sctp", false, false),
            ("8080:80", "80/tcp", false, true),
            ("127.0.0.1:8080:80", "80/tcp", false, true),
            ("[::1]:8080:80/udp", "80/udp", false, true),
            ("8000-8010:80", "80/tcp", false, true),
            ("80/", "80/tcp", false, false),
        ] {
            let exposed = parse(word).unwrap_or_else(|error| panic!("{word}: {error}"));
            assert_eq!(exposed.ports.join(" "), ports, "{word}");
            assert_eq!((exposed.odd_case, exposed.has_host), (odd_case, has_host), "{word}");
        }
    }

    #[test]
    fn refuses_what_is_no_port() {
        for word in [
            "http",
            "70000",
            "20-10",
            "80/xyz",
            "-1",
            "",
            "/tcp",
            "1-2:3-5",
            "x:80",
            "a.b:1:2",
            "1-",
            "80-90:1-3",
        ] {
            assert!(parse(word).is_err(), "{word}");
        }
    }
}
