//! Kept sessions, as far as they need layers. What else they hold is the affair of who made them.

use std::path::PathBuf;

use serde::Deserialize;

use super::inventory::Error;
use super::unit::{Unit, UnitKind};
use crate::oci::{ChainId, Layer};
use crate::store::{Folder, Measuring, Store};

/// The part of `session.json` that counts here.
#[derive(Deserialize)]
struct Session {
    name: Option<String>,
    created: i64,
    layers: Vec<Layer>,
    #[serde(default)]
    changes: Option<Layer>,
}

/// All of them: those that may go first, then those that stay because they have a name.
pub(super) fn units(store: &Store, measuring: &mut Measuring) -> Result<(Vec<Unit>, Vec<Unit>), Error> {
    let (mut unnamed, mut named) = (Vec::new(), Vec::new());
    for (path, changed) in store.entries_of(&store.folder(Folder::Sessions))? {
        let read = crate::rootfs::read_regular(&path.join("session.json")).ok();
        let session = read.and_then(|bytes| serde_json::from_slice::<Session>(&bytes).ok());
        let own_bytes = measuring.tree(&path).disk_bytes;
        match session {
            Some(session) if session.name.is_some() => named.push(unit(path, &session, own_bytes)),
            Some(session) => unnamed.push(unit(path, &session, own_bytes)),
            // Nobody can enter it.
            None => unnamed.push(unit(
                path,
                &Session { name: None, created: changed, layers: Vec::new(), changes: None },
                own_bytes,
            )),
        }
    }
    Ok((unnamed, named))
}

fn unit(path: PathBuf, session: &Session, own_bytes: u64) -> Unit {
    let mut chain = ChainId::EMPTY;
    let layers = || session.layers.iter().chain(&session.changes);
    let chains = session.layers.iter().map(|layer| {
        chain = chain.push(layer.diff_id);
        chain
    });
    Unit {
        chains: chains.collect(),
        kind: UnitKind::Session(path),
        last_used: session.created,
        own_bytes,
        blobs: layers().map(|layer| layer.descriptor.digest).collect(),
        diff_ids: layers().map(|layer| layer.diff_id).collect(),
    }
}
