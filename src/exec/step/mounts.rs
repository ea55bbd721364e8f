//! What every step finds mounted: `/proc`, `/dev`, `/sys`, and the masks over parts of them.
//!
//! The list is that of containerd's default specification as BuildKit changes it (no `/run`, `/sys/fs/cgroup`
//! read-only), with what Docker masks besides.

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags};

use super::target::{Keep, Leaf, Root};
use crate::exec::failure::{Doing as _, Failure};

/// Default of Docker.
const SHM_BYTES: u64 = 64 << 20;

const STAY: Keep = Keep::Stay { uid: 0, gid: 0 };

/// Device nodes: name, major, minor.
const DEVICES: [Device; 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// What BuildKit adds for insecure steps; in a user namespace none of them could be opened.
const INSECURE_DEVICES: [Device; 5] =
    [("kmsg", 1, 11), ("cuse", 10, 203), ("fuse", 10, 229), ("kvm", 10, 232), ("loop-control", 10, 237)];

type Device = (&'static str, u32, u32);

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// One for each processor that has it.
const MASKED_OF_PROCESSORS: &str = "thermal_throttle";

/// Docker's, and what lets root change what the machine's kernel logs.
const READONLY: [&str; 6] =
    ["/proc/bus", "/proc/dynamic_debug", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What decides how the usual file systems are mounted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings {
    /// In a user namespace: devices cannot be made, and less can be mounted.
    pub(super) rootless: bool,
    /// The user namespace has groups besides its root's.
    pub(super) has_groups: bool,
    /// Without masks, `/sys` writable.
    pub(super) insecure: bool,
    /// No `/proc` of its own can be mounted: it is this machine's.
    pub(super) shares_proc: bool,
    pub(in crate::exec) shm_size_bytes: u64,
}

/// Mounts the usual file systems into `root`; `memory` is out of the step's sight.
pub(super) fn mount_usual(root: &mut Root<'_>, memory: &OwnedFd, how: Surroundings) -> Result<(), Failure> {
    let hard = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let proc = match fresh("proc", &[], hard) {
        // With all that covers parts of it, which is not ours to take away.
        Err(Errno::PERM) if how.shares_proc => clone_tree(rustix::fs::CWD, "/proc"),
        mounted => mounted,
    };
    let proc = proc.doing(|| "mount /proc".into())?;
    put(root, &proc, "/proc", STAY)?;
    mount_dev(root, memory, how)?;
    let shm = if how.shm_size_bytes == 0 { SHM_BYTES } else { how.shm_size_bytes };
    let shm = fresh("tmpfs", &[("mode", "1777"), ("size", &shm.to_string())], hard);
    put(root, &shm.doing(|| "mount /dev/shm".into())?, "/dev/shm", STAY)?;
    let mqueue = fresh("mqueue", &[], hard).doing(|| "mount /dev/mqueue".into())?;
    put(root, &mqueue, "/dev/mqueue", STAY)?;
    mount_sys(root, how, hard)?;
    if !how.insecure {
        mask(root, how)?;
    }
    Ok(())
}

/// Moves what [`mount_usual`] mounted into the root of `from` to the same places of another root.
pub(super) fn move_usual(from: &OwnedFd, root: &mut Root<'_>) -> Result<(), Failure> {
    for (name, path) in [("proc", "/proc"), ("dev", "/dev"), ("sys", "/sys")] {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tree =
            rustix::fs::openat(from, name, flags, Mode::empty()).doing(|| format!("open the new {path}"))?;
        put(root, &tree, path, STAY)?;
    }
    Ok(())
}

fn mount_dev(root: &mut Root<'_>, memory: &OwnedFd, how: Surroundings) -> Result<(), Failure> {
    let options = [("mode", "755"), ("size", "65536k")];
    let mut flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    if !how.insecure {
        flags |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    let dev = fresh("tmpfs", &options, flags).doing(|| "mount /dev".into())?;
    put(root, &dev, "/dev", STAY)?;
    for device in DEVICES {
        bind_device(&dev, memory, device, how).doing(|| format!("make /dev/{}", device.0))?;
    }
    if how.insecure && !how.rootless {
        for device in INSECURE_DEVICES {
            make_device(&dev, device).doing(|| format!("make /dev/{}", device.0))?;
        }
    }
    for (name, text) in LINKS {
        rustix::fs::symlinkat(text, &dev, name).doing(|| format!("make /dev/{name}"))?;
    }
    let mut options = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    if how.has_groups {
        options.push(("gid", "5"));
    }
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let pts = fresh("devpts", &options, flags).doing(|| "mount /dev/pts".into())?;
    put(root, &pts, "/dev/pts", STAY)
}

/// Devices are mounted one by one from where the step cannot make more: `/dev` itself, like every file
/// system that the step can write to, opens no devices. Without a device cgroup nothing else would keep
/// root with CAP_MKNOD from the machine's disks.
fn bind_device(dev: &OwnedFd, memory: &OwnedFd, device: Device, how: Surroundings) -> rustix::io::Result<()> {
    let name = device.0;
    let source = if how.rootless {
        clone_tree(rustix::fs::CWD, &format!("/dev/{name}"))?
    } else {
        make_device(memory, device)?;
        clone_tree(memory, name)?
    };
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let target = rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(0o666))?;
    move_onto(&source, target.as_fd())
}

fn make_device(directory: &OwnedFd, (name, major, minor): Device) -> rustix::io::Result<()> {
    let (mode, device) = (Mode::from_raw_mode(0o666), rustix::fs::makedev(major, minor));
    rustix::fs::mknodat(directory, name, FileType::CharacterDevice, mode, device)
}

fn mount_sys(root: &mut Root<'_>, how: Surroundings, hard: MountAttrFlags) -> Result<(), Failure> {
    let readonly = if how.insecure { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
    match fresh("sysfs", &[], hard | readonly) {
        Ok(sys) => {
            put(root, &sys, "/sys", STAY)?;
            mount_cgroup(root, how, hard | readonly)
        }
        // sysfs belongs to a network namespace: without one of its own, a user namespace can only
        // show the machine's, which brings its cgroup mounts along.
        Err(Errno::PERM) => {
            let sys = clone_tree(rustix::fs::CWD, "/sys").doing(|| "bind /sys".into())?;
            put(root, &sys, "/sys", STAY)?;
            if how.insecure {
                Ok(())
            } else {
                restrict(&sys, hard | readonly).doing(|| "make /sys read-only".into())
            }
        }
        Err(errno) => Err(errno).doing(|| "mount /sys".into()),
    }
}

/// The magic number of cgroup2 (`linux/magic.h`).
const CGROUP2_MAGIC: u64 = 0x6367_7270;

fn mount_cgroup(root: &mut Root<'_>, how: Surroundings, flags: MountAttrFlags) -> Result<(), Failure> {
    let Ok(stat) = rustix::fs::statfs("/sys/fs/cgroup") else { return Ok(()) };
    if root.open("/sys/fs/cgroup").doing(|| "find /sys/fs/cgroup".into())?.is_none() {
        return Ok(());
    }
    let doing = || "mount /sys/fs/cgroup".to_owned();
    let own = if stat.f_type as u64 == CGROUP2_MAGIC { fresh("cgroup2", &[], flags).ok() } else { None };
    if let Some(cgroup) = own {
        return put(root, &cgroup, "/sys/fs/cgroup", STAY);
    }
    // Programs only read their limits here. A machine that does not let us show them is no reason to fail.
    let Ok(cgroup) = clone_tree(rustix::fs::CWD, "/sys/fs/cgroup") else { return Ok(()) };
    put(root, &cgroup, "/sys/fs/cgroup", STAY)?;
    if how.insecure { Ok(()) } else { restrict(&cgroup, flags).doing(doing) }
}

fn mask(root: &mut Root<'_>, how: Surroundings) -> Result<(), Failure> {
    for path in READONLY {
        let Some(target) = root.open(path).doing(|| format!("find {path}"))? else { continue };
        let doing = || format!("make {path} read-only");
        let copy = clone_tree(&target, "").doing(doing)?;
        move_onto(&copy, target.as_fd()).doing(doing)?;
        restrict(&copy, MountAttrFlags::MOUNT_ATTR_RDONLY).doing(doing)?;
    }
    let mut empty: Option<OwnedFd> = None;
    let processors = masked_of_processors();
    for path in MASKED.into_iter().chain(processors.iter().map(String::as_str)) {
        let Some(target) = root.open(path).doing(|| format!("find {path}"))? else { continue };
        let doing = || format!("mask {path}");
        let stat = rustix::fs::fstat(&target).doing(doing)?;
        let cover = if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let null = if how.rootless { None } else { root.open("/dev/null").doing(doing)? };
            match null {
                Some(null) => clone_tree(&null, ""),
                None => clone_tree(rustix::fs::CWD, "/dev/null"),
            }
        } else if let Some(first) = &empty {
            clone_tree(first, "")
        } else {
            fresh("tmpfs", &[("size", "0")], MountAttrFlags::MOUNT_ATTR_RDONLY)
        }
        .doing(doing)?;
        move_onto(&cover, target.as_fd()).doing(doing)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            empty.get_or_insert(cover);
        }
    }
    Ok(())
}

/// How often a processor got too hot tells what others on this machine do. Processors that came later are missed, as in
/// Docker; on the machines that have none of these files this is one look.
fn masked_of_processors() -> Vec<String> {
    let path = |number: u32| format!("/sys/devices/system/cpu/cpu{number}/{MASKED_OF_PROCESSORS}");
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    processors(&possible).map(path).filter(|path| std::path::Path::new(path).exists()).collect()
}

/// The numbers in a list as `0-3,8`.
fn processors(list: &str) -> impl Iterator<Item = u32> {
    list.trim().split(',').flat_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) => first..last.min(MOST_PROCESSORS).saturating_add(1),
            _ => 0..0,
        }
    })
}

/// More than Linux knows.
const MOST_PROCESSORS: u32 = 16_384;

/// Makes a new file system, not yet attached anywhere.
pub(in crate::exec) fn fresh(
    kind: &str,
    options: &[(&str, &str)],
    flags: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", kind)?;
    for (key, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(&context, *key)?;
        } else {
            rustix::mount::fsconfig_set_string(&context, *key, *value)?;
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// A detached copy of the mount tree at `path`, or at `directory` itself when `path` is empty.
pub(in crate::exec) fn clone_tree(
    directory: impl std::os::fd::AsFd,
    path: &str,
) -> rustix::io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    rustix::mount::open_tree(directory, path, flags)
}

/// Attaches a detached mount on an open file or directory.
pub(super) fn move_onto(mount: &OwnedFd, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
}

/// Attaches a detached mount at a directory of the root, which is made when missing.
pub(super) fn put(root: &mut Root<'_>, mount: &OwnedFd, path: &str, keep: Keep) -> Result<(), Failure> {
    let target =
        root.open_or_make(path, Leaf::Directory, keep).doing(|| format!("make mount point {path}"))?;
    move_onto(mount, target.as_fd()).doing(|| format!("mount {path}"))
}

/// Adds attributes to a mount, with all below it where the kernel can (5.12). Before that it must be
/// attached already.
pub(super) fn restrict(mount: &OwnedFd, flags: MountAttrFlags) -> std::io::Result<()> {
    match crate::exec::sys::add_mount_attributes(mount.as_fd(), u64::from(flags.bits())) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            let path = CString::new(format!("/proc/self/fd/{}", mount.as_raw_fd()))?;
            let old = [
                (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
                (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
                (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
                (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
            ];
            let flags = old.iter().filter(|(new, _)| flags.contains(*new)).map(|(_, old)| *old);
            rustix::mount::mount_remount(path.as_c_str(), MountFlags::BIND | flags.collect(), c"")?;
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        let numbers = |list| processors(list).collect::<Vec<_>>();
        assert_eq!(numbers("0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(numbers("0\n"), [0]);
        assert_eq!(numbers("").len() + numbers("x,3-1,-").len(), 0);
        assert!(numbers("0-4294967295").len() < 20_000);
    }
}
