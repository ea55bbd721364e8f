//! What steps do: from a step's operation and its inputs to the entries of its layer.

pub mod remote_git;
pub mod remote_http;
pub mod transfer;
pub mod workdir;
