//! What rbuild and the processes around a step tell each other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::pids::Bound;
use super::spec::{ExitReport, Spec};
use super::target::Stubs;

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

/// The first message to a step's supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) spec: Spec,
    pub(super) ids: Ids,
    pub(super) stdin: Stdin,
    pub(super) bound: Bound,
    /// The program, for the network that needs it.
    pub(super) pasta: Option<PathBuf>,
}

/// What the command reads. Unless it is nothing, a second message brings the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stdin {
    /// `/dev/null`.
    Nothing,
    /// The file of the second message.
    File,
    /// A terminal of the step's own, of this size, which is its output, too. The file of the second message is a
    /// socket, over which the terminal's other side comes back.
    Terminal { rows: u16, columns: u16 },
}

/// What the command's process tells before it becomes the command (and once more if it cannot).
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Progress {
    /// The root is ready.
    Ready(Stubs),
    /// It never will be.
    Failed(Failure),
}

/// The last message from a step's supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    Exited(ExitReport),
    Failed(Failure),
}

/// What the init tells the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InitReport {
    pub(super) outcome: Outcome,
    pub(super) stubs: Stubs,
}
