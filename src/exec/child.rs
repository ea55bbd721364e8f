//! The process that prepares a step's root and then becomes its command: PID 1 of the inner namespace.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::{MountAttrFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, Signal};

use super::failure::{Doing as _, Failure};
use super::mounts::{self, Surroundings};
use super::order::{Ids, Order, Progress};
use super::overlay::{self, Layers, Marks};
use super::seccomp::{self, Profile};
use super::spec::{MountKind, MountSpec, Network, RootSource, Security, Ulimit};
use super::target::{Keep, Leaf, Root, Stubs};
use super::{caps, sys};

/// Does everything; returns only when it failed. `report` is told before the command starts.
pub(super) fn run(order: &Order, report: &OwnedFd) -> Failure {
    match prepare_and_start(order, report) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn prepare_and_start(order: &Order, report: &OwnedFd) -> Result<Infallible, Failure> {
    let spec = &order.spec;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "set the death signal".into())?;
    rustix::process::setsid().doing(|| "start a session".into())?;
    rustix::process::umask(Mode::empty());
    rustix::system::sethostname(spec.hostname.as_bytes()).doing(|| "set the host name".into())?;
    if spec.network == Network::None {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None);
        let socket = socket.doing(|| "open a socket".into())?;
        sys::loopback_up(socket.as_fd()).doing(|| "bring the loopback up".into())?;
    }
    let (stubs, cwd) = prepare_root(order)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    set_limits(&spec.ulimits)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    rustix::stdio::dup2_stdin(null.doing(|| "open /dev/null".into())?).doing(|| "set stdin".into())?;
    confine(order)?;
    rustix::process::fchdir(&cwd).doing(|| format!("enter {}", spec.cwd))?;
    tell(report, &Progress::Ready(stubs));
    sys::reset_signals();
    sys::close_on_exec_from(3).doing(|| "close files".into())?;
    Err(start(order))
}

/// One JSON value a line.
pub(super) fn tell(report: &OwnedFd, progress: &Progress) {
    let mut line = serde_json::to_vec(progress).expect("plain data with string keys always serialises");
    line.push(b'\n');
    // Nobody to tell means that nobody needs to know.
    let _ = write_all(report, &line);
}

pub(super) fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(file, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Mounts everything and makes it `/`.
fn prepare_root(order: &Order) -> Result<(Stubs, OwnedFd), Failure> {
    let spec = &order.spec;
    let old_root = overlay::open_directory(Path::new("/"))?;
    let marks = if order.ids == Ids::Root { Marks::Trusted } else { Marks::User };
    let (memory, directory) = mount_root(&spec.root, marks)?;
    if spec.security == Security::Sandbox {
        mounts::restrict(&directory, MountAttrFlags::MOUNT_ATTR_NODEV)
            .doing(|| "mount the root nodev".into())?;
    }
    let upper = match &spec.root {
        RootSource::Overlay { upper, .. } | RootSource::Fuse { upper, .. } => Some(upper.as_path()),
        RootSource::Plain { .. } => None,
    };
    let mut root = Root::new(directory.as_fd(), upper);
    let surroundings = Surroundings {
        rootless: order.ids != Ids::Root,
        has_groups: order.ids != Ids::Single,
        insecure: spec.security == Security::Insecure,
        shm_size_bytes: spec.shm_size_bytes,
    };
    mounts::mount_usual(&mut root, &memory, surroundings)?;
    let mut extra =
        Extra { root: &mut root, memory: &memory, marks, devices: surroundings.insecure, files: 0 };
    for (path, text) in [("/etc/resolv.conf", &spec.resolv_conf), ("/etc/hosts", &spec.hosts)] {
        extra.mount(&configuration_file(path, text))?;
    }
    let mut sorted: Vec<&MountSpec> = spec.mounts.iter().collect();
    sorted.sort_by(|a, b| a.target.cmp(&b.target));
    for mount in sorted {
        extra.mount(mount)?;
    }
    let keep = Keep::Stay { uid: spec.credentials.uid, gid: spec.credentials.gid };
    let cwd = root.open_or_make(&spec.cwd, Leaf::Directory, keep).doing(|| format!("make {}", spec.cwd))?;
    let stubs = std::mem::take(&mut root.stubs);
    pivot(&directory, &old_root).doing(|| "change the root".into())?;
    Ok((stubs, cwd))
}

fn configuration_file(path: &str, text: &str) -> MountSpec {
    let content = text.as_bytes().to_vec();
    MountSpec {
        target: path.to_owned(),
        readonly: true,
        kind: MountKind::File { content, mode: 0o644, uid: 0, gid: 0 },
    }
}

/// Mounts the root and, hidden below it, a file system in memory for what exists only in this step;
/// returns the roots of both, memory first.
fn mount_root(source: &RootSource, marks: Marks) -> Result<(OwnedFd, OwnedFd), Failure> {
    let memory_on = |point: &Path| -> Result<OwnedFd, Failure> {
        let memory = mounts::fresh("tmpfs", &[("mode", "700")], MountAttrFlags::empty())
            .doing(|| "mount a file system in memory".into())?;
        overlay::attach(&memory, rustix::fs::CWD, point).doing(|| format!("mount on {}", point.display()))?;
        Ok(memory)
    };
    match source {
        RootSource::Overlay { lowers, upper, work, merged } => {
            // An overlay needs a lower layer; for a step on an empty root, the empty mount point is one.
            let lowers = if lowers.is_empty() { std::slice::from_ref(merged) } else { lowers };
            let layers = Layers::open(lowers.iter().map(PathBuf::as_path), Some((upper, work)))?;
            let memory = memory_on(merged)?;
            let root = layers.mount(rustix::fs::CWD, merged, marks)?;
            Ok((memory, root))
        }
        RootSource::Plain { dir } | RootSource::Fuse { merged: dir, .. } => {
            let root = mounts::clone_tree(rustix::fs::CWD, &dir.to_string_lossy())
                .doing(|| format!("open {}", dir.display()))?;
            let memory = memory_on(dir)?;
            overlay::attach(&root, rustix::fs::CWD, dir).doing(|| format!("mount {}", dir.display()))?;
            Ok((memory, root))
        }
    }
}

/// Makes `root` the root directory and drops everything else.
fn pivot(root: &OwnedFd, old_root: &OwnedFd) -> rustix::io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    // Both are now mounted on `/`, the old root on top.
    rustix::process::fchdir(old_root)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// The mounts that a step asks for.
struct Extra<'a, 'r> {
    root: &'a mut Root<'r>,
    memory: &'a OwnedFd,
    marks: Marks,
    /// Devices in them can be opened.
    devices: bool,
    files: u32,
}

impl Extra<'_, '_> {
    fn mount(&mut self, mount: &MountSpec) -> Result<(), Failure> {
        let doing = || format!("mount {}", mount.target);
        let tree = match &mount.kind {
            MountKind::Bind { source } => open_source(source)?,
            MountKind::Layers { lowers, path, scratch } => self.layers(lowers, path, scratch.as_deref())?,
            MountKind::Tmpfs { size_bytes, mode } => tmpfs(*size_bytes, *mode).doing(doing)?,
            MountKind::File { content, mode, uid, gid } => {
                self.file(content, *mode, (*uid, *gid)).doing(doing)?
            }
            MountKind::Socket { source, mode, uid, gid } => {
                let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
                rustix::fs::chown(source, Some(uid), Some(gid)).doing(doing)?;
                rustix::fs::chmod(source, Mode::from_raw_mode(*mode)).doing(doing)?;
                open_source(source)?
            }
        };
        let stat = rustix::fs::fstat(&tree).doing(doing)?;
        let leaf = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::Directory => Leaf::Directory,
            _ => Leaf::File,
        };
        let target = self.root.open_or_make(&mount.target, leaf, Keep::Remove);
        let target = target.doing(|| format!("make mount point {}", mount.target))?;
        mounts::move_onto(&tree, target.as_fd()).doing(doing)?;
        let always_readonly = matches!(mount.kind, MountKind::Layers { scratch: None, .. });
        let mut flags = MountAttrFlags::empty();
        flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, mount.readonly || always_readonly);
        flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, !self.devices);
        if flags.is_empty() { Ok(()) } else { mounts::restrict(&tree, flags).doing(doing) }
    }

    /// A path in stacked directories. The stack is mounted in memory, out of sight.
    fn layers(&mut self, lowers: &[PathBuf], path: &str, scratch: Option<&Path>) -> Result<OwnedFd, Failure> {
        let stack = match (lowers, scratch) {
            ([only], None) => overlay::open_directory(only)?,
            _ => self.stack(lowers, scratch)?,
        };
        let inside = Root::new(stack.as_fd(), None);
        let found = inside.open(path).doing(|| format!("open {path}"))?;
        let found =
            found.ok_or_else(|| Failure::Setup { doing: format!("open {path}"), errno: libc::ENOENT })?;
        mounts::clone_tree(&found, "").doing(|| format!("bind {path}"))
    }

    fn stack(&mut self, lowers: &[PathBuf], scratch: Option<&Path>) -> Result<OwnedFd, Failure> {
        let writable = match scratch {
            Some(scratch) => {
                let (upper, work) = (scratch.join("upper"), scratch.join("work"));
                for path in [&upper, &work] {
                    make_directory(path)?;
                }
                Some((upper, work))
            }
            None => None,
        };
        let writable = writable.as_ref().map(|(upper, work)| (upper.as_path(), work.as_path()));
        let layers = Layers::open(lowers.iter().map(PathBuf::as_path), writable)?;
        let name = self.next_name();
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
            rustix::fs::fchown(&file, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
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

fn set_limits(limits: &[Ulimit]) -> Result<(), Failure> {
    for limit in limits {
        let doing = || format!("set the limit {}={}:{}", limit.name, limit.soft, limit.hard);
        let resource =
            resource(&limit.name).ok_or_else(|| Failure::Setup { doing: doing(), errno: libc::EINVAL })?;
        // -1 and other negative numbers are no limit.
        let (current, maximum) = (u64::try_from(limit.soft).ok(), u64::try_from(limit.hard).ok());
        rustix::process::setrlimit(resource, Rlimit { current, maximum }).doing(doing)?;
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

/// Capabilities, filter, identity. The filter comes before the capabilities go: without no_new_privs,
/// which would break sudo and ping in a RUN, only CAP_SYS_ADMIN may install one.
fn confine(order: &Order) -> Result<(), Failure> {
    let spec = &order.spec;
    let single = order.ids == Ids::Single;
    let insecure = spec.security == Security::Insecure;
    let profile = match (insecure, single) {
        (true, false) => None,
        (true, true) => Some(Profile::OnlySingleId),
        (false, true) => Some(Profile::DefaultSingleId),
        (false, false) => Some(Profile::Default),
    };
    if !insecure {
        if spec.network == Network::Host {
            sys::scope_abstract_sockets().doing(|| "close off abstract sockets".into())?;
        }
        caps::limit_bounding_set().doing(|| "drop capabilities".into())?;
    }
    // With a single id there is nobody else to become.
    let become_user = || if single { Ok(()) } else { caps::become_user(&spec.credentials) };
    if let Some(profile) = profile {
        sys::install_filter(&seccomp::compile(profile)).doing(|| "install the seccomp filter".into())?;
    }
    let doing = || format!("become user {}:{}", spec.credentials.uid, spec.credentials.gid);
    if insecure {
        return caps::keep_all(become_user).doing(doing);
    }
    become_user().doing(doing)?;
    caps::keep_default().doing(|| "set capabilities".into())
}

/// Executes the command; along PATH when its name has no slash.
fn start(order: &Order) -> Failure {
    let spec = &order.spec;
    let program = spec.args.first().cloned().unwrap_or_default();
    let failure = |errno| Failure::Start { program: program.clone(), errno };
    let text = |text: &str| CString::new(text).ok();
    let env = environment(&spec.env, &spec.credentials.home);
    let path = env.iter().rev().find_map(|(name, value)| (name == "PATH").then_some(value.as_str()));
    let args: Option<Vec<CString>> = spec.args.iter().map(|arg| text(arg)).collect();
    let env_texts: Option<Vec<CString>> =
        env.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect();
    let (Some(args), Some(env_texts)) = (args, env_texts) else { return failure(libc::EINVAL) };
    let mut errno = libc::ENOENT;
    for candidate in candidates(&program, path.unwrap_or("")) {
        let Some(candidate) = text(&candidate) else { return failure(libc::EINVAL) };
        let error = sys::execve(&candidate, &args, &env_texts).raw_os_error().unwrap_or(libc::EIO);
        match error {
            libc::ENOENT | libc::ENOTDIR => {}
            // Perhaps a later directory has one that may be executed.
            libc::EACCES => errno = error,
            _ => return failure(error),
        }
    }
    failure(errno)
}

fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    path.split(':').filter(|directory| !directory.is_empty()).map(|d| format!("{d}/{program}")).collect()
}

/// Of equal names the last wins, at the place of the first; HOME is added when absent or empty.
fn environment(given: &[(String, String)], home: &str) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::with_capacity(given.len() + 1);
    let home = [("HOME".to_owned(), home.to_owned())];
    let has_home =
        given.iter().rev().find(|(name, _)| name == "HOME").is_some_and(|(_, value)| !value.is_empty());
    for (name, value) in given.iter().chain(home.iter().filter(|_| !has_home)) {
        match env.iter_mut().find(|(n, _)| n == name) {
            Some(entry) => entry.1.clone_from(value),
            None => env.push((name.clone(), value.clone())),
        }
    }
    env
}
