//! One file per subcommand: its arguments, and what it does with them.

pub(super) mod build;
mod call;
mod check;
pub(super) mod context;
pub(super) mod history;
pub(super) mod images;
pub(super) mod inspect;
mod local;
mod outline;
pub(super) mod plan;
mod request;
