//! A stretch of network that breaks: passes bytes on until it has had enough of a connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// What becomes of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Good,
    /// Closed after so many bytes towards the server.
    CutUp(u64),
    /// Closed after so many bytes towards the client.
    CutDown(u64),
    /// Nothing more moves towards the client after so many bytes.
    StallDown(u64),
}

/// A proxy on a free port of 127.0.0.1; ends with the value.
pub struct Wire {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Passes on to `upstream` (`localhost:PORT`); `fate` decides on each connection by its number.
    pub fn to(upstream: &str, fate: impl Fn(u64) -> Fate + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::<AtomicBool>::default();
        let (its_stop, upstream) = (Arc::clone(&stop), upstream.replace("localhost", "127.0.0.1"));
        let thread = std::thread::spawn(move || {
            for (number, client) in (0..).zip(listener.incoming()) {
                if its_stop.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&upstream)) else { continue };
                join(client, server, fate(number));
            }
        });
        Self { port, stop, thread: Some(thread) }
    }

    /// `localhost:PORT`
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.thread.take().map(JoinHandle::join);
    }
}

fn join(client: TcpStream, server: TcpStream, fate: Fate) {
    let (up, down) = match fate {
        Fate::Good => (None, None),
        Fate::CutUp(bytes) => (Some(bytes), None),
        Fate::CutDown(bytes) | Fate::StallDown(bytes) => (None, Some(bytes)),
    };
    let stalls = matches!(fate, Fate::StallDown(_));
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || pass(from, to, up, false));
    std::thread::spawn(move || pass(server, client, down, stalls));
}

/// Passes bytes on until one side ends or `limit` is reached; then both connections end, or stay silent.
fn pass(mut from: TcpStream, mut to: TcpStream, limit: Option<u64>, stalls: bool) {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut buffer = [0; 16 << 10];
    loop {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            if stalls {
                // What comes is read and goes nowhere, until the client has had enough.
                while from.read(&mut buffer).is_ok_and(|n| n > 0) {}
            }
            break;
        }
        match from.read(&mut buffer[..room]) {
            Ok(0) | Err(_) => break,
            Ok(n) if to.write_all(&buffer[..n]).is_ok() => left -= n as u64,
            Ok(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
