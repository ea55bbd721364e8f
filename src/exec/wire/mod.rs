//! How the two sides speak: requests and reports over sockets, and the processes that pass them on.

pub(super) mod channel;
pub(super) mod messages;
pub(super) mod role;
pub(super) mod spawn;
pub(super) mod zygote;
