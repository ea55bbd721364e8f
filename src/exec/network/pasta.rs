//! A network of a step's own that reaches outside through user-mode networking: pasta, of the package passt.
//!
//! pasta opens its sockets in the host's network and a tap device in the step's. It is started by the init before that
//! leaves the host's network, lives in the init's pid namespace, and so ends with it.

use std::ffi::CString;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::{Pid, Signal};

use crate::exec::failure::{Doing as _, Failure};
use crate::exec::sys;
use crate::exec::wire::channel;

/// Who answers for names where the host's own server is on its loopback.
pub(super) const NAME_SERVER: &str = "169.254.1.1";

/// Nothing of the host's loopback is forwarded in either direction, and the gateway is no way to it. The namespace comes
/// as standard input. Its end is not watched: pasta ends with the init.
const ARGS: &str = "pasta --quiet --config-net --runas 0:0 --netns-only --netns /proc/self/fd/0 --no-netns-quit \
    --no-map-gw -t none -u none -T none -U none --dns-forward";

/// A process in the host's network that will be pasta.
pub(in crate::exec) struct Outside {
    pid: Pid,
    socket: UnixStream,
    said: OwnedFd,
}

impl Outside {
    /// Starts it. It waits until it is told of a network.
    pub(in crate::exec) fn start(program: &Path) -> Result<Self, Failure> {
        let doing = || "start pasta".to_owned();
        let (ours, theirs) = UnixStream::pair().doing(doing)?;
        let (said, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing(doing)?;
        match sys::fork().doing(doing)? {
            sys::Fork::Child => {
                drop(ours);
                let error = become_pasta(&theirs, &writer, program);
                let _ = crate::exec::sys::pipe::write_all(&writer, error.to_string().as_bytes());
                std::process::exit(127)
            }
            sys::Fork::Parent(pid) => Ok(Self { pid, socket: ours, said }),
        }
    }

    /// Connects this process's network, and waits for it to be set up.
    pub(in crate::exec) fn connect(self) -> Result<(), Failure> {
        let doing = || "connect the network".to_owned();
        let own = std::fs::File::open("/proc/self/ns/net").doing(doing)?;
        channel::send(&self.socket, b"", Some(own.as_fd())).doing(doing)?;
        let mut said = String::new();
        let read = std::fs::File::from(self.said).read_to_string(&mut said);
        // What goes on has left this process, and its standard files.
        match sys::wait(self.pid).doing(doing)?.0 {
            sys::Ended::Code(0) => Ok(()),
            sys::Ended::Code(_) | sys::Ended::Signal(_) => {
                read.doing(doing)?;
                let lines = said.lines().filter(|line| !line.is_empty() && !line.contains("to syslog"));
                Err(Failure::Pasta { message: lines.collect::<Vec<_>>().join("; ") })
            }
        }
    }
}

fn become_pasta(socket: &UnixStream, output: &OwnedFd, program: &Path) -> std::io::Error {
    let ready = || -> std::io::Result<CString> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let network = channel::receive(socket)?.and_then(|(_, file)| file);
        rustix::stdio::dup2_stdin(network.ok_or(std::io::ErrorKind::UnexpectedEof)?)?;
        rustix::stdio::dup2_stdout(output)?;
        rustix::stdio::dup2_stderr(output)?;
        sys::reset_signals();
        sys::close_on_exec_from(3);
        Ok(CString::new(std::os::unix::ffi::OsStrExt::as_bytes(program.as_os_str()))?)
    };
    let words = ARGS.split_whitespace().chain([NAME_SERVER]).map(CString::new);
    match (ready(), words.collect::<Result<Vec<_>, _>>()) {
        (Ok(program), Ok(words)) => sys::execve(&program, &words, &[]),
        (Err(error), _) => error,
        (_, Err(error)) => error.into(),
    }
}
