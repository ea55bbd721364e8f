//! What can go wrong in the store, as facts.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::oci::Digest;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A blob that is not there.
    #[error("blob {digest} is not in the store")]
    NotFound {
        /// The digest that was asked for.
        digest: Digest,
    },
    /// A blob whose bytes are not what its name says. It has been set aside, so that a new build or
    /// pull brings it again.
    #[error("blob {digest} was damaged on disk and has been set aside; build again to fetch or make it anew")]
    Damaged {
        /// The digest that its bytes do not have.
        digest: Digest,
    },
    /// Bytes that are not what was announced.
    #[error("the content is {actual}, not {expected} as announced")]
    WrongDigest {
        /// What was announced.
        expected: Digest,
        /// What arrived.
        actual: Digest,
    },
    /// A size that is not what was announced.
    #[error("blob {digest} has {actual} bytes, not {expected} as announced")]
    WrongSize {
        /// The digest by which it was announced.
        digest: Digest,
        /// What was announced.
        expected: u64,
        /// What is there.
        actual: u64,
    },
    /// A blob that the caller does not want to hold in memory.
    #[error("blob {digest} has {size} bytes; more than {limit} are not read into memory")]
    TooLarge {
        /// Its digest by its descriptor.
        digest: Digest,
        /// Its size by its descriptor.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A store of a future version of rbuild.
    #[error(
        "the store `{}` has format version {found}, and this rbuild knows versions up to {known}; \
         use a newer rbuild, or another store with --root DIR",
        root.display()
    )]
    NewerVersion {
        /// The store.
        root: PathBuf,
        /// Its version.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// A directory with other things in it.
    #[error(
        "`{}` is no rbuild store and is not empty (it holds `{example}`); name a new or empty directory with --root DIR",
        root.display()
    )]
    NotAStore {
        /// The directory.
        root: PathBuf,
        /// Something in it.
        example: String,
    },
    /// A file of rbuild's own that does not parse.
    #[error("`{}` is damaged: {reason}; remove that file, and build or tag again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// The disk or the quota is full.
    #[error(
        "no space left to write `{}` ({} of {} free on that file system); `rbuild prune --all` removes what no name \
         needs, or use another disk with --root DIR",
        path.display(),
        megabytes(*free_bytes),
        megabytes(*total_bytes)
    )]
    NoSpace {
        /// What was written.
        path: PathBuf,
        /// What is still free for this user.
        free_bytes: u64,
        /// How large the file system is.
        total_bytes: u64,
    },
    /// More than the store may take up.
    #[error(
        "the store `{}` may take up {}, and {} are in use; `rbuild prune --all` frees some, or raise `quota` in the configuration",
        root.display(),
        megabytes(*limit_bytes),
        megabytes(*used_bytes)
    )]
    OverQuota {
        /// The store.
        root: PathBuf,
        /// What it may take up.
        limit_bytes: u64,
        /// What it takes up.
        used_bytes: u64,
    },
    /// The file system takes no writes.
    #[error("`{}` is on a read-only file system; use another store with --root DIR", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },
    /// The permissions do not allow it.
    #[error(
        "no permission to {action} `{}`: `{}` {}; use another store with --root DIR",
        path.display(),
        holder.display(),
        refusal(*owner, *me)
    )]
    Denied {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The nearest existing file or directory that decides.
        holder: PathBuf,
        /// Its owner.
        owner: u32,
        /// The caller.
        me: u32,
    },
    /// Something that is no directory stands where a directory must be.
    #[error("`{}` is not a directory; move it away, or use another store with --root DIR", path.display())]
    NotADirectory {
        /// What stands there.
        path: PathBuf,
    },
    /// Other processes use the store.
    #[error("the store `{}` is in use by another rbuild; try again when it has finished", root.display())]
    InUse {
        /// The store.
        root: PathBuf,
    },
    /// A record's name that could leave its folder.
    #[error("`{name}` is no name of a record")]
    BadRecordName {
        /// As given.
        name: String,
    },
    /// Everything else that the system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What keeps user `me` from something of `owner`.
fn refusal(owner: u32, me: u32) -> String {
    match owner == me {
        true => "is yours, but its mode does not allow it".to_owned(),
        false => format!("belongs to user {owner}, and this is user {me}"),
    }
}

impl Error {
    /// Sorts what the system said when `action` was tried on `path`.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        // It has been sorted before, and went through something that writes.
        let source = match source.downcast::<Error>() {
            Ok(sorted) => return sorted,
            Err(source) => source,
        };
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT) => no_space(path),
            Some(Errno::ROFS) => Error::ReadOnly { path: path.to_owned() },
            Some(Errno::ACCESS | Errno::PERM) => denied(action, path, source),
            Some(Errno::NOTDIR) => Error::NotADirectory { path: first_non_directory(path) },
            _ => Error::Io { action, path: path.to_owned(), source },
        }
    }
}

impl From<Error> for io::Error {
    /// For writers that must speak `io::Error`; the message stays.
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::NotFound { .. } => io::ErrorKind::NotFound,
            Error::NoSpace { .. } => io::ErrorKind::StorageFull,
            Error::ReadOnly { .. } => io::ErrorKind::ReadOnlyFilesystem,
            Error::Denied { .. } => io::ErrorKind::PermissionDenied,
            Error::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

fn no_space(path: &Path) -> Error {
    let stat = path.ancestors().find_map(|p| rustix::fs::statvfs(p).ok());
    let bytes = |s: &rustix::fs::StatVfs, blocks: u64| blocks.saturating_mul(s.f_frsize);
    let free_bytes = stat.as_ref().map_or(0, |s| bytes(s, s.f_bavail));
    let total_bytes = stat.as_ref().map_or(0, |s| bytes(s, s.f_blocks));
    Error::NoSpace { path: path.to_owned(), free_bytes, total_bytes }
}

/// Names the owner of the nearest thing on the way that can be seen: usually who ran rbuild there first.
fn denied(action: &'static str, path: &Path, source: io::Error) -> Error {
    let holder = path.ancestors().find_map(|p| Some((p, std::fs::symlink_metadata(p).ok()?)));
    match holder {
        Some((holder, meta)) => Error::Denied {
            action,
            path: path.to_owned(),
            holder: holder.to_owned(),
            owner: meta.uid(),
            me: rustix::process::geteuid().as_raw(),
        },
        None => Error::Io { action, path: path.to_owned(), source },
    }
}

fn first_non_directory(path: &Path) -> PathBuf {
    let mut culprit = path;
    for ancestor in path.ancestors() {
        if std::fs::metadata(ancestor).is_ok_and(|m| !m.is_dir()) {
            culprit = ancestor;
        }
    }
    culprit.to_owned()
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
