//! What comes back from a pod: files of its result, read through the API server.

use std::cell::Cell;
use std::io::{self, Write};

use super::super::link::Get;
use super::super::{Fault, known, worker};
use super::connection::{Broken, unexpected};
use super::{Worker, cancelled};
use crate::reapi::Blob;
use crate::sync::lock;

/// Why a file does not come.
pub(in crate::pipeline::placing) enum Failed {
    There(Fault),
    Here(io::Error),
}

impl Worker {
    /// Writes a blob of the result.
    pub(in crate::pipeline::placing) fn get_blob(
        &self,
        blob: Blob,
        out: &mut dyn Write,
    ) -> Result<(), Failed> {
        self.get(&known::path_of(worker::OUTPUT, &blob.digest), blob.size, out)
    }

    /// Writes a file of the result. Once something was written it is not tried again: that cannot be taken back.
    pub(in crate::pipeline::placing) fn get(
        &self,
        path: &str,
        size: u64,
        out: &mut dyn Write,
    ) -> Result<(), Failed> {
        let is_written = Cell::new(false);
        match self.get_once(path, size, out, &is_written) {
            Err((Failed::There(_), true)) if !is_written.get() => {
                // The connection was there for long, and may have been gone.
                lock(&self.links).clear();
                self.get_once(path, size, out, &is_written)
            }
            got => got,
        }
        .map_err(|(failed, _)| failed)
    }

    /// An error comes with whether the connection broke.
    fn get_once(
        &self,
        path: &str,
        size: u64,
        out: &mut dyn Write,
        is_written: &Cell<bool>,
    ) -> Result<(), (Failed, bool)> {
        let there = |broken: Broken| {
            let is_lost = matches!(broken, Broken::Lost(_));
            let fault = match broken {
                Broken::Lost(why) | Broken::Refused(why) => {
                    Fault::engine(format!("{}, {} gives no result: {why}", self.shown, self.place()))
                }
                Broken::Stopped => cancelled(&self.shown),
                Broken::Other(fault) => fault,
            };
            (Failed::There(fault), is_lost)
        };
        let here = |error: io::Error| (Failed::Here(error), false);
        let goes_on = || !self.stop.is_wanted();
        let mut link = self.link(&goes_on).map_err(there)?;
        let asked = serde_json::to_vec(&Get { path: path.to_owned() }).map_err(|e| here(e.into()))?;
        link.send(b'G', &asked).map_err(|e| there(e.into()))?;
        let mut left = size;
        loop {
            match link.receive_soon(&goes_on).map_err(there)? {
                (b'd', piece) => {
                    left = left
                        .checked_sub(piece.len() as u64)
                        .ok_or_else(|| there(Broken::Refused("it gives more than it said".to_owned())))?;
                    is_written.set(true);
                    out.write_all(&piece).map_err(here)?;
                }
                (b'g', _) if left == 0 => break,
                (b'g', _) => return Err(there(Broken::Refused("it gives less than it said".to_owned()))),
                (kind, bytes) => return Err(there(unexpected(kind, &bytes))),
            }
        }
        lock(&self.links).push(link);
        Ok(())
    }
}
