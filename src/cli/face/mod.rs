//! Who rbuild is called as: itself, docker's plugin for builds, or kaniko's executor.
//!
//! The name that the program was started by decides. As `docker-buildx`, `docker-rbuild` (links in docker's folder of plugins) or
//! `buildx` (what programs that know no docker look for) it takes the words of `docker buildx`. Docker puts its own global options
//! and the plugin's name before them; others leave both out.

mod builders;
mod buildx;
mod plugin;

pub(super) use builders::{BUILDKIT_VERSION, BUILDX_VERSION};
pub(super) use plugin::hangup;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::Failure;

/// As whom rbuild was called; it changes defaults that scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Face {
    /// As itself.
    #[default]
    Own,
    /// As docker's plugin.
    Docker,
}

/// The names of the plugin, and what docker calls it.
const NAMES: [(&str, &str); 3] =
    [("docker-buildx", "buildx"), ("docker-rbuild", "rbuild"), ("buildx", "buildx")];

/// The name of kaniko's program.
const EXECUTOR: &str = "executor";

/// Whether the program was started as kaniko's, whose whole command line is in [`super::kaniko`].
pub(super) fn is_executor(words: &[OsString]) -> bool {
    words.first().and_then(|called| Path::new(called).file_name()) == Some(OsStr::new(EXECUTOR))
}

/// What docker calls the plugin as which the program was started.
pub(super) fn plugin_of(words: &[OsString]) -> Option<&'static str> {
    let name = Path::new(words.first()?).file_name()?;
    NAMES.iter().find(|(known, _)| OsStr::new(known) == name).map(|(_, name)| *name)
}

/// Does what docker's plugin `name` was asked for; `own` runs a command line of rbuild's own.
pub(super) fn run(
    name: &'static str,
    words: &[OsString],
    own: impl FnOnce(Vec<OsString>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let rest = words.get(1..).unwrap_or_default();
    match rest.first().and_then(|word| word.to_str()) {
        Some("docker-cli-plugin-metadata") => return plugin::tell_metadata(name),
        // Docker asks what to print after some command; there is nothing to say.
        Some("docker-cli-plugin-hooks") => return Ok(()),
        _ => {}
    }
    let (globals, rest) = plugin::globals(rest, name)?;
    plugin::start_with(&globals)?;
    buildx::run(name, rest, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kanikos_program_is_known_by_its_name_alone() {
        for (called, expected) in [
            ("/kaniko/executor", true),
            ("executor", true),
            ("/usr/bin/rbuild", false),
            ("/executor/rbuild", false),
            ("executor2", false),
            ("", false),
        ] {
            assert_eq!(is_executor(&[called.into()]), expected, "{called}");
        }
        assert!(!is_executor(&[]));
    }
}
