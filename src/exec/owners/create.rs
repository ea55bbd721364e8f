//! New files: whose they are.
//!
//! What root makes in a directory without a group of its own is root's, and the kernel makes it. Anything else
//! is made here, so that it is written down before the process can go on.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::call::Call;
use super::caller::{Caller, parent};
use super::identity::Identity;
use super::notify::{Answer, Question};
use super::records;
use super::{Keeping, OwnerSupervisor};
use crate::rootfs::{RecordedDevice, RecordedOwner};

const HERE: u64 = libc::AT_FDCWD as u32 as u64;
/// The least of `struct open_how`: flags, mode, how to resolve.
const OPEN_HOW_BYTES: u64 = 24;

impl OwnerSupervisor {
    /// Who a new file at `path` belongs to.
    fn owner_of_new(&self, caller: Caller, path: &CStr) -> RecordedOwner {
        let who = self.identity(caller.pid);
        if self.keeping == Keeping::Files {
            return owner_on_disk(who, path);
        }
        let folder = parent(path);
        let recorded = self.records.read(&folder, true).unwrap_or_default();
        let mut gid = who.group.files;
        // Without ids of the process's own, only a folder with a group of its own needs a closer look.
        if gid != 0 || recorded.gid != 0 {
            let stat = rustix::fs::stat(&folder);
            if stat.is_ok_and(|stat| Mode::from_raw_mode(stat.st_mode).contains(Mode::SGID)) {
                gid = recorded.gid;
            }
        }
        RecordedOwner::new(who.users.files, gid)
    }

    pub(super) fn make_directory(&mut self, call: Call, question: &Question) -> Result<Answer, Errno> {
        let caller = Caller { pid: question.pid };
        let args = question.args;
        let (directory, path, mode) = match call {
            Call::Mkdir => (HERE, args[0], args[1]),
            _ => (args[0], args[1], args[2]),
        };
        let Ok(path) = caller.path_at(directory, path) else { return Ok(Answer::Continue) };
        let owner = self.owner_of_new(caller, &path);
        if owner.is_usual() {
            return Ok(Answer::Continue);
        }
        masked(caller, || rustix::fs::mkdirat(CWD, &path, Mode::from_raw_mode(mode as u32 & 0o7777)))?;
        self.write_down(&path, owner)
    }

    pub(super) fn make_link(&mut self, call: Call, question: &Question) -> Result<Answer, Errno> {
        let caller = Caller { pid: question.pid };
        let args = question.args;
        let (directory, path) = match call {
            Call::Symlink => (HERE, args[1]),
            _ => (args[1], args[2]),
        };
        let Ok(path) = caller.path_at(directory, path) else { return Ok(Answer::Continue) };
        let owner = self.owner_of_new(caller, &path);
        if owner.is_usual() {
            return Ok(Answer::Continue);
        }
        let target = caller.text(args[0])?;
        rustix::fs::symlinkat(&*target, CWD, &path)?;
        self.write_down(&path, owner)
    }

    /// Devices become empty files that stand for them: in a user namespace there are no others.
    pub(super) fn make_node(&mut self, call: Call, question: &Question) -> Result<Answer, Errno> {
        let caller = Caller { pid: question.pid };
        let args = question.args;
        let (directory, path, mode, device) = match call {
            Call::Mknod => (HERE, args[0], args[1] as u32, args[2]),
            _ => (args[0], args[1], args[2] as u32, args[3]),
        };
        let Ok(path) = caller.path_at(directory, path) else { return Ok(Answer::Continue) };
        let mut owner = self.owner_of_new(caller, &path);
        let kind = FileType::from_raw_mode(mode);
        let permissions = Mode::from_raw_mode(mode & 0o7777);
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            // 0/0 is overlayfs's mark of something deleted.
            if !self.identity(caller.pid).is_privileged() || device == 0 {
                return Err(Errno::PERM);
            }
            if self.keeping == Keeping::Files {
                return Ok(Answer::Continue);
            }
            let is_block = kind == FileType::BlockDevice;
            let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
            owner.device = Some(RecordedDevice { is_block, major, minor });
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            masked(caller, || rustix::fs::openat(CWD, &path, flags, permissions))?;
            if records::set(&path, false, owner).is_err() {
                rustix::fs::unlinkat(CWD, &path, AtFlags::empty())?;
                return Err(Errno::PERM);
            }
            return Ok(Answer::Value(0));
        }
        if owner.is_usual() {
            return Ok(Answer::Continue);
        }
        masked(caller, || rustix::fs::mknodat(CWD, &path, kind, permissions, 0))?;
        self.write_down(&path, owner)
    }

    pub(super) fn open(&mut self, call: Call, question: &Question) -> Result<Answer, Errno> {
        let caller = Caller { pid: question.pid };
        let Ok(Some(wanted)) = wanted_file(caller, call, &question.args) else {
            return Ok(Answer::Continue);
        };
        let Wanted { path, flags, mode } = wanted;
        let owner = self.owner_of_new(caller, &path);
        // A link that leads nowhere would be followed: then the kernel makes what it leads to, for root.
        if owner.is_usual() || rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(Answer::Continue);
        }
        let close_on_exec = flags.contains(OFlags::CLOEXEC);
        let exclusive = flags | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = || -> rustix::io::Result<OwnedFd> { rustix::fs::openat(CWD, &path, exclusive, mode) };
        match masked(caller, open) {
            Ok(file) => {
                match self.keeping {
                    Keeping::Records => self.records.write(&path, false, owner)?,
                    Keeping::Files => {
                        rustix::fs::fchown(
                            &file,
                            Some(Uid::from_raw(owner.uid)),
                            Some(Gid::from_raw(owner.gid)),
                        )?;
                    }
                }
                Ok(Answer::File(file, close_on_exec))
            }
            // Somebody was faster.
            Err(Errno::EXIST) => Ok(Answer::Continue),
            Err(errno) => Err(errno),
        }
    }

    fn write_down(&mut self, path: &CStr, owner: RecordedOwner) -> Result<Answer, Errno> {
        match self.keeping {
            Keeping::Records => self.records.write(path, false, owner)?,
            Keeping::Files => {
                let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
                rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(Answer::Value(0))
    }
}

/// Whose a new file is where files belong to whom they belong: what root makes, the kernel makes right.
fn owner_on_disk(who: &Identity, path: &CStr) -> RecordedOwner {
    let mut gid = who.group.files;
    if (who.users.files, gid) != (0, 0)
        && let Ok(stat) = rustix::fs::stat(parent(path))
        && Mode::from_raw_mode(stat.st_mode).contains(Mode::SGID)
    {
        gid = stat.st_gid;
    }
    RecordedOwner::new(who.users.files, gid)
}

/// What an open call wants to make.
struct Wanted {
    path: CString,
    flags: OFlags,
    mode: Mode,
}

fn wanted_file(caller: Caller, call: Call, args: &[u64; 6]) -> Result<Option<Wanted>, Errno> {
    const CREATING: u32 = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u32;
    let (directory, path, flags, mode) = match call {
        Call::Open => (HERE, args[0], args[1] as u32, args[2]),
        Call::Creat => (HERE, args[0], CREATING, args[1]),
        Call::Openat => (args[0], args[1], args[2] as u32, args[3]),
        _ => {
            let how: [u8; OPEN_HOW_BYTES as usize] =
                if args[3] < OPEN_HOW_BYTES { return Ok(None) } else { caller.bytes(args[2])? };
            let number = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| how[at + i]));
            // Rules about how to resolve the path are for the kernel.
            if number(16) != 0 {
                return Ok(None);
            }
            (args[0], args[1], number(0) as u32, number(8))
        }
    };
    let flags = OFlags::from_bits_retain(flags);
    if !flags.contains(OFlags::CREATE) || flags.contains(OFlags::DIRECTORY) {
        return Ok(None);
    }
    let path = caller.path_at(directory, path)?;
    Ok(Some(Wanted { path, flags, mode: Mode::from_raw_mode(mode as u32 & 0o7777) }))
}

/// Makes something under the umask of the process that wants it.
fn masked<T>(caller: Caller, make: impl FnOnce() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    let own = rustix::process::umask(caller.umask());
    let made = make();
    rustix::process::umask(own);
    made
}
