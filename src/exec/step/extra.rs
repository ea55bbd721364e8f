//! What a step has mounted besides the usual: binds, stacked layers, files in memory.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::MountAttrFlags;

use super::lowers::Masks;
use super::mounts;
use super::overlay::{self, Layers};
use super::target::{Keep, Leaf, Root};
use crate::exec::failure::{Doing as _, Failure};
use crate::exec::spec::{MountSource, MountSpec, Writes};
use crate::exec::sys::pipe::write_all;
use crate::layer::unpack::OpaqueMark;

/// The mounts that a step asks for.
pub(super) struct Extra<'a, 'r> {
    pub(super) root: &'a mut Root<'r>,
    /// A file system out of the step's sight.
    pub(super) memory: &'a OwnedFd,
    pub(super) masks: Masks<'a>,
    pub(super) marks: OpaqueMark,
    /// Devices in them can be opened.
    pub(super) devices: bool,
    /// How many names in `memory` are taken.
    pub(super) files: u32,
}

impl Extra<'_, '_> {
    pub(super) fn mount(&mut self, mount: &MountSpec) -> Result<(), Failure> {
        let doing = || format!("mount {}", mount.target);
        let tree = match &mount.kind {
            MountSource::Bind { source } | MountSource::Cache { source } => open_source(source)?,
            MountSource::Layers { lowers, path, writes } => {
                self.layers(&mount.target, (lowers, path, writes))?
            }
            MountSource::Tmpfs { size_bytes, mode } => tmpfs(*size_bytes, *mode).doing(doing)?,
            MountSource::File { content, mode, uid, gid } => {
                self.file(content, *mode, (*uid, *gid)).doing(doing)?
            }
            MountSource::Socket { source, mode, uid, gid } => {
                // With a single id every process of the step is root, and may use it.
                if !self.root.records_owners {
                    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
                    rustix::fs::chown(source, Some(uid), Some(gid)).doing(doing)?;
                }
                rustix::fs::chmod(source, Mode::from_raw_mode(*mode)).doing(doing)?;
                open_source(source)?
            }
        };
        let stat = rustix::fs::fstat(&tree).doing(doing)?;
        let leaf = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Leaf::Directory,
            _ => Leaf::File,
        };
        let target = self.root.open_or_make(&mount.target, leaf, Keep::Remove);
        let target = target.doing(|| format!("make mount point {}", mount.target))?;
        mounts::move_onto(&tree, target.as_fd()).doing(doing)?;
        let always_readonly = matches!(mount.kind, MountSource::Layers { writes: Writes::Refused, .. });
        let mut flags = MountAttrFlags::empty();
        flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, mount.readonly || always_readonly);
        flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, !self.devices);
        if flags.is_empty() { Ok(()) } else { mounts::restrict(&tree, flags).doing(doing) }
    }

    /// A path in stacked directories. The stack is mounted in memory, out of sight.
    fn layers(
        &mut self,
        target: &str,
        (lowers, path, writes): (&[PathBuf], &str, &Writes),
    ) -> Result<OwnedFd, Failure> {
        let doing = || format!("open {path} for the mount at {target}");
        let stack = match (lowers, writes) {
            ([only], Writes::Refused) => overlay::open_directory(only)?,
            _ => self.stack(lowers, writes)?,
        };
        let inside = Root::new(stack.as_fd(), None);
        let found = inside.open(path).doing(doing)?;
        let found = found.ok_or_else(|| Failure::Setup { doing: doing(), errno: libc::ENOENT })?;
        mounts::clone_tree(&found, "").doing(|| format!("bind {path}"))
    }

    fn stack(&mut self, lowers: &[PathBuf], writes: &Writes) -> Result<OwnedFd, Failure> {
        let name = self.next_name();
        let scratch = match writes {
            Writes::Refused => None,
            Writes::ToFolder(folder) => Some(folder.clone()),
            Writes::ToMemory => {
                let changes = format!("{name}-changes");
                rustix::fs::mkdirat(self.memory, &changes, Mode::from_raw_mode(0o755))
                    .doing(|| "make a directory in memory".into())?;
                Some(PathBuf::from(format!("/proc/self/fd/{}/{changes}", self.memory.as_raw_fd())))
            }
        };
        let writable = scratch.map(|scratch| (scratch.join("upper"), scratch.join("work")));
        if let Some((upper, work)) = &writable {
            make_directory(upper)?;
            make_directory(work)?;
        }
        let writable = writable.as_ref().map(|(upper, work)| (upper.as_path(), work.as_path()));
        let lowers = self.masks.open(lowers, &format!("{name}-lower"))?;
        let layers = Layers::new(lowers, writable)?;
        rustix::fs::mkdirat(self.memory, &name, Mode::from_raw_mode(0o755))
            .doing(|| "make a directory".into())?;
        layers.mount(self.memory.as_fd(), Path::new(&name), self.marks)
    }

    fn file(&mut self, content: &[u8], mode: u32, owner: (u32, u32)) -> rustix::io::Result<OwnedFd> {
        let name = self.next_name();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.memory, &name, flags, Mode::from_raw_mode(0o600))?;
        write_all(&file, content)?;
        if owner != (0, 0) {
            self.root.give(self.memory.as_fd(), OsStr::new(&name), owner.0, owner.1)?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        mounts::clone_tree(self.memory, &name)
    }

    fn next_name(&mut self) -> String {
        self.files += 1;
        self.files.to_string()
    }
}

fn open_source(source: &Path) -> Result<OwnedFd, Failure> {
    let path = source.to_string_lossy();
    mounts::clone_tree(rustix::fs::CWD, &path).doing(|| format!("open {path}"))
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).doing(|| format!("make {}", path.display())),
    }
}

fn tmpfs(size_bytes: u64, mode: u32) -> rustix::io::Result<OwnedFd> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let (size, mode) = (size_bytes.to_string(), format!("{mode:o}"));
    let options = [("mode", mode.as_str()), ("size", size.as_str())];
    mounts::fresh("tmpfs", if size_bytes == 0 { &options[..1] } else { &options }, flags)
}
