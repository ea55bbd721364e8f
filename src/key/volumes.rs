//! What a build mounts into every command, as fields of the command's key.

use super::Value;
use crate::cache::Preimage;
use crate::exec::{MountSource, MountSpec};

/// Where a volume comes from counts; what it holds is the user's affair, and does not.
pub fn push_volumes(key: &mut Preimage, volumes: &[MountSpec]) {
    for MountSpec { target, readonly, kind } in volumes {
        let source = match kind {
            MountSource::Bind { source } => source.to_string_lossy().into_owned(),
            // The command line names no others.
            _ => String::new(),
        };
        let value = Value::of("bind").text("source", &source).flag("readonly", *readonly);
        key.push(format!("volume:{target}"), value);
    }
}
