//! Definitions of several targets: HCL and JSON as `docker buildx bake` has them, and compose files.
//!
//! Reads text and gives values: targets with all that they inherit, what `--set` changes and what `--allow` has to permit. Reads no
//! file but those that a compose file names, and builds nothing.

#[allow(clippy::disallowed_methods, reason = "looks where paths lead, and opens nothing")]
mod allow;
mod body;
mod compose;
mod contexts;
mod convert;
mod entries;
mod eval;
mod fault;
mod functions;
mod json;
mod limits;
mod module;
mod overrides;
mod read;
mod resolve;
mod target;
mod types;
mod value;

pub use allow::{Allowed, Asked, Granted, Wants};
pub use entries::{Attest, Cache, Output, Policy, Secret, Ssh};
pub use functions::Surroundings;
pub use read::{File, ReadOptions, read};
pub use resolve::{Resolved, resolve};
pub use target::{Resources, Target};

use crate::report::Diagnostic;

/// Targets by one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What `--list` tells of it.
    pub description: String,
    /// Targets, and other groups.
    pub targets: Vec<String>,
}

/// A variable, for `--list=variables`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its type, if one was declared.
    pub of: Option<String>,
    /// Its value; none is null.
    pub value: Option<String>,
}

/// All that a definition says.
#[derive(Debug, Default)]
pub struct Definition {
    /// In the order of the files.
    pub groups: Vec<Group>,
    /// In the order of the files; what they inherit is not in them yet.
    pub targets: Vec<Target>,
    /// By name.
    pub variables: Vec<Variable>,
    /// What is odd in it.
    pub warnings: Vec<Diagnostic>,
    /// What `--set TARGET.args.NAME` without a value looks into.
    environment: std::collections::BTreeMap<String, String>,
}

/// Text as Go's encoder writes it where it escapes what means something in HTML.
pub fn escape_like_go(json: &str) -> String {
    value::escape_like_go(json)
}

/// The path as Go's `path.Clean` has it.
pub fn clean_path(path: &str) -> String {
    functions::clean(path)
}

/// The folder that a file is in; none where it is no file of this machine.
fn folder_of(name: &str) -> Option<String> {
    if name.is_empty() || name == "-" || is_remote(name) {
        return None;
    }
    Some(match name.rsplit_once('/') {
        None => ".".to_owned(),
        Some(("", _)) => "/".to_owned(),
        Some((folder, _)) => functions::clean(folder),
    })
}

/// Whether text names something on another machine: a URL, or a git repository.
pub fn is_remote(text: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "github.com/"];
    let is_url = schemes.into_iter().any(|scheme| text.starts_with(scheme));
    let scp_like = text.split_once('@').and_then(|(user, rest)| {
        let (host, path) = rest.split_once(':')?;
        let is_name = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        Some(is_name(user) && is_name(host) && !path.is_empty())
    });
    is_url || scp_like.unwrap_or(false)
}
