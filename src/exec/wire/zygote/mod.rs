//! The process that all steps of an executor are forked from.
//!
//! The *zygote* is rbuild started again, once: it enters the user namespace, compiles the filters, and from then on only
//! forks. So a step costs no `execve` of rbuild, no linking, no reading of its pages. It starts each step's init, waits
//! until that is gone, and the mounts with it, removes what was made to mount on, and reports.
//!
//! While a step runs, the init of the next is *prewarmed*: it gets ready, with namespaces and the file systems that every step
//! has. It is used when the next step is of the same kind, else thrown away.

mod serve;

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::messages::{InitConfig, Mounted, ZygoteRequest};
use super::spawn::Process;
use super::{channel, messages, role};
use crate::exec::failure::ExecError;
use crate::exec::host::program::Protected;
use crate::exec::privilege::Privilege;
use crate::exec::step::memory::Memory;
use crate::sync::lock;

pub(in crate::exec) use serve::serve;

/// A running zygote.
#[derive(Debug)]
pub(in crate::exec) struct Zygote {
    control: Mutex<Control>,
}

#[derive(Debug)]
struct Control {
    child: Child,
    /// `None` when there will be no more steps.
    socket: Option<UnixStream>,
    prewarmed: Option<(InitConfig, UnixStream)>,
}

impl Zygote {
    /// Starts it; it enters the namespace. The program is let go of: see [`crate::exec::host::program`].
    pub(in crate::exec) fn start(
        program: Protected,
        privilege: Privilege,
        namespace: Option<BorrowedFd<'_>>,
    ) -> io::Result<Self> {
        let Process { child, socket } = start(&program.path())?;
        drop(program);
        channel::send(&socket, &serde_json::to_vec(&privilege)?, namespace)?;
        Ok(Self { control: Mutex::new(Control { child, socket: Some(socket), prewarmed: None }) })
    }

    /// A socket to an init that is ready for a step, or will be soon. Nothing is said over it but the request, and requests to
    /// end; what comes back is the outcome, when the step's processes and mounts are gone.
    pub(in crate::exec) fn init(&self, config: &InitConfig) -> io::Result<UnixStream> {
        let mut control = self.control();
        if let Some((_, ready)) = control.prewarmed.take_if(|(kind, _)| kind == config) {
            return Ok(ready);
        }
        control.fork(config)
    }

    /// A socket to an init that is started by this call and not before, so that it sees what is mounted now.
    pub(in crate::exec) fn fresh_init(&self, config: &InitConfig) -> io::Result<UnixStream> {
        self.control().fork(config)
    }

    /// Mounts a file system in memory for the inits that are started from now on; gives the mount namespace and the root of
    /// the file system.
    pub(in crate::exec) fn mount(&self, memory: &Memory) -> Result<[OwnedFd; 2], ExecError> {
        let socket = self.control().ask(&ZygoteRequest::Mount(memory.clone()))?;
        let Some((answer, files)) = channel::receive_with(&socket)? else { return Err(ExecError::Vanished) };
        messages::decode::<Mounted>(&answer)?.map_err(ExecError::without_spec)?;
        files.try_into().map_err(|_| ExecError::Vanished)
    }

    /// Unmounts it there.
    pub(in crate::exec) fn unmount(&self, at: &Path) {
        // Without a zygote it is gone already.
        let _ = self.control().ask(&ZygoteRequest::Unmount(at.to_owned()));
    }

    /// An init that waits until `hold` was called with its number. Nothing was started by it before.
    pub(in crate::exec) fn held_init<E: From<io::Error>>(
        &self,
        config: &InitConfig,
        hold: impl FnOnce(u32) -> Result<(), E>,
    ) -> Result<UnixStream, E> {
        let mut socket = self.control().fork(config)?;
        let mut number = [0; 4];
        socket.read_exact(&mut number)?;
        hold(u32::from_le_bytes(number))?;
        socket.write_all(b"G")?;
        Ok(socket)
    }

    /// Lets an init get ready, unless one is.
    pub(in crate::exec) fn prewarm(&self, config: &InitConfig) {
        let mut control = self.control();
        if control.prewarmed.as_ref().is_none_or(|(kind, _)| kind != config) {
            // Whoever has none starts one, and tells what is wrong.
            control.prewarmed = control.fork(config).ok().map(|socket| (config.clone(), socket));
        }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        // Each change is whole.
        lock(&self.control)
    }
}

/// How often a program that is busy is tried again.
const TRIES: u32 = 200;

/// A copy in memory is busy as long as a process that another thread forked meanwhile has not executed yet.
fn start(program: &Path) -> io::Result<Process> {
    for _ in 0..TRIES {
        // The steps' own output comes with their requests.
        match Process::start_with(program, role::ZYGOTE, (Stdio::null(), Stdio::null())) {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(1));
            }
            started => return started,
        }
    }
    Err(io::ErrorKind::ExecutableFileBusy.into())
}

impl Control {
    fn fork(&mut self, config: &InitConfig) -> io::Result<UnixStream> {
        self.ask(&ZygoteRequest::Init(config.clone()))
    }

    fn ask(&mut self, request: &ZygoteRequest) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        channel::send(socket, &serde_json::to_vec(request)?, Some(OwnedFd::from(theirs).as_fd()))?;
        Ok(ours)
    }
}

impl Drop for Control {
    /// Nothing is left when this returns.
    fn drop(&mut self) {
        self.prewarmed = None;
        self.socket = None;
        let _ = self.child.wait();
    }
}
