//! Who the processes of a step are, and all that follows from it.

use serde::{Deserialize, Serialize};

use super::host::userns::{self, SingleIdReason};
use crate::layer::unpack::{OpaqueMark, Owners};
use crate::snapshot::TreeKind;

/// Who a build is on this machine: the four rungs, from the top.
///
/// What differs between them is asked here and nowhere else: which ids there are, who answers for owners, where overlayfs
/// keeps its marks, and what is told to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Privilege {
    /// Root of the machine, without a user namespace.
    Root,
    /// Root of a user namespace that has all ids an image needs.
    Ranges,
    /// Root of a user namespace with a single id: owners are written down with the files, and a process beside the step
    /// answers for them.
    Single,
    /// Root in a container that allows neither namespaces nor mounts: a step has a root of its own by `chroot`, and a process
    /// beside it answers for `/proc` and identities.
    Plain,
}

impl Privilege {
    /// Its number in what users read, 1 to 4.
    pub fn rung(self) -> u8 {
        match self {
            Privilege::Root => 1,
            Privilege::Ranges => 2,
            Privilege::Single => 3,
            Privilege::Plain => 4,
        }
    }

    /// Whether steps, and jobs on their files, run in a user namespace.
    pub fn has_user_namespace(self) -> bool {
        matches!(self, Privilege::Ranges | Privilege::Single)
    }

    /// Whether there are ids besides root's, so that a process can become somebody else and a file can be somebody else's.
    pub fn has_other_ids(self) -> bool {
        self != Privilege::Single
    }

    /// How files of an image get their owners on disk.
    pub fn owners(self) -> Owners {
        match self {
            Privilege::Root | Privilege::Ranges | Privilege::Plain => Owners::Apply,
            Privilege::Single => Owners::Record,
        }
    }

    /// Where overlays that are mounted at this rung keep their marks: `trusted.` is for root of the machine alone.
    pub fn opaque_mark(self) -> OpaqueMark {
        match self {
            Privilege::Root => OpaqueMark::Trusted,
            Privilege::Ranges | Privilege::Single | Privilege::Plain => OpaqueMark::User,
        }
    }

    /// Which unpacked trees it can use.
    pub fn tree_kind(self) -> TreeKind {
        match self {
            Privilege::Root => TreeKind::root(),
            Privilege::Ranges => TreeKind::mapped(&userns::fingerprint_of_ranges()),
            Privilege::Single => TreeKind::recorded(),
            Privilege::Plain => TreeKind::plain(),
        }
    }

    /// The one line that says so before the first step runs. `why_single` belongs to [`Privilege::Single`].
    pub fn note(self, why_single: Option<&SingleIdReason>) -> String {
        match (self, why_single) {
            (Privilege::Root, _) => "RUN runs as root".to_owned(),
            (Privilege::Ranges, _) => "RUN runs in a user namespace with ranges of ids".to_owned(),
            (Privilege::Plain, _) => {
                "this container allows no namespaces: RUN runs in a root of its own, as root of the \
                container, on its network and among its processes"
                    .to_owned()
            }
            (Privilege::Single, None) => {
                "one id: RUN records owners and writes them into the layers".to_owned()
            }
            (Privilege::Single, Some(reason)) => format!(
                "one id: RUN records owners and writes them into the layers; for ids of its own: {reason}"
            ),
        }
    }
}
