//! The texts of `/etc/hosts` and `/etc/resolv.conf` in a step.

use std::fs;
use std::net::IpAddr;

use super::spec::Network;

/// `/etc/hosts`: the loopback names, this host name, and `--add-host`'s names and addresses.
pub fn hosts_text(hostname: &str, extra: &[(String, String)]) -> String {
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        text += &format!("{address}\t{name}\n");
    }
    text
}

/// `/etc/resolv.conf`: this machine's, for a network that reaches what it names.
///
/// On the machine's own network that is every server, a local one such as systemd-resolved's included. On
/// another network local servers are left out; when there was none but systemd-resolved's, the ones that
/// it asks take its place.
pub fn resolv_conf_text(network: Network) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let own = read("/etc/resolv.conf");
    match network {
        Network::Host => own,
        Network::None => without_local_servers(&own, &read("/run/systemd/resolve/resolv.conf")),
    }
}

const SYSTEMD_RESOLVED: &str = "127.0.0.53";

fn without_local_servers(own: &str, systemd: &str) -> String {
    let servers: Vec<&str> = own.lines().filter_map(server).collect();
    let text = if servers == [SYSTEMD_RESOLVED] { systemd } else { own };
    let is_local = |line: &str| {
        let address = server(line).and_then(|text| text.split('%').next()?.parse::<IpAddr>().ok());
        address.is_some_and(|address| address.is_loopback())
    };
    text.lines().filter(|line| !is_local(line)).flat_map(|line| [line, "\n"]).collect()
}

fn server(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    (words.next() == Some("nameserver")).then(|| words.next())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts_follow_the_loopback() {
        let extra = [("fancy.test".to_owned(), "10.9.8.7".to_owned())];
        assert_eq!(
            hosts_text("box", &extra),
            "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.9.8.7\tfancy.test\n"
        );
    }

    #[test]
    fn local_servers_are_replaced_or_left_out() {
        let systemd = "nameserver 10.0.0.1\nsearch lan\n";
        assert_eq!(without_local_servers("nameserver 127.0.0.53\noptions edns0\n", systemd), systemd);
        assert_eq!(
            without_local_servers(
                "search a\nnameserver ::1\nnameserver 9.9.9.9\nnameserver 127.0.0.1\n",
                systemd
            ),
            "search a\nnameserver 9.9.9.9\n"
        );
    }
}
