//! Work on files of an image that must be done where their owners exist.
//!
//! As root that is this process. Without root it is a process inside the user namespace: rbuild starts itself
//! again there as a worker, which finds the function by its name in [`TABLE`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::exec::{ExecError, Executor, MemoryMount};
use crate::layer::unpack::Owners;
use crate::layer::view::RootView;
use crate::rootfs::{RecordedOwner, Root, Symlinks};
use crate::shared_cache::mounts::{self, Outcome, Restore, Save};
use crate::snapshot::{self, CommitJob, Committed, CopyJob, UnpackJob, Views};
use crate::store::Store;
use crate::sync::lock;

/// What a worker can do, by name.
pub const TABLE: &[(&str, crate::exec::Job)] = &[
    ("unpack", |job| encoded(job, |job: UnpackJob| snapshot::unpack_tree_on(&job, &view(&job.parents)?))),
    ("commit", |job| encoded(job, |job: CommitJob| snapshot::commit_on(&job, &view(&job.parents)?))),
    ("copy", |job| encoded(job, |job: CopyJob| snapshot::copy_tree(&job))),
    ("remove", |job| encoded(job, |job: PathBuf| snapshot::remove(&job))),
    ("cache-directory", |job| encoded(job, |job: CacheDirectory| make_cache_directory(&job))),
    ("restore-mount", |job| encoded(job, |job: RestoredMount| make_restored_mount(&job))),
    ("save-mount", |job| encoded(job, |job: Save| mounts::save(&job))),
];

/// The root of layers with these index files. A worker does one job after the other on the same base.
fn view(layers: &[PathBuf]) -> Result<RootView, snapshot::Error> {
    static VIEWS: Mutex<Option<Views>> = Mutex::new(None);
    lock(&VIEWS).get_or_insert_default().get(layers)
}

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Here, as root.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// By a worker, which tells what happened in words.
    #[error(transparent)]
    Worker(#[from] ExecError),
    /// It could not be described, or what a worker answered could not be understood.
    #[error(transparent)]
    Encoding(#[from] serde_json::Error),
    /// The directory of a cache mount could not be made.
    #[error("cannot make `{}`: {source}", path.display())]
    CacheDirectory {
        /// The directory in the store that the mount would show.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The content of a cache mount could not be saved or restored.
    #[error(transparent)]
    Mount(#[from] mounts::Error),
    /// The directory of a cache mount could not be filled.
    #[error("cannot fill a cache mount from `{from}`: {source}")]
    Fill {
        /// The part of the root.
        from: String,
        /// Why not.
        source: io::Error,
    },
}

/// A directory for a cache mount, to be made if it is not there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CacheDirectory {
    /// Where; its parent is there.
    pub(super) path: PathBuf,
    /// Where it is made first, a name that nobody else has, on the same file system.
    pub(super) fresh: PathBuf,
    /// Where the directory that is at `path` goes, if another is to take its place.
    pub(super) replaced: Option<PathBuf>,
    /// Its mode, its owner and its group; of one that is filled, those of what it is filled from.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// How it gets its owner.
    pub(super) owners: Owners,
    /// What it starts as, if not empty.
    pub(super) fill: Option<Fill>,
}

/// A part of a root that a cache mount starts as.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Fill {
    /// Copies a root.
    pub(super) copy: CopyJob,
    /// The part of it, an absolute path.
    pub(super) source: String,
    /// Nothing there is as good as an empty directory.
    pub(super) may_be_missing: bool,
}

/// The directory of a cache mount as a shared cache has it, to take the place of an empty one or of none. Nobody works in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RestoredMount {
    /// What it will be, made first where nobody sees it.
    pub(super) restore: Restore,
    /// Where it goes.
    pub(super) path: PathBuf,
    /// Where an empty one goes that is there, on the same file system.
    pub(super) replaced: PathBuf,
    /// Where the note about it is made, and where that goes.
    pub(super) note: PathBuf,
    pub(super) note_path: PathBuf,
}

/// Unpacks a layer on the root `below`; gives notes about what the tree lacks.
pub(super) fn unpack(
    executor: &Executor,
    job: &UnpackJob,
    below: &RootView,
) -> Result<Vec<String>, JobError> {
    run(executor, "unpack", job, |job| snapshot::unpack_tree_on(job, below))
}

/// Unpacks a layer at a place that only steps and those among them see; `job.parents` are read.
pub(super) fn unpack_among(
    executor: &Executor,
    memory: Option<&MemoryMount>,
    job: &UnpackJob,
) -> Result<Vec<String>, JobError> {
    run_among((executor, memory), "unpack", job, snapshot::unpack_tree)
}

/// Writes a command's changes against `parent` as a layer. When they are in `memory`, `job.parents` are read.
pub(super) fn commit(
    executor: &Executor,
    memory: Option<&MemoryMount>,
    job: &CommitJob,
    parent: &RootView,
) -> Result<Committed, JobError> {
    run_among((executor, memory), "commit", job, |job| snapshot::commit_on(job, parent))
}

/// Copies a whole root.
pub(super) fn copy(executor: &Executor, job: &CopyJob) -> Result<(), JobError> {
    run(executor, "copy", job, snapshot::copy_tree)
}

/// Deletes what an ordinary user may not.
fn remove(executor: &Executor, path: &PathBuf) -> Result<(), JobError> {
    run(executor, "remove", path, |path| snapshot::remove(path))
}

/// Makes the directory of a cache mount.
pub(super) fn cache_directory(executor: &Executor, job: &CacheDirectory) -> Result<(), JobError> {
    run(executor, "cache-directory", job, make_cache_directory)
}

fn make_cache_directory(job: &CacheDirectory) -> Result<(), JobError> {
    let fail = |source: io::Error| JobError::CacheDirectory { path: job.path.clone(), source };
    // Made under another name first: whoever sees the directory sees it finished.
    make_empty(job).map_err(fail)?;
    if let Some(fill) = &job.fill {
        fill_from(fill, &job.fresh)?;
    }
    if let Some(replaced) = &job.replaced {
        put_away(&job.path, replaced).map_err(fail)?;
    }
    match put_in_place(&job.fresh, &job.path).map_err(fail)? {
        true => Ok(()),
        false => Ok(snapshot::remove(&job.fresh)?),
    }
}

/// Moves what is at `path`, if anything is.
fn put_away(path: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, path, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::NOENT) => Ok(()),
        renamed => Ok(renamed?),
    }
}

/// Moves a directory to its place unless something is there. A plain rename would put it in the place of an empty one that
/// another step has mounted in the meantime.
fn put_in_place(fresh: &Path, path: &Path) -> io::Result<bool> {
    match renameat_with(CWD, fresh, CWD, path, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Ok(false),
        renamed => renamed.map(|()| true).map_err(Into::into),
    }
}

/// Makes a cache mount as a shared cache has it.
pub(super) fn restore_mount(executor: &Executor, job: &RestoredMount) -> Result<(), JobError> {
    run(executor, "restore-mount", job, make_restored_mount)
}

fn make_restored_mount(job: &RestoredMount) -> Result<(), JobError> {
    let fail = |source: io::Error| JobError::CacheDirectory { path: job.path.clone(), source };
    mounts::restore(&job.restore, &job.note)?;
    put_away(&job.path, &job.replaced).map_err(fail)?;
    if put_in_place(&job.restore.fresh, &job.path).map_err(fail)? {
        // A note that does not fit what is there is seen through, file by file.
        let _ = std::fs::rename(&job.note, &job.note_path);
    }
    Ok(())
}

/// Looks at a cache mount, and makes the blobs of a snapshot.
pub(super) fn save_mount(executor: &Executor, job: &Save) -> Result<Outcome, JobError> {
    run(executor, "save-mount", job, mounts::save)
}

fn make_empty(job: &CacheDirectory) -> io::Result<()> {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    std::fs::create_dir(&job.fresh)?;
    match job.owners {
        Owners::Record => RecordedOwner::new(job.uid, job.gid).write_to(&job.fresh)?,
        Owners::Apply => chown(&job.fresh, Some(job.uid), Some(job.gid))?,
    }
    std::fs::set_permissions(&job.fresh, std::fs::Permissions::from_mode(job.mode))
}

/// Makes `cache` what a part of a root is, the looks of its directory included.
fn fill_from(fill: &Fill, cache: &Path) -> Result<(), JobError> {
    let fail = |source: io::Error| JobError::Fill { from: fill.source.clone(), source };
    std::fs::create_dir(&fill.copy.target).map_err(fail)?;
    // The path is the Dockerfile's and the links in it are the image's: they lead inside the root, as in a step.
    let part = match snapshot::copy_part(&fill.copy, &fill.source)? {
        Some(part) => part,
        None if fill.may_be_missing => return Ok(()),
        None => return Err(fail(Errno::NOENT.into())),
    };
    let moved = || -> io::Result<()> {
        let part = Root::open(&part)?.folder(Path::new("."), Symlinks::Refuse)?;
        let cache = Root::open(cache)?.folder(Path::new("."), Symlinks::Refuse)?;
        part.move_all(&cache)?;
        cache.look_like(&part)
    };
    moved().map_err(fail)
}

/// Deletes what is in a store's trash. Files of other owners can be deleted only inside the user namespace.
pub fn empty_trash(store: &Store, executor: &Executor) {
    for left in store.empty_trash() {
        if let Err(error) = remove(executor, &left) {
            tracing::warn!(%error, path = %left.display(), "cannot delete what was thrown away");
        }
    }
}

fn run<J: Serialize, T: DeserializeOwned, E: Into<JobError>>(
    executor: &Executor,
    name: &str,
    job: &J,
    here: impl FnOnce(&J) -> Result<T, E>,
) -> Result<T, JobError> {
    run_among((executor, None), name, job, here)
}

fn run_among<J: Serialize, T: DeserializeOwned, E: Into<JobError>>(
    (executor, memory): (&Executor, Option<&MemoryMount>),
    name: &str,
    job: &J,
    here: impl FnOnce(&J) -> Result<T, E>,
) -> Result<T, JobError> {
    if memory.is_none() && !executor.is_rootless() {
        return here(job).map_err(Into::into);
    }
    let job = serde_json::to_vec(job)?;
    let answer = match memory {
        Some(memory) => executor.run_job_among(memory, name, &job)?,
        None => executor.run_job(name, &job)?,
    };
    Ok(serde_json::from_slice(&answer)?)
}

/// The worker's side of [`run`].
fn encoded<J: DeserializeOwned, T: Serialize, E: std::fmt::Display>(
    job: &[u8],
    work: impl FnOnce(J) -> Result<T, E>,
) -> Result<Vec<u8>, String> {
    let job = serde_json::from_slice(job).map_err(|e| e.to_string())?;
    let done = work(job).map_err(|e| e.to_string())?;
    serde_json::to_vec(&done).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// Whoever is late keeps the directory that another has made, and has mounted already.
    #[test]
    fn steps_that_make_one_cache_directory_at_once_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let owner = rustix::process::getuid().as_raw();
        let group = rustix::process::getgid().as_raw();
        let path = dir.path().join("cache");
        let barrier = std::sync::Barrier::new(8);
        let make = |number: usize| {
            let fresh = dir.path().join(format!("fresh{number}"));
            let job = CacheDirectory {
                path: path.clone(),
                fresh,
                replaced: None,
                mode: 0o755,
                uid: owner,
                gid: group,
                owners: Owners::Apply,
                fill: None,
            };
            barrier.wait();
            make_cache_directory(&job).unwrap();
            File::open(&path).unwrap()
        };
        let opened: Vec<File> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|number| {
                    let make = &make;
                    scope.spawn(move || make(number))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let inode = |file: &File| file.metadata().unwrap().ino();
        assert!(opened.iter().all(|file| inode(file) == inode(&opened[0])));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no fresh one is left");
    }
}
