//! A piece of a file on its way out, watched.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// A piece of a file that is being sent.
pub(super) struct Piece<'a> {
    file: File,
    at: u64,
    to: u64,
    sent: &'a (dyn Fn(u64) -> bool + Sync),
}

impl<'a> Piece<'a> {
    /// The bytes from `from` up to `to`; `sent` hears up to where they were read, and whether to go on is what it gives.
    pub(super) fn open(
        path: &Path,
        from: u64,
        to: u64,
        sent: &'a (dyn Fn(u64) -> bool + Sync),
    ) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        Ok(Self { file, at: from, to, sent })
    }
}

impl Read for Piece<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let room = usize::try_from(self.to - self.at).unwrap_or(usize::MAX).min(into.len());
        if room == 0 {
            return Ok(0);
        }
        match self.file.read(&mut into[..room])? {
            0 => Err(std::io::Error::other("the blob in the store is shorter than it was")),
            n => {
                self.at += n as u64;
                let goes_on = (self.sent)(self.at);
                if goes_on { Ok(n) } else { Err(std::io::Error::other("the transfer was stopped")) }
            }
        }
    }
}
