//! A step's own terminal: made inside the step, shown in rbuild's.
//!
//! The command gets a pseudo terminal of its own `/dev/pts`, never rbuild's: what it could push into its terminal's
//! input (TIOCSTI) reaches nobody but itself, and `tty`, job control and the window's size are as on any other.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use rustix::fs::{Mode, OFlags, Uid};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

use crate::exec::sys;
use crate::exec::wire::channel;
use crate::sync::lock;

/// Makes a terminal the controlling one of this process, a session leader, and its standard input and output; sends its
/// other side over `socket`. Gives its number.
pub(in crate::exec) fn give(socket: OwnedFd, (rows, columns): (u16, u16), owner: u32) -> io::Result<u32> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    rustix::fs::fchown(&terminal, Some(Uid::from_raw(owner)), None)?;
    resize(&terminal, rows, columns)?;
    rustix::process::ioctl_tiocsctty(&terminal)?;
    rustix::stdio::dup2_stdin(&terminal)?;
    rustix::stdio::dup2_stdout(&terminal)?;
    rustix::stdio::dup2_stderr(&terminal)?;
    channel::send(&UnixStream::from(socket), b"", Some(master.as_fd()))?;
    Ok(sys::number_of_terminal(master.as_fd())?)
}

/// Tells a terminal its size.
pub(super) fn resize(terminal: &OwnedFd, rows: u16, columns: u16) -> rustix::io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
}

/// The rows and columns of the terminal that rbuild's standard output, input, or error output is.
pub(super) fn own_size() -> (u16, u16) {
    let sizes = [
        rustix::termios::tcgetwinsize(rustix::stdio::stdout()),
        rustix::termios::tcgetwinsize(rustix::stdio::stdin()),
        rustix::termios::tcgetwinsize(rustix::stdio::stderr()),
    ];
    let size = sizes.into_iter().flatten().find(|size| size.ws_row > 0 && size.ws_col > 0);
    size.map_or((24, 80), |size| (size.ws_row, size.ws_col))
}

/// How rbuild's terminal was before somebody made it raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// rbuild's terminal while it passes on every key as it is; as before when dropped.
pub(super) struct RawMode(());

impl RawMode {
    /// Every key is the command's from now on, Ctrl-C as well.
    pub(super) fn enter() -> rustix::io::Result<Self> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        // Remembered first: whatever comes between, it is put back.
        lock(&BEFORE).get_or_insert(before);
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore_terminal();
    }
}

/// Puts rbuild's terminal back as it was before [`crate::exec::Executor::attach`] changed it, for a program that ends without
/// waiting for that.
pub fn restore_terminal() {
    if let Some(before) = lock(&BEFORE).take() {
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
    }
}
