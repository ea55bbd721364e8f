//! The user namespace of a build without root: made once, kept alive by an open file.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Mutex;

use rustix::mount::MountPropagationFlags;
use rustix::process::{Gid, Uid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::free_ids::Lack;
use super::program::{self, Program};
use crate::exec::privilege::Privilege;
use crate::exec::step::caps;
use crate::exec::sys;
use crate::exec::wire::channel;
use crate::exec::wire::spawn::Process;
use crate::sync::lock;

/// Why there is no user namespace, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsernsError {
    /// Debian's switch is off.
    #[error(
        "user namespaces are off for ordinary users; `sysctl kernel.unprivileged_userns_clone=1` turns them on"
    )]
    SwitchedOff,
    /// The limit of user namespaces is 0.
    #[error("no user namespaces are allowed; `sysctl user.max_user_namespaces=15000` allows them")]
    LimitIsZero,
    /// Ubuntu's restriction.
    #[error(
        "AppArmor keeps ordinary users from using user namespaces; \
         `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or a profile for rbuild with `userns,`, allows them"
    )]
    AppArmor,
    /// The kernel, or the container that we run in, refuses for a reason of its own.
    #[error("the kernel refuses a user namespace (errno {errno}); are we in a container that forbids them?")]
    Refused {
        /// The kernel's word.
        errno: i32,
    },
    /// A user namespace alone is not enough: nothing would end what a step leaves running, and keep it from other processes.
    #[error("user namespaces are allowed, and pid namespaces in them are not (errno {errno})")]
    NoPidNamespace {
        /// The kernel's word.
        errno: i32,
    },
    /// Root without capabilities, as with docker's `--cap-drop ALL`.
    #[error(
        "root without CAP_SETFCAP has no user namespace (Linux 5.12): another user has, or give the capability"
    )]
    BareRoot,
    /// The mapping tools failed.
    #[error("`{tool}` cannot map ids: {message}")]
    Mapping {
        /// newuidmap or newgidmap.
        tool: String,
        /// What it said.
        message: String,
    },
}

/// Why a build without root has one id only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SingleIdReason {
    /// The tools are missing.
    #[error("`newuidmap` and `newgidmap` are not installed (package `uidmap`)")]
    NoTools,
    /// No entry for the user.
    #[error("{}{}", .0.text(), .0.remedy().map(|line| format!("; `{line}` adds one")).unwrap_or_default())]
    NoRange(Lack),
    /// The tools are there, but do not work.
    #[error("{0}")]
    Broken(UsernsError),
}

/// One line of /etc/subuid or /etc/subgid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IdRange {
    /// First id of the machine.
    start: u32,
    count: u32,
}

/// How ids get into a new namespace.
enum Mapping {
    /// All that exist here, as they are: for root of a container.
    Identity,
    /// Through newuidmap and newgidmap.
    Tools { uids: Vec<IdRange>, gids: Vec<IdRange> },
    /// Root only.
    Single,
}

/// A user namespace in which rbuild's user is root.
#[derive(Debug)]
pub(super) struct Userns {
    pub(super) file: OwnedFd,
    pub(in crate::exec) privilege: Privilege,
    pub(super) why_single: Option<SingleIdReason>,
    /// The program on a read-only mount, which only root of the namespace could make.
    program: Mutex<Option<OwnedFd>>,
}

impl Userns {
    /// Makes one, with all ids that the user may map, else with a single one.
    pub(super) fn create(program: &Program) -> Result<Self, UsernsError> {
        if caps::may_map_ids() {
            return Self::hold(program, &Mapping::Identity);
        }
        let reason = match ranges() {
            Ok((uids, gids)) => match Self::hold(program, &Mapping::Tools { uids, gids }) {
                Err(error @ UsernsError::Mapping { .. }) => SingleIdReason::Broken(error),
                held => return held,
            },
            Err(reason) => reason,
        };
        Ok(Self { why_single: Some(reason), ..Self::hold(program, &Mapping::Single)? })
    }

    /// The program, for the first who asks.
    pub(super) fn take_program(&self) -> Option<OwnedFd> {
        lock(&self.program).take()
    }

    /// A process enters a new namespace, we map its ids, open the namespace, and let it go.
    fn hold(program: &Program, mapping: &Mapping) -> Result<Self, UsernsError> {
        let os = |error: io::Error| UsernsError::Refused { errno: error.raw_os_error().unwrap_or(libc::EIO) };
        let mut holder = Process::start(&program.0, "rbuild-userns").map_err(os)?;
        holder.answer().map_err(os)?.map_err(explain_refusal)?;
        let pid = holder.child.id();
        match mapping {
            Mapping::Identity => map_identity(pid).map_err(os)?,
            Mapping::Tools { uids, gids } => {
                map(pid, "newuidmap", rustix::process::geteuid().as_raw(), uids)?;
                map(pid, "newgidmap", rustix::process::getegid().as_raw(), gids)?;
            }
            Mapping::Single => map_single(pid).map_err(|error| match error.raw_os_error() {
                Some(libc::EPERM) if caps::is_bare_root() => UsernsError::BareRoot,
                _ => os(error),
            })?,
        }
        holder.socket.write_all(b"M").map_err(os)?;
        holder.answer().map_err(os)?.map_err(explain_refusal)?;
        holder.answer().map_err(os)?.map_err(|errno| UsernsError::NoPidNamespace { errno })?;
        let mounted = channel::receive(&holder.socket).map_err(os)?.and_then(|(_, mounted)| mounted);
        let file = fs::File::open(format!("/proc/{pid}/ns/user")).map_err(os)?;
        drop(holder.socket);
        holder.child.wait().map_err(os)?;
        let privilege =
            if matches!(mapping, Mapping::Single) { Privilege::Single } else { Privilege::Ranges };
        Ok(Self { file: file.into(), privilege, why_single: None, program: Mutex::new(mounted) })
    }
}

impl Process {
    /// The errno that the holder reports, if any.
    fn answer(&mut self) -> io::Result<Result<(), i32>> {
        let mut answer = [0; 4];
        self.socket.read_exact(&mut answer)?;
        Ok(match i32::from_le_bytes(answer) {
            0 => Ok(()),
            errno => Err(errno),
        })
    }
}

/// The process that a namespace is made from; it ends when rbuild closes the socket.
pub(in crate::exec) fn hold(mut socket: &UnixStream) -> io::Result<()> {
    let errno = |result: io::Result<()>| {
        result.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO)).to_le_bytes()
    };
    socket.write_all(&errno(sys::unshare(UnshareFlags::NEWUSER)))?;
    // rbuild maps the ids and says so.
    if socket.read_exact(&mut [0]).is_ok() {
        socket.write_all(&errno(try_to_mount()))?;
        socket.write_all(&errno(sys::unshare(UnshareFlags::NEWPID)))?;
        // Where there is none, rbuild makes a copy.
        let mounted = program::mount_own().ok();
        channel::send(socket, b"", mounted.as_ref().map(|mounted| mounted.as_fd()))?;
        drop(mounted);
        // Wait for the end of file.
        let _ = socket.read_exact(&mut [0]);
    }
    Ok(())
}

/// AppArmor lets a namespace be made and then refuses everything in it.
fn try_to_mount() -> io::Result<()> {
    sys::unshare(UnshareFlags::NEWNS)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(())
}

/// Moves this (single-threaded) process into the namespace, as its root.
pub(in crate::exec) fn enter(namespace: &OwnedFd, privilege: Privilege) -> rustix::io::Result<()> {
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))?;
    if privilege == Privilege::Ranges {
        rustix::thread::set_thread_groups(&[])?;
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
}

fn explain_refusal(errno: i32) -> UsernsError {
    let sysctl = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    if sysctl("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        return UsernsError::SwitchedOff;
    }
    if sysctl("/proc/sys/user/max_user_namespaces") == "0" {
        return UsernsError::LimitIsZero;
    }
    if sysctl("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        return UsernsError::AppArmor;
    }
    UsernsError::Refused { errno }
}

/// Root of the namespace is us; 1 and up are the ranges.
fn map(pid: u32, tool: &str, own: u32, ranges: &[IdRange]) -> Result<(), UsernsError> {
    let mut command = Command::new(tool);
    command.arg(pid.to_string()).args(["0", &own.to_string(), "1"]);
    let mut next: u32 = 1;
    for range in ranges {
        command.args([next, range.start, range.count].map(|number| number.to_string()));
        next = next.saturating_add(range.count);
    }
    let failed = |message: String| UsernsError::Mapping { tool: tool.to_owned(), message };
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn map_identity(pid: u32) -> io::Result<()> {
    for map in ["uid_map", "gid_map"] {
        let own = fs::read_to_string(format!("/proc/self/{map}"))?;
        fs::write(format!("/proc/{pid}/{map}"), identity_map(&own))?;
    }
    Ok(())
}

/// From `inside outside count` to `inside inside count`.
fn identity_map(own: &str) -> String {
    let fields = own.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter_map(|fields| match fields.as_slice() {
            [inside, _, count] => Some(format!("{inside} {inside} {count}\n")),
            _ => None,
        })
        .collect()
}

fn map_single(pid: u32) -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    fs::write(format!("/proc/{pid}/uid_map"), format!("0 {uid} 1"))?;
    fs::write(format!("/proc/{pid}/gid_map"), format!("0 {gid} 1"))
}

/// The ranges of this user: of user ids, then of group ids.
fn ranges() -> Result<(Vec<IdRange>, Vec<IdRange>), SingleIdReason> {
    if ["newuidmap", "newgidmap"].iter().any(|tool| find_in_path(tool).is_none()) {
        return Err(SingleIdReason::NoTools);
    }
    let uid = rustix::process::geteuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = user_name(&passwd, uid).or_else(|| std::env::var("USER").ok());
    let of = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        parse_ranges(&text, name.as_deref(), uid)
    };
    let found = [("/etc/subuid", of("/etc/subuid")), ("/etc/subgid", of("/etc/subgid"))];
    let missing: Vec<_> =
        found.iter().filter(|(_, ranges)| ranges.is_empty()).map(|(file, _)| *file).collect();
    let [(_, uids), (_, gids)] = found;
    if missing.is_empty() {
        return Ok((uids, gids));
    }
    Err(SingleIdReason::NoRange(Lack::find(name.unwrap_or_else(|| uid.to_string()), missing)))
}

/// Stands for the ranges of ids that users may map, in 16 hexadecimal digits: with others, what is on disk has other owners.
pub(in crate::exec) fn fingerprint_of_ranges() -> String {
    let mut hasher = blake3::Hasher::new();
    for file in ["/etc/subuid", "/etc/subgid"] {
        hasher.update(&fs::read(file).unwrap_or_default()).update(b"\0");
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// A program of PATH.
pub(super) fn find_in_path(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn parse_ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<IdRange> {
    let uid = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (Some(owner) == name || owner == uid).then_some(IdRange { start, count })
        })
        .filter(|range: &IdRange| range.count > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_belong_to_a_name_or_a_number() {
        let text = "alice:100000:65536\n1000:300000:10\nbob:1:2\nbroken\n# note\nalice:900000:0\n";
        let got = parse_ranges(text, Some("alice"), 1000);
        let expected = [IdRange { start: 100_000, count: 65_536 }, IdRange { start: 300_000, count: 10 }];
        assert_eq!(got, expected);
        assert_eq!(identity_map("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
        assert_eq!(parse_ranges(text, None, 7), []);
        assert_eq!(user_name("root:x:0:0::/:/bin/sh\nbob:x:7:7::/:/bin/sh\n", 7).as_deref(), Some("bob"));
    }
}
