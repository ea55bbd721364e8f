//! rbuild's own side: asks for steps, bounds them, hears what they print, and says what the machine can do.

pub(super) mod attach;
pub(super) mod cgroup;
pub(super) mod console;
pub(super) mod doctor;
pub(super) mod emulation;
pub(super) mod executor;
mod free_ids;
pub(super) mod memory;
pub(super) mod output;
pub(super) mod pids;
pub(super) mod probe;
pub(super) mod program;
pub(super) mod user;
pub(super) mod userns;
pub(super) mod worker;
