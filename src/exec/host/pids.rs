//! How many processes a step may have, and what holds it to that.
//!
//! A number that somebody asked for is held by a control group, which also tells whether it was reached; without root
//! and without such a group, by the kernel's count of processes of each user in a user namespace (Linux 5.14).
//!
//! The usual number is only there to keep a fork bomb from taking the machine along, so it must cost a step nothing:
//! putting a process into a group waits for a grace period of RCU, 10 to 24 ms. Since Linux 6.14 each pid namespace has
//! its own `kernel.pid_max`, which costs one write and holds for every user.

use std::fs;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

use super::cgroup::{Cgroup, CgroupError, Hierarchies, Limits};
use crate::exec::failure::{Doing as _, Failure};
use crate::exec::privilege::Privilege;
use crate::exec::step::mounts;
use crate::exec::sys::{self, pipe};

/// Nothing that builds software was seen with more; a machine of usual size has room for several times as many.
const USUAL: u64 = 32_768;
/// Once the numbers have gone round, the kernel gives no number below this one (`RESERVED_PIDS`).
const RESERVED_PIDS: u64 = 300;
/// Zygote, init, supervisor, pasta and [`Watch`]'s trials, which are no processes of the step, but count with them.
pub(super) const OWN: u64 = 5;
/// How often the init tries to start a process.
const TRIAL_EVERY: Duration = Duration::from_millis(500);
/// After so many trials that were refused, with never [`CALM`] good ones in between, a step does nothing but run into
/// its limit.
const REFUSALS: u32 = 20;
const CALM: u32 = 4;

/// How many processes and threads a step may have at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PidsLimit {
    /// A quarter of what the machine can have, 32,768 at most.
    #[default]
    Usual,
    /// As many as the machine gives.
    None,
    /// So many.
    AtMost(u64),
}

/// What holds a step to its number besides a control group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::exec) enum Bound {
    #[default]
    Nothing,
    /// The largest number of a process in the init's pid namespace.
    Namespace { pid_max: u64 },
    /// RLIMIT_NPROC of the step: each of its users may have so many, in all steps that are under way.
    Users { most: u64, is_fixed: bool },
}

/// What holds one step.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Of this and all other limits.
    pub(super) group: Option<Cgroup>,
    pub(in crate::exec) bound: Bound,
    /// How many processes it may have.
    pub(super) most: Option<u64>,
    /// The group tells whether it had as many.
    pub(super) is_told: bool,
}

impl Hold {
    /// Makes ready what holds a step to these limits.
    pub(in crate::exec) fn prepare(
        limits: &Limits,
        privilege: Privilege,
        shares_proc: bool,
    ) -> Result<Self, CgroupError> {
        match limits.pids {
            PidsLimit::None => Self::in_group(limits),
            PidsLimit::AtMost(most) => match Self::in_group(limits) {
                Err(_) if counts_users(privilege) => {
                    let bound = Bound::Users { most: most.saturating_add(OWN), is_fixed: true };
                    Self::beside(limits, bound, most)
                }
                held => held,
            },
            PidsLimit::Usual => Self::usual(limits, privilege, shares_proc),
        }
    }

    fn usual(limits: &Limits, privilege: Privilege, shares_proc: bool) -> Result<Self, CgroupError> {
        // The container has a limit or none: its numbers of processes are not the step's to bound.
        if privilege == Privilege::Plain {
            return Self::in_group(limits);
        }
        let most = usual();
        // It is set through a /proc that can be written to.
        if has_pid_max_of_namespaces() && !shares_proc {
            return Self::beside(limits, Bound::Namespace { pid_max: most + RESERVED_PIDS }, most);
        }
        let limited = Limits { pids: PidsLimit::AtMost(most), ..limits.clone() };
        if Hierarchies::here().is_divided("pids")
            && let Ok(held) = Self::in_group(&limited)
        {
            return Ok(held);
        }
        match counts_users(privilege) {
            true => Self::beside(limits, Bound::Users { most, is_fixed: false }, most),
            false => Self::in_group(limits),
        }
    }

    fn in_group(limits: &Limits) -> Result<Self, CgroupError> {
        let most = match limits.pids {
            PidsLimit::AtMost(most) => Some(most),
            PidsLimit::Usual | PidsLimit::None => None,
        };
        let group = limits.wants_group().then(|| Cgroup::create(limits, &Hierarchies::here())).transpose()?;
        Ok(Self { is_told: group.is_some() && most.is_some(), group, bound: Bound::Nothing, most })
    }

    /// The other limits in a group, the number of processes not.
    fn beside(limits: &Limits, bound: Bound, most: u64) -> Result<Self, CgroupError> {
        let others = Limits { pids: PidsLimit::None, ..limits.clone() };
        Ok(Self { bound, most: Some(most), ..Self::in_group(&others)? })
    }
}

impl Bound {
    /// What the step's process sets for itself and all that it starts.
    pub(in crate::exec) fn set_for_users(self) -> Result<(), Failure> {
        let Self::Users { most, is_fixed } = self else { return Ok(()) };
        let now = rustix::process::getrlimit(Resource::Nproc);
        let lower = |now: Option<u64>| Some(now.map_or(most, |now| now.min(most)));
        let maximum = if is_fixed { lower(now.maximum) } else { now.maximum };
        let limit = Rlimit { current: lower(now.current), maximum };
        rustix::process::setrlimit(Resource::Nproc, limit).doing(|| "limit the number of processes".into())
    }

    /// What the init sets for its pid namespace, and so for the one of the command below it. Nobody asked for this
    /// limit, so nothing fails without it.
    pub(in crate::exec) fn set_for_namespace(self) {
        let Self::Namespace { pid_max } = self else { return };
        let text = pid_max.to_string();
        // Whose namespace is meant depends on who writes, not on whose /proc it is. A container's is read-only.
        if fs::write("/proc/sys/kernel/pid_max", &text).is_ok() {
            return;
        }
        if let Ok(proc) = mounts::fresh("proc", &[], MountAttrFlags::empty())
            && let flags = OFlags::WRONLY | OFlags::CLOEXEC
            && let Ok(file) = rustix::fs::openat(&proc, "sys/kernel/pid_max", flags, Mode::empty())
        {
            let _ = pipe::write_all(&file, text.as_bytes());
        }
    }
}

/// The init's look at how a step gets on with its limit: a fork bomb that cannot grow any more goes on for ever.
#[derive(Debug)]
pub(in crate::exec) struct Watch {
    next: Instant,
    refusals: u32,
    good: u32,
    /// A process was refused at some time.
    pub(in crate::exec) was_refused: bool,
}

impl Watch {
    pub(in crate::exec) fn new() -> Self {
        Self { next: Instant::now() + TRIAL_EVERY, refusals: 0, good: 0, was_refused: false }
    }

    /// When it wants to look again.
    pub(in crate::exec) fn next(&self) -> Instant {
        self.next
    }

    /// Starts a process beside the init, out of the step's sight but within its limit, if it is time to; tells whether the step has to be ended.
    pub(in crate::exec) fn look(&mut self) -> bool {
        if self.next > Instant::now() {
            return false;
        }
        self.next = Instant::now() + TRIAL_EVERY;
        self.count(is_refused_a_process())
    }

    fn count(&mut self, is_refused: bool) -> bool {
        if is_refused {
            (self.refusals, self.good, self.was_refused) = (self.refusals + 1, 0, true);
        } else {
            self.good += 1;
            if self.good >= CALM {
                self.refusals = 0;
            }
        }
        self.refusals >= REFUSALS
    }
}

fn is_refused_a_process() -> bool {
    match sys::fork() {
        Ok(sys::Fork::Child) => std::process::exit(0),
        Ok(sys::Fork::Parent(child)) => {
            let _ = sys::wait(child);
            false
        }
        Err(error) => error.raw_os_error() == Some(libc::EAGAIN),
    }
}

fn usual() -> u64 {
    let number = |path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let machine = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"].map(number);
    machine.into_iter().flatten().min().map_or(USUAL, |most| (most / 4).clamp(1, USUAL))
}

/// Before, a write would change the number of the whole machine.
fn has_pid_max_of_namespaces() -> bool {
    version(&rustix::system::uname().release().to_string_lossy()) >= Some((6, 14))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether the kernel heeds RLIMIT_NPROC in a step: not for the machine's root, whoever that is in a namespace.
fn counts_users(privilege: Privilege) -> bool {
    let is_root_outside = || {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        rustix::process::geteuid().is_root() && map.split_whitespace().nth(1) == Some("0")
    };
    privilege.has_user_namespace() && !is_root_outside()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_versions() {
        assert_eq!(version("6.18.44-generic"), Some((6, 18)));
        assert_eq!(version("5.14.0-427.el9.x86_64"), Some((5, 14)));
        assert!(version("6.9.1") < Some((6, 14)));
        assert_eq!(version("what"), None);
    }

    #[test]
    fn a_step_is_ended_when_it_does_nothing_else() {
        let ends = |trials: &str| {
            let mut watch = Watch::new();
            trials.chars().any(|trial| watch.count(trial == 'x'))
        };
        assert!(ends(&"x".repeat(20)) && ends(&"x.xx..".repeat(7)));
        assert!(!ends(&"x".repeat(19)) && !ends(&"xxxxxx....".repeat(9)) && !ends(&".".repeat(99)));
    }

    #[test]
    fn the_usual_number_leaves_room_for_others() {
        assert!((1..=USUAL).contains(&usual()));
    }
}
