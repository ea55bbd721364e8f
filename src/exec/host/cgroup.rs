//! Limits on memory, processor time and processes: a control group for each step.
//!
//! Version 2 where its controllers are ours to give on, version 1 where root finds them there. A group is made by
//! rbuild, gets the step's first process before that has started anything, and goes with the step. What a killed
//! rbuild left, an empty folder, the next one removes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::pids::{OWN, PidsLimit};

/// Of docker and the kernel: 100 ms.
const PERIOD_US: u64 = 100_000;
/// The kernel needs a moment to take the last process out of a group.
const PATIENCE: Duration = Duration::from_millis(500);
const PREFIX: &str = "rbuild-step-";

/// What a step may use; the default is everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together in bytes, -1 for any amount; twice the memory if not said.
    pub memory_swap_bytes: Option<i64>,
    /// Processor time in microseconds of each period.
    pub cpu_quota_us: Option<u64>,
    /// The period in microseconds; 100,000 if not said.
    pub cpu_period_us: Option<u64>,
    /// Weight against others, 2 to 262,144; 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// Processors, such as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, in the same form.
    pub cpuset_mems: Option<String>,
    /// Processes and threads at once.
    pub pids: PidsLimit,
}

/// Why limits cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No group to put a step in.
    #[error("this machine has no control groups that have `{controller}`")]
    NoController {
        /// Such as `memory`.
        controller: &'static str,
    },
    /// There are groups, but they are not ours.
    #[error(
        "the control group {path} is not ours to divide ({error}); \
         `systemd-run --user --scope -p Delegate=yes rbuild …` starts rbuild in one that is"
    )]
    NotDelegated {
        /// Where rbuild is.
        path: PathBuf,
        /// The kernel's word.
        error: io::Error,
    },
    /// The kernel refuses a value.
    #[error("cannot set {file} to `{value}`: {error}")]
    Refused {
        /// The limit's file.
        file: String,
        /// What was written.
        value: String,
        /// The kernel's word.
        error: io::Error,
    },
}

/// A limit in both versions: controller, file and value of each.
struct Setting {
    controller: &'static str,
    new: (&'static str, String),
    old: (&'static str, &'static str, String),
}

impl Limits {
    /// Whether there are none but the usual ones.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether there is something that only a group can hold a step to.
    pub(super) fn wants_group(&self) -> bool {
        !self.settings().is_empty()
    }

    fn settings(&self) -> Vec<Setting> {
        let mut list = Vec::new();
        let mut add = |controller, new: (&'static str, String), old: (&'static str, &'static str, String)| {
            list.push(Setting { controller, new, old });
        };
        if let Some(bytes) = self.memory_bytes {
            add(
                "memory",
                ("memory.max", bytes.to_string()),
                ("memory", "memory.limit_in_bytes", bytes.to_string()),
            );
            let total = self.memory_swap_bytes.or(i64::try_from(bytes.saturating_mul(2)).ok()).unwrap_or(-1);
            let swap = u64::try_from(total).map_or("max".to_owned(), |t| t.saturating_sub(bytes).to_string());
            add(
                "memory",
                ("memory.swap.max", swap),
                ("memory", "memory.memsw.limit_in_bytes", total.to_string()),
            );
        }
        let period = self.cpu_period_us.unwrap_or(PERIOD_US);
        if self.cpu_period_us.is_some() || self.cpu_quota_us.is_some() {
            let quota = self.cpu_quota_us.map_or("max".to_owned(), |quota| quota.to_string());
            let old = self.cpu_quota_us.map_or("-1".to_owned(), |quota| quota.to_string());
            add(
                "cpu",
                ("cpu.max", format!("{quota} {period}")),
                ("cpu", "cpu.cfs_period_us", period.to_string()),
            );
            add("cpu", ("", String::new()), ("cpu", "cpu.cfs_quota_us", old));
        }
        if let Some(shares) = self.cpu_shares {
            // Both scales begin and end together (containers/crun and runc do the same sum).
            let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142;
            add("cpu", ("cpu.weight", weight.to_string()), ("cpu", "cpu.shares", shares.to_string()));
        }
        if let PidsLimit::AtMost(most) = self.pids {
            let most = most.saturating_add(OWN).to_string();
            add("pids", ("pids.max", most.clone()), ("pids", "pids.max", most));
        }
        for (set, name) in [(&self.cpuset_cpus, "cpuset.cpus"), (&self.cpuset_mems, "cpuset.mems")] {
            if let Some(set) = set {
                add("cpuset", (name, set.clone()), ("cpuset", name, set.clone()));
            }
        }
        list
    }
}

/// What a step was held to, and whether that ended it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MemoryUse {
    pub(super) kills: u64,
    pub(super) peak_bytes: u64,
}

/// The group of one step: a folder in each hierarchy that is needed.
#[derive(Debug)]
pub(super) struct Cgroup {
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes a group with these limits.
    pub(super) fn create(limits: &Limits, machine: &Hierarchies) -> Result<Self, CgroupError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut group = Self { folders: Vec::new() };
        for Setting { controller, new, old } in limits.settings() {
            let (place, file, value) = match machine.place(controller)? {
                Place::New(own) => (own, new.0, new.1),
                Place::Old(own) => (own, old.1, old.2),
            };
            if !file.is_empty() {
                let folder = group.folder(&place, &name)?;
                set(&folder, file, &value)?;
            }
        }
        Ok(group)
    }

    fn folder(&mut self, parent: &Path, name: &str) -> Result<PathBuf, CgroupError> {
        let folder = parent.join(name);
        if !self.folders.contains(&folder) {
            remove_left_behind(parent);
            let not_ours = |error| CgroupError::NotDelegated { path: parent.to_owned(), error };
            fs::create_dir(&folder).map_err(not_ours)?;
            self.folders.push(folder.clone());
            // Version 1 wants both sets before it takes a process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let above = fs::read_to_string(parent.join(file)).unwrap_or_default();
                if folder.join(file).exists() && !folder.join("cgroup.controllers").exists() {
                    set(&folder, file, above.trim())?;
                }
            }
        }
        Ok(folder)
    }

    /// Puts a process in, which has not started others yet.
    pub(super) fn add(&self, pid: u32) -> Result<(), CgroupError> {
        self.folders.iter().try_for_each(|folder| set(folder, "cgroup.procs", &pid.to_string()))
    }

    /// Whether the kernel refused the step a process.
    pub(super) fn refused_a_process(&self) -> bool {
        let texts =
            self.folders.iter().filter_map(|folder| fs::read_to_string(folder.join("pids.events")).ok());
        let refusals = |text: &str| {
            text.lines().find_map(|line| line.strip_prefix("max ")?.trim().parse().ok()).unwrap_or(0)
        };
        texts.map(|text| refusals(&text)).sum::<u64>() > 0
    }

    pub(super) fn memory(&self) -> MemoryUse {
        let read =
            |name: &str| self.folders.iter().find_map(|folder| fs::read_to_string(folder.join(name)).ok());
        let number = |name: &str| read(name).and_then(|text| text.trim().parse().ok());
        let events = read("memory.events").or_else(|| read("memory.oom_control")).unwrap_or_default();
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        let peak = number("memory.peak").or_else(|| number("memory.max_usage_in_bytes"));
        MemoryUse { kills: kills.unwrap_or(0), peak_bytes: peak.unwrap_or(0) }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        for folder in &self.folders {
            while fs::remove_dir(folder).is_err() && folder.exists() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Groups without processes, of an rbuild that was killed; the kernel keeps those that have some.
fn remove_left_behind(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn set(folder: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    match fs::write(folder.join(file), value) {
        // A kernel without swap accounting, or without swap, has no such file.
        Err(error) if error.kind() == io::ErrorKind::NotFound && file.contains("sw") => Ok(()),
        other => other.map_err(|error| CgroupError::Refused {
            file: folder.join(file).display().to_string(),
            value: value.to_owned(),
            error,
        }),
    }
}

/// Where groups can be made on this machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Hierarchies {
    /// This process's group of version 2.
    new: Option<PathBuf>,
    /// Those of version 1, by controllers.
    old: Vec<(Vec<String>, PathBuf)>,
}

enum Place {
    New(PathBuf),
    Old(PathBuf),
}

impl Hierarchies {
    /// Those that this process is in.
    pub(super) fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::from_texts(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    fn from_texts(mountinfo: &str, cgroup: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let before: Vec<&str> = before.split(' ').collect();
            let after: Vec<&str> = after.split(' ').collect();
            let (&[_, _, _, root, point, ..], &[kind, _, options, ..]) =
                (before.as_slice(), after.as_slice())
            else {
                continue;
            };
            let controllers: Vec<String> = options.split(',').map(str::to_owned).collect();
            let own = cgroup.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':');
                let (_, list, path) = (fields.next()?, fields.next()?, fields.next()?);
                let fits = match kind {
                    "cgroup2" => list.is_empty(),
                    "cgroup" => {
                        !list.is_empty() && list.split(',').all(|one| controllers.iter().any(|c| c == one))
                    }
                    _ => false,
                };
                // In a container the mount shows the hierarchy from the container's group on.
                let inside = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
                fits.then(|| Path::new(point).join(inside.trim_start_matches('/')))
            });
            match (kind, own) {
                ("cgroup2", Some(own)) => found.new = Some(own),
                ("cgroup", Some(own)) => found.old.push((controllers, own)),
                _ => {}
            }
        }
        found
    }

    /// Whether groups with this controller can be made, and nothing has to move for that.
    pub(super) fn is_divided(&self, controller: &str) -> bool {
        let control = self.new.as_ref().map(|own| fs::read_to_string(own.join("cgroup.subtree_control")));
        let is_new =
            control.and_then(Result::ok).is_some_and(|t| t.split_whitespace().any(|c| c == controller));
        is_new || self.old.iter().any(|(controllers, _)| controllers.iter().any(|c| c == controller))
    }

    /// The folder in which a group with this controller can be made.
    fn place(&self, controller: &'static str) -> Result<Place, CgroupError> {
        let has = |own: &Path, file: &str| {
            fs::read_to_string(own.join(file))
                .is_ok_and(|text| text.split_whitespace().any(|c| c == controller))
        };
        if let Some(own) = self.new.as_ref().filter(|own| has(own, "cgroup.controllers")) {
            if !has(own, "cgroup.subtree_control") {
                delegate(own, controller)?;
            }
            return Ok(Place::New(own.clone()));
        }
        let old = self.old.iter().find(|(controllers, _)| controllers.iter().any(|c| c == controller));
        old.map(|(_, own)| Place::Old(own.clone())).ok_or(CgroupError::NoController { controller })
    }
}

/// Lets groups below `own` have a controller. A group with processes of its own cannot do that, so this
/// process, if nobody else's are there, moves into a group beside those of the steps, with those that it has started.
fn delegate(own: &Path, controller: &str) -> Result<(), CgroupError> {
    let enable = || fs::write(own.join("cgroup.subtree_control"), format!("+{controller}"));
    let not_ours = |error| CgroupError::NotDelegated { path: own.to_owned(), error };
    match enable() {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let aside = own.join(format!("rbuild-{}", std::process::id()));
            fs::create_dir_all(&aside).map_err(not_ours)?;
            let own_pid = std::process::id();
            let here = fs::read_to_string(own.join("cgroup.procs")).unwrap_or_default();
            let here = here.lines().filter_map(|line| line.trim().parse().ok());
            for pid in here.filter(|pid| parent(*pid) == Some(own_pid)).chain([own_pid]) {
                fs::write(aside.join("cgroup.procs"), pid.to_string()).map_err(not_ours)?;
            }
            enable().map_err(not_ours)
        }
        other => other.map_err(not_ours),
    }
}

/// Who started a process.
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MOUNTS: &str = "30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        31 24 0:27 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";

    #[test]
    fn the_groups_of_this_process_are_found() {
        let found = Hierarchies::from_texts(MOUNTS, "4:memory:/box/a\n3:cpu,cpuacct:/\n0::/user/me\n");
        assert_eq!(found.new, Some("/sys/fs/cgroup/unified/user/me".into()));
        let old: Vec<&Path> = found.old.iter().map(|(_, path)| path.as_path()).collect();
        assert_eq!(old, [Path::new("/sys/fs/cgroup/memory/a"), Path::new("/sys/fs/cgroup/cpu/")]);
        assert!(matches!(found.place("cpuset"), Err(CgroupError::NoController { controller: "cpuset" })));
    }

    /// A folder that looks like a group of version 2.
    #[test]
    fn limits_are_written_as_version_2_wants_them() {
        let own = tempfile::tempdir().unwrap();
        fs::write(own.path().join("cgroup.controllers"), "cpuset cpu memory pids").unwrap();
        fs::write(own.path().join("cgroup.subtree_control"), "cpu memory pids").unwrap();
        let machine = Hierarchies { new: Some(own.path().to_owned()), old: Vec::new() };
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            cpu_quota_us: Some(150_000),
            cpu_shares: Some(1024),
            cpuset_cpus: Some("0-1".into()),
            pids: PidsLimit::AtMost(50),
            ..Limits::default()
        };
        assert!(machine.is_divided("pids") && !machine.is_divided("io"));
        let group = Cgroup::create(&limits, &machine).unwrap();
        let read = |name: &str| fs::read_to_string(group.folders[0].join(name)).unwrap();
        assert_eq!([read("memory.max"), read("memory.swap.max")], ["67108864", "67108864"]);
        assert_eq!(
            [read("cpu.max"), read("cpu.weight"), read("cpuset.cpus")],
            ["150000 100000", "39", "0-1"]
        );
        assert_eq!(fs::read_to_string(own.path().join("cgroup.subtree_control")).unwrap(), "+cpuset");
        assert_eq!(read("pids.max"), "55");
        assert!(!group.refused_a_process());
        fs::write(group.folders[0].join("pids.events"), "max 1\n").unwrap();
        assert!(group.refused_a_process());
        group.add(7).unwrap();
        assert_eq!(read("cgroup.procs"), "7");
        fs::write(group.folders[0].join("memory.events"), "low 0\noom 3\noom_kill 2\n").unwrap();
        fs::write(group.folders[0].join("memory.peak"), "67108864\n").unwrap();
        assert_eq!(group.memory(), MemoryUse { kills: 2, peak_bytes: 64 << 20 });
        fs::remove_dir_all(&group.folders[0]).unwrap();
    }

    #[test]
    fn swap_is_what_is_left_of_both() {
        let value = |swap| {
            let limits = Limits { memory_bytes: Some(10), memory_swap_bytes: swap, ..Limits::default() };
            limits.settings().swap_remove(1).new.1
        };
        assert_eq!([value(None), value(Some(15)), value(Some(-1))], ["10", "5", "max"]);
        assert!(Limits::default().is_empty());
    }
}
