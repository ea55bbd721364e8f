//! Capabilities and identity of a step's command.

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::exec::host::user::Credentials;

/// Docker's fourteen: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
/// net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
const DEFAULT: u64 = 0xa804_25fb;

/// Capability sets have 64 bits; the kernel refuses those that it does not know.
const ALL: std::ops::Range<u32> = 0..64;

/// Takes every capability but the default ones from the bounding set, so that no program, setuid or not,
/// can get them back.
pub(super) fn limit_bounding_set() -> rustix::io::Result<()> {
    limit_bounding_set_to(DEFAULT)
}

fn limit_bounding_set_to(kept: u64) -> rustix::io::Result<()> {
    for bit in ALL {
        if kept & (1 << bit) != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Groups, group, user.
pub(super) fn become_user(user: &Credentials) -> rustix::io::Result<()> {
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// Root keeps the default capabilities; for other users the kernel has cleared them all.
pub(super) fn keep_default() -> rustix::io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    let kept = now.permitted & CapabilitySet::from_bits_retain(DEFAULT);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}

/// Keeps of the default capabilities those that do not lead out of a `chroot`.
pub(in crate::exec) fn keep_inside_chroot() -> rustix::io::Result<()> {
    let kept = DEFAULT & !CapabilitySet::SYS_CHROOT.bits();
    match limit_bounding_set_to(kept) {
        // Without CAP_SETPCAP the set stays; no_new_privs lets nobody have more than now in any case.
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let now = rustix::thread::capabilities(None)?;
    let kept = now.permitted & CapabilitySet::from_bits_retain(kept);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}

/// Keeps all of rbuild's capabilities, whoever the user is; `change_user` runs in between.
pub(super) fn keep_all(change_user: impl FnOnce() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    rustix::thread::set_keep_capabilities(true)?;
    change_user()?;
    let permitted = rustix::thread::capabilities(None)?.permitted;
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: permitted };
    rustix::thread::set_capabilities(None, sets)?;
    for bit in ALL {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if permitted.contains(one) {
            rustix::thread::configure_capability_in_ambient_set(one, true)?;
        }
    }
    Ok(())
}

/// Whether this process is the machine's own root, not confined: it may mount and make devices.
pub(in crate::exec) fn is_privileged() -> bool {
    rustix::process::geteuid().is_root() && has(CapabilitySet::SYS_ADMIN) && is_initial_namespace()
}

/// Whether this process may map any id of its own user namespace into a new one: root of a container.
pub(in crate::exec) fn may_map_ids() -> bool {
    has(CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETFCAP)
}

/// Whether this is root, and may not map itself into a user namespace: that takes a capability since Linux 5.12.
pub(in crate::exec) fn is_bare_root() -> bool {
    rustix::process::geteuid().is_root() && !has(CapabilitySet::SETFCAP)
}

fn has(wanted: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// Whether all ids of the machine exist here.
fn is_initial_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}
