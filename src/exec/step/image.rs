//! Mounts images of layers: at no place, held by a descriptor, and gone with it.
//!
//! So nothing is left when rbuild is killed, and all steps of a build share one mount, with what the kernel has
//! cached of it. Here it is a directory of `/proc/PID/fd`; the processes around a step are given its descriptor.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::exec::spec::Spec;
use crate::exec::sys;

/// An image that is mounted as long as this value lives.
#[derive(Debug)]
pub struct MountedImage {
    root: OwnedFd,
    /// How the kernel reads it, in a word or two.
    pub how: &'static str,
}

impl MountedImage {
    /// Mounts the EROFS image in `file`, read-only: from the file itself (Linux 6.12), or where the kernel does not take
    /// that from this file system, through a loop device, which goes with the mount.
    ///
    /// # Errors
    /// What the kernel refuses, such as everything without CAP_SYS_ADMIN of the machine.
    pub fn mount(file: &Path) -> io::Result<Self> {
        match mount(file) {
            Ok(root) => Ok(Self { root, how: "from the file" }),
            Err(Errno::NOTBLK) => {
                let device = Loop::over(file)?;
                let root = mount(&device.path)?;
                Ok(Self { root, how: "through a loop device" })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Its root directory, for this process and all that it starts, as long as the value lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.root.as_raw_fd()))
    }
}

/// The lower directories of a step that are images which this process has mounted, each once.
pub(in crate::exec) fn mounted_in(spec: &Spec) -> Vec<PathBuf> {
    let own = PathBuf::from(format!("/proc/{}/fd", std::process::id()));
    let mounted: BTreeSet<&PathBuf> = spec.lowers().filter(|lower| lower.starts_with(&own)).collect();
    mounted.into_iter().cloned().collect()
}

/// Opens such a directory once more, for another process.
pub(in crate::exec) fn reopen(image: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(image, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn mount(source: &Path) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", source)?;
    rustix::mount::fsconfig_set_flag(&context, "ro")?;
    rustix::mount::fsconfig_create(&context)?;
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// A loop device; when nobody has it open or mounted any more, the kernel lets go of its file.
struct Loop {
    path: PathBuf,
    _device: File,
}

impl Loop {
    fn over(file: &Path) -> io::Result<Self> {
        let file = File::open(file)?;
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        // Another process may take the free one in between.
        for _ in 0..64 {
            let number = sys::free_loop(control.as_fd())?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::open(&path)?;
            match sys::configure_loop(device.as_fd(), file.as_fd()) {
                Ok(()) => return Ok(Self { path, _device: device }),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }
}
