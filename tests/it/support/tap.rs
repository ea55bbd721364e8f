//! A socket that passes everything on to another, and counts.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Counts what is sent to a daemon.
pub struct Tap {
    socket: PathBuf,
    sent: Arc<AtomicU64>,
}

impl Tap {
    /// Listens at `socket`, and passes on to `daemon`. It lasts as long as the test.
    pub fn new(socket: PathBuf, daemon: &Path) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let (counted, daemon) = (Arc::clone(&sent), daemon.to_owned());
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, daemon) = (client.unwrap(), UnixStream::connect(&daemon).unwrap());
                let (from, to) = (daemon.try_clone().unwrap(), client.try_clone().unwrap());
                let counted = Arc::clone(&counted);
                thread::spawn(move || pass(client, daemon, &counted));
                thread::spawn(move || pass(from, to, &AtomicU64::new(0)));
            }
        });
        Self { socket, sent }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Bytes since it was asked last.
    pub fn sent(&self) -> u64 {
        self.sent.swap(0, Ordering::SeqCst)
    }
}

fn pass(mut from: UnixStream, mut to: UnixStream, counted: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut buffer) {
        counted.fetch_add(read as u64, Ordering::SeqCst);
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
