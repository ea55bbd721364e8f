//! RUN where there are neither namespaces nor mounts: root in an ordinary container.
//!
//! A step has a root of its own, a directory that nothing else reads, which it enters by `chroot`. What other steps get by a
//! mount is put in place there as files and nodes, and taken out again ([`furnish`]). There is no `/proc` in it: the *supervisor*,
//! to which the step's filter passes every call that names a path, answers for what is below ([`supervisor`]). It answers for
//! identities, too, as for a user with one id: all processes stay root to the kernel, because who is not root can read no
//! memory of a process that changed its user, and no_new_privs, without which nobody but CAP_SYS_ADMIN may install a filter,
//! disarms set-id programs. Files really belong to whom they belong.
//!
//! ```text
//! rbuild
//!   └─ zygote            takes in whatever loses its parent, ends it when a keeper was killed
//!        └─ keeper       one a step: puts in place, waits, ends what is left, takes out
//!             ├─ supervisor
//!             └─ command
//! ```
//!
//! What is added to the container must not become a way out: the supervisor hands in regular files and devices of the outer
//! `/proc` and `/dev`, never a directory that lies outside, and for the step's own processes only. What root in a chroot can
//! do to its container by itself is another matter, see `docs/security.md`; where the kernel has Landlock, that is less.

mod calls;
mod child;
mod furnish;
mod keeper;
mod members;
mod place;
mod supervisor;

use rustix::process::DumpableBehavior;
use rustix::thread::CapabilitySet;

use super::failure::ExecError;
use super::spec::{MountSource, Network, Security, Spec};

pub(super) use calls::WATCHED;
pub(super) use keeper::run;
pub(super) use members::end_strays;

/// What this takes of a container: giving files away, passing over their modes, changing the root.
const NEEDED: [(CapabilitySet, &str); 4] = [
    (CapabilitySet::CHOWN, "CHOWN"),
    (CapabilitySet::DAC_OVERRIDE, "DAC_OVERRIDE"),
    (CapabilitySet::FOWNER, "FOWNER"),
    (CapabilitySet::SYS_CHROOT, "SYS_CHROOT"),
];

/// Whether this process may do what it takes.
pub(super) fn has_rights() -> bool {
    rustix::process::geteuid().is_root() && missing_rights().is_empty()
}

/// The capabilities that are missing, without their prefix.
pub(super) fn missing_rights() -> Vec<&'static str> {
    let has = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    NEEDED.iter().filter(|(one, _)| !has.contains(*one)).map(|(_, name)| *name).collect()
}

/// Those that root of this container would not have either.
pub(super) fn rights_that_root_lacks() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bound =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapBnd:")?.trim(), 16).ok());
    let bound = CapabilitySet::from_bits_retain(bound.unwrap_or(0));
    NEEDED.iter().filter(|(one, _)| !bound.contains(*one)).map(|(_, name)| *name).collect()
}

/// For the zygote: lets it take in what loses its parent below it, and hides it.
pub(super) fn guard() -> std::io::Result<()> {
    // A keeper has to end its step first: it is told by its socket that rbuild is gone.
    rustix::process::set_parent_process_death_signal(None)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    hide_memory()
}

/// Keeps this process's memory, environment and open files from others.
pub(super) fn hide_memory() -> std::io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Refuses limits of a whole step.
pub(super) fn refuse_limits() -> Result<(), ExecError> {
    not_here(
        "limits of a RUN (`--memory`, `--cpus`, `--pids-limit` and the like)",
        "limit the container itself, as with `docker run --memory`",
    )
}

/// Refuses mounts that a step asks for and cannot have here.
pub(super) fn refuse_mounts(spec: &Spec) -> Result<(), ExecError> {
    for mount in &spec.mounts {
        match &mount.kind {
            MountSource::Tmpfs { size_bytes: 1.., .. } => {
                return not_here(
                    &format!("a bound for what the tmpfs at {} holds (`size=`)", mount.target),
                    "leave `size` out: the mount is a folder on disk here",
                );
            }
            MountSource::Bind { source } => {
                return not_here(
                    &format!("{} of this machine at {}", source.display(), mount.target),
                    "a context or a stage can be had by `--mount=type=bind`",
                );
            }
            _ => {}
        }
    }
    Ok(())
}

fn not_here(what: &str, help: &str) -> Result<(), ExecError> {
    Err(ExecError::NotHere { what: what.to_owned(), help: help.to_owned() })
}

/// Refuses what no command can have here.
pub(super) fn refuse_surroundings(network: Network, security: Security) -> Result<(), ExecError> {
    match network {
        Network::Host => {}
        Network::None | Network::Pasta => {
            return not_here(
                "a network of its own (`--network`)",
                "start the container itself with that network (`docker run --network none`), or give it user namespaces",
            );
        }
    }
    if security == Security::Insecure {
        return not_here(
            "more rights than the container (`--security=insecure`)",
            "start the container with them, as with `docker run --privileged`",
        );
    }
    Ok(())
}
