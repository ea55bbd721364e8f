//! One file per subcommand: its arguments, and what it does with them.

pub(super) mod build;
pub(super) mod cache;
pub(super) mod commit;
pub(super) mod context;
pub(super) mod copy;
pub(super) mod doctor;
pub(super) mod du;
pub(super) mod explain;
pub(super) mod history;
pub(super) mod images;
pub(super) mod inspect;
pub(super) mod load;
pub(super) mod lock;
pub(super) mod login;
pub(super) mod logs;
pub(super) mod plan;
pub(super) mod prune;
pub(super) mod pull;
pub(super) mod push;
pub(super) mod rmi;
pub(super) mod run;
pub(super) mod save;
pub(super) mod sessions;
pub(super) mod shell;
pub(super) mod tag;
pub(super) mod verify;
