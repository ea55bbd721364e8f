//! The process that prepares a step's root and then becomes its command: PID 1 of the inner namespace.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, Signal};

use super::extra::Extra;
use super::lowers::Masks;
use super::mounts::{self, Surroundings};
use super::overlay::{self, Layers};
use super::stubs::Made;
use super::target::{Keep, Leaf, Root, Stubs};
use super::{caps, start};
use crate::exec::failure::{Doing as _, Failure};
use crate::exec::host::console;
use crate::exec::privilege::Privilege;
use crate::exec::seccomp::{self, Profile};
use crate::exec::spec::{MountSource, MountSpec, Network, RootSource, Security, Spec, Ulimit};
use crate::exec::sys::pipe::write_all;
use crate::exec::wire::channel;
use crate::exec::wire::messages::{self, InitConfig, Progress, RunRequest, Stdin};
use crate::exec::{owners, sys};
use crate::layer::unpack::OpaqueMark;

/// What connects the process with others.
#[derive(Clone, Copy)]
pub(in crate::exec) struct Ends<'a> {
    /// Brings the request.
    pub(super) rbuild: &'a UnixStream,
    /// Is told before the command starts.
    pub(super) report: &'a OwnedFd,
    /// Answers for owners when there is but one id.
    pub(super) supervisor: Option<&'a UnixStream>,
    /// Takes the filter's listener to the init when there is no supervisor.
    pub(super) sockets: Option<&'a UnixStream>,
}

/// Does everything; returns only when it failed.
pub(in crate::exec) fn run(config: &InitConfig, ends: Ends<'_>) -> Failure {
    match prepare_and_start(config, ends) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn prepare_and_start(config: &InitConfig, ends: Ends<'_>) -> Result<Infallible, Failure> {
    let ready = prepare(config)?;
    let doing = || "read the request".to_owned();
    let Some((request, files)) = channel::receive_with(ends.rbuild).doing(doing)? else {
        std::process::exit(1)
    };
    let mut request: RunRequest = messages::decode(&request).map_err(std::io::Error::from).doing(doing)?;
    let images = take_images(&mut request, ends.rbuild).doing(|| "take the images of layers".into())?;
    tell(ends.report, &Progress::Received);
    let spec = &request.spec;
    let given = take_output(files).doing(|| "take the output".into())?;
    rustix::system::sethostname(spec.hostname.as_bytes()).doing(|| "set the host name".into())?;
    let (stubs, cwd) = complete_root(config, spec, &ready)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    config.bound.set_for_users()?;
    set_limits(spec.ulimits.iter().filter(|limit| !is_of_files(limit)))?;
    set_stdin(&request, given)?;
    confine(config.privilege, spec, ends)?;
    rustix::process::fchdir(&cwd).doing(|| format!("enter {}", spec.cwd))?;
    tell(ends.report, &Progress::Ready(Made::new(&spec.root, stubs)));
    sys::reset_signals();
    let own = ready.own;
    drop((ready, cwd, images));
    // Until it is executed, the command's path, and that of its interpreter, may lead through this process's own open
    // files (`/proc/self/fd/5/bin/sh`): of the machine, none may be among them, not even one that rbuild was started with.
    sys::close_all_but(ends.report.as_fd());
    Err(start::start(spec, own))
}

/// What is made before there is a request.
struct Ready {
    own: start::Own,
    old_root: OwnedFd,
    /// A file system out of the step's sight, with the usual ones mounted in it.
    memory: OwnedFd,
}

/// Does all that depends on no request.
fn prepare(config: &InitConfig) -> Result<Ready, Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "set the death signal".into())?;
    rustix::process::setsid().doing(|| "start a session".into())?;
    rustix::process::umask(Mode::empty());
    if config.network != Network::Host {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None);
        let socket = socket.doing(|| "open a socket".into())?;
        sys::loopback_up(socket.as_fd()).doing(|| "bring the loopback up".into())?;
    }
    let own = start::Own::program().doing(|| "look at the program".into())?;
    let old_root = overlay::open_directory(Path::new("/"))?;
    let memory = mounts::fresh("tmpfs", &[("mode", "700")], MountAttrFlags::empty())
        .doing(|| "mount a file system in memory".into())?;
    // On top of the machine's root: no path leads there.
    overlay::attach(&memory, rustix::fs::CWD, Path::new("/")).doing(|| "mount on /".into())?;
    let mut inside = Root::new(memory.as_fd(), None);
    mounts::mount_usual(&mut inside, &memory, surroundings(config))?;
    if config.security == Security::Sandbox {
        caps::limit_bounding_set().doing(|| "drop capabilities".into())?;
    }
    Ok(Ready { own, old_root, memory })
}

fn surroundings(config: &InitConfig) -> Surroundings {
    Surroundings {
        rootless: config.privilege.has_user_namespace(),
        has_groups: config.privilege.has_other_ids(),
        insecure: config.security == Security::Insecure,
        shares_proc: config.shares_proc,
        shm_size_bytes: config.shm_size_bytes,
    }
}

/// Receives the images of layers, and lets the request name them by their descriptors here.
fn take_images(request: &mut RunRequest, rbuild: &UnixStream) -> std::io::Result<Vec<OwnedFd>> {
    let mut files: Vec<OwnedFd> = Vec::new();
    while files.len() < request.images.len() {
        match channel::receive_with(rbuild)? {
            Some((_, more)) if !more.is_empty() => files.extend(more),
            _ => return Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
    for (image, file) in request.images.iter().zip(&files) {
        let here = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        request.spec.lowers_mut().filter(|lower| *lower == image).for_each(|lower| lower.clone_from(&here));
    }
    Ok(files)
}

/// Makes the first two files output and error output; gives the third.
pub(in crate::exec) fn take_output(files: Vec<OwnedFd>) -> rustix::io::Result<Option<OwnedFd>> {
    let mut files = files.into_iter();
    if let (Some(output), Some(errors)) = (files.next(), files.next()) {
        rustix::stdio::dup2_stdout(&output)?;
        rustix::stdio::dup2_stderr(&errors)?;
    }
    Ok(files.next())
}

pub(in crate::exec) fn set_stdin(request: &RunRequest, given: Option<OwnedFd>) -> Result<(), Failure> {
    let file = match (request.stdin, given) {
        (Stdin::Terminal { rows, columns }, Some(socket)) => {
            let owner = request.spec.credentials.uid;
            let given = console::give(socket, (rows, columns), owner);
            return given.map(drop).doing(|| "make a terminal".into());
        }
        (Stdin::File, Some(file)) => file,
        _ => rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .doing(|| "open /dev/null".into())?,
    };
    rustix::stdio::dup2_stdin(file).doing(|| "set stdin".into())
}

/// One JSON value a line.
pub(in crate::exec) fn tell(report: &OwnedFd, progress: &Progress) {
    let mut line = serde_json::to_vec(progress).expect("plain data with string keys always serialises");
    line.push(b'\n');
    // An init that is gone has taken this process along, or will at once.
    let _ = write_all(report, &line);
}

/// Mounts the step's root, moves what is ready into it, and makes it `/`.
fn complete_root(config: &InitConfig, spec: &Spec, ready: &Ready) -> Result<(Stubs, OwnedFd), Failure> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "make mounts private".into())?;
    let marks = config.privilege.opaque_mark();
    let masks = Masks { hidden: &spec.hidden, memory: &ready.memory };
    let directory = mount_root(&spec.root, masks, marks)?;
    if spec.security == Security::Sandbox {
        mounts::restrict(&directory, MountAttrFlags::MOUNT_ATTR_NODEV)
            .doing(|| "mount the root nodev".into())?;
    }
    let upper = match &spec.root {
        RootSource::Overlay { upper, .. } => Some(upper.as_path()),
        RootSource::Plain { .. } => None,
    };
    let mut root = Root::new(directory.as_fd(), upper);
    root.records_owners = !config.privilege.has_other_ids();
    mounts::move_usual(&ready.memory, &mut root)?;
    let devices = spec.security == Security::Insecure;
    let mut extra = Extra { root: &mut root, memory: &ready.memory, masks, marks, devices, files: 0 };
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
    pivot(&directory, ready).doing(|| "change the root".into())?;
    Ok((stubs, cwd))
}

fn configuration_file(path: &str, text: &str) -> MountSpec {
    let content = text.as_bytes().to_vec();
    MountSpec {
        target: path.to_owned(),
        readonly: true,
        kind: MountSource::File { content, mode: 0o644, uid: 0, gid: 0 },
    }
}

/// Mounts the root where its source says, and gives it.
fn mount_root(source: &RootSource, masks: Masks<'_>, marks: OpaqueMark) -> Result<OwnedFd, Failure> {
    match source {
        RootSource::Overlay { lowers, upper, work, merged } => {
            // An overlay needs a lower layer; for a step on an empty root, the empty mount point is one.
            let lowers = if lowers.is_empty() { std::slice::from_ref(merged) } else { lowers };
            let layers = Layers::new(masks.open(lowers, "root")?, Some((upper, work)))?;
            layers.mount(rustix::fs::CWD, merged, marks)
        }
        RootSource::Plain { dir } => {
            let root = mounts::clone_tree(rustix::fs::CWD, &dir.to_string_lossy())
                .doing(|| format!("open {}", dir.display()))?;
            overlay::attach(&root, rustix::fs::CWD, dir).doing(|| format!("mount {}", dir.display()))?;
            Ok(root)
        }
    }
}

/// Makes `root` the root directory and drops everything else.
fn pivot(root: &OwnedFd, Ready { old_root, memory, .. }: &Ready) -> rustix::io::Result<()> {
    // What is on top of the old root would be unmounted below in its place.
    rustix::process::fchdir(memory)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    // Both are now mounted on `/`, the old root on top.
    rustix::process::fchdir(old_root)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    // The way up leads onto whatever is still mounted there: nothing may be.
    let (here, above) = (rustix::fs::stat("/")?, rustix::fs::stat("/..")?);
    match (here.st_dev, here.st_ino) == (above.st_dev, above.st_ino) {
        true => Ok(()),
        false => Err(rustix::io::Errno::BUSY),
    }
}

pub(in crate::exec) fn set_limits<'a>(limits: impl Iterator<Item = &'a Ulimit>) -> Result<(), Failure> {
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

/// Whether it is about open files. Such a limit counts for sending them, too: what its user has on the way anywhere.
pub(in crate::exec) fn is_of_files(limit: &Ulimit) -> bool {
    limit.name == "nofile"
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

/// What cannot be done with one id below a listener of somebody else.
const SECOND_LISTENER: &str = "keep the owners that a step sets with one id: a container or program around rbuild has a \
    seccomp listener already, and the kernel allows one; a user with ranges of ids needs none";

/// Filter, the limit of open files, identity, capabilities; the bounding set is limited already. The filter comes before the capabilities go: without no_new_privs,
/// which would break sudo and ping in a RUN, only CAP_SYS_ADMIN may install one.
fn confine(privilege: Privilege, spec: &Spec, ends: Ends<'_>) -> Result<(), Failure> {
    let single = ends.supervisor.is_some();
    let insecure = spec.security == Security::Insecure;
    let profile = Profile::of(privilege, spec.network, spec.security);
    // With a single id there is nobody else to become: the supervisor makes it look so.
    let become_user = || if single { Ok(()) } else { caps::become_user(&spec.credentials) };
    if let Some(profile) = profile {
        let installed = install(seccomp::compiled(profile), spec, ends);
        let is_second = installed.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY));
        installed.doing(|| if is_second { SECOND_LISTENER } else { "install the seccomp filter" }.into())?;
    }
    // Nothing is sent after this, and to raise it takes capabilities.
    set_limits(spec.ulimits.iter().filter(|limit| is_of_files(limit)))?;
    let doing = || format!("become user {}:{}", spec.credentials.uid, spec.credentials.gid);
    if insecure {
        return caps::keep_all(become_user).doing(doing);
    }
    become_user().doing(doing)?;
    caps::keep_default().doing(|| "set capabilities".into())
}

fn install(filter: &[sys::Instruction], spec: &Spec, ends: Ends<'_>) -> std::io::Result<()> {
    if let Some(supervisor) = ends.supervisor {
        // The number of who the step runs as. From the filter on, the supervisor answers for what is watched.
        owners::carry(0, 0)?;
        let listener = sys::install_asking_filter(filter)?;
        return owners::hand_over(supervisor, &listener, spec);
    }
    let Some(init) = ends.sockets else { return sys::install_filter(filter) };
    match sys::install_asking_filter(filter) {
        Ok(listener) => channel::send(init, &[], Some(listener.as_fd())),
        // The kernel has no listeners (before Linux 5.0), or rbuild itself is in a filter that has one.
        Err(_) => sys::install_filter(&seccomp::without_asking(filter)),
    }
}
