//! Why a step failed, as facts; and the one place that makes words for people of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::{self, CommandError};
use super::full_disk;
use super::images::ImageError;
use super::indexes::IndexError;
use super::jobs::JobError;
use super::ops::exec::agent::AgentError;
use super::pins::NotPinned;
use crate::copy_files;
use crate::exec::{ExecError, UserError};
use crate::layer::{WriteError, archive};
use crate::oci::{DiffId, Digest};
use crate::report::{Diagnostic, ResourceUsage, Source, Span};
use crate::secrets::SecretError;
use crate::source::git::GitError;
use crate::source::http::HttpError;
use crate::{cache, registry, snapshot, store};

/// Why a step, or a root that somebody enters, could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another error, and where in the Dockerfile it belongs.
    #[error("{source}")]
    At {
        /// Where; the step's line if that is not known.
        span: Option<Span>,
        /// What went wrong there.
        source: Box<Error>,
    },
    /// The build is to end.
    #[error("the build was stopped")]
    Stopped,
    /// The store refused something.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The cache did.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// A layer cannot be looked into.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index of a layer, which a worker needs as a file, cannot be saved.
    #[error("cannot save the index of a layer")]
    IndexNotSaved,
    /// A layer cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A layer that was just written cannot be indexed.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// A layer cannot be given another compression.
    #[error("cannot compress layer {layer} anew: {source}")]
    Recompress {
        /// Its blob.
        layer: Digest,
        /// Why not.
        source: io::Error,
    },
    /// The files of layers that are to be one cannot be read.
    #[error("cannot read layers that are to be one: {source}")]
    Squash {
        /// Why not.
        source: io::Error,
    },
    /// A layer holds other files than the configuration of its image says.
    #[error(
        "layer {layer} has another content than its image's configuration says: its diff id is {actual}, not {expected}"
    )]
    OtherContent {
        /// Its blob.
        layer: Digest,
        /// What the configuration says.
        expected: DiffId,
        /// What it is.
        actual: DiffId,
    },
    /// A root file system cannot be made.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// A layer cannot be unpacked.
    #[error("cannot unpack a layer: {0}")]
    Unpack(#[source] snapshot::Error),
    /// A job, which runs where the files' owners exist, cannot unpack a layer.
    #[error("cannot unpack a layer: {0}")]
    UnpackJob(#[source] JobError),
    /// The trees of many layers cannot become one.
    #[error("cannot merge unpacked layers: {0}")]
    Merge(#[source] JobError),
    /// Work on files that have owners failed.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The kernel takes none of the mounts that a step needs.
    #[error("the kernel refuses an overlay that the step needs: {0}")]
    OverlayRefused(#[source] io::Error),
    /// There is no memory for what a step changes; in words.
    #[error("{0}")]
    NoRoomInMemory(String),
    /// What was changed in a kept session cannot be had again.
    #[error("cannot restore what was changed: {0}")]
    Restore(#[source] JobError),
    /// What the environment says of the form of layers.
    #[error("the environment variable `RBUILD_LAYERS` is `{0}`; it may be `tree`, `auto` or `erofs`")]
    UnknownLayers(String),
    /// Commands cannot be run here.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A command failed.
    #[error(transparent)]
    Command(Box<CommandError>),
    /// The image has no such account.
    #[error(transparent)]
    User(#[from] UserError),
    /// The image's accounts cannot be read.
    #[error("cannot read {path}: {source}")]
    Accounts {
        /// The file in the image.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The shell that starts a RUN is not in its root.
    #[error("`{shell}`, which SHELL names, was not found in the root file system")]
    NoShell {
        /// Its program.
        shell: String,
        /// Where SHELL stands.
        set_at: Span,
    },
    /// The image of a step cannot be found.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image of a step cannot be found, and a stage may have been meant.
    #[error("no earlier stage is named `{name}`, and there is no such image")]
    NoStage {
        /// As the user wrote it.
        name: String,
        /// Which stage.
        hint: String,
        /// Why there is no such image.
        source: ImageError,
    },
    /// A layer cannot be fetched.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// COPY, ADD or WORKDIR cannot be done.
    #[error(transparent)]
    Files(#[from] copy_files::Error),
    /// A file cannot be fetched.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// What is behind a URL is not what the lock file says.
    #[error("`{url}` changed: the lock file says {expected}, the content is {actual}")]
    Changed {
        /// Without a password.
        url: String,
        /// What the lock file says.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// A repository cannot be fetched.
    #[error(transparent)]
    Git(#[from] GitError),
    /// Something that a lock file had to have.
    #[error(transparent)]
    NotPinned(#[from] NotPinned),
    /// Something that would have to be fetched.
    #[error("`{}` would have to be fetched, and `--offline` forbids that", crate::text::url::without_password(.0))]
    Offline(String),
    /// A secret would be where everybody can read it.
    #[error(transparent)]
    Leak(Box<super::watch::Leak>),
    /// A secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A secret that must be there was not given.
    #[error("secret {0}: not found")]
    NoSecret(String),
    /// The variable of a secret that must be there is not set.
    #[error("secret {id}: the variable `{variable}` is not set")]
    UnsetSecret {
        /// The secret's.
        id: String,
        /// As in `--secret id=…,env=`.
        variable: String,
    },
    /// An agent that must be there was not given.
    #[error("no SSH key `{0}` was given")]
    NoAgent(String),
    /// An agent cannot be used.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A cache mount cannot be had.
    #[error("cannot {action} `{}`: {source}", path.display())]
    CacheMount {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A kept session is of no use to this user.
    #[error("session {0} was made by another user, or with other ids")]
    OtherIds(String),
    /// A kept session cannot be opened.
    #[error("cannot open session {id}: {source}")]
    Session {
        /// The session's name, as commands take it.
        id: String,
        /// Why not.
        source: io::Error,
    },
    /// Somebody is in a kept session.
    #[error("somebody is in session {0} already")]
    InUse(String),
}

impl Error {
    /// Whether the step did nothing wrong, but was to end with the build.
    pub(super) fn is_cancelled(&self) -> bool {
        match self {
            Self::At { source, .. } => source.is_cancelled(),
            Self::Stopped | Self::Exec(ExecError::Cancelled) => true,
            Self::Command(error) => {
                matches!(**error, CommandError::NotStarted { source: ExecError::Cancelled, .. })
            }
            _ => false,
        }
    }

    /// What the command used that failed.
    pub(super) fn usage(&self) -> Option<ResourceUsage> {
        match self {
            Self::Command(error) => match &**error {
                CommandError::Failed { report, .. } => Some(failure::usage(report)),
                CommandError::NotStarted { .. } => None,
            },
            _ => None,
        }
    }

    /// Is told at `span` if that is known, else where the step is.
    pub(super) fn at(self, span: Option<Span>) -> Self {
        Self::At { span, source: Box::new(self) }
    }

    /// Whether a file was not in the build context.
    pub(super) fn is_missing_in_the_context(&self) -> bool {
        let (Self::Files(copy_files::Error::NotFound(missing)), _) = self.located() else { return false };
        missing.place == "the build context"
    }

    /// For people: what, where in `source`, and how to go on. What has no place of its own is at `span`. `store` is the
    /// store's folder, whose disk may be the reason.
    pub fn diagnose(&self, source: &Arc<Source>, span: Option<Span>, store: &Path) -> Diagnostic {
        let diagnostic = self.explain(store);
        let diagnostic = match self.located().1.or(span) {
            Some(span) => diagnostic.at(source, span, ""),
            None => diagnostic,
        };
        match self {
            Self::NoShell { set_at, .. } => diagnostic.at(source, *set_at, "the shell"),
            _ => diagnostic,
        }
    }

    /// What is told where no line of a Dockerfile is to blame.
    pub fn explain(&self, store: &Path) -> Diagnostic {
        full_disk::explain(self.located().0.in_words(store), store)
    }

    /// What happened, and where if that is known.
    fn located(&self) -> (&Self, Option<Span>) {
        match self {
            Self::At { span, source } => {
                let (error, inner) = source.located();
                (error, inner.or(*span))
            }
            _ => match self.of_source() {
                Some(error) => error.located(),
                None => match self {
                    Self::Files(error) => (self, error.span()),
                    _ => (self, None),
                },
            },
        }
    }

    /// What went wrong where a blob was to come from, if that is a step's image.
    fn of_source(&self) -> Option<&Self> {
        let causes = std::iter::successors(std::error::Error::source(self), |error| error.source());
        causes.filter_map(|error| error.downcast_ref::<Self>()).next()
    }

    /// Whether another step was to bring something, and could not; it was told of as failed.
    pub(super) fn is_of_another_step(&self) -> bool {
        !matches!(self, Self::At { .. }) && self.of_source().is_some()
    }

    fn in_words(&self, store: &Path) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.to_string());
        match self {
            Self::Image(error) => error.diagnose(),
            // A stage of nearly that name is the better guess, so it goes first.
            Self::NoStage { source, hint, .. } => diagnostic.note(source.diagnose().message).help(hint),
            Self::Command(error) => error.explain(diagnostic, store),
            Self::Files(error) => {
                let diagnostic = error.note().into_iter().fold(diagnostic, Diagnostic::note);
                error.help().into_iter().fold(diagnostic, Diagnostic::help)
            }
            _ => self.help().into_iter().fold(diagnostic.transient(self.is_transient()), Diagnostic::help),
        }
    }

    /// Whether the same may succeed a little later.
    fn is_transient(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_transient(),
            Self::Http(error) => error.is_transient(),
            Self::Git(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Ways to go on.
    fn help(&self) -> Vec<String> {
        match self {
            Self::Registry(error) => error.help().into_iter().collect(),
            Self::NoShell { .. } => {
                vec!["install it in a RUN before, or name a shell that is there: `SHELL [\"/bin/sh\", \"-c\"]`".to_owned()]
            }
            Self::Http(error) => error.help().map(String::from).into_iter().collect(),
            Self::Git(error) => error.help().map(String::from).into_iter().collect(),
            Self::NotPinned(error) => vec![error.help().to_owned()],
            Self::Changed { .. } => {
                vec!["`rbuild lock --update` takes what is there now, and shows what moved".to_owned()]
            }
            Self::Offline(_) => vec!["fetch it yourself and COPY it, or leave `--offline` out".to_owned()],
            Self::User(_) => vec![
                "USER names an account of the image; create it in a RUN before, or use a number".to_owned(),
            ],
            Self::NoSecret(id) => {
                vec![format!("give it with `--secret id={id},src=FILE` or `--secret id={id},env=NAME`")]
            }
            Self::UnsetSecret { id, variable } => vec![format!(
                "set and export `{variable}` where rbuild is started, or give a file: `--secret id={id},src=FILE`"
            )],
            Self::Exec(error) if error.is_of_the_machine() => vec![failure::ASK_DOCTOR.to_owned()],
            Self::NoAgent(id) => {
                vec![format!("give it with `--ssh {id}` (your agent) or `--ssh {id}=FILE`")]
            }
            Self::Leak(leak) => leak.help(),
            Self::OverlayRefused(_) | Self::NoRoomInMemory(_) => vec![full_disk::FULL_MEMORY.to_owned()],
            Self::OtherIds(_) => {
                vec!["enter it as who made it, with the same lines in /etc/subuid and /etc/subgid".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        Self::Command(Box::new(error))
    }
}
