//! Connects a command with rbuild's own input and output, until it has ended.
//!
//! rbuild's own files are never the command's: everything passes through here, so nothing is left open behind a command
//! that is gone, and none gets hold of rbuild's terminal.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::console::{self, RawMode};
use crate::exec::sys;
use crate::exec::wire::channel;
use crate::exec::wire::messages::Stdin;
use crate::report::Stream;

/// How a command meets whoever started rbuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attach {
    /// In a terminal of its own, as large as rbuild's.
    pub terminal: bool,
    /// What is typed, or comes in on standard input, is for the command.
    pub input: bool,
}

/// Both ends of what connects them.
pub(super) struct Ends {
    /// What the command reads.
    pub(in crate::exec) stdin: Stdin,
    /// The command's output, unless it has a terminal, and the file that belongs to its input.
    pub(super) files: Vec<OwnedFd>,
    /// rbuild's end.
    pub(super) relay: Relay,
}

/// rbuild's end.
pub(super) struct Relay {
    attach: Attach,
    /// Brings the terminal.
    console: Option<UnixStream>,
    outputs: Vec<(Stream, OwnedFd)>,
    input: Option<Input>,
    terminal: Option<OwnedFd>,
}

/// What goes to the command; the file does not block.
struct Input {
    to: OwnedFd,
    /// Read, but not yet taken by the command.
    pending: Vec<u8>,
    ended: bool,
}

impl Ends {
    pub(super) fn open(attach: Attach) -> io::Result<Self> {
        let mut relay = Relay { attach, console: None, outputs: Vec::new(), input: None, terminal: None };
        if attach.terminal {
            let (ours, theirs) = UnixStream::pair()?;
            relay.console = Some(ours);
            let (rows, columns) = console::own_size();
            let stdin = Stdin::Terminal { rows, columns };
            let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
            return Ok(Self { stdin, files: vec![null()?, null()?, theirs.into()], relay });
        }
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        relay.outputs = vec![(Stream::Stdout, stdout.into()), (Stream::Stderr, stderr.into())];
        let mut files = vec![stdout_writer.into(), stderr_writer.into()];
        if !attach.input {
            return Ok(Self { stdin: Stdin::Nothing, files, relay });
        }
        let (reader, writer) = io::pipe()?;
        relay.input = Some(Input::new(writer.into())?);
        files.push(reader.into());
        Ok(Self { stdin: Stdin::File, files, relay })
    }
}

impl Input {
    fn new(to: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&to, true)?;
        Ok(Self { to, pending: Vec::new(), ended: false })
    }

    fn read(&mut self) {
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(0) | Err(_) => self.ended = true,
            Ok(length) => self.pending.extend_from_slice(&buffer[..length]),
        }
    }

    /// Writes as much as the command takes now; tells whether there can be more to write.
    fn write(&mut self) -> bool {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.to, &self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        !self.ended
    }
}

impl Relay {
    /// Passes everything on until the outcome has come, which is returned, or nobody is left to send it.
    pub(super) fn follow(mut self, step: &UnixStream) -> io::Result<Option<Vec<u8>>> {
        let _raw = self.take_terminal()?;
        for (_, file) in &self.outputs {
            rustix::io::ioctl_fionbio(file, true)?;
        }
        let window = self.terminal.as_ref().map(|_| sys::window_changes()).transpose()?;
        while !self.wait(step, window.as_ref())? {}
        let message = channel::receive(step)?;
        // What the command has written last; someone who still holds the other end open is not waited for.
        self.pass_output(|_| true)?;
        Ok(message.map(|(bytes, _)| bytes))
    }

    /// Waits for the step's terminal, if it is to have one; gives what keeps rbuild's own raw. A step that fails before
    /// sends none.
    fn take_terminal(&mut self) -> io::Result<Option<RawMode>> {
        let Some(console) = self.console.take() else { return Ok(None) };
        let Some((_, Some(terminal))) = channel::receive(&console)? else { return Ok(None) };
        self.outputs = vec![(Stream::Stdout, terminal.try_clone()?)];
        let raw = match self.attach.input {
            true => {
                self.input = Some(Input::new(terminal.try_clone()?)?);
                Some(RawMode::enter()?)
            }
            false => None,
        };
        self.terminal = Some(terminal);
        Ok(raw)
    }

    /// Waits for something to happen and deals with it; tells whether the outcome is there.
    fn wait(&mut self, step: &UnixStream, window: Option<&OwnedFd>) -> io::Result<bool> {
        let own = rustix::stdio::stdin();
        let (reads, writes) = match &self.input {
            Some(input) if input.pending.is_empty() => (Some(own), None),
            Some(input) => (None, Some(input.to.as_fd())),
            None => (None, None),
        };
        let fixed = [
            (Some(step.as_fd()), PollFlags::IN),
            (window.map(|window| window.as_fd()), PollFlags::IN),
            (reads, PollFlags::IN),
            (writes, PollFlags::OUT),
        ];
        let outputs = self.outputs.iter().map(|(_, file)| (Some(file.as_fd()), PollFlags::IN));
        let wanted: Vec<_> = fixed.into_iter().chain(outputs).collect();
        let mut files: Vec<PollFd<'_>> = Vec::new();
        files.extend(
            wanted.iter().filter_map(|(file, flags)| Some(PollFd::from_borrowed_fd((*file)?, *flags))),
        );
        match rustix::event::poll(&mut files, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut polled = files.iter().map(|file| !file.revents().is_empty());
        let happened: Vec<bool> =
            wanted.iter().map(|(file, _)| file.is_some() && polled.next() == Some(true)).collect();
        drop(files);
        let [said, resized, typed, takes] = [0, 1, 2, 3].map(|at: usize| happened[at]);
        if resized {
            self.follow_size(window);
        }
        if typed || takes {
            self.pass_input(typed);
        }
        self.pass_output(|at| happened[4 + at])?;
        Ok(said)
    }

    fn follow_size(&self, window: Option<&OwnedFd>) {
        let _ = window.map(|window| rustix::io::read(window, &mut [0; 1024]));
        let (rows, columns) = console::own_size();
        let _ = self.terminal.as_ref().map(|terminal| console::resize(terminal, rows, columns));
    }

    fn pass_input(&mut self, typed: bool) {
        let Some(input) = &mut self.input else { return };
        if typed {
            input.read();
        }
        if !input.write() {
            // Closing it is how the command gets to know that nothing more comes.
            self.input = None;
        }
    }

    /// Passes on what has come on the outputs that `which` names. One whose reader has gone away is closed, so that the
    /// command gets to know; of a terminal, the rest is thrown away.
    fn pass_output(&mut self, which: impl Fn(usize) -> bool) -> io::Result<()> {
        let mut gone = Vec::new();
        for (at, (stream, file)) in self.outputs.iter().enumerate() {
            if which(at) && !pass(*stream, file, self.attach.terminal)? {
                gone.push(at);
            }
        }
        for at in gone.into_iter().rev() {
            self.outputs.remove(at);
        }
        Ok(())
    }
}

/// Passes on what is there; tells whether there may be more.
fn pass(stream: Stream, file: &OwnedFd, terminal: bool) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    loop {
        let length = match rustix::io::read(file, &mut buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => length,
            Err(Errno::AGAIN) => return Ok(true),
            Err(Errno::INTR) => continue,
            // A terminal that nobody has open any more.
            Err(Errno::IO) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        let written = match stream {
            Stream::Stdout => io::stdout().write_all(&buffer[..length]).and_then(|()| io::stdout().flush()),
            Stream::Stderr => io::stderr().write_all(&buffer[..length]),
        };
        if written.is_err() && !terminal {
            return Ok(false);
        }
    }
}
