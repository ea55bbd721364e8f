//! What happens around and inside one step: from its first process to the command, with all that is mounted for it.

pub(super) mod caps;
pub(super) mod child;
pub(super) mod extra;
pub(super) mod image;
pub(super) mod init;
pub(super) mod loader;
mod lowers;
pub(super) mod memory;
pub(super) mod mounts;
pub(super) mod overlay;
pub(super) mod start;
pub(super) mod stubs;
pub(super) mod target;
