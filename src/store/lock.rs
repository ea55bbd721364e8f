//! Locks on files, held as long as the value lives and gone when the process dies.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::{Error, Store};

/// Opens the lock file `path`, made when missing.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| Error::io("open", path, e))
}

/// Takes the lock `path` alone, waiting for those who hold it.
pub(super) fn exclusive(path: &Path) -> Result<File, Error> {
    let file = open(path)?;
    apply(&file, FlockOperation::LockExclusive).map_err(|e| Error::io("lock", path, e))?;
    Ok(file)
}

/// Waits until nobody stands in the door `path`, which whoever waits for the whole store closes: else a store that many
/// use in turn would never be free. Who has the store open already must not come here.
pub(super) fn pass(path: &Path) -> Result<(), Error> {
    match shared(path) {
        // Nobody closes a door that cannot be made.
        Err(_) if is_absent(path) => Ok(()),
        passed => passed.map(drop),
    }
}

fn is_absent(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Takes the lock `path` together with other sharers, waiting for one who holds it alone. One that cannot be written to, as
/// in a store that is there to be read only, will do.
pub(super) fn shared(path: &Path) -> Result<File, Error> {
    let file = open(path).or_else(|error| File::open(path).map_err(|_| error))?;
    apply(&file, FlockOperation::LockShared).map_err(|e| Error::io("lock", path, e))?;
    Ok(file)
}

/// Locks `file` alone, waiting for those who hold it.
pub(super) fn wait_exclusive(file: &File) -> std::io::Result<()> {
    apply(file, FlockOperation::LockExclusive)
}

/// Whether `file` could be locked without waiting.
pub(super) fn try_exclusive(file: &File) -> bool {
    apply(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

fn apply(file: &File, operation: FlockOperation) -> std::io::Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Shared for a moment by everybody who is about to open the store, exclusive while somebody waits for it alone.
pub(super) const DOOR: &str = "door";

/// How often a lock is tried that somebody else holds: there is no waiting for one with an end.
const POLL: Duration = Duration::from_millis(20);

/// The whole store for one process alone; see [`Store::lock_exclusive`].
#[derive(Debug)]
pub struct ExclusiveLock {
    store: Store,
}

impl ExclusiveLock {
    /// Turns the shared lock of `store` into an exclusive one; tries for so long.
    pub(super) fn take(store: Store, patience: Duration) -> Result<Self, Error> {
        let deadline = Instant::now() + patience;
        let file = &store.inner.lock;
        // As long as this is open. Another one who waits may hold it, whose turn comes first.
        let door = open(&store.inner.own.join(DOOR))?;
        loop {
            if !patience.is_zero() {
                try_exclusive(&door);
            }
            // flock(2) gives the old lock up before it takes the new one, and does not restore it on failure. That is
            // welcome here: two processes that waited for each other's shared lock would wait in vain.
            if try_exclusive(file) {
                return Ok(Self { store });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(POLL));
        }
        let path = store.root().join("rbuild/lock");
        apply(file, FlockOperation::LockShared).map_err(|e| Error::io("lock", &path, e))?;
        Err(Error::InUse { root: store.root().to_owned() })
    }
}

impl ExclusiveLock {
    /// The store that it locks.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

impl Drop for ExclusiveLock {
    fn drop(&mut self) {
        let _ = apply(&self.store.inner.lock, FlockOperation::LockShared);
    }
}
