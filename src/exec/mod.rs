//! Runs one process in one root file system.
//!
//! A step is a [`Spec`]; [`Executor::run`] has a process forked for it from a fresh copy of rbuild, which makes the
//! namespaces, mounts the root, and becomes the command. Without root everything happens in one user namespace for
//! the whole build, in which [`Executor::run_job`] also runs what must see files with their real owners.
//!
//! Knows nothing of container images, layers or Dockerfiles: the caller brings directories, or files to mount.

mod failure;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod host;
mod network;
mod owners;
mod plain;
mod privilege;
mod seccomp;
mod spec;
mod step;
mod sys;
mod wire;

pub use failure::ExecError;
pub use host::attach::Attach;
pub use host::cgroup::{CgroupError, Limits};
pub use host::console::restore_terminal;
pub use host::doctor::{Examination, Finding, State};
pub use host::emulation::emulation_help;
pub use host::executor::{Config, Executor, Stop};
pub use host::memory::{MemoryMount, room_in_memory};
pub use host::output::Printed;
pub use host::pids::PidsLimit;
pub use host::user::{Credentials, UserError, resolve_user};
pub use host::userns::{SingleIdReason, UsernsError};
pub use host::worker::{Job, Jobs};
pub use network::files::{Dns, hosts_text, resolv_conf_text};
pub use privilege::Privilege;
pub use spec::{
    ExitReport, ExitStatus, Hidden, MountSource, MountSpec, Network, OwnedPath, ProcessLimit, RootSource,
    Security, Spec, Ulimit, Writes,
};
pub use step::image::MountedImage;
pub use sys::signals::Signals;
pub use wire::messages::decode_messages;
pub use wire::role::{Role, role_from_args};
