//! The key of WORKDIR.

use super::push_epoch;
use crate::cache::Preimage;
use crate::oci::ChainId;
use crate::plan::graph::WorkdirOp;

/// The key of WORKDIR on `parent`.
pub fn workdir(op: &WorkdirOp, parent: ChainId) -> Preimage {
    let WorkdirOp { path, user, epoch } = op;
    let mut key = Preimage::new("workdir/1");
    key.push("parent", parent.to_string());
    key.push("path", path);
    key.push("user", user);
    push_epoch(&mut key, *epoch);
    key
}
