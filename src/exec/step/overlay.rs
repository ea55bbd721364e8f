//! Mounts overlays.
//!
//! Every directory is opened first and named to the kernel by its descriptor number, relative to
//! `/proc/self/fd`: no path is too long, needs escaping, or is resolved twice. A hundred layers fit where
//! mount(2) would silently cut the options at a page.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags};

use crate::exec::failure::{Doing as _, Failure};
use crate::layer::unpack::OpaqueMark;

/// The directories of one overlay.
pub(in crate::exec) struct Layers {
    /// Top first.
    lowers: Vec<OwnedFd>,
    /// Upper and work.
    writable: Option<(OwnedFd, OwnedFd)>,
}

/// What keeps the upper directory a plain diff; without inode numbers of other file systems.
const OPTIONS: [(&str, &str); 4] =
    [("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow"), ("xino", "off")];

/// What a step syncs, and all that it wrote when its root is unmounted, is not waited for: a store that a power cut has
/// damaged is found out by its records, not by what reached the disk (Linux 5.10).
const VOLATILE: &str = "volatile";

impl Layers {
    /// Those of `lowers`, top first, which are open; opens upper and work.
    pub(in crate::exec) fn new(
        lowers: Vec<OwnedFd>,
        writable: Option<(&Path, &Path)>,
    ) -> Result<Self, Failure> {
        let writable = match writable {
            Some((upper, work)) => Some((open_directory(upper)?, open_directory(work)?)),
            None => None,
        };
        Ok(Self { lowers, writable })
    }

    /// Mounts them at `name` in `parent`, and returns the root of the mount.
    pub(in crate::exec) fn mount(
        &self,
        parent: BorrowedFd<'_>,
        name: &Path,
        marks: OpaqueMark,
    ) -> Result<OwnedFd, Failure> {
        self.forget_earlier_use();
        let mount = self.mount_either_way(parent, name, marks)?;
        // With a work directory that it cannot use, the kernel says nothing and mounts read-only.
        let stat = rustix::fs::fstatvfs(&mount).doing(|| format!("look at {}", name.display()))?;
        if self.writable.is_some() && stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Err(overlay_failure(Errno::ROFS, "the work directory cannot be used".to_owned()));
        }
        Ok(mount)
    }

    /// An overlay that is volatile marks its work directory, and the kernel takes none with that mark again. A kept
    /// step is entered on the directories that it left.
    fn forget_earlier_use(&self) {
        let Some((_, work)) = &self.writable else { return };
        let _ = rustix::fs::unlinkat(work, "work/incompat/volatile/dirty", AtFlags::empty());
        for folder in ["work/incompat/volatile", "work/incompat"] {
            let _ = rustix::fs::unlinkat(work, folder, AtFlags::REMOVEDIR);
        }
    }

    fn mount_either_way(
        &self,
        parent: BorrowedFd<'_>,
        name: &Path,
        marks: OpaqueMark,
    ) -> Result<OwnedFd, Failure> {
        // Kernels that do not know `volatile` refuse it as they refuse any other option.
        let volatile = self.mount_detached(marks, self.writable.is_some());
        let mount = volatile.or_else(|refusal| match refusal.errno {
            Errno::INVAL if self.writable.is_some() => self.mount_detached(marks, false),
            _ => Err(refusal),
        });
        match mount {
            Ok(mount) => {
                attach(&mount, parent, name).doing(|| format!("attach the overlay at {}", name.display()))?;
                Ok(mount)
            }
            Err(Refusal { errno: Errno::INVAL | Errno::NOSYS | Errno::NAMETOOLONG | Errno::TOOBIG, log }) => {
                self.mount_by_string(parent, name, marks).map_err(|errno| overlay_failure(errno, log))
            }
            Err(Refusal { errno, log }) => Err(overlay_failure(errno, log)),
        }
    }

    /// With `lowerdir+` (Linux 6.7), which takes any number of layers.
    fn mount_detached(&self, marks: OpaqueMark, volatile: bool) -> Result<OwnedFd, Refusal> {
        let plain = |errno| Refusal { errno, log: String::new() };
        rustix::process::chdir("/proc/self/fd").map_err(plain)?;
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(plain)?;
        self.configure(&context, marks, volatile)
            .and_then(|()| {
                rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            })
            .map_err(|errno| Refusal { errno, log: kernel_log(&context) })
    }

    fn configure(&self, context: &OwnedFd, marks: OpaqueMark, volatile: bool) -> rustix::io::Result<()> {
        let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(context, key, value);
        set("source", "overlay")?;
        for lower in &self.lowers {
            set("lowerdir+", &number(lower))?;
        }
        if let Some((upper, work)) = &self.writable {
            set("upperdir", &number(upper))?;
            set("workdir", &number(work))?;
        }
        for (key, value) in OPTIONS {
            set(key, value)?;
        }
        if volatile {
            rustix::mount::fsconfig_set_flag(context, VOLATILE)?;
        }
        if marks == OpaqueMark::User {
            rustix::mount::fsconfig_set_flag(context, "userxattr")?;
        }
        rustix::mount::fsconfig_create(context)
    }

    /// For older kernels: one option string, where 5 bytes for a layer leave room for some 700.
    fn mount_by_string(
        &self,
        parent: BorrowedFd<'_>,
        name: &Path,
        marks: OpaqueMark,
    ) -> rustix::io::Result<OwnedFd> {
        let names: Vec<String> = self.lowers.iter().map(number).collect();
        let mut options = format!("lowerdir={}", names.join(":"));
        if let Some((upper, work)) = &self.writable {
            options += &format!(",upperdir={},workdir={}", number(upper), number(work));
        }
        for (key, value) in OPTIONS {
            options += &format!(",{key}={value}");
        }
        if marks == OpaqueMark::User {
            options += ",userxattr";
        }
        if options.len() >= 4095 {
            return Err(Errno::TOOBIG);
        }
        rustix::process::chdir("/proc/self/fd")?;
        // An absolute name replaces the rest.
        let target = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
        let mount = |options: &str| {
            let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
            rustix::mount::mount("overlay", &target, "overlay", MountFlags::empty(), Some(options.as_c_str()))
        };
        match self.writable {
            Some(_) => mount(&format!("{options},{VOLATILE}")).or_else(|_| mount(&options))?,
            None => mount(&options)?,
        }
        rustix::fs::openat(parent, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }
}

struct Refusal {
    errno: Errno,
    log: String,
}

fn overlay_failure(errno: Errno, log: String) -> Failure {
    Failure::Overlay { errno: errno.raw_os_error(), log }
}

fn number(fd: &OwnedFd) -> String {
    fd.as_raw_fd().to_string()
}

/// What the kernel has to say about a file system context that it refused.
fn kernel_log(context: &OwnedFd) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]);
        // A letter for the level goes before each.
        lines.push(line.trim().trim_start_matches("e ").to_owned());
    }
    lines.join("; ")
}

/// Opens a directory by path, without access to its entries.
pub(in crate::exec) fn open_directory(path: &Path) -> Result<OwnedFd, Failure> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open {}", path.display()))
}

/// Puts a detached mount on top of whatever is mounted at `name` in `parent`.
pub(super) fn attach(mount: &OwnedFd, parent: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<()> {
    rustix::mount::move_mount(mount, "", parent, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
