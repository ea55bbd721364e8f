//! One file per subcommand: its arguments, and what it does with them.

pub(super) mod build;
pub(super) mod context;
pub(super) mod history;
pub(super) mod images;
pub(super) mod inspect;
mod local;
mod request;
