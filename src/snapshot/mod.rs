//! Root file systems for commands: a tree for each layer of a chain, a writable one on top, and what a
//! command changed in it.
//!
//! Nothing is mounted here; `exec` does that and says when it cannot. What reads or changes files of an
//! image is a plain function of a serialisable job, because without root it must run in a process inside
//! the user namespace, where the files' owners exist.

#[allow(clippy::disallowed_methods, reason = "rbuild's own folders and files, never what is in them")]
mod active;
#[allow(clippy::disallowed_methods, reason = "rbuild's own folders and files, never what is in them")]
mod commit;
mod copy;
mod diff;
mod error;
#[allow(clippy::disallowed_methods, reason = "rbuild's own folders and files, never what is in them")]
mod file_clock;
#[allow(clippy::disallowed_methods, reason = "rbuild's own folders and files, never what is in them")]
mod files;
#[allow(clippy::disallowed_methods, reason = "rbuild's own folders and files, never what is in them")]
mod hidden;
mod ids;
mod listing;
#[allow(clippy::disallowed_methods, reason = "rbuild's own folders and files, never what is in them")]
mod overlay;
mod part;
#[allow(clippy::disallowed_methods, reason = "rbuild's own folders and files, never what is in them")]
mod sums;
#[allow(clippy::disallowed_methods, reason = "rbuild's own folders and files, never what is in them")]
mod trees;
mod undo;
#[allow(clippy::disallowed_methods, reason = "rbuild's own folders and files, never what is in them")]
mod unpack;
#[allow(clippy::disallowed_methods, reason = "a file of /proc")]
mod watch;

pub use active::{ActiveSnapshot, Dirs};
pub use commit::{CommitJob, Committed, Views, commit, commit_on};
pub use copy::{CopyJob, copy_tree};
pub use diff::{DiffJob, Form, Owners, diff};
pub use error::Error;
pub use files::{make_dir, remove};
pub use hidden::hidden_by;
pub use ids::{IdMap, IdRange};
pub use listing::{Blobs, Listing, Open, Origin, Tracked};
pub use overlay::OverlayKind;
pub use part::copy_part;
pub use sums::measuring;
pub use trees::{TreeKind, Trees};
pub use undo::undo_changes;
pub use unpack::{PackJob, UnpackJob, pack_layer, read_so_far, unpack_tree, unpack_tree_on};
