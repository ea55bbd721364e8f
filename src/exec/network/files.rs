//! The texts of `/etc/hosts` and `/etc/resolv.conf` in a step.

use std::fs;
use std::net::IpAddr;

use super::pasta;
use crate::exec::spec::Network;

/// `/etc/hosts`: the loopback names, this host name, and `--add-host`'s names and addresses.
pub fn hosts_text(hostname: &str, extra: &[(String, String)]) -> String {
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in extra {
        text += &format!("{address}\t{name}\n");
    }
    text
}

/// What `/etc/resolv.conf` shall say instead of this machine's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of servers.
    pub servers: Vec<String>,
    /// Domains in which short names are looked for.
    pub searches: Vec<String>,
    /// Such as `ndots:2`.
    pub options: Vec<String>,
}

impl Dns {
    /// Each kind that was given takes the place of the machine's.
    fn change(&self, text: &str) -> String {
        let replaced = [
            (!self.servers.is_empty(), &["nameserver"][..]),
            (!self.searches.is_empty(), &["search", "domain"]),
            (!self.options.is_empty(), &["options"]),
        ];
        let is_kept = |line: &&str| {
            let word = line.split_whitespace().next().unwrap_or("");
            !replaced.iter().any(|(given, words)| *given && words.contains(&word))
        };
        let mut lines: Vec<String> = text.lines().filter(is_kept).map(str::to_owned).collect();
        if !self.searches.is_empty() {
            lines.push(format!("search {}", self.searches.join(" ")));
        }
        lines.extend(self.servers.iter().map(|server| format!("nameserver {server}")));
        if !self.options.is_empty() {
            lines.push(format!("options {}", self.options.join(" ")));
        }
        lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

/// `/etc/resolv.conf`: this machine's, for a network that reaches what it names.
///
/// On the machine's own network that is every server, a local one such as systemd-resolved's included. On
/// another network local servers are left out; when there was none but systemd-resolved's, the ones that
/// it asks take its place.
pub fn resolv_conf_text(network: Network, dns: &Dns) -> String {
    let text = machines_text(network);
    if *dns == Dns::default() { text } else { dns.change(&text) }
}

fn machines_text(network: Network) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let own = read("/etc/resolv.conf");
    match network {
        Network::Host => own,
        Network::None => without_local_servers(&own, &read("/run/systemd/resolve/resolv.conf")),
        Network::Pasta => with_forwarder(&own),
    }
}

/// Where a server is local to this machine, or none is named, which means the same, pasta passes on to it.
fn with_forwarder(own: &str) -> String {
    let servers: Vec<&str> = own.lines().filter_map(server).collect();
    if !servers.is_empty() && !servers.iter().any(|server| is_loopback(server)) {
        return own.to_owned();
    }
    let others = own.lines().filter(|line| server(line).is_none());
    let forwarder = format!("nameserver {}", pasta::NAME_SERVER);
    others.chain([forwarder.as_str()]).flat_map(|line| [line, "\n"]).collect()
}

const SYSTEMD_RESOLVED: &str = "127.0.0.53";

fn without_local_servers(own: &str, systemd: &str) -> String {
    let servers: Vec<&str> = own.lines().filter_map(server).collect();
    let text = if servers == [SYSTEMD_RESOLVED] { systemd } else { own };
    let is_local = |line: &str| server(line).is_some_and(is_loopback);
    text.lines().filter(|line| !is_local(line)).flat_map(|line| [line, "\n"]).collect()
}

fn is_loopback(server: &str) -> bool {
    let address = server.split('%').next().and_then(|text| text.parse::<IpAddr>().ok());
    address.is_some_and(|address| address.is_loopback())
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
    fn what_is_given_replaces_its_kind() {
        let own = "search lan\nnameserver 10.0.0.1\noptions edns0\n";
        let dns = Dns { servers: vec!["1.1.1.1".into(), "::2".into()], ..Dns::default() };
        assert_eq!(dns.change(own), "search lan\noptions edns0\nnameserver 1.1.1.1\nnameserver ::2\n");
        let dns = Dns { searches: vec!["a".into(), "b".into()], options: vec!["ndots:2".into()], ..dns };
        assert_eq!(dns.change(own), "search a b\nnameserver 1.1.1.1\nnameserver ::2\noptions ndots:2\n");
    }

    #[test]
    fn pasta_passes_on_to_local_servers() {
        let own = "search lan\nnameserver 127.0.0.53\nnameserver 9.9.9.9\n";
        assert_eq!(with_forwarder(own), "search lan\nnameserver 169.254.1.1\n");
        assert_eq!(with_forwarder(""), "nameserver 169.254.1.1\n");
        let remote = "nameserver 9.9.9.9\noptions edns0\n";
        assert_eq!(with_forwarder(remote), remote);
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
