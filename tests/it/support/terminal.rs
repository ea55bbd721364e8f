//! The program at a terminal, as somebody sits there.

use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize};

use super::accounts::Account;
use super::program::World;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running program and the other side of its terminal, of 80 columns and 24 rows.
pub struct Terminal {
    master: OwnedFd,
    pub child: Child,
    /// Everything that was shown so far.
    pub shown: String,
    /// Up to here [`Terminal::wait_for`] has looked.
    seen: usize,
}

impl Terminal {
    /// Starts `rbuild --root STORE …` of that world; the terminal is its controlling one.
    pub fn start(world: &World, args: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]);
        let account = world.account();
        if account != Account::mine() {
            let (uid, gid) = (account.uid.to_string(), account.gid.to_string());
            command.args(["setpriv", "--reuid", &uid, "--regid", &gid, "--clear-groups"]);
            rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(account.uid)), None).unwrap();
        }
        command.arg(world.program()).arg("--root").arg(world.store()).args(args);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("LC_ALL", "C.UTF-8");
        command.env("HOME", world.path().join("home")).env("TERM", "xterm").env("NO_COLOR", "1");
        command.current_dir(world.context());
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let child = command.spawn().unwrap();
        // The command has the only copies of the terminal's other side, or its end would never be seen.
        drop(command);
        let mut terminal = Self { master, child, shown: String::new(), seen: 0 };
        terminal.resize(24, 80);
        terminal
    }

    pub fn resize(&mut self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.master, size).unwrap();
    }

    /// What somebody types.
    pub fn keys(&mut self, text: &str) {
        rustix::io::write(&self.master, text.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown, after what was waited for before.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            let more = self.read(deadline);
            assert!(
                more,
                "`{text}` was not shown after\n{}\n---- in all\n{}",
                &self.shown[..self.seen],
                self.shown
            );
        }
    }

    /// Waits for the program's end and gives its exit code.
    #[track_caller]
    pub fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while self.read(deadline) {}
        assert!(Instant::now() < deadline, "it does not end:\n{}", self.shown);
        self.child.wait().unwrap().code()
    }

    /// Whether the terminal treats keys as usual: lines, echo, Ctrl-C.
    pub fn is_usual(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.master).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Reads once; whether there may be more.
    fn read(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut files = [PollFd::new(&self.master, PollFlags::IN)];
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        if rustix::event::poll(&mut files, Some(&timeout)).unwrap() == 0 {
            return false;
        }
        let mut buffer = [0; 4096];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(length) if length > 0 => {
                self.shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
                true
            }
            _ => false,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
