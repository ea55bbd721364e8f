//! What can go wrong with COPY, ADD and WORKDIR.

use std::borrow::Cow;

use crate::context;
use crate::context::ignore::Blame;
use crate::layer::archive;
use crate::report::Span;

/// Why files cannot be transferred. Paths are shown absolute, as seen in the root that they belong to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A source is not there.
    #[error(transparent)]
    NotFound(Box<NotFound>),
    /// A source pattern is malformed.
    #[error("syntax error in pattern `{pattern}`")]
    Pattern {
        /// As expanded.
        pattern: String,
        /// Where it stands.
        span: Option<Span>,
    },
    /// An `--exclude` pattern is malformed.
    #[error("syntax error in pattern `{0}` of --exclude")]
    Exclude(String),
    /// `--chmod` is neither octal nor symbolic.
    #[error("invalid chmod parameter `{0}`")]
    Chmod(String),
    /// `--link` knows no base image, so no names.
    #[error("invalid user index: `--chown={0}` names an account, but --link has no base to look it up in")]
    LinkOwner(String),
    /// A file would go where a directory is.
    #[error("cannot replace the directory `{0}` with a file")]
    ReplaceDirectory(String),
    /// A directory would go where something else is.
    #[error("cannot copy a directory onto `{path}`: it is {is}, not a directory")]
    NotADirectory {
        /// The place.
        path: String,
        /// What is there: `a file`.
        is: &'static str,
    },
    /// A parent of the destination is no directory.
    #[error("cannot make the directory `{path}`: `{obstacle}` is not a directory")]
    FileInTheWay {
        /// What should have been made.
        path: String,
        /// What is in its way.
        obstacle: String,
    },
    /// More than 255 symlinks.
    #[error("too many levels of symbolic links in `{0}`")]
    LinkLoop(String),
    /// The layers of a source cannot be read.
    #[error("cannot read the files of a layer: {0}")]
    Layers(#[source] std::io::Error),
    /// An archive that ADD unpacks is malformed.
    #[error("cannot unpack `{path}`: {source}")]
    Archive {
        /// The archive.
        path: String,
        /// What is wrong with it.
        source: archive::Error,
    },
    /// An archive looks as it did when its digest was taken, and holds something else.
    #[error(
        "`{path}` does not hold what it held when it was looked at, though its size and times are the same; \
         `touch` it and build again"
    )]
    Unlike {
        /// The archive.
        path: String,
    },
    /// An archive links to a file that is not there.
    #[error("cannot unpack `{archive}`: the hard link `{link}` leads to `{target}`, which is not there")]
    DanglingHardLink {
        /// The archive.
        archive: String,
        /// The link.
        link: String,
        /// Its target.
        target: String,
    },
    /// A scratch file cannot be written, or a file to be unpacked cannot be read.
    #[error("cannot unpack `{path}`: {source}")]
    Io {
        /// The archive.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The accounts of the parent cannot be read.
    #[error("cannot look up `{owner}`: {source}")]
    Accounts {
        /// As written.
        owner: String,
        /// What reading the file said.
        source: std::io::Error,
    },
    /// The context cannot be read.
    #[error(transparent)]
    Context(#[from] context::Error),
}

/// So many more sources that are not there are named.
const SEVERAL: usize = 9;

/// A source that is not there, and what may have been meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    /// Absolute path in the source.
    pub path: String,
    /// Where it was looked for: `the build context`.
    pub place: Cow<'static, str>,
    /// As written, when its `..` led above the root and was cut there.
    pub outside: Option<String>,
    /// The line of the ignore file that hides it.
    pub blame: Option<Blame>,
    /// It is there, and a socket.
    pub is_socket: bool,
    /// Other sources of the instruction that are not there, and where they stand.
    pub others: Vec<(String, Option<Span>)>,
    /// Similar paths that are there, best first.
    pub near: Vec<String>,
    /// Where the source stands in the Dockerfile.
    pub span: Option<Span>,
}

impl std::error::Error for NotFound {}

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_socket {
            return write!(f, "`{}` in {} is a socket, and sockets are not copied", self.path, self.place);
        }
        write!(f, "`{}` not found in {}", self.path, self.place)?;
        match (&self.blame, &self.outside) {
            (Some(blame), _) => write!(f, ": {blame}"),
            (None, Some(written)) => write!(f, ": `{written}` is forbidden, it leads outside"),
            (None, None) => Ok(()),
        }
    }
}

impl Error {
    /// Where in the Dockerfile the fault is, if a single source is at fault.
    pub fn span(&self) -> Option<Span> {
        match self {
            Error::NotFound(missing) => missing.span,
            Error::Pattern { span, .. } => *span,
            _ => None,
        }
    }

    /// What else is wrong.
    pub fn note(&self) -> Option<String> {
        let Error::NotFound(missing) = self else { return None };
        let named: Vec<String> =
            missing.others.iter().take(SEVERAL).map(|(path, _)| format!("`{path}`")).collect();
        let more = missing.others.len() - named.len();
        let are = if missing.others.len() == 1 { "is" } else { "are" };
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!named.is_empty()).then(|| format!("{}{more} {are} not there, either", named.join(", ")))
    }

    /// Ways to go on.
    pub fn help(&self) -> Vec<String> {
        if let Error::Archive { source: archive::Error::TooLarge { .. }, .. } = self {
            let split = "split it into several archives, and unpack each with an ADD of its own";
            return vec![split.to_owned(), "directories that it does not name count, too".to_owned()];
        }
        let Error::NotFound(missing) = self else { return Vec::new() };
        let mut help = Vec::new();
        if let Some(blame) = &missing.blame {
            let path = missing.path.trim_start_matches('/');
            help.push(format!("add the line `!{path}` below it in {} to keep the file", blame.file));
        }
        if missing.outside.is_some() {
            help.push(
                "only files inside the context can be copied; a second context can be named: \
                       `--build-context name=DIR` and `COPY --from=name`"
                    .to_owned(),
            );
        }
        let own = missing.path.trim_start_matches('/');
        if missing.near.iter().any(|name| name == own) {
            help.push(format!("`{own}` is a symlink to something that is not in {}", missing.place));
        } else if !missing.near.is_empty() {
            let names: Vec<String> = missing.near.iter().map(|name| format!("`{name}`")).collect();
            help.push(format!("did you mean {}?", names.join(" or ")));
        }
        help
    }
}

/// A path inside a root, for people.
pub(super) fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}
