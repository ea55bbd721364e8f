//! What to run, and what came of it, as values.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exec::host::cgroup::Limits;
use crate::exec::host::user::Credentials;
use crate::oci::Platform;
use crate::report::Traffic;
use crate::rootfs::SpecialOwner;

/// One process in one root file system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// What is its `/`.
    pub root: RootSource,
    /// The program and its arguments; a name without a slash is looked up in the `PATH` of `env`.
    pub args: Vec<String>,
    /// Its whole environment. Of equal names the last wins; `HOME` is added when it is absent or empty.
    pub env: Vec<(String, String)>,
    /// Absolute; made, owned by the user, when the root has no such directory.
    pub cwd: String,
    /// Who runs it; see [`super::resolve_user`].
    pub credentials: Credentials,
    /// Its host name.
    pub hostname: String,
    /// What it can reach.
    pub network: Network,
    /// What it may do.
    pub security: Security,
    /// What lower directories hide of those below them and cannot say themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<Hidden>,
    /// What is mounted besides the usual; parents are mounted before what is below them, whatever the
    /// order here.
    pub mounts: Vec<MountSpec>,
    /// The text of `/etc/hosts`; see [`super::hosts_text`].
    pub hosts: String,
    /// The text of `/etc/resolv.conf`; see [`super::resolv_conf_text`].
    pub resolv_conf: String,
    /// Size of `/dev/shm`; 0 is the usual 64 MiB.
    pub shm_size_bytes: u64,
    /// Resource limits; the others are those of rbuild itself.
    pub ulimits: Vec<Ulimit>,
    /// Who owns the symbolic links, pipes and devices of the root that are not root's: with a single id the files
    /// themselves cannot tell.
    pub owned_paths: Vec<OwnedPath>,
    /// What the program is built for; only told in the error when the kernel cannot run it.
    pub platform: Platform,
    /// What of the machine it may use; that of the executor when absent. Held from outside, and not kept.
    #[serde(skip)]
    pub limits: Option<Limits>,
}

/// See [`Spec::hidden`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    /// A lower directory, as the root or a mount names it.
    pub by: PathBuf,
    /// Paths relative to it: what lower directories have there is not seen.
    pub paths: Vec<Vec<u8>>,
}

/// See [`Spec::owned_paths`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedPath {
    /// Relative to the root; its directories are no symbolic links.
    pub path: Vec<u8>,
    /// The user that it shall belong to.
    pub uid: u32,
    /// The group that it shall belong to.
    pub gid: u32,
}

impl Spec {
    /// The lower directories of the root and of what is mounted in it.
    pub fn lowers(&self) -> impl Iterator<Item = &PathBuf> {
        let mounted = self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountSource::Layers { lowers, .. } => Some(lowers),
            _ => None,
        });
        self.root.lowers().into_iter().chain(mounted).flatten()
    }

    /// Those that [`Self::lowers`] gives, for who names them otherwise.
    pub(super) fn lowers_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let root = match &mut self.root {
            RootSource::Overlay { lowers, .. } => Some(lowers),
            RootSource::Plain { .. } => None,
        };
        let mounted = self.mounts.iter_mut().filter_map(|mount| match &mut mount.kind {
            MountSource::Layers { lowers, .. } => Some(lowers),
            _ => None,
        });
        root.into_iter().chain(mounted).flatten()
    }
}

impl RootSource {
    fn lowers(&self) -> Option<&Vec<PathBuf>> {
        match self {
            Self::Overlay { lowers, .. } => Some(lowers),
            Self::Plain { .. } => None,
        }
    }
}

/// Where a root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootSource {
    /// An overlay, mounted for the step alone. All paths are absolute directories, `upper` and `work` of one file system
    /// that takes an upper directory.
    Overlay {
        /// Unpacked layers, top first; may be empty.
        lowers: Vec<PathBuf>,
        /// Receives the changes.
        upper: PathBuf,
        /// Overlayfs's own; empty, beside `upper`.
        work: PathBuf,
        /// An empty directory to mount on.
        merged: PathBuf,
    },
    /// A directory that is changed in place: a copied tree, or something mounted already.
    Plain {
        /// The directory.
        dir: PathBuf,
    },
}

/// What a step can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// What this machine reaches, except abstract unix sockets where the kernel can close them off.
    Host,
    /// Its own loopback only.
    None,
    /// What this machine reaches, but nothing of this machine itself: through the program pasta.
    Pasta,
}

/// What a step may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Security {
    /// Docker's default capabilities, system calls and masks.
    Sandbox,
    /// Everything that rbuild may do.
    Insecure,
}

/// Something mounted into a step's root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute path in the root; symbolic links on the way are followed inside the root. What is missing
    /// of it is made and removed again afterwards.
    pub target: String,
    /// Writes fail.
    pub readonly: bool,
    /// What is mounted there.
    pub kind: MountSource,
}

/// What a [`MountSpec`] mounts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of this machine.
    Bind {
        /// Absolute path.
        source: PathBuf,
    },
    /// The directory of a cache mount, in the store. Others who have it meanwhile see what the step writes, except where there
    /// are no mounts: there nobody else may have it.
    Cache {
        /// Absolute path.
        source: PathBuf,
    },
    /// A path in a stack of directories, such as a stage's layers or a context.
    Layers {
        /// Top first, at least one.
        lowers: Vec<PathBuf>,
        /// Absolute path in them of a file or directory; symbolic links are followed inside.
        path: String,
        /// What becomes of what the step writes.
        #[serde(default)]
        writes: Writes,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Upper limit; 0 is none.
        size_bytes: u64,
        /// Of its root.
        mode: u32,
    },
    /// A file that exists in memory only: a secret or a here-document.
    File {
        /// Its content.
        #[serde(with = "base64_bytes")]
        content: Vec<u8>,
        /// Permission bits, `0o7777`.
        mode: u32,
        /// Owning user, as the command sees it.
        uid: u32,
        /// Owning group, as the command sees it.
        gid: u32,
    },
    /// A unix socket of this machine; its owner and mode are changed to these.
    Socket {
        /// Absolute path.
        source: PathBuf,
        /// Permission bits, `0o7777`.
        mode: u32,
        /// Owning user, as the command sees it.
        uid: u32,
        /// Owning group, as the command sees it.
        gid: u32,
    },
}

/// What becomes of what a step writes to a [`MountSource::Layers`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writes {
    /// They fail.
    #[default]
    Refused,
    /// It lies in this empty directory, on a file system that takes an upper directory.
    ToFolder(PathBuf),
    /// It is in memory, and gone with the step.
    ToMemory,
}

/// One resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// As in `--ulimit`: `nofile`, `nproc`.
    pub name: String,
    /// -1 is unlimited.
    pub soft: i64,
    /// -1 is unlimited.
    pub hard: i64,
}

impl Ulimit {
    /// No process leaves a core file behind, and none can allow it again.
    pub fn no_core_file() -> Self {
        Self { name: "core".to_owned(), soft: 0, hard: 0 }
    }
}

/// How a step's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// Its exit code, or the signal that ended it.
    pub status: ExitStatus,
    /// Processor time of the command and all that it waited for.
    pub user_time: Duration,
    /// Processor time that the kernel spent for them.
    pub system_time: Duration,
    /// Largest resident set, in bytes.
    pub peak_memory_bytes: u64,
    /// Bytes that had to be read from disks for them.
    pub read_bytes: u64,
    /// Bytes that they wrote for disks.
    pub written_bytes: u64,
    /// What went over the network, where it was their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Traffic>,
    /// It was killed, and the kernel ran out of memory meanwhile.
    pub out_of_memory: bool,
    /// The limit that it ran into, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// How many processes it could have.
    pub process_limit: Option<ProcessLimit>,
    /// With a single id: who owns the new files that cannot tell themselves.
    pub special_owners: Vec<SpecialOwner>,
    /// Paths in the root that were out of it while the step ran, with something else in their place, and are as before. Where
    /// there are mounts, none are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub put_back: Vec<PathBuf>,
    /// Inodes of files that may have been written to through a mapping, which on some file systems changes no time. Told where roots
    /// are changed in place only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapped: Vec<u64>,
    /// Whether files may have been changed in a way that the kernel does not tell whoever watches directories. Told where roots are
    /// changed in place only.
    #[serde(default)]
    pub unseen: bool,
}

/// How many processes a step could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLimit {
    /// So many, threads included.
    pub most: u64,
    /// Whether it wanted more; `None` where the kernel does not tell.
    pub was_reached: Option<bool>,
}

/// See [`ExitReport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It returned this.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// The status as a shell has it: 128 and the signal for a killed command.
    pub fn code(self) -> i32 {
        match self {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128 + signal,
        }
    }
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(de::Error::custom)
    }
}
