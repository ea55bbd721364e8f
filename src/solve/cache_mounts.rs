//! Cache mounts that travel with a shared cache.
//!
//! A mount is *brought* when a step that has it really runs, and nothing is in it on this machine: content that is here is never
//! replaced. Mounts that steps wrote to are *saved* when the build is over. Both happen under the mount's lock, alone, so never
//! while a step works in it. Instances of private mounts do neither, as they belong to nobody for long.
//!
//! The lock's file says whether a step that had secrets or an ssh agent ever wrote to the mount; it does so as long as the content stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::environment::Services;
use super::error::Error;
use super::jobs::{self, JobError};
use crate::oci::{Descriptor, MediaType, Seconds};
use crate::report::Event;
use crate::shared_cache::Import;
use crate::shared_cache::mounts::remote::{self, BringError, Place, Snapshots, Taken};
use crate::shared_cache::mounts::{Outcome, Parent, Restore, Save, Snapshot, Travel};
use crate::shared_cache::mounts::{note_path, noted_manifest};
use crate::store::{self, ScratchDir};
use crate::sync::lock;
use crate::text::size;

/// What is in the lock's file of a mount that a step with secrets wrote to.
const HAD_SECRETS: &[u8] = b"secrets\n";

/// The cache mounts of one build.
#[derive(Debug)]
pub struct CacheMounts {
    travel: Travel,
    /// Whether mounts that steps with secrets wrote to are saved, too.
    with_secrets: bool,
    /// Where they come from, and how large each may be.
    imports: Vec<(Arc<Import>, u64)>,
    /// By their directories.
    used: Mutex<BTreeMap<PathBuf, UsedMount>>,
    /// Names of those that a cache should have and has not.
    broken: Mutex<BTreeSet<String>>,
}

/// A mount that a step wrote to.
#[derive(Debug, Clone)]
struct UsedMount {
    /// What it is called in caches, for each platform.
    names: BTreeSet<String>,
    /// What users call it.
    id: String,
    lock: PathBuf,
}

/// A mount that a step is about to use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'w> {
    /// What it is called in caches.
    pub(super) name: &'w str,
    /// What users call it.
    pub(super) id: &'w str,
    /// Its directory, which need not be there.
    pub(super) path: &'w Path,
    /// Its lock's file, open for writing.
    pub(super) lock: &'w File,
}

impl Default for CacheMounts {
    fn default() -> Self {
        Self::new(Travel::Off, false, Vec::new())
    }
}

impl CacheMounts {
    /// Those of a build that has used none yet.
    pub fn new(travel: Travel, with_secrets: bool, imports: Vec<(Arc<Import>, u64)>) -> Self {
        let (used, broken) = (Mutex::default(), Mutex::default());
        Self { travel, with_secrets, imports, used, broken }
    }

    /// Notes that a step writes to a mount, which it has locked.
    pub(super) fn note_use(
        &self,
        wanted: &Wanted<'_>,
        lock_path: &Path,
        has_secrets: bool,
    ) -> io::Result<()> {
        if has_secrets {
            wanted.lock.write_all_at(HAD_SECRETS, 0)?;
        }
        if self.travel == Travel::InAndOut {
            let mut used = lock(&self.used);
            let used = used.entry(wanted.path.to_owned()).or_insert_with(|| UsedMount {
                names: BTreeSet::new(),
                id: wanted.id.to_owned(),
                lock: lock_path.to_owned(),
            });
            used.names.insert(wanted.name.to_owned());
        }
        Ok(())
    }
}

/// Forgets what was known of a mount that was emptied.
pub(super) fn forget(path: &Path, lock: &File) -> io::Result<()> {
    crate::shared_cache::mounts::drop_note(path);
    lock.set_len(0)
}

/// Brings the content of a mount that has none, if a cache has it. What goes wrong is told, and the mount stays empty. The
/// lock may be held afterwards, alone.
pub(super) fn bring(services: &Services, wanted: &Wanted<'_>) {
    let mounts = &services.mounts;
    if mounts.travel == Travel::Off || mounts.imports.is_empty() || !is_untouched(wanted.path) {
        return;
    }
    // Who has it locked works in it, or brings it just now.
    if wanted.lock.try_lock().is_err() || !is_untouched(wanted.path) {
        return;
    }
    let find = |(import, limit): &(Arc<Import>, u64)| {
        import.mount(wanted.name).map(|snapshot| (Arc::clone(import), *limit, snapshot))
    };
    let Some((import, limit, snapshot)) = mounts.imports.iter().find_map(find) else { return };
    let (id, cache) = (wanted.id, import.backend().name());
    let note = match restore(services, wanted, (&import, limit), &snapshot) {
        Ok(()) => {
            let files = if snapshot.files == 1 { "file" } else { "files" };
            let (count, bytes) = (snapshot.files, size::bytes(snapshot.bytes));
            format!("the cache mount `{id}` comes from `{cache}`: {count} {files}, {bytes}")
        }
        Err(error) => {
            lock(&mounts.broken).insert(wanted.name.to_owned());
            format!("the cache mount `{id}` of `{cache}` cannot be had: {error}; it starts empty")
        }
    };
    services.events.send(Event::Note(note));
}

/// Whether a mount was never used on this machine, or is empty.
fn is_untouched(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Why a mount was not brought.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error(transparent)]
    Bring(#[from] BringError),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Privilege(#[from] Error),
    #[error("cannot work in the store: {0}")]
    Io(#[from] io::Error),
}

fn restore(
    services: &Services,
    wanted: &Wanted<'_>,
    (import, limit): (&Import, u64),
    snapshot: &Snapshot,
) -> Result<(), RestoreError> {
    let scratch = services.store.scratch_dir()?;
    let inside = |name: &str| scratch.path().join(name);
    let blobs = inside("blobs");
    std::fs::create_dir(&blobs)?;
    remote::bring(&**import.backend(), snapshot, limit, &blobs)?;
    let owners = services.snapshots.privilege()?.owners();
    let job = jobs::RestoredMount {
        restore: Restore { blobs, manifest: snapshot.manifest, fresh: inside("cache"), owners, limit },
        path: wanted.path.to_owned(),
        replaced: inside("replaced"),
        note: inside("note"),
        note_path: note_path(wanted.path),
    };
    // Before anything is there that could leave this machine again.
    if snapshot.secrets {
        wanted.lock.write_all_at(HAD_SECRETS, 0)?;
    }
    Ok(jobs::restore_mount(&services.executor, &job)?)
}

/// The snapshots of a build that is over.
pub struct Leaving<'s>(pub &'s Services);

impl Snapshots for Leaving<'_> {
    fn take(&self, place: &Place<'_>) -> Vec<Taken> {
        let used = lock(&self.0.mounts.used).clone();
        let one = |(path, used): (&PathBuf, &UsedMount)| {
            let taken = self.take_one(path, used, place);
            taken.unwrap_or_else(|why| {
                let note = format!("the cache mount `{}` was not saved: {why}", used.id);
                self.0.events.send(Event::Note(note));
                None
            })
        };
        used.iter().filter_map(one).collect()
    }
}

impl Leaving<'_> {
    fn take_one(&self, path: &Path, used: &UsedMount, place: &Place<'_>) -> Result<Option<Taken>, String> {
        let services = self.0;
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let held = File::options().read(true).write(true).open(&used.lock).map_err(|e| said(&e))?;
        if held.try_lock().is_err() {
            return Err("another build works in it".to_owned());
        }
        let had_secrets = held.metadata().is_ok_and(|meta| meta.len() > 0);
        if had_secrets && !services.mounts.with_secrets {
            return Err(
                "a step that had secrets wrote to it; `--cache-mounts=rw` saves it all the same".to_owned()
            );
        }
        let scratch = services.store.scratch_dir().map_err(|e| said(&e))?;
        let known = used.names.iter().find_map(|name| place.known.get(name));
        let owners = services.snapshots.privilege().map_err(|e| said(&e))?.owners();
        let job = Save {
            mount: path.to_owned(),
            owners,
            parent: self.parent((path, used), known, (place, &scratch)),
            out: scratch.path().to_owned(),
            limit: place.limit,
        };
        let outcome = jobs::save_mount(&services.executor, &job).map_err(|e| said(&e))?;
        drop(held);
        let names = used.names.iter().cloned().collect();
        let day = place.now - place.now.rem_euclid(24 * 3600);
        Ok(match (outcome, known) {
            (Outcome::Empty, _) | (Outcome::Unchanged, None) => None,
            (Outcome::Unchanged, Some(known)) => {
                Some(Taken { names, snapshot: Snapshot { used: day, ..known.clone() }, fresh: None })
            }
            (outcome @ Outcome::Snapshot { .. }, _) => {
                taken(names, outcome, (place.now, day, had_secrets), scratch)
            }
        })
    }

    /// The snapshot that there is.
    fn parent(
        &self,
        (path, used): (&Path, &UsedMount),
        known: Option<&Snapshot>,
        (place, scratch): (&Place<'_>, &ScratchDir),
    ) -> Parent {
        let is_broken = || used.names.iter().any(|name| lock(&self.0.mounts.broken).contains(name));
        let Some(known) = known.filter(|_| !is_broken()) else { return Parent::None };
        if noted_manifest(path) == Some(known.manifest) {
            return Parent::Noted;
        }
        match remote::bring_manifest(place.backend, known, scratch.path()) {
            Ok(()) => Parent::File(scratch.path().join(known.manifest.hex())),
            // Then everything is sent again.
            Err(_) => Parent::None,
        }
    }
}

fn taken(
    names: Vec<String>,
    outcome: Outcome,
    (now, day, secrets): (Seconds, Seconds, bool),
    scratch: ScratchDir,
) -> Option<Taken> {
    let Outcome::Snapshot { manifest: (manifest, size), packs, fresh, bytes, files } = outcome else {
        return None;
    };
    let blob = |digest, size| Descriptor::new(MediaType::OCTET_STREAM, digest, size);
    let blobs = fresh.iter().map(|pack| blob(pack.digest, pack.size));
    let blobs = blobs.chain(std::iter::once(blob(manifest, size))).collect();
    let writer = String::new();
    let snapshot = Snapshot { manifest, size, packs, bytes, files, written: now, used: day, writer, secrets };
    Some(Taken { names, snapshot, fresh: Some((blobs, scratch)) })
}
