//! WORKDIR: makes a directory, with those above it, for the user at that point.

use crate::context::path;
use crate::copy_files::accounts::{Accounts, OwnerText};
use crate::copy_files::overlaid::{Attributes, Overlaid};
use crate::copy_files::{Error, FileTree, Outcome};
use crate::oci::Seconds;
use crate::plan::graph::WorkdirOp;

/// The directories that are missing, each 0755 and of USER. Symlinks on the way are followed; what exists keeps
/// mode and owner, so there may be no entry at all.
pub fn workdir(
    op: &WorkdirOp,
    parent: &FileTree,
    accounts: &Accounts<'_>,
    parent_time: Seconds,
) -> Result<Outcome, Error> {
    let mut root = Overlaid::new(parent);
    let at = root.resolve(&path::below_root(op.path.as_bytes()))?;
    let (uid, gid) = match op.user.as_str() {
        "" => (0, 0),
        user => OwnerText::new(user)
            .resolve(accounts)
            .map_err(|source| Error::Accounts { owner: user.to_owned(), source })?,
    };
    root.make_directories(&at, &Attributes::made(0o755, uid, gid))?;
    let time = op.epoch.unwrap_or(parent_time);
    Ok(Outcome { entries: root.finish(time, op.epoch), time, warnings: Vec::new() })
}
