//! What others get by mounts, put in place in a step's root and taken out again.
//!
//! Whatever is at such a place is moved out of the root meanwhile, to a folder beside it, and back afterwards with the times
//! that its directory had. While things are put in, and when they are taken out, no process of the step runs; still the
//! step had the root for itself in between, so no link is followed. What would be missed if this process was killed is noted for
//! whoever throws the root away ([`crate::store::Notes`]); who takes it for that of a dead build may move it meanwhile.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::exec::failure::{Doing as _, Failure};
use crate::exec::spec::{RootSource, Spec};
use crate::exec::step::stubs::{self, Made};
use crate::exec::step::target::{Keep, Leaf, Root, Stubs, restore_times};
use crate::exec::sys::pipe::write_all;
use crate::rootfs::Folder;
use crate::store::{Notes, Undo, undo};

/// Device nodes: name, major, minor.
pub(super) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// What programs read there to find out how much they may use. Their content does not change while a step runs.
const SYS_FILES: [&str; 7] = [
    "devices/system/cpu/online",
    "devices/system/cpu/possible",
    "devices/system/cpu/present",
    "fs/cgroup/cgroup.controllers",
    "fs/cgroup/cpu.max",
    "fs/cgroup/memory.max",
    "kernel/mm/transparent_hugepage/enabled",
];

/// What comes to a place.
#[derive(Clone, Copy)]
pub(super) enum New<'a> {
    /// An empty directory.
    Directory {
        mode: u32,
    },
    File {
        content: &'a [u8],
        mode: u32,
        owner: (u32, u32),
    },
    /// Something that lies beside the root, on the same file system.
    Moved(&'a Path),
    /// Another name of a socket.
    Socket(&'a Path),
    /// A symbolic link.
    Link(&'a str),
}

/// What becomes of it after the step.
#[derive(Debug)]
pub(super) enum Then {
    /// It goes, or whatever the step has put in its place.
    Goes,
    /// It goes, and must be there still: the step may not have moved it into what becomes the layer.
    GoesStrictly,
    /// As that, and its content is overwritten.
    IsErased,
    /// It goes back to where it came from.
    Returns(PathBuf),
}

struct Placed {
    /// Relative to the root.
    at: PathBuf,
    /// Under which name what was there is beside the root.
    number: u32,
    inode: (u64, u64),
    then: Then,
}

/// A root with what a step finds in it.
pub(super) struct Furnished {
    pub(super) base: PathBuf,
    /// The folder beside the root.
    pub(super) aside: PathBuf,
    aside_file: OwnedFd,
    pub(super) directory: OwnedFd,
    placed: Vec<Placed>,
    stubs: Stubs,
    notes: Notes,
    next: u32,
    /// Device nodes could be made, and can be opened.
    pub(super) has_devices: bool,
}

impl Furnished {
    /// Nothing is in place yet.
    pub(super) fn open(base: &Path) -> Result<Self, Failure> {
        let doing = || format!("open {}", base.display());
        let folder = base.parent().unwrap_or(base);
        undo(folder);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(base, flags, Mode::empty()).doing(doing)?;
        let mut aside = base.as_os_str().to_owned();
        aside.push(".aside");
        let aside = PathBuf::from(aside);
        let made = rustix::fs::mkdir(&aside, Mode::RWXU);
        made.doing(|| format!("make {}", aside.display()))?;
        // To be listed in the end.
        let listed = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let aside_file = rustix::fs::open(&aside, listed, Mode::empty()).doing(doing)?;
        Ok(Self {
            base: base.to_owned(),
            aside,
            aside_file,
            directory,
            placed: Vec::new(),
            stubs: Stubs::default(),
            notes: Notes::of(folder),
            next: 0,
            has_devices: true,
        })
    }

    /// Puts everything in place; gives the working directory.
    pub(super) fn fill(&mut self, spec: &Spec) -> Result<OwnedFd, Failure> {
        for name in ["proc", "dev", "sys"] {
            self.usual(name).doing(|| format!("make /{name}"))?;
        }
        self.make_devices().doing(|| "make /dev".into())?;
        self.copy_sys();
        let hosts = with_own_name(&spec.hosts);
        for (path, text) in [("/etc/resolv.conf", &spec.resolv_conf), ("/etc/hosts", &hosts)] {
            let new = New::File { content: text.as_bytes(), mode: 0o644, owner: (0, 0) };
            self.put_at(path, new, Then::Goes)?;
        }
        self.mount_all(&spec.mounts)?;
        let keep = Keep::Stay { uid: spec.credentials.uid, gid: spec.credentials.gid };
        let mut root = Root::new(self.directory.as_fd(), None);
        let cwd = root.open_or_make(&spec.cwd, Leaf::Directory, keep);
        let cwd = cwd.doing(|| format!("make {}", spec.cwd))?;
        let stubs = std::mem::take(&mut root.stubs);
        self.remember(stubs);
        Ok(cwd)
    }

    fn remember(&mut self, stubs: Stubs) {
        self.stubs.made.extend(stubs.made);
    }

    /// A directory of the root's own stays for others as an empty one, as where something is mounted on it.
    fn usual(&mut self, name: &str) -> rustix::io::Result<()> {
        match rustix::fs::mkdirat(&self.directory, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        self.put(Path::new(name), &New::Directory { mode: 0o755 }, Then::Goes)
    }

    /// Finds or makes the place that `path` leads to in the root, and puts something there.
    pub(super) fn put_at(&mut self, path: &str, new: New<'_>, then: Then) -> Result<(), Failure> {
        let leaf = match &new {
            New::Directory { .. } => Leaf::Directory,
            New::Moved(from) if is_directory(from) => Leaf::Directory,
            _ => Leaf::File,
        };
        let mut root = Root::new(self.directory.as_fd(), None);
        let found = root.place(path, leaf, Keep::Remove);
        let stubs = std::mem::take(&mut root.stubs);
        self.remember(stubs);
        let (_, real) = found.doing(|| format!("make a place for {path}"))?;
        self.put(&real, &new, then).doing(|| format!("put something at {path}"))
    }

    fn put(&mut self, at: &Path, new: &New<'_>, then: Then) -> rustix::io::Result<()> {
        let (parent, name) = self.parent_of(at)?;
        let before = rustix::fs::fstat(&parent)?;
        let number = self.next_number();
        self.note(at, new, &then).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        rustix::fs::renameat(&parent, &name, &self.aside_file, number.to_string())?;
        let made = make(&parent, name.as_os_str(), new)
            .and_then(|()| rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW));
        let inode = made.as_ref().map_or((0, 0), |stat| (stat.st_dev, stat.st_ino));
        self.placed.push(Placed { at: at.to_owned(), number, inode, then });
        restore_times(parent.as_fd(), &before)?;
        made.map(drop)
    }

    fn parent_of(&self, at: &Path) -> rustix::io::Result<(OwnedFd, PathBuf)> {
        stubs::open_parent_at(rustix::io::fcntl_dupfd_cloexec(&self.directory, 3)?, at)
    }

    fn note(&mut self, at: &Path, new: &New<'_>, then: &Then) -> std::io::Result<()> {
        let at = Path::new(self.base.file_name().unwrap_or_default()).join(at);
        match (then, new) {
            (Then::Returns(home), New::Moved(from)) => {
                let inode = rustix::fs::lstat(*from)?.st_ino;
                self.notes.add(&Undo::Return { at, inode, home: home.clone() })
            }
            (Then::IsErased, _) => self.notes.add(&Undo::Erase { at }),
            (Then::Returns(_) | Then::Goes | Then::GoesStrictly, _) => Ok(()),
        }
    }

    pub(super) fn next_number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn make_devices(&mut self) -> rustix::io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dev = rustix::fs::openat(&self.directory, "dev", flags, Mode::empty())?;
        let mode = Mode::from_raw_mode(0o666);
        for (name, major, minor) in DEVICES {
            let device = rustix::fs::makedev(major, minor);
            let made = rustix::fs::mknodat(&dev, name, FileType::CharacterDevice, mode, device);
            // Without CAP_MKNOD, or where devices cannot be opened, the supervisor hands in the container's.
            let is_usable = made.is_ok()
                && (name == "tty"
                    || rustix::fs::openat(&dev, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                        .is_ok());
            if !is_usable {
                self.has_devices = false;
                let _ = rustix::fs::unlinkat(&dev, name, AtFlags::empty());
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::openat(&dev, name, flags, mode)?;
            }
        }
        for (name, text) in LINKS {
            rustix::fs::symlinkat(text, &dev, name)?;
        }
        for (name, mode) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)] {
            rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }

    /// What cannot be read is not there.
    fn copy_sys(&self) {
        let sys = self.base.join("sys");
        for file in SYS_FILES {
            let Ok(text) = std::fs::read(Path::new("/sys").join(file)) else { continue };
            let to = sys.join(file);
            let _ = to.parent().map(std::fs::create_dir_all);
            let _ = std::fs::write(&to, text);
        }
    }

    /// Takes out what was put in; gives the paths where everything is as before.
    pub(super) fn take_out(mut self) -> Result<Vec<PathBuf>, Failure> {
        let mut put_back = Vec::new();
        let mut failed = None;
        while let Some(placed) = self.placed.pop() {
            let at = placed.at.clone();
            match self.take_out_one(placed) {
                Ok(()) => put_back.push(at),
                Err(errno) => {
                    let doing = format!("take out what was at /{}: did the command move it?", at.display());
                    failed.get_or_insert(Failure::Setup { doing, errno: errno.raw_os_error() });
                }
            }
        }
        let root = RootSource::Plain { dir: self.base.clone() };
        stubs::remove(&Made::new(&root, std::mem::take(&mut self.stubs)));
        let beside = Folder::from(self.aside_file);
        for name in beside.names().unwrap_or_default() {
            let _ = beside.remove(&name);
        }
        let _ = rustix::fs::rmdir(&self.aside);
        let _ = self.notes.clear();
        failed.map_or(Ok(put_back), Err)
    }

    fn take_out_one(&self, Placed { at, number, inode, then }: Placed) -> rustix::io::Result<()> {
        let (parent, name) = self.parent_of(&at)?;
        let before = rustix::fs::fstat(&parent)?;
        let is_ours = || match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if (stat.st_dev, stat.st_ino) == inode => Ok(()),
            Ok(_) => Err(Errno::STALE),
            Err(errno) => Err(errno),
        };
        match then {
            Then::Goes => {}
            Then::GoesStrictly => is_ours()?,
            Then::IsErased => {
                is_ours()?;
                let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&parent, &name, flags, Mode::empty())?;
            }
            Then::Returns(home) => {
                is_ours()?;
                rustix::fs::renameat(&parent, &name, CWD, &home)?;
            }
        }
        let folder = Folder::from(parent);
        folder.remove(name.as_os_str()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let parent = OwnedFd::from(folder);
        rustix::fs::renameat(&self.aside_file, number.to_string(), &parent, &name)?;
        restore_times(parent.as_fd(), &before)
    }
}

fn make(parent: &OwnedFd, name: &OsStr, new: &New<'_>) -> rustix::io::Result<()> {
    match new {
        New::Directory { mode } => {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(*mode))?;
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(*mode), AtFlags::empty())
        }
        New::File { content, mode, owner: (uid, gid) } => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
            write_all(&file, content)?;
            rustix::fs::fchown(&file, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(*mode))
        }
        New::Moved(from) => rustix::fs::renameat(CWD, *from, parent, name),
        New::Socket(from) => rustix::fs::linkat(CWD, *from, parent, name, AtFlags::empty()),
        New::Link(text) => rustix::fs::symlinkat(*text, parent, name),
    }
}

pub(super) fn is_directory(path: &Path) -> bool {
    let stat = rustix::fs::lstat(path);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// The name that the host really has is one of the loopback's, too, for who asks the kernel for it.
fn with_own_name(hosts: &str) -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{hosts}127.0.0.1\t{name}\n")
}
