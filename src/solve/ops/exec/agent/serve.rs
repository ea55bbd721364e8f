//! Answers the clients of one socket, a bounded number of them at once, a thread for each.
//!
//! More wait in the socket's queue, and where it is full in `connect`. When one waits and all places are taken, the
//! client that said nothing for longest makes room, if that was long.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::Backend;
use super::protocol::{parse, read, refusal, write};

use crate::sync::lock;

/// How much a step may ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Clients at once.
    pub(super) clients: usize,
    /// A client that says nothing for so long makes room for another, and one that does not take its answer is left.
    pub(super) idle: Duration,
}

impl Limits {
    pub(super) const USUAL: Self = Self { clients: 64, idle: Duration::from_secs(10) };
}

/// Until a connection is taken again that could not be for want of something, descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);
/// The signature of a large RSA key needs some of it.
const STACK_BYTES: usize = 512 << 10;

/// A connection, as the thread that accepts sees it.
struct Client {
    stream: UnixStream,
    state: Mutex<State>,
}

/// What a client is about.
enum State {
    /// Nothing came from it since.
    Idle(Instant),
    /// Its request is being answered, by the agent behind this connection if there is one.
    Busy(Option<Arc<UnixStream>>),
    /// Its thread has ended.
    Gone,
}

impl Client {
    fn state(&self) -> MutexGuard<'_, State> {
        // A state is written at once.
        lock(&self.state)
    }

    /// Ends its thread, wherever that waits.
    fn hang_up(&self) {
        // It may have hung up itself.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let State::Busy(Some(upstream)) = &*self.state() {
            let _ = upstream.shutdown(Shutdown::Both);
        }
    }
}

/// Answers until `stopped` is closed at its other end.
pub(super) fn serve(
    listener: &UnixListener,
    stopped: &io::PipeReader,
    backend: &Arc<Backend>,
    limits: Limits,
) {
    // Each thread writes a byte when it ends.
    let Ok((ended, end)) = io::pipe() else { return };
    let end = Arc::new(end);
    let mut clients: Vec<Arc<Client>> = Vec::new();
    loop {
        let has_room = clients.len() < limits.clients;
        let timeout =
            (!has_room).then(|| limits.idle.clamp(Duration::from_millis(1), Duration::from_secs(1)));
        let Ok([stop, some_ended, waits]) = ready(
            [stopped.as_fd(), ended.as_fd(), if has_room { listener.as_fd() } else { stopped.as_fd() }],
            timeout,
        ) else {
            break;
        };
        if stop {
            break;
        }
        if some_ended {
            let _ = rustix::io::read(&ended, &mut [0_u8; 64]);
            clients.retain(|client| !matches!(*client.state(), State::Gone));
        } else if !has_room {
            make_room(listener, &clients, limits.idle);
        } else if waits && let Err(error) = accept(listener, backend, &end, &mut clients, limits.idle) {
            // Whoever waits makes the socket ready at once again.
            if error.kind() != io::ErrorKind::WouldBlock
                && ready([stopped.as_fd(), ended.as_fd()], Some(PAUSE)).is_err()
            {
                break;
            }
        }
    }
    clients.iter().for_each(|client| client.hang_up());
}

/// Which of `files` can be read from, or are closed.
fn ready<const N: usize>(files: [BorrowedFd<'_>; N], timeout: Option<Duration>) -> io::Result<[bool; N]> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let mut polled = files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN));
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) => Ok(polled.map(|file| !file.revents().is_empty())),
        Err(rustix::io::Errno::INTR) => Ok([false; N]),
        Err(error) => Err(error.into()),
    }
}

/// Hangs up on who was idle for longest, if that was long and somebody waits.
fn make_room(listener: &UnixListener, clients: &[Arc<Client>], idle: Duration) {
    if !matches!(ready([listener.as_fd()], Some(Duration::ZERO)), Ok([true])) {
        return;
    }
    let since = |client: &&Arc<Client>| match *client.state() {
        State::Idle(since) => Some(since),
        State::Busy(_) | State::Gone => None,
    };
    let idle_ones = clients.iter().filter_map(|client| since(&client).map(|since| (since, client)));
    if let Some((since, client)) = idle_ones.min_by_key(|(since, _)| *since)
        && since.elapsed() >= idle
    {
        client.hang_up();
    }
}

fn accept(
    listener: &UnixListener,
    backend: &Arc<Backend>,
    end: &Arc<io::PipeWriter>,
    clients: &mut Vec<Arc<Client>>,
    patience: Duration,
) -> io::Result<()> {
    let (stream, _) = listener.accept()?;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(patience.max(Duration::from_millis(1))))?;
    let client = Arc::new(Client { stream, state: Mutex::new(State::Idle(Instant::now())) });
    let (its, backend, end) = (Arc::clone(&client), Arc::clone(backend), Arc::clone(end));
    let converse = move || {
        // A client that goes away, or talks nonsense, is its own affair.
        let _ = converse(&its, &backend);
        let _ = its.stream.shutdown(Shutdown::Both);
        *its.state() = State::Gone;
        let _ = rustix::io::write(&*end, &[0]);
    };
    // Without a thread the client sees its connection closed.
    std::thread::Builder::new().name("ssh client".into()).stack_size(STACK_BYTES).spawn(converse)?;
    clients.push(client);
    Ok(())
}

/// Answers one client until it hangs up.
fn converse(client: &Client, backend: &Backend) -> io::Result<()> {
    let mut upstream: Option<Arc<UnixStream>> = None;
    while let Some(request) = read(&client.stream)? {
        *client.state() = State::Busy(upstream.clone());
        let answer = match backend {
            _ if parse(&request).is_none() => refusal(),
            Backend::Own(keys) => keys.answer(&request).unwrap_or_else(refusal),
            Backend::Forward(path) => {
                let agent = match &upstream {
                    Some(agent) => Arc::clone(agent),
                    None => Arc::clone(upstream.insert(Arc::new(UnixStream::connect(path)?))),
                };
                *client.state() = State::Busy(Some(Arc::clone(&agent)));
                write(&*agent, &request)?;
                read(&*agent)?.unwrap_or_else(refusal)
            }
        };
        write(&client.stream, &answer)?;
        *client.state() = State::Idle(Instant::now());
    }
    Ok(())
}
