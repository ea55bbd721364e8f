//! What a result stands on that another place said of a layer which was not here: its index.
//!
//! Nothing but the layer proves an index. Until it comes, a record says which indexes it was made with; from the moment in which
//! the layer's own index is in the store, a record that was made with another one counts as none.

use serde::{Deserialize, Serialize};

use crate::layer::index::Index;
use crate::oci::DiffId;
use crate::store::{Folder, Store};

/// An index that a place told of a layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Told {
    /// The layer.
    pub layer: DiffId,
    /// What the index's own checksum is; see [`Index::checksum`].
    pub index: String,
}

/// What the store knows of what was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The layer has not been looked into here.
    None,
    /// The layer's own index is the same.
    Same,
    /// It is another one.
    Refuted,
}

impl Told {
    /// Compares with what the layer itself had, if it was looked into here.
    pub fn proof(&self, store: &Store) -> Proof {
        let path = store.folder(Folder::Indexes).join(self.layer.0.hex());
        let own = crate::rootfs::read_regular(&path).ok();
        match own.and_then(|bytes| Index::checksum(&bytes)) {
            None => Proof::None,
            Some(own) if own == self.index => Proof::Same,
            Some(_) => Proof::Refuted,
        }
    }
}
