//! What rbuild and the processes around a step tell each other.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::pids::Bound;
use super::spec::{ExitReport, Network, RootSource, Security, Spec};
use super::stubs::Made;

/// Reads one message. Every message between rbuild and the processes around a step is read here.
pub(super) fn decode<T: DeserializeOwned>(message: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(message)
}

/// Reads bytes as every kind of message that the processes around a step take, for those who try what bytes do; gives how
/// many kinds they are. What was read reads the same once it was written.
pub fn decode_orders(bytes: &[u8]) -> usize {
    fn is_one<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
        let Ok(message) = decode::<T>(bytes) else { return false };
        let written = serde_json::to_vec(&message).expect("plain data with string keys always serialises");
        let again = decode::<T>(&written).expect("what was written can be read");
        assert_eq!(written, serde_json::to_vec(&again).expect("as above"));
        true
    }
    [
        is_one::<Ids>(bytes),
        is_one::<Preparation>(bytes),
        is_one::<Order>(bytes),
        is_one::<Progress>(bytes),
        is_one::<InitReport>(bytes),
        is_one::<Outcome>(bytes),
    ]
    .into_iter()
    .filter(|is_one| *is_one)
    .count()
}

/// How the user namespace of a step looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ids {
    /// There is none: rbuild is root.
    Root,
    /// Ids 0 to some thousands are mapped.
    Ranges,
    /// Only id 0 is.
    Single,
}

/// What the processes around a step need to know to get ready for it: nothing of it that another step would not share.
/// A message to the zygote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Preparation {
    pub(super) ids: Ids,
    pub(super) network: Network,
    pub(super) security: Security,
    pub(super) shm_size_bytes: u64,
    pub(super) bound: Bound,
    /// The program, for the network that needs it.
    pub(super) pasta: Option<PathBuf>,
    /// A root of which a server must be started first.
    pub(super) served: Option<RootSource>,
    /// rbuild is told the init's number, and lets it begin with a byte.
    pub(super) is_held: bool,
}

/// The message to whoever is ready for it. Its files are the command's output and error output, and the one that
/// [`Stdin`] speaks of.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) spec: Spec,
    pub(super) stdin: Stdin,
    /// The lower directories in `spec` that are images which rbuild has mounted, as `spec` names them. They follow, opened, in
    /// messages of their own: those around a step may be closed off from what rbuild itself has open (Landlock).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) images: Vec<PathBuf>,
}

/// What the command reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stdin {
    /// `/dev/null`.
    Nothing,
    /// The order's last file.
    File,
    /// A terminal of the step's own, of this size, which is its output, too. The order's last file is a socket, over
    /// which the terminal's other side comes back.
    Terminal { rows: u16, columns: u16 },
}

/// What the command's process tells before it becomes the command (and once more if it cannot).
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Progress {
    /// It has read its order.
    Ordered,
    /// The root is ready.
    Ready(Made),
    /// It never will be.
    Failed(Failure),
}

/// The last message of a step.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    Exited(ExitReport),
    Failed(Failure),
}

/// What the init tells the zygote.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InitReport {
    pub(super) outcome: Outcome,
    pub(super) made: Option<Made>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_told_from_other_bytes() {
        assert_eq!(decode_orders(b"\"Root\""), 1);
        assert_eq!(decode_orders(b"{\"Failed\":{\"Killed\":{\"signal\":9}}}"), 2);
        for bytes in [&b""[..], b"null", b"{}", b"\"Rooted\"", b"\xff", &[b'['; 100_000]] {
            assert_eq!(decode_orders(bytes), 0);
        }
    }
}
