//! What rbuild and the processes around a step tell each other.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::exec::failure::Failure;
use crate::exec::host::pids::Bound;
use crate::exec::privilege::Privilege;
use crate::exec::spec::{ExitReport, Network, Security, Spec};
use crate::exec::step::memory::Memory;
use crate::exec::step::stubs::Made;

/// Reads one message. Every message between rbuild and the processes around a step is read here.
pub(in crate::exec) fn decode<T: DeserializeOwned>(message: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(message)
}

/// Reads bytes as every kind of message that the processes around a step take, for those who try what bytes do; gives how
/// many kinds they are. What was read reads the same once it was written.
pub fn decode_messages(bytes: &[u8]) -> usize {
    fn is_one<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
        let Ok(message) = decode::<T>(bytes) else { return false };
        let written = serde_json::to_vec(&message).expect("plain data with string keys always serialises");
        let again = decode::<T>(&written).expect("what was written can be read");
        assert_eq!(written, serde_json::to_vec(&again).expect("as above"));
        true
    }
    [
        is_one::<Privilege>(bytes),
        is_one::<InitConfig>(bytes),
        is_one::<ZygoteRequest>(bytes),
        is_one::<RunRequest>(bytes),
        is_one::<Progress>(bytes),
        is_one::<InitReport>(bytes),
        is_one::<Outcome>(bytes),
    ]
    .into_iter()
    .filter(|is_one| *is_one)
    .count()
}

/// What an init must know before it has a step. All steps of a kind share it, so that one can be prewarmed for whichever
/// comes next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::exec) struct InitConfig {
    pub(in crate::exec) privilege: Privilege,
    pub(in crate::exec) network: Network,
    pub(in crate::exec) security: Security,
    pub(in crate::exec) shm_size_bytes: u64,
    pub(in crate::exec) bound: Bound,
    /// The program, for the network that needs it.
    pub(in crate::exec) pasta: Option<PathBuf>,
    /// Parts of `/proc` are covered, so that the kernel allows no other one in a user namespace.
    pub(in crate::exec) shares_proc: bool,
    /// rbuild is told the init's number, and lets it begin with a byte.
    pub(in crate::exec) is_held: bool,
}

/// A message to the zygote, with a socket for the answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ZygoteRequest {
    /// An init that gets ready for a step, and takes its request over the socket.
    Init(InitConfig),
    /// A file system in memory for the steps that are started from now on; a [`Mounted`] comes back.
    Mount(Memory),
    /// Such a file system is not needed any more; there is no answer.
    Unmount(PathBuf),
}

/// What comes of [`ZygoteRequest::Mount`]: with it come the mount namespace and the root of the file system.
pub(super) type Mounted = Result<(), Failure>;

/// The message to whoever is ready for it. Its files are the command's output and error output, and the one that
/// [`Stdin`] speaks of.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::exec) struct RunRequest {
    pub(in crate::exec) spec: Spec,
    pub(in crate::exec) stdin: Stdin,
    /// The lower directories in `spec` that are images which rbuild has mounted, as `spec` names them. They follow, opened, in
    /// messages of their own: those around a step may be closed off from what rbuild itself has open (Landlock).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::exec) images: Vec<PathBuf>,
}

/// What the command reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::exec) enum Stdin {
    /// `/dev/null`.
    Nothing,
    /// The request's last file.
    File,
    /// A terminal of the step's own, of this size, which is its output, too. The request's last file is a socket, over
    /// which the terminal's other side comes back.
    Terminal { rows: u16, columns: u16 },
}

/// What the command's process tells before it becomes the command (and once more if it cannot).
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::exec) enum Progress {
    /// It has read its request.
    Received,
    /// The root is ready.
    Ready(Made),
    /// It never will be.
    Failed(Failure),
}

/// The last message of a step.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::exec) enum Outcome {
    Exited(ExitReport),
    Failed(Failure),
}

/// What the init tells the zygote.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::exec) struct InitReport {
    pub(in crate::exec) outcome: Outcome,
    pub(in crate::exec) made: Option<Made>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_told_from_other_bytes() {
        assert_eq!(decode_messages(b"\"Root\""), 1);
        assert_eq!(decode_messages(b"{\"Failed\":{\"Killed\":{\"signal\":9}}}"), 2);
        for bytes in [&b""[..], b"null", b"{}", b"\"Rooted\"", b"\xff", &[b'['; 100_000]] {
            assert_eq!(decode_messages(bytes), 0);
        }
    }
}
