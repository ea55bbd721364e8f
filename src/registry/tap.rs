//! Lets somebody read a blob along while it is fetched.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Pieces that may wait for a reader that is slower than the network; the transfer then waits for it.
const PIECES_AHEAD: usize = 16;

/// Where the transfer puts the bytes, each once and in order, also when it was interrupted and resumed.
#[derive(Debug)]
pub struct Tap(SyncSender<Vec<u8>>);

/// Where they can be read. The end comes when the transfer is over, for whatever reason: only the bytes tell
/// whether they are all, and nothing of them is verified.
#[derive(Debug)]
pub struct Tapped {
    pieces: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

/// A tap and its end.
pub fn tap() -> (Tap, Tapped) {
    let (sender, pieces) = sync_channel(PIECES_AHEAD);
    (Tap(sender), Tapped { pieces, piece: Vec::new(), at: 0 })
}

impl Tap {
    /// Whether there still is a reader.
    pub(super) fn send(&self, bytes: &[u8]) -> bool {
        self.0.send(bytes.to_vec()).is_ok()
    }
}

impl Read for Tapped {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.pieces.recv() {
                Ok(piece) => (self.piece, self.at) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let count = into.len().min(self.piece.len() - self.at);
        into[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bytes_arrive_in_order_and_end() {
        let (tap, mut tapped) = tap();
        let sender = std::thread::spawn(move || (0..100_u8).all(|at| tap.send(&[at; 3])));
        let mut bytes = Vec::new();
        tapped.read_to_end(&mut bytes).unwrap();
        assert!(sender.join().unwrap());
        assert_eq!(bytes, (0..100_u8).flat_map(|at| [at; 3]).collect::<Vec<u8>>());
    }

    #[test]
    fn a_reader_that_has_gone_is_noticed() {
        let (tap, tapped) = tap();
        drop(tapped);
        assert!(!tap.send(b"x"));
    }
}
