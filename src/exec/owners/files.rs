//! Answers about files: who owns them, and whom they are given to.

use std::ffi::{CStr, CString};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, StatxFlags, Uid};
use rustix::io::Errno;

use super::call::Call;
use super::caller::Caller;
use super::notify::{self, Answer, Question};
use super::{Keeping, OwnerSupervisor};
use crate::rootfs::RecordedOwner;

const HERE: u64 = libc::AT_FDCWD as u32 as u64;
const NOFOLLOW: u64 = libc::AT_SYMLINK_NOFOLLOW as u64;
const EMPTY_PATH: u64 = libc::AT_EMPTY_PATH as u64;

/// A file that a call names.
pub(in crate::exec) struct Named {
    pub(in crate::exec) path: CString,
    pub(in crate::exec) follow: bool,
}

impl Named {
    fn flags(&self) -> AtFlags {
        if self.follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW }
    }
}

/// `…at` calls: a directory, a path, flags.
pub(in crate::exec) fn named_at(
    caller: Caller,
    directory: u64,
    address: u64,
    flags: u64,
) -> Result<Named, Errno> {
    let path = if address == 0 && flags & EMPTY_PATH != 0 { Vec::new() } else { caller.text(address)? };
    if path.is_empty() {
        let allowed = flags & EMPTY_PATH != 0;
        // The file itself: what an open link leads to is not asked for.
        return if allowed {
            Ok(Named { path: caller.path(directory, b""), follow: true })
        } else {
            Err(Errno::NOENT)
        };
    }
    Ok(Named { path: caller.path(directory, &path), follow: flags & NOFOLLOW == 0 })
}

fn named(caller: Caller, address: u64, follow: bool) -> Result<Named, Errno> {
    Ok(Named { path: caller.path_at(HERE, address)?, follow })
}

fn open_file(caller: Caller, fd: u64) -> Named {
    Named { path: caller.file(fd), follow: true }
}

impl OwnerSupervisor {
    /// The stat… calls. What nobody wrote anything down about, the kernel tells.
    pub(in crate::exec) fn tell_owner(&self, call: Call, question: &Question) -> Result<Answer, Errno> {
        let caller = Caller { pid: question.pid };
        let args = question.args;
        let (file, buffer) = match call {
            Call::Stat => (named(caller, args[0], true), args[1]),
            Call::Lstat => (named(caller, args[0], false), args[1]),
            Call::Fstat => (Ok(open_file(caller, args[0])), args[1]),
            Call::Fstatat => (named_at(caller, args[0], args[1], args[3]), args[2]),
            _ => (named_at(caller, args[0], args[1], args[2]), args[4]),
        };
        // Of what is wrong with the arguments the kernel speaks.
        let Ok(file) = file else { return Ok(Answer::Continue) };
        let Some(owner) = self.records.read(&file.path, file.follow) else { return Ok(Answer::Continue) };
        if call == Call::Statx {
            return write_statx(caller, &file, owner, question);
        }
        let mut stat = rustix::fs::statat(CWD, &file.path, file.flags())?;
        (stat.st_uid, stat.st_gid) = (owner.uid, owner.gid);
        if let Some(device) = owner.device {
            stat.st_mode = (stat.st_mode & 0o7777) | kind_bits(device.is_block);
            stat.st_rdev = rustix::fs::makedev(device.major, device.minor);
        }
        caller.write(buffer, notify::stat_bytes(&stat))?;
        Ok(Answer::Value(0))
    }

    /// The chown calls.
    pub(in crate::exec) fn give(
        &mut self,
        call: Call,
        question: &Question,
        narrow: bool,
    ) -> Result<Answer, Errno> {
        if self.keeping == Keeping::Files && self.identity(question.pid).users.files == 0 {
            return Ok(Answer::Continue);
        }
        let caller = Caller { pid: question.pid };
        let args = question.args;
        let (file, ids) = match call {
            Call::Chown => (named(caller, args[0], true)?, [args[1], args[2]]),
            Call::Lchown => (named(caller, args[0], false)?, [args[1], args[2]]),
            Call::Fchown => (open_file(caller, args[0]), [args[1], args[2]]),
            _ => (named_at(caller, args[0], args[1], args[4])?, [args[2], args[3]]),
        };
        let unchanged = if narrow { 0xffff } else { 0xffff_ffff };
        let mask = unchanged;
        let [uid, gid] = ids.map(|id| Some((id & mask) as u32).filter(|id| u64::from(*id) != unchanged));
        let before = self.owner(&file)?;
        if !self.identity(question.pid).may_give((before.uid, before.gid), uid, gid) {
            return Err(Errno::PERM);
        }
        if self.keeping == Keeping::Files {
            return Ok(Answer::Continue);
        }
        // For the kernel root stays root, but what else a new owner means is done: setuid bits and
        // capabilities go, the time of change is set, and what is read-only is refused.
        let (root_uid, root_gid) = (uid.map(|_| Uid::ROOT), gid.map(|_| Gid::ROOT));
        rustix::fs::chownat(CWD, &file.path, root_uid, root_gid, file.flags())?;
        let after =
            RecordedOwner { uid: uid.unwrap_or(before.uid), gid: gid.unwrap_or(before.gid), ..before };
        if after != before {
            self.records.write(&file.path, file.follow, after)?;
        }
        Ok(Answer::Value(0))
    }

    fn owner(&self, file: &Named) -> Result<RecordedOwner, Errno> {
        match self.keeping {
            Keeping::Records => Ok(self.records.read(&file.path, file.follow).unwrap_or_default()),
            Keeping::Files => {
                let stat = rustix::fs::statat(CWD, &file.path, file.flags())?;
                Ok(RecordedOwner::new(stat.st_uid, stat.st_gid))
            }
        }
    }

    /// The exec calls: a setuid program makes another identity.
    pub(in crate::exec) fn execute(&mut self, call: Call, question: &Question) -> Result<Answer, Errno> {
        let caller = Caller { pid: question.pid };
        let args = question.args;
        let file = match call {
            Call::Execve => named(caller, args[0], true),
            _ => named_at(caller, args[0], args[1], args[4]),
        };
        notify::forget_memory(question.pid);
        let Ok(file) = file else { return Ok(Answer::Continue) };
        let Ok(stat) = rustix::fs::statat(CWD, &file.path, file.flags()) else {
            return Ok(Answer::Continue);
        };
        let mode = Mode::from_raw_mode(stat.st_mode);
        let is_program = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && mode.intersects(Mode::XUSR | Mode::XGRP | Mode::XOTH);
        if !is_program {
            return Ok(Answer::Continue);
        }
        let (mut user, mut group) = (None, None);
        if mode.intersects(Mode::SUID | Mode::SGID) && is_binary(&file.path) {
            let owner = self.owner(&file)?;
            user = mode.contains(Mode::SUID).then_some(owner.uid);
            group = mode.contains(Mode::SGID | Mode::XGRP).then_some(owner.gid);
        }
        let mut who = self.identity(question.pid).clone();
        let before = who.clone();
        who.execute(user, group);
        if who != before {
            self.become_identity(question.pid, who)?;
        }
        Ok(Answer::Continue)
    }
}

fn kind_bits(is_block: bool) -> u32 {
    let kind = if is_block { FileType::BlockDevice } else { FileType::CharacterDevice };
    kind.as_raw_mode()
}

fn write_statx(
    caller: Caller,
    file: &Named,
    owner: RecordedOwner,
    question: &Question,
) -> Result<Answer, Errno> {
    let [_, _, flags, mask, buffer, _] = question.args;
    // Whether the file's server is to be asked (AT_STATX_FORCE_SYNC and so on).
    let flags = file.flags() | AtFlags::from_bits_truncate(flags as u32 & 0x6000);
    let mask = StatxFlags::from_bits_retain(mask as u32);
    let mut stat = rustix::fs::statx(CWD, &file.path, flags, mask)?;
    (stat.stx_uid, stat.stx_gid) = (owner.uid, owner.gid);
    if let Some(device) = owner.device {
        stat.stx_mode = (stat.stx_mode & 0o7777) | kind_bits(device.is_block) as u16;
        (stat.stx_rdev_major, stat.stx_rdev_minor) = (device.major, device.minor);
    }
    caller.write(buffer, notify::statx_bytes(&stat))?;
    Ok(Answer::Value(0))
}

/// Scripts get no identity from their files.
fn is_binary(path: &CStr) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else { return false };
    let mut magic = [0; 4];
    matches!(rustix::io::read(&file, &mut magic), Ok(4)) && magic == *b"\x7fELF"
}
