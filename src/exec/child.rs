//! The process that prepares a step's root and then becomes its command: PID 1 of the inner namespace.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, Signal};

use super::extra::Extra;
use super::failure::{Doing as _, Failure};
use super::mounts::{self, Surroundings};
use super::order::{Ids, Order, Progress, Stdin};
use super::overlay::{self, Layers, Marks};
use super::pipe::write_all;
use super::seccomp::{self, Profile};
use super::spec::{MountKind, MountSpec, Network, RootSource, Security, Ulimit};
use super::target::{Keep, Leaf, Root, Stubs};
use super::{caps, console, owners, start, sys};

/// What the process has beside its order.
pub(super) struct Ends<'a> {
    /// Is told before the command starts.
    pub(super) report: &'a OwnedFd,
    /// Answers for owners when there is but one id.
    pub(super) keeper: Option<&'a UnixStream>,
    /// The file that [`Stdin`] speaks of.
    pub(super) stdin: Option<OwnedFd>,
}

/// Does everything; returns only when it failed.
pub(super) fn run(order: &Order, ends: Ends<'_>) -> Failure {
    match prepare_and_start(order, ends) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn prepare_and_start(order: &Order, ends: Ends<'_>) -> Result<Infallible, Failure> {
    let spec = &order.spec;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "set the death signal".into())?;
    rustix::process::setsid().doing(|| "start a session".into())?;
    rustix::process::umask(Mode::empty());
    rustix::system::sethostname(spec.hostname.as_bytes()).doing(|| "set the host name".into())?;
    if spec.network != Network::Host {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None);
        let socket = socket.doing(|| "open a socket".into())?;
        sys::loopback_up(socket.as_fd()).doing(|| "bring the loopback up".into())?;
    }
    let own = start::Own::program().doing(|| "look at the program".into())?;
    let (stubs, cwd) = prepare_root(order)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    order.bound.set_for_users()?;
    set_limits(&spec.ulimits)?;
    set_stdin(order, ends.stdin)?;
    confine(order, ends.keeper)?;
    rustix::process::fchdir(&cwd).doing(|| format!("enter {}", spec.cwd))?;
    tell(ends.report, &Progress::Ready(stubs));
    sys::reset_signals();
    sys::close_on_exec_from(3);
    Err(start::start(spec, own))
}

fn set_stdin(order: &Order, given: Option<OwnedFd>) -> Result<(), Failure> {
    let file = match (order.stdin, given) {
        (Stdin::Terminal { rows, columns }, Some(socket)) => {
            let owner = order.spec.credentials.uid;
            return console::give(socket, (rows, columns), owner).doing(|| "make a terminal".into());
        }
        (Stdin::File, Some(file)) => file,
        _ => rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .doing(|| "open /dev/null".into())?,
    };
    rustix::stdio::dup2_stdin(file).doing(|| "set stdin".into())
}

/// One JSON value a line.
pub(super) fn tell(report: &OwnedFd, progress: &Progress) {
    let mut line = serde_json::to_vec(progress).expect("plain data with string keys always serialises");
    line.push(b'\n');
    // Nobody to tell means that nobody needs to know.
    let _ = write_all(report, &line);
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
    root.records_owners = order.ids == Ids::Single;
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
fn confine(order: &Order, keeper: Option<&UnixStream>) -> Result<(), Failure> {
    let spec = &order.spec;
    let single = keeper.is_some();
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
    // With a single id there is nobody else to become: the keeper makes it look so.
    let become_user = || if single { Ok(()) } else { caps::become_user(&spec.credentials) };
    if let Some(profile) = profile {
        install(&seccomp::compile(profile), keeper).doing(|| "install the seccomp filter".into())?;
    }
    let doing = || format!("become user {}:{}", spec.credentials.uid, spec.credentials.gid);
    if insecure {
        return caps::keep_all(become_user).doing(doing);
    }
    become_user().doing(doing)?;
    caps::keep_default().doing(|| "set capabilities".into())
}

fn install(filter: &[sys::Instruction], keeper: Option<&UnixStream>) -> std::io::Result<()> {
    let Some(keeper) = keeper else { return sys::install_filter(filter) };
    // The number of who the step runs as. From the filter on, the keeper answers for what is watched.
    owners::carry(0, 0)?;
    let listener = sys::install_asking_filter(filter)?;
    owners::hand_over(keeper, &listener)
}
