//! Reads a step's output line by line until the step is over.

use std::io::{self, PipeReader, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::exec::wire::channel;
use crate::report::Stream;

/// A longer line is cut into several.
const LINE_LIMIT_BYTES: usize = 1 << 18;

/// So often is it told how far a line has come.
const PACE: Duration = Duration::from_millis(100);

/// What a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printed<'o> {
    /// A line that ended, without its newline; bytes that are no UTF-8 are replaced.
    Line(&'o str),
    /// What stands on a line that has not ended: a question, or a progress bar that goes back with `\r`. Told at most ten
    /// times a second, and again as a line when it ends.
    SoFar(&'o str),
}

type OnPrinted<'f> = dyn FnMut(Stream, Printed<'_>) + 'f;

pub(super) struct Output {
    pipes: [Lines; 2],
}

struct Lines {
    stream: Stream,
    pipe: PipeReader,
    open: bool,
    pending: Vec<u8>,
    /// Something came since it was told how far the line is.
    is_news: bool,
    told: Instant,
}

impl Output {
    pub(super) fn new(stdout: PipeReader, stderr: PipeReader) -> Self {
        let lines = |stream, pipe| Lines {
            stream,
            pipe,
            open: true,
            pending: Vec::new(),
            is_news: false,
            told: Instant::now(),
        };
        Self { pipes: [lines(Stream::Stdout, stdout), lines(Stream::Stderr, stderr)] }
    }

    /// Passes lines on until the outcome has come, which is returned, or nobody is left to send it. Then takes
    /// what is still in the pipes, but waits no longer: someone outside the step may hold them open.
    pub(super) fn follow(
        mut self,
        socket: &UnixStream,
        on_line: &mut OnPrinted<'_>,
    ) -> io::Result<Option<Vec<u8>>> {
        for lines in &self.pipes {
            rustix::io::ioctl_fionbio(&lines.pipe, true)?;
        }
        while !self.wait(socket, on_line)? {}
        let message = channel::receive(socket)?;
        for lines in &mut self.pipes {
            lines.read(on_line)?;
            lines.finish(on_line);
        }
        Ok(message.map(|(bytes, _)| bytes))
    }

    /// Tells whether the outcome is there.
    fn wait(&mut self, socket: &UnixStream, on_line: &mut OnPrinted<'_>) -> io::Result<bool> {
        let mut files = vec![PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
        let open: Vec<usize> = (0..2).filter(|index| self.pipes[*index].open).collect();
        for index in &open {
            files.push(PollFd::from_borrowed_fd(self.pipes[*index].pipe.as_fd(), PollFlags::IN));
        }
        let pause = Timespec::try_from(PACE).expect("a tenth of a second is a time");
        let pause = self.pipes.iter().any(|lines| lines.is_news).then_some(&pause);
        match rustix::event::poll(&mut files, pause) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let happened: Vec<bool> = files.iter().map(|file| !file.revents().is_empty()).collect();
        for (index, happened) in open.iter().zip(&happened[1..]) {
            if *happened {
                self.pipes[*index].read(on_line)?;
            }
        }
        for lines in &mut self.pipes {
            lines.tell_so_far(on_line);
        }
        Ok(happened[0])
    }
}

impl Lines {
    fn read(&mut self, on_line: &mut OnPrinted<'_>) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        while self.open {
            match self.pipe.read(&mut buffer) {
                Ok(0) => self.open = false,
                Ok(length) => self.take(&buffer[..length], on_line),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self, mut bytes: &[u8], on_line: &mut OnPrinted<'_>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(&bytes[..end]);
            on_line(self.stream, Printed::Line(&String::from_utf8_lossy(&self.pending)));
            self.pending.clear();
            self.is_news = false;
            bytes = &bytes[end + 1..];
        }
        self.pending.extend_from_slice(bytes);
        self.is_news |= !bytes.is_empty();
        if self.pending.len() >= LINE_LIMIT_BYTES {
            self.finish(on_line);
        }
    }

    fn finish(&mut self, on_line: &mut OnPrinted<'_>) {
        if !self.pending.is_empty() {
            on_line(self.stream, Printed::Line(&String::from_utf8_lossy(&self.pending)));
            self.pending.clear();
            self.is_news = false;
        }
    }

    /// Only the end of it: nobody looks at more of a line that moves.
    fn tell_so_far(&mut self, on_line: &mut OnPrinted<'_>) {
        const SHOWN_BYTES: usize = 1024;
        if self.is_news && self.told.elapsed() >= PACE {
            let end = &self.pending[self.pending.len().saturating_sub(SHOWN_BYTES)..];
            on_line(self.stream, Printed::SoFar(&String::from_utf8_lossy(end)));
            self.is_news = false;
            self.told = Instant::now();
        }
    }
}
