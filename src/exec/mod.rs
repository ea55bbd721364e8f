//! Runs one process in one root file system.
//!
//! A step is a [`Spec`]; [`Executor::run`] has a process forked for it from a fresh copy of rbuild, which makes the
//! namespaces, mounts the root, and becomes the command. Without root everything happens in one user namespace for
//! the whole build, in which [`Executor::run_job`] also runs what must see files with their real owners.
//!
//! Knows nothing of container images, layers or Dockerfiles: the caller brings directories, or files to mount.

mod attach;
mod caps;
mod cgroup;
mod channel;
mod child;
mod console;
mod doctor;
mod emulation;
mod executor;
mod extra;
mod failure;
mod fuse;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod image;
mod init;
mod mounts;
mod network_files;
mod order;
mod output;
mod overlay;
mod owners;
mod pasta;
mod pids;
mod pipe;
mod probe;
mod program;
mod role;
mod seccomp;
mod signals;
mod spawn;
mod spec;
mod start;
mod stubs;
mod sys;
mod target;
mod user;
mod userns;
mod worker;
mod zygote;

pub use attach::Attach;
pub use cgroup::{CgroupError, Limits};
pub use console::restore_terminal;
pub use doctor::{Examination, Finding, State};
pub use emulation::emulation_help;
pub use executor::{Config, Executor, Stop};
pub use failure::ExecError;
pub use image::MountedImage;
pub use network_files::{Dns, hosts_text, resolv_conf_text};
pub use order::decode_orders;
pub use pids::PidsLimit;
pub use probe::{Capabilities, Identity};
pub use role::{Role, role_from_args};
pub use signals::Signals;
pub use spec::{
    ExitReport, ExitStatus, MountKind, MountSpec, Network, OwnedPath, ProcessLimit, RootSource, Security,
    Spec, Ulimit,
};
pub use user::{Credentials, UserError, resolve_user};
pub use userns::{SingleIdReason, UsernsError};
pub use worker::{Job, Jobs};
