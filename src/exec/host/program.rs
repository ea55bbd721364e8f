//! The file that the processes of steps run from.
//!
//! Until it executes its command, a step's process runs rbuild's program, and a command that is a link to
//! `/proc/self/exe` is that program: whoever executes it inside can open the file there, and write to it once
//! nobody runs it (as in CVE-2019-5736). No look at the command beforehand prevents that, because another step may
//! exchange what was looked at. So the zygote, and with it all that it forks, runs from a file that nobody can
//! write to: rbuild's own through a read-only mount at no place, or else a sealed copy of it in memory.
//!
//! The mount costs three system calls. As soon as the zygote has started it belongs to no namespace any more, so that not
//! even CAP_SYS_ADMIN can make it writable. The copy costs memory and some milliseconds.
//!
//! Workers run from the file itself: no command comes from them, and none sees them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::exec::step::mounts;
use crate::exec::sys;

/// Which file to execute as a copy of rbuild.
#[derive(Debug, Clone)]
pub(super) struct Program(pub(super) PathBuf);

/// The program as a file that nobody can write to, however they got hold of it.
#[derive(Debug)]
pub(in crate::exec) struct Protected(OwnedFd);

impl Protected {
    /// Takes the mount that was made already, or makes one where this process may mount, or a copy.
    pub(super) fn of(program: &Program, mounted: Option<OwnedFd>) -> io::Result<Self> {
        if let Some(mounted) = mounted.or_else(|| mount(&program.0).ok()) {
            return Ok(Self(mounted));
        }
        let doing = |error: io::Error| {
            let text = "rbuild's own program can be protected from steps neither by a read-only mount nor by a copy in memory";
            io::Error::new(error.kind(), format!("{text} ({error}); does `vm.memfd_noexec` forbid it?"))
        };
        copy(&program.0).map(Self).map_err(doing)
    }

    /// For this process, as long as the value lives.
    pub(in crate::exec) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// The program of this process, on a read-only mount. The process may have entered another mount namespace since it
/// started, in which the program is looked for by its path.
pub(super) fn mount_own() -> io::Result<OwnedFd> {
    let mounted = mount(&std::fs::read_link("/proc/self/exe")?)?;
    let (own, found) = (rustix::fs::stat("/proc/self/exe")?, rustix::fs::fstat(&mounted)?);
    match (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino) {
        true => Ok(mounted),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// A file on a mount of its own, which is attached nowhere. It ends with the descriptor and the last process that runs it.
fn mount(file: &Path) -> io::Result<OwnedFd> {
    let mount = mounts::clone_tree(rustix::fs::CWD, &file.to_string_lossy())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    sys::add_mount_attributes(mount.as_fd(), attributes.bits().into())?;
    Ok(mount)
}

/// A copy in memory that cannot be changed any more.
fn copy(file: &Path) -> io::Result<OwnedFd> {
    let mut from = File::open(file)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 wants to be told that it will be executed; older ones do not know the flag.
    let memory = match rustix::fs::memfd_create("rbuild", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("rbuild", flags),
        made => made,
    }?;
    let mut memory = File::from(memory);
    io::copy(&mut from, &mut memory)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    // What is open for writing cannot be executed.
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_copy_runs_and_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        std::fs::write(&file, "#!/bin/sh\necho \"ran $1\"\n").unwrap();
        let Protected(copy) = Protected(copy(&file).unwrap());
        // A script is opened by its interpreter, so the descriptor has to be there still.
        let path = format!("/proc/{}/fd/{}", std::process::id(), copy.as_raw_fd());
        assert_ne!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o111, 0);
        let output = Command::new(&path).arg("well").output().unwrap();
        assert_eq!(output.stdout, b"ran well\n");
        let again = File::options().write(true).open(&path).unwrap();
        assert_eq!(rustix::io::write(&again, b"x"), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&again, 0), Err(Errno::PERM));
        let refused = rustix::fs::fcntl_add_seals(&again, SealFlags::empty());
        assert_eq!(refused, Err(Errno::PERM));
    }
}
