//! A network of the step's own, and the files that name its resolvers and hosts.

pub(super) mod files;
pub(super) mod pasta;

use std::fs::File;
use std::io::Read as _;

use crate::report::Traffic;

/// Where the kernel counts what goes over the network that this process is in.
#[derive(Debug)]
pub(super) struct Counters(File);

impl Counters {
    /// Of a process whose `/proc` is the machine's still: with the command's root it has the step's, in which it is not.
    pub(super) fn open() -> Option<Self> {
        File::open("/proc/self/net/dev").ok().map(Self)
    }

    /// What went over it until now, but for what stayed in it.
    pub(super) fn read(mut self) -> Option<Traffic> {
        let mut text = String::new();
        self.0.read_to_string(&mut text).ok()?;
        Some(traffic_of(&text))
    }
}

/// Of `/proc/net/dev`: two lines of headings, then `NAME: bytes packets … bytes packets …`, eight numbers each way (proc_pid_net(5)).
fn traffic_of(text: &str) -> Traffic {
    let mut sum = Traffic::default();
    for (name, numbers) in text.lines().skip(2).filter_map(|line| line.split_once(':')) {
        let number =
            |at: usize| numbers.split_whitespace().nth(at).and_then(|number| number.parse::<u64>().ok());
        if let (true, Some(received), Some(sent)) = (name.trim() != "lo", number(0), number(8)) {
            sum.received = sum.received.saturating_add(received);
            sum.sent = sum.sent.saturating_add(sent);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_in_the_machine_is_no_traffic() {
        let text = "Inter-|   Receive   |  Transmit\n face |bytes packets\n    lo:  90 1 0 0 0 0 0 0  90 1 0 0 0 0 0 0\n  eth0: 1500 3 0 0 0 0 0 0 70 2 0 0 0 0 0 0\n  bad: x\n";
        assert_eq!(traffic_of(text), Traffic { received: 1500, sent: 70 });
        assert_eq!(traffic_of(""), Traffic::default());
    }
}
