//! What commands find of a network, and what they may use: options of `build`, `run` and `shell`, as docker and buildah
//! have them.

use clap::Args;

use super::configuration::Configuration;
use super::request::{self, all, bad, size};
use crate::cli::Failure;
use crate::exec::{Dns, Limits, PidsLimit};
use crate::pipeline::shell::ShellOptions;
use crate::plan::graph::Network;

/// In one place, because they belong together.
#[derive(Debug, Clone, Args)]
pub(crate) struct LimitArgs {
    /// The network: default, host, none, or pasta for one that does not reach this machine [default: default]
    #[arg(long, value_name = "MODE", help_heading = "Steps")]
    network: Option<String>,

    /// Add a line to /etc/hosts; may be repeated
    #[arg(long, value_name = "HOST:IP", value_delimiter = ',', help_heading = "Steps")]
    add_host: Vec<String>,

    /// The size of /dev/shm, such as 128m
    #[arg(long, value_name = "SIZE", help_heading = "Steps")]
    shm_size: Option<String>,

    /// A limit of each process, such as nofile=1024:2048; may be repeated
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Steps")]
    ulimit: Vec<String>,

    /// Memory that a command may use, such as 512m; needs a control group to divide
    #[arg(short, long, value_name = "SIZE", help_heading = "Steps")]
    memory: Option<String>,

    /// Memory and swap together, -1 for any amount [default: twice --memory]
    #[arg(
        long,
        value_name = "SIZE",
        requires = "memory",
        allow_hyphen_values = true,
        help_heading = "Steps"
    )]
    memory_swap: Option<String>,

    /// Processors that a command may keep busy, such as 1.5
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["cpu_quota", "cpu_period"], help_heading = "Steps")]
    cpus: Option<String>,

    /// Processor time of each period in microseconds
    #[arg(long, value_name = "MICROSECONDS", help_heading = "Steps")]
    cpu_quota: Option<u64>,

    /// That period in microseconds [default: 100000]
    #[arg(long, value_name = "MICROSECONDS", help_heading = "Steps")]
    cpu_period: Option<u64>,

    /// Weight against others, 2 to 262144; 1024 is usual
    #[arg(short, long, value_name = "WEIGHT", value_parser = clap::value_parser!(u64).range(2..=262_144), help_heading = "Steps")]
    cpu_shares: Option<u64>,

    /// Processors that a command may run on, such as 0-2,4
    #[arg(long, value_name = "LIST", help_heading = "Steps")]
    cpuset_cpus: Option<String>,

    /// Memory nodes that a command may use, such as 0,1
    #[arg(long, value_name = "LIST", help_heading = "Steps")]
    cpuset_mems: Option<String>,

    /// One of these limits in buildx's words: `memory=2g`, `cpu-quota=50000`; it goes before the option of that name; may be
    /// repeated
    #[arg(long, value_name = "LIMIT=VALUE", help_heading = "Steps")]
    resource: Vec<String>,

    /// Processes and threads that a command may have at once; -1 for any number [default: a quarter of what this machine
    /// can have, 32768 at most]
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Steps")]
    pids_limit: Option<String>,

    /// A name server instead of this machine's; may be repeated
    #[arg(long, value_name = "IP", help_heading = "Steps")]
    dns: Vec<std::net::IpAddr>,

    /// A domain in which short names are looked for; may be repeated
    #[arg(long, value_name = "DOMAIN", help_heading = "Steps")]
    dns_search: Vec<String>,

    /// An option of /etc/resolv.conf, such as ndots:2; may be repeated
    #[arg(long, value_name = "OPTION", help_heading = "Steps")]
    dns_option: Vec<String>,
}

impl LimitArgs {
    /// `--network`, if it is there, and no other option contradicts it.
    pub(crate) fn network(&self, configuration: &Configuration) -> Result<Network, Failure> {
        let network = request::network(configuration, self.network.as_deref())?;
        let names_host = |text: &&String| text.ends_with("host-gateway");
        match self.add_host.iter().find(names_host).filter(|_| network == Network::Pasta) {
            Some(text) => Err(bad("--add-host", text, "`--network pasta` does not reach this machine")),
            None => Ok(network),
        }
    }

    /// Names and addresses.
    pub(crate) fn extra_hosts(&self) -> Result<Vec<(String, String)>, Failure> {
        all(&self.add_host, "--add-host", request::extra_host)
    }

    /// Bytes; 0 for the usual ones.
    pub(crate) fn shm_size_bytes(&self) -> Result<u64, Failure> {
        self.shm_size.as_deref().map_or(Ok(0), |text| size("--shm-size", text))
    }

    /// The first option that was given of those that a record of a build has the answer to.
    pub(crate) fn recorded(&self) -> Option<&'static str> {
        let given = [
            ("--add-host", !self.add_host.is_empty()),
            ("--network", self.network.is_some()),
            ("--shm-size", self.shm_size.is_some()),
            ("--ulimit", !self.ulimit.is_empty()),
        ];
        given.iter().find_map(|(name, given)| given.then_some(*name))
    }

    /// Name, soft, hard.
    pub(crate) fn ulimits(&self) -> Result<Vec<(String, i64, i64)>, Failure> {
        all(&self.ulimit, "--ulimit", request::ulimit)
    }

    /// Sets everything in the options of a shell. The network only if it was asked for: a kept step has its own.
    pub(crate) fn apply(
        &self,
        options: &mut ShellOptions,
        configuration: &Configuration,
    ) -> Result<(), Failure> {
        let network = self.network(configuration)?;
        options.network = self.network.as_ref().map(|_| network);
        options.extra_hosts = self.extra_hosts()?;
        options.shm_size_bytes = self.shm_size_bytes()?;
        options.ulimits = self.ulimits()?;
        options.limits = self.limits()?;
        options.dns = self.dns()?;
        Ok(())
    }

    /// The limits, or which of them is none.
    pub(crate) fn limits(&self) -> Result<Limits, Failure> {
        match self.resource.is_empty() {
            true => self.own_limits(),
            false => self.with_resources()?.own_limits(),
        }
    }

    /// What `--resource` says in the place of the options that it names.
    fn with_resources(&self) -> Result<Self, Failure> {
        let mut limits = self.clone();
        for text in &self.resource {
            let fail = |reason: &str| bad("--resource", text, reason);
            let (key, value) = text.split_once('=').ok_or_else(|| fail("write it as NAME=VALUE"))?;
            let value = value.trim();
            let number = || value.parse::<u64>().map_err(|_| fail("it is a whole number"));
            match key.trim() {
                "memory" => limits.memory = Some(value.to_owned()),
                "memory-swap" => limits.memory_swap = Some(value.to_owned()),
                "cpu-quota" => (limits.cpu_quota, limits.cpus) = (Some(number()?), None),
                "cpu-period" => (limits.cpu_period, limits.cpus) = (Some(number()?), None),
                "cpu-shares" => {
                    let weight = number()?;
                    if !(2..=262_144).contains(&weight) {
                        return Err(fail("it is 2 to 262144"));
                    }
                    limits.cpu_shares = Some(weight);
                }
                "cpuset-cpus" => limits.cpuset_cpus = Some(value.to_owned()),
                "cpuset-mems" => limits.cpuset_mems = Some(value.to_owned()),
                _ => {
                    let known =
                        "memory, memory-swap, cpu-quota, cpu-period, cpu-shares, cpuset-cpus and cpuset-mems";
                    return Err(fail(&format!("there are {known}")));
                }
            }
        }
        match (&limits.memory, &limits.memory_swap) {
            (None, Some(_)) => Err(bad("--resource", "memory-swap", "it needs `memory`")),
            _ => Ok(limits),
        }
    }

    fn own_limits(&self) -> Result<Limits, Failure> {
        let memory_bytes = self.memory.as_deref().map(|text| size("--memory", text)).transpose()?;
        let memory_swap_bytes = match self.memory_swap.as_deref() {
            None => None,
            Some("-1") => Some(-1),
            Some(text) => {
                let total = size("--memory-swap", text)?;
                if memory_bytes.is_some_and(|memory| total < memory) {
                    return Err(bad(
                        "--memory-swap",
                        text,
                        "it is memory and swap together, so not less than --memory",
                    ));
                }
                Some(i64::try_from(total).unwrap_or(-1))
            }
        };
        let quota = self.cpus.as_deref().map(quota_of).transpose()?;
        let sets = [("--cpuset-cpus", &self.cpuset_cpus), ("--cpuset-mems", &self.cpuset_mems)];
        for (option, set) in sets {
            let is_list = |set: &&String| {
                set.starts_with(|c: char| c.is_ascii_digit())
                    && set.bytes().all(|c| c.is_ascii_digit() || matches!(c, b',' | b'-'))
            };
            if let Some(set) = set.as_ref().filter(|set| !is_list(set)) {
                return Err(bad(option, set, "write it as numbers and ranges, such as 0-2,4"));
            }
        }
        Ok(Limits {
            memory_bytes,
            memory_swap_bytes,
            cpu_quota_us: quota.or(self.cpu_quota),
            cpu_period_us: self.cpu_period,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit.as_deref().map_or(Ok(PidsLimit::Usual), pids_limit)?,
        })
    }

    pub(crate) fn dns(&self) -> Result<Dns, Failure> {
        for (option, texts) in [("--dns-search", &self.dns_search), ("--dns-option", &self.dns_option)] {
            let is_word = |text: &&String| {
                !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
            };
            if let Some(text) = texts.iter().find(|text| !is_word(text)) {
                return Err(bad(option, text, "it is one word"));
            }
        }
        Ok(Dns {
            servers: self.dns.iter().map(ToString::to_string).collect(),
            searches: self.dns_search.clone(),
            options: self.dns_option.clone(),
        })
    }
}

/// As docker has it, 0 is no limit either.
fn pids_limit(text: &str) -> Result<PidsLimit, Failure> {
    match text.parse::<i64>() {
        Ok(-1 | 0) => Ok(PidsLimit::None),
        Ok(most @ 1..=4_194_304) => Ok(PidsLimit::AtMost(most.unsigned_abs())),
        _ => Err(bad("--pids-limit", text, "it is a number of processes, at most 4194304, or -1")),
    }
}

/// Microseconds of the usual period; the kernel takes no less than 1000.
fn quota_of(text: &str) -> Result<u64, Failure> {
    let cpus = text.parse::<f64>().ok().filter(|cpus| (0.01..=8192.0).contains(cpus));
    let cpus = cpus.ok_or_else(|| bad("--cpus", text, "write it as a number of processors, 0.01 or more"))?;
    Ok((cpus * 100_000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: LimitArgs,
    }

    fn limits(line: &str) -> Result<Limits, String> {
        let words = std::iter::once("rbuild").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.args.limits().map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn limits_are_dockers() {
        let got =
            limits("-m 64m --memory-swap=-1 --cpus 1.5 -c 512 --cpuset-cpus 0-1 --pids-limit 9").unwrap();
        let expected = Limits {
            memory_bytes: Some(64 << 20),
            memory_swap_bytes: Some(-1),
            cpu_quota_us: Some(150_000),
            cpu_shares: Some(512),
            cpuset_cpus: Some("0-1".into()),
            pids: PidsLimit::AtMost(9),
            ..Limits::default()
        };
        assert_eq!(got, expected);
        assert!(limits("").unwrap().is_empty());
        let named =
            "-m 1m --cpus 2 --resource memory=64m --resource cpu-quota=50000 --resource cpuset-cpus=0-1";
        let expected = Limits {
            memory_bytes: Some(64 << 20),
            cpu_quota_us: Some(50_000),
            cpuset_cpus: Some("0-1".into()),
            ..Limits::default()
        };
        assert_eq!(limits(named).unwrap(), expected);
        for none in ["--pids-limit -1", "--pids-limit=0"] {
            assert_eq!(limits(none).unwrap().pids, PidsLimit::None);
        }
        for line in [
            "-m 1x",
            "-m 64m --memory-swap 32m",
            "--memory-swap 1g",
            "--cpus 0",
            "--cpus x",
            "-c 1",
            "--cpus 1 --cpu-quota 5",
            "--cpuset-cpus a",
            "--cpuset-mems -1",
            "--pids-limit -2",
            "--pids-limit many",
            "--resource memory",
            "--resource disk=1g",
            "--resource memory-swap=1g",
            "--resource cpu-shares=1",
            "--resource cpu-quota=x",
        ] {
            assert!(limits(line).is_err(), "{line}");
        }
    }
}
