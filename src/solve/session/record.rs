//! What is kept of a session, and where.
//!
//! ```text
//! ROOT/rbuild/sessions/<id>/session.json    what it is, mode 0600
//! ROOT/rbuild/sessions/<id>/lock            held while somebody is in it
//! ROOT/rbuild/sessions/<id>/upper, work     what was changed, as overlayfs has it; a layer of the store's where it was
//!                                           in memory
//! ```

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::exec::Spec;
use crate::oci::{ChainId, DiffId, ImageConfig, Layer, Seconds};
use crate::rootfs::SpecialOwner;
use crate::snapshot::OverlayKind;
use crate::solve::state::RootState;
use crate::store::{self, Folder, Store};

/// The format of what is kept.
const VERSION: u32 = 1;
/// So many sessions without a name are kept,
const KEPT: usize = 10;
/// and each no longer than a week.
const KEPT_SECONDS: Seconds = 7 * 86_400;

/// A session that was kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    pub(super) version: u32,
    /// Six hexadecimal digits.
    pub id: String,
    /// What the user calls it; one with a name is kept until it is removed.
    pub name: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// Where it was: `[build 2/5] RUN make`, or an image's name.
    pub what: String,
    /// What ran in it last.
    pub command: Vec<String>,
    /// How that ended.
    pub ended: String,
    /// When it was kept, in seconds since 1970.
    pub created: Seconds,
    /// When it was kept, in milliseconds since 1970: the newest is found by it.
    pub(super) created_ms: u64,
    /// What it stands on, lowest first.
    pub layers: Vec<Layer>,
    /// The newest time of what went into `layers`.
    pub(super) time: Seconds,
    /// What an image of `layers` would have as its configuration, its history included.
    pub config: ImageConfig,
    /// For a failed step the stage, by its number in the file, and the instruction in it, FROM being the first.
    pub origin: Option<(usize, usize)>,
    pub(super) overlay: OverlayKind,
    /// Which owners files have on disk: the name of a [`crate::snapshot::TreeKind`].
    #[serde(rename = "flavour")]
    pub(super) tree_kind: String,
    /// Without its root, secrets and agents.
    pub(super) spec: Spec,
    pub(super) secrets: Vec<KeptSecret>,
    pub(super) locks: Vec<KeptLock>,
    /// What cannot be had again.
    pub(super) lost: Vec<String>,
    /// Owners that cannot be written down beside their files.
    pub(super) special_owners: Vec<SpecialOwner>,
    /// What was changed on `layers`, where it was in memory; else it is in the folder.
    #[serde(default)]
    pub(super) changes: Option<Layer>,
}

/// How a session came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A step of a build that failed.
    Failed,
    /// `rbuild shell`
    Shell,
    /// `rbuild run`
    Run,
}

/// A secret by name; its value is never kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeptSecret {
    pub(super) id: String,
    pub(super) env: Option<String>,
    /// Target, mode, owner and group.
    pub(super) file: Option<(String, u32, u32, u32)>,
}

/// What keeps others out of a cache mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeptLock {
    pub(super) path: PathBuf,
    pub(super) shared: bool,
}

/// The kept sessions of a store.
#[derive(Debug, Clone)]
pub struct Sessions {
    store: Store,
}

impl Session {
    pub(super) const VERSION: u32 = VERSION;

    /// What to call it: its name, else its id.
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    /// What it stands on.
    pub(super) fn root(&self) -> RootState {
        let diff_ids: Vec<DiffId> = self.layers.iter().map(|layer| layer.diff_id).collect();
        RootState { layers: self.layers.clone(), chain: ChainId::of(&diff_ids), time: self.time }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}

impl Sessions {
    /// Those of `store`.
    pub fn of(store: &Store) -> Self {
        Self { store: store.clone() }
    }

    /// Where the session of this id is.
    pub(super) fn folder(&self, id: &str) -> PathBuf {
        self.store.private(Folder::Sessions).join(id)
    }

    /// All of them, the newest first. One that cannot be read is left out: another process may be removing it.
    pub fn list(&self) -> Vec<Session> {
        let entries = fs::read_dir(self.store.private(Folder::Sessions));
        let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
        let mut list: Vec<Session> = names.filter_map(|name| self.read(name.to_str()?)).collect();
        list.sort_by(|a, b| (b.created_ms, &b.id).cmp(&(a.created_ms, &a.id)));
        list
    }

    /// The one of this id, of which the beginning will do, or of this name.
    pub fn find(&self, wanted: &str) -> Option<Session> {
        let mut list = self.list();
        let exact = |session: &Session| session.name.as_deref() == Some(wanted) || session.id == wanted;
        if let Some(at) = list.iter().position(exact) {
            return Some(list.swap_remove(at));
        }
        list.retain(|session| wanted.len() >= 2 && session.id.starts_with(wanted));
        if list.len() == 1 { list.pop() } else { None }
    }

    fn read(&self, id: &str) -> Option<Session> {
        let bytes = crate::rootfs::read_regular(&self.folder(id).join("session.json")).ok()?;
        let session: Session = serde_json::from_slice(&bytes).ok()?;
        (session.version == VERSION && session.id == id).then_some(session)
    }

    /// Writes what is known of a session anew.
    pub fn update(&self, session: &Session) -> std::io::Result<()> {
        let scratch = self.store.scratch_dir().map_err(std::io::Error::other)?;
        let fresh = scratch.path().join("session.json");
        store::write_private(&fresh, &session.to_bytes())?;
        fs::rename(&fresh, self.folder(&session.id).join("session.json"))
    }

    /// Removes one, unless somebody is in it; whether it is gone.
    pub fn remove(&self, session: &Session) -> Result<bool, store::Error> {
        let folder = self.folder(&session.id);
        let lock =
            fs::File::options().create(true).truncate(false).read(true).write(true).open(folder.join("lock"));
        if lock.is_ok_and(|lock| lock.try_lock().is_err()) {
            return Ok(false);
        }
        self.store.trash(&folder).map(|()| true)
    }

    /// Removes those that are too old or too many. One that cannot be removed is tried again another time.
    pub fn expire(&self, now: Seconds) {
        let unnamed: Vec<Session> = self.list().into_iter().filter(|s| s.name.is_none()).collect();
        for (at, session) in unnamed.iter().enumerate() {
            if at >= KEPT || session.created + KEPT_SECONDS < now {
                let _ = self.remove(session);
            }
        }
    }
}
