//! The operations: what a step does, and what it reads.
//!
//! Each is a value that holds all that counts for its result. `R` is what it reads: in a plan the number of another step, to
//! whoever runs it that step's result; `try_map` leads from one to the other.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use super::{BaseRequest, StepId};
use crate::image::PlatformImage;
use crate::oci::{Platform, Reference};
use crate::report::Span;

/// What a step does. The variant is the answer to every question about it. `R` is what it reads: in a plan the number of
/// another step, to whoever runs it that step's result.
#[derive(Debug, Clone, PartialEq)]
pub enum Op<R = StepId> {
    /// The empty root file system.
    Scratch,
    /// A base image whose manifest was resolved before planning; no layer of it need be there yet.
    Base(BaseOp),
    /// An image that COPY --from or a mount names; resolved when it runs.
    Image(ImageOp),
    /// A named context that is a folder (`--build-context name=DIR`) or the main context (name empty), as a source. It is
    /// read from, and never a parent.
    Local(LocalOp),
    /// WORKDIR: makes a directory.
    Workdir {
        /// What it starts from.
        parent: R,
        /// What it says.
        op: WorkdirOp,
    },
    /// COPY and ADD.
    Copy {
        /// What it starts from.
        parent: R,
        /// What it says.
        op: CopyOp<R>,
    },
    /// RUN.
    Exec {
        /// What it starts from.
        parent: R,
        /// What it says.
        op: Box<ExecOp<R>>,
    },
}

impl<R> Op<R> {
    /// What it starts from; sources start from nothing.
    pub fn parent(&self) -> Option<&R> {
        match self {
            Op::Scratch | Op::Base(_) | Op::Image(_) | Op::Local(_) => None,
            Op::Workdir { parent, .. } | Op::Copy { parent, .. } | Op::Exec { parent, .. } => Some(parent),
        }
    }

    /// Replaces all that it reads, as step numbers by results: `f` gets the parent first, then the sources or mounts in
    /// their order.
    ///
    /// # Errors
    /// The first one of `f`.
    pub fn try_map<T, E>(&self, mut f: impl FnMut(&R) -> Result<T, E>) -> Result<Op<T>, E> {
        Ok(match self {
            Op::Scratch => Op::Scratch,
            Op::Base(op) => Op::Base(op.clone()),
            Op::Image(op) => Op::Image(op.clone()),
            Op::Local(op) => Op::Local(op.clone()),
            Op::Workdir { parent, op } => Op::Workdir { parent: f(parent)?, op: op.clone() },
            Op::Copy { parent, op } => Op::Copy { parent: f(parent)?, op: op.try_map(f)? },
            Op::Exec { parent, op } => {
                Op::Exec { parent: f(parent)?, op: Box::new(op.try_map(|mounted| f(mounted.from))?) }
            }
        })
    }

    /// As [`Op::try_map`], where nothing can fail.
    pub fn map<T>(&self, mut f: impl FnMut(&R) -> T) -> Op<T> {
        let Ok(op) = self.try_map(|read| Ok::<_, Infallible>(f(read)));
        op
    }
}

impl<R: Clone> Op<R> {
    /// The results that it needs: its parent first, then what it reads, in the order of its sources or mounts.
    pub fn inputs(&self) -> Vec<R> {
        let mut inputs = Vec::new();
        self.map(|read| inputs.push(read.clone()));
        inputs
    }
}

impl<R> CopyOp<R> {
    /// As [`Op::try_map`].
    ///
    /// # Errors
    /// The first one of `f`.
    pub fn try_map<T, E>(&self, mut f: impl FnMut(&R) -> Result<T, E>) -> Result<CopyOp<T>, E> {
        let source = |source: &CopySource<R>| -> Result<CopySource<T>, E> {
            Ok(match source {
                CopySource::Path { from, pattern, span } => {
                    CopySource::Path { from: f(from)?, pattern: pattern.clone(), span: *span }
                }
                CopySource::Inline { name, content } => {
                    CopySource::Inline { name: name.clone(), content: content.clone() }
                }
                CopySource::Url { url, span } => CopySource::Url { url: url.clone(), span: *span },
                CopySource::Git { url, span } => CopySource::Git { url: url.clone(), span: *span },
            })
        };
        Ok(CopyOp {
            kind: self.kind,
            sources: self.sources.iter().map(source).collect::<Result<_, E>>()?,
            destination: self.destination.clone(),
            chown: self.chown.clone(),
            chmod: self.chmod.clone(),
            link: self.link,
            parents: self.parents,
            excludes: self.excludes.clone(),
            unpack: self.unpack,
            checksum: self.checksum.clone(),
            keep_git_dir: self.keep_git_dir,
            epoch: self.epoch,
        })
    }
}

/// What a mount shows: the files of `from` at and below a path.
#[derive(Debug, Clone, Copy)]
pub struct Mounted<'m, R> {
    /// Whose files.
    pub from: &'m R,
    /// Path in it, absolute.
    pub source: &'m str,
    /// Where `--mount` stands.
    pub span: Option<Span>,
}

impl<R> ExecOp<R> {
    /// What its mounts show, in their order.
    pub fn mounted(&self) -> impl Iterator<Item = Mounted<'_, R>> {
        self.mounts.iter().filter_map(Mount::mounted)
    }

    /// As [`Op::try_map`].
    ///
    /// # Errors
    /// The first one of `f`.
    pub fn try_map<T, E>(&self, mut f: impl FnMut(Mounted<'_, R>) -> Result<T, E>) -> Result<ExecOp<T>, E> {
        Ok(ExecOp {
            args: self.args.clone(),
            env: Arc::clone(&self.env),
            arguments: Arc::clone(&self.arguments),
            proxy_env: self.proxy_env.clone(),
            cwd: self.cwd.clone(),
            user: self.user.clone(),
            mounts: self.mounts.iter().map(|mount| mount.try_map(&mut f)).collect::<Result<_, E>>()?,
            pipes: self.pipes.clone(),
            network: self.network,
            security: self.security,
            hostname: self.hostname.clone(),
            extra_hosts: self.extra_hosts.clone(),
            shm_size_bytes: self.shm_size_bytes,
            ulimits: self.ulimits.clone(),
            platform: self.platform.clone(),
        })
    }

    /// As [`Op::map`].
    pub fn map<T>(&self, mut f: impl FnMut(Mounted<'_, R>) -> T) -> ExecOp<T> {
        let Ok(op) = self.try_map(|mounted| Ok::<_, Infallible>(f(mounted)));
        op
    }
}

impl<R> Mount<R> {
    /// What it shows of another step.
    pub fn mounted(&self) -> Option<Mounted<'_, R>> {
        let span = self.span;
        match &self.kind {
            MountKind::Bind { from, source, .. } | MountKind::Cache { from: Some((from, source)), .. } => {
                Some(Mounted { from, source, span })
            }
            MountKind::Cache { from: None, .. }
            | MountKind::Tmpfs { .. }
            | MountKind::Secret { .. }
            | MountKind::Ssh { .. } => None,
        }
    }

    fn try_map<T, E>(&self, f: &mut impl FnMut(Mounted<'_, R>) -> Result<T, E>) -> Result<Mount<T>, E> {
        let Self { target, kind, span } = self;
        let mut mounted = |from: &R, source: &str| f(Mounted { from, source, span: *span });
        let kind = match kind {
            MountKind::Bind { from, source, writable } => {
                MountKind::Bind { from: mounted(from, source)?, source: source.clone(), writable: *writable }
            }
            MountKind::Cache { id, sharing, from, readonly, owner } => MountKind::Cache {
                id: id.clone(),
                sharing: *sharing,
                from: match from {
                    Some((from, source)) => Some((mounted(from, source)?, source.clone())),
                    None => None,
                },
                readonly: *readonly,
                owner: *owner,
            },
            MountKind::Tmpfs { size_bytes } => MountKind::Tmpfs { size_bytes: *size_bytes },
            MountKind::Secret { id, file, env, required, mode, uid, gid } => MountKind::Secret {
                id: id.clone(),
                file: *file,
                env: env.clone(),
                required: *required,
                mode: *mode,
                uid: *uid,
                gid: *gid,
            },
            MountKind::Ssh { id, required, mode, uid, gid } => {
                MountKind::Ssh { id: id.clone(), required: *required, mode: *mode, uid: *uid, gid: *gid }
            }
        };
        Ok(Mount { target: target.clone(), kind, span: *span })
    }
}

/// See [`Op::Base`].
#[derive(Debug, Clone)]
pub struct BaseOp {
    /// What FROM asked for.
    pub request: BaseRequest,
    /// The image that it got; as it may come from the local store or a layout, it may have no remote.
    pub image: Arc<PlatformImage>,
}

/// The same image is the same base, wherever its name stands and whatever it is taken for: one that there is for one platform
/// only is taken for all.
impl PartialEq for BaseOp {
    fn eq(&self, other: &Self) -> bool {
        let (own, others) = (&self.image, &other.image);
        self.request.origin == other.request.origin
            && (&own.manifest, &own.remote) == (&others.manifest, &others.remote)
    }
}

/// See [`Op::Image`].
#[derive(Debug, Clone, PartialEq)]
pub struct ImageOp {
    /// The image as named, its digest included where that is known.
    pub reference: Reference,
    /// For which platform.
    pub platform: Platform,
}

/// See [`Op::Local`].
#[derive(Debug, Clone)]
pub struct LocalOp {
    /// The name of the context; empty for the main one.
    pub name: String,
    /// Where several builds are run together, the number of the context among those of all; two names can be one folder.
    pub number: Option<usize>,
}

impl PartialEq for LocalOp {
    fn eq(&self, other: &Self) -> bool {
        match (self.number, other.number) {
            (Some(one), Some(two)) => one == two,
            (one, two) => one == two && self.name == other.name,
        }
    }
}

/// See [`Op::Workdir`].
#[derive(Debug, Clone, PartialEq)]
pub struct WorkdirOp {
    /// Absolute, as in the configuration.
    pub path: String,
    /// USER at this point, who owns what is made; empty is root.
    pub user: String,
    /// SOURCE_DATE_EPOCH, if it was given.
    pub epoch: Option<i64>,
}

/// See [`Op::Copy`].
#[derive(Debug, Clone, PartialEq)]
pub struct CopyOp<R = StepId> {
    /// COPY or ADD.
    pub kind: CopyKind,
    /// In order; files of here-documents come last.
    pub sources: Vec<CopySource<R>>,
    /// Absolute destination after expansion and WORKDIR; ends with `/` when it was written so (or as `.`),
    /// which makes it a directory.
    pub destination: String,
    /// `--chown`, expanded: `user[:group]`, names or numbers. Names are looked up in the parent's root.
    pub chown: Option<String>,
    /// `--chmod`, expanded and checked.
    pub chmod: Option<Chmod>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`, each
    pub excludes: Vec<String>,
    /// `--unpack`, if given.
    pub unpack: Option<bool>,
    /// ADD `--checksum`, expanded.
    pub checksum: Option<String>,
    /// ADD `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// SOURCE_DATE_EPOCH, if it was given.
    pub epoch: Option<i64>,
}

/// Which instruction a [`CopyOp`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyKind {
    /// COPY
    Copy,
    /// ADD
    Add,
}

/// One source of a [`CopyOp`].
#[derive(Debug, Clone, PartialEq)]
pub enum CopySource<R = StepId> {
    /// A path or pattern in another step's files; the step may be [`Op::Local`].
    Path {
        /// Whose files.
        from: R,
        /// Expanded, but not cleaned: `..`, slashes at either end and the pivot `/./` are as written. A Go
        /// `filepath.Match` pattern.
        pattern: String,
        /// Where it stands.
        span: Option<Span>,
    },
    /// A here-document.
    Inline {
        /// The file's name.
        name: String,
        /// Its content, expanded.
        content: String,
    },
    /// ADD of an http(s) URL.
    Url {
        /// Expanded; may hold user info, which no key and no message shows.
        url: String,
        /// Where it stands.
        span: Option<Span>,
    },
    /// ADD of a git repository.
    Git {
        /// Expanded, as written.
        url: String,
        /// Where it stands.
        span: Option<Span>,
    },
}

/// `--chmod`: octal bits, or symbolic clauses such as `u+x,go-w`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// `0755`: the mode of files and directories alike.
    Octal(u32),
    /// Applied to each file's own mode; spares directories that the instruction makes itself.
    Symbolic(String),
}

/// See [`Op::Exec`].
#[derive(Debug, Clone, PartialEq)]
pub struct ExecOp<R = StepId> {
    /// argv; for the shell form already with the shell in front.
    pub args: Vec<String>,
    /// The environment in order, `PATH` defaulted; build arguments included, secrets not.
    pub env: Arc<Vec<(String, String)>>,
    /// The names that ARG declared: so an explanation can tell ARG from ENV.
    pub arguments: Arc<BTreeSet<String>>,
    /// Proxy variables that were not declared by ARG: given to the command, in no key, no history and no preimage.
    pub proxy_env: Vec<(String, String)>,
    /// Working directory, absolute.
    pub cwd: String,
    /// USER: empty, or `user[:group]`.
    pub user: String,
    /// `--mount`s in order.
    pub mounts: Vec<Mount<R>>,
    /// Files for here-documents that the command reads as `/dev/pipes/NAME`: name and content. Root's, 0755, read-only.
    pub pipes: Vec<(String, String)>,
    /// `--network`, or the build's.
    pub network: Network,
    /// `--security`
    pub security: Security,
    /// `buildkitsandbox`, or BUILDKIT_SANDBOX_HOSTNAME.
    pub hostname: String,
    /// `--add-host`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// `--shm-size` in bytes; 0 is the default of 64 MiB.
    pub shm_size_bytes: u64,
    /// `--ulimit`: name, soft, hard (-1 is unlimited).
    pub ulimits: Vec<(String, i64, i64)>,
    /// What the command runs on; another architecture than the host's needs an emulator.
    pub platform: Platform,
}

/// `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// The builder's usual network.
    Default,
    /// The host's, asked for by name (needs `--allow network.host`).
    Host,
    /// Loopback only.
    None,
    /// One of the step's own that reaches outside, but not the host.
    Pasta,
}

/// `--security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// The usual restrictions.
    Sandbox,
    /// All capabilities, no seccomp (needs `--allow security.insecure`).
    Insecure,
}

/// A `--mount` of RUN with everything expanded and defaulted.
#[derive(Debug, Clone, PartialEq)]
pub struct Mount<R = StepId> {
    /// Absolute path in the step's root.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind<R>,
    /// Where `--mount` stands.
    pub span: Option<Span>,
}

/// What a [`Mount`] mounts.
#[derive(Debug, Clone, PartialEq)]
pub enum MountKind<R = StepId> {
    /// `type=bind`
    Bind {
        /// Whose files; may be an [`Op::Local`].
        from: R,
        /// Path in it, absolute.
        source: String,
        /// Writes are allowed, and thrown away.
        writable: bool,
    },
    /// `type=cache`
    Cache {
        /// Mounts with equal ids share the directory; the target where `id=` is missing.
        id: String,
        /// Who else may use it at the same time.
        sharing: Sharing,
        /// What it starts as: a step and a path in it. Caches that start as something else are others.
        from: Option<(R, String)>,
        /// Read-only.
        readonly: bool,
        /// Whose directory it is, if the options say it. A cache whose options say it is another than one without.
        owner: Option<CacheOwner>,
    },
    /// `type=tmpfs`
    Tmpfs {
        /// Upper limit in bytes; 0 is none.
        size_bytes: u64,
    },
    /// `type=secret` as a file at the target and, or, as a variable
    Secret {
        /// The name by which the caller gave the secret.
        id: String,
        /// Mount it as a file at the target.
        file: bool,
        /// Set this variable to it.
        env: Option<String>,
        /// The build fails when it was not given.
        required: bool,
        /// Of the file.
        mode: u32,
        /// Of the file.
        uid: u32,
        /// Of the file.
        gid: u32,
    },
    /// `type=ssh`
    Ssh {
        /// Which agent.
        id: String,
        /// The build fails when it was not given.
        required: bool,
        /// Of the socket.
        mode: u32,
        /// Of the socket.
        uid: u32,
        /// Of the socket.
        gid: u32,
    },
}

/// Mode and owner of the directory of a cache mount, `mode=`, `uid=` and `gid=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOwner {
    /// `0o7777`
    pub mode: u32,
    /// Owning user, by number.
    pub uid: u32,
    /// Owning group, by number.
    pub gid: u32,
}

impl Default for CacheOwner {
    /// What it is where no option says otherwise.
    fn default() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0 }
    }
}

/// `sharing=` of a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Several at once.
    Shared,
    /// Each its own copy.
    Private,
    /// One after another.
    Locked,
}
