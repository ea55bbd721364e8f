//! A range of ids that nobody has, to propose to whom has none.
//!
//! A range that two users have makes the files of one the other's, so a fixed one cannot be proposed.

use std::fs;
use std::ops::RangeInclusive;

/// How many ids a range has: as many as images use, and as `useradd` gives.
const SIZE: u64 = 65_536;

/// Where `useradd` begins and ends, unless `/etc/login.defs` says otherwise (`SUB_UID_MIN`, `SUB_UID_MAX`).
const USUAL: RangeInclusive<u64> = 100_000..=600_100_000;

/// Which ranges a user lacks, and who that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The user's name or number.
    user: String,
    /// `/etc/passwd` has the user, under that name: else `usermod` knows nobody of it.
    is_local: bool,
    /// Of `/etc/subuid` and `/etc/subgid`, those that have no range.
    files: Vec<&'static str>,
    /// First id of a range that nobody has, in either file.
    free: Option<u64>,
}

impl Lack {
    /// Of a user whose ranges are missing in `files`; looks for a free one.
    pub(super) fn find(user: String, files: Vec<&'static str>) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let passwd = read("/etc/passwd");
        let is_local = passwd.lines().any(|line| line.split(':').next() == Some(user.as_str()));
        let mut taken: Vec<_> =
            ["/etc/subuid", "/etc/subgid"].iter().flat_map(|path| given(&read(path))).collect();
        taken.extend([passwd, read("/etc/group")].iter().flat_map(|text| accounts(text)));
        let here = ["/proc/self/uid_map", "/proc/self/gid_map"].map(|path| mapped(&read(path)));
        Self { user, is_local, files, free: free_range(&taken, &here) }
    }

    /// What is missing, and where.
    pub(super) fn text(&self) -> String {
        format!("there is no range for `{}` in {}", self.user, self.files.join(" and "))
    }

    /// What root types to add ranges that nobody has. `None`: there are none.
    pub(super) fn remedy(&self) -> Option<String> {
        let (first, user) = (self.free?, &self.user);
        if !self.is_local {
            // `usermod` changes nobody who comes from elsewhere than /etc/passwd.
            return Some(format!("echo {user}:{first}:{SIZE} | sudo tee -a {}", self.files.join(" ")));
        }
        let last = first + SIZE - 1;
        let flags = self.files.iter().map(|file| match *file {
            "/etc/subuid" => format!(" --add-subuids {first}-{last}"),
            _ => format!(" --add-subgids {first}-{last}"),
        });
        Some(format!("sudo usermod{} {user}", flags.collect::<String>()))
    }
}

/// The first id of a range that is in none of `taken` and in all of `here`.
fn free_range(taken: &[RangeInclusive<u64>], here: &[Vec<RangeInclusive<u64>>]) -> Option<u64> {
    let mut first = *USUAL.start();
    while first + SIZE - 1 <= *USUAL.end() {
        let last = first + SIZE - 1;
        let overlapping = taken.iter().filter(|range| *range.start() <= last && *range.end() >= first);
        match overlapping.map(|range| *range.end()).max() {
            Some(end) => first = end + 1,
            None => {
                let is_within = |ids: &Vec<RangeInclusive<u64>>| {
                    ids.iter().any(|range| range.contains(&first) && range.contains(&last))
                };
                // Inside of a container there may be fewer ids than on the machine.
                return here.iter().all(is_within).then_some(first);
            }
        }
    }
    None
}

/// Every range of `/etc/subuid` or `/etc/subgid`, whoever has it.
fn given(text: &str) -> Vec<RangeInclusive<u64>> {
    let fields = |line: &str| {
        let mut fields = line.trim().split(':').skip(1);
        range(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)
    };
    text.lines().filter_map(fields).collect()
}

/// The ids of `/etc/passwd` or `/etc/group`.
fn accounts(text: &str) -> Vec<RangeInclusive<u64>> {
    let id = |line: &str| range(line.split(':').nth(2)?.parse().ok()?, 1);
    text.lines().filter_map(id).collect()
}

/// The ids that exist here, from a map of a user namespace.
fn mapped(text: &str) -> Vec<RangeInclusive<u64>> {
    let fields = |line: &str| {
        let mut fields = line.split_whitespace();
        range(fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok()?)
    };
    text.lines().filter_map(fields).collect()
}

/// From numbers of 32 bits, as all ids are. `None`: it is empty.
fn range(first: u32, count: u32) -> Option<RangeInclusive<u64>> {
    let last = (u64::from(first) + u64::from(count)).checked_sub(1)?;
    (count > 0).then_some(u64::from(first)..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_nobody_has_is_proposed() {
        let all = [mapped("         0          0 4294967295\n"), mapped("0 0 4294967295\n")];
        let free = |subuid: &str, passwd: &str| free_range(&[given(subuid), accounts(passwd)].concat(), &all);
        assert_eq!(free("", "root:x:0:0::/:/bin/sh\n"), Some(100_000));
        assert_eq!(free("them:100000:65536\n", ""), Some(165_536));
        assert_eq!(free("b:165536:65536\na:100000:65536\n# note\nbroken\nc:1:0\n", ""), Some(231_072));
        assert_eq!(free("a:90000:20000\n", "far:x:110005:7::/:/bin/sh\n"), Some(110_006));
        assert_eq!(free("a:165535:1\n", ""), Some(165_536), "the last id counts");
        assert_eq!(free("a:165536:1\n", ""), Some(100_000), "the next one does not");
        assert_eq!(free("a:100000:4294867295\n", ""), None);
        let container = [mapped("0 1000 1\n1 100000 65536\n"), mapped("0 0 4294967295\n")];
        assert_eq!(free_range(&[], &container), None, "these ids do not exist here");
    }

    #[test]
    fn only_what_is_missing_is_added() {
        let lack = |is_local, files: &[&'static str]| Lack {
            user: "me".into(),
            is_local,
            files: files.to_vec(),
            free: Some(165_536),
        };
        let both = ["/etc/subuid", "/etc/subgid"];
        assert_eq!(
            lack(true, &both).remedy().unwrap(),
            "sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 me"
        );
        assert_eq!(lack(true, &both[1..]).remedy().unwrap(), "sudo usermod --add-subgids 165536-231071 me");
        assert_eq!(
            lack(false, &both).remedy().unwrap(),
            "echo me:165536:65536 | sudo tee -a /etc/subuid /etc/subgid"
        );
        assert_eq!(Lack { free: None, ..lack(true, &both) }.remedy(), None);
    }
}
