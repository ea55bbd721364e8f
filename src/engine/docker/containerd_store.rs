//! Docker with containerd's image store: it pulls what it lacks from a registry that is there for that one pull.
//!
//! It reads archives, too, but whole ones: what a part of one would leave out it may not have. So an archive is what a daemon
//! gets that does not see this machine's loopback, what has no name, and what is for several platforms, of which it pulls one.

use super::daemon::Daemon;
use super::registry::Registry;
use crate::engine::archive::Archive;
use crate::engine::{Error, Load, picked};
use crate::oci::{Platform, Reference};

/// Loads an image; gives how many bytes were sent.
pub(super) fn load(daemon: &Daemon, load: &Load<'_>, names: &[Reference]) -> Result<u64, Error> {
    let whole = picked::whole(load)?;
    let can_pull = daemon.is_here() && whole.count == 1 && !names.is_empty();
    if can_pull {
        match pull(daemon, load, names) {
            Err(Error::Refused { reason, .. }) => {
                tracing::debug!(%reason, "docker does not pull from this machine");
            }
            outcome => return outcome,
        }
    }
    load.bring(&whole.layers)?;
    let archive = Archive::layout(load.store, &whole, names, &Default::default());
    daemon.load(&archive, load.hear)?;
    Ok(archive.content())
}

fn pull(daemon: &Daemon, load: &Load<'_>, names: &[Reference]) -> Result<u64, Error> {
    let image = picked::one(load)?;
    let platform = image.descriptor.platform.clone().filter(|platform| *platform != Platform::host());
    let platform = platform.map(|platform| platform.to_string());
    let registry = Registry::open(load)?;
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| registry.serve());
        let name = registry.name();
        let passing = format!("{name}:latest");
        let pulled = daemon.pull(&name, "latest", platform.as_deref()).and_then(|()| {
            let named = names.iter().try_for_each(|name| daemon.tag(&passing, name));
            // The name by which it came goes in any case.
            daemon.untag(&passing).and(named)
        });
        registry.close();
        let _ = ended.join();
        // Why it could not be given is more than that it was not got.
        registry.failure().map_or(pulled, Err)?;
        Ok(registry.sent())
    })
}
