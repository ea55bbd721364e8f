//! A command's changes as a layer blob with its index.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::diff::{DiffJob, diff};
use super::error::Error;
use crate::layer::index::Index;
use crate::layer::view::RootView;
use crate::layer::{Compression, WriteOptions, count, write_watched};
use crate::oci::{DiffId, Digest};
use crate::report::FileCounts;
use crate::tripwire::{Found, Needles, Scanner};

/// What to turn into a layer, and where to put it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CommitJob {
    /// The changes.
    pub diff: DiffJob,
    /// The index files of the parent's layers, the lowest first.
    pub parents: Vec<PathBuf>,
    /// How to compress.
    pub compression: Compression,
    /// The file that the blob is written to; made or emptied.
    pub blob: PathBuf,
    /// The file that the layer's index is written to; made or emptied.
    pub index: PathBuf,
    /// What must not be in the layer; nothing is searched for when absent.
    pub watch: Option<Needles>,
}

/// A layer that was written; `blob` is to be published under `digest`, `index` under `diff_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Identity of the tar.
    pub diff_id: DiffId,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Size of the tar in bytes.
    pub uncompressed_size: u64,
    /// What the blob's descriptor says beside its type, digest and size.
    pub annotations: BTreeMap<String, String>,
    /// The number of entries; 0 when the command changed nothing.
    pub entries: usize,
    /// What was found that was watched for.
    pub found: Vec<Found>,
    /// How many files changed.
    pub files: FileCounts,
}

/// Finds the changes and writes them.
///
/// Without root this must run inside the user namespace in which the command ran.
pub fn commit(job: &CommitJob) -> Result<Committed, Error> {
    commit_on(job, &read_view(&job.parents)?)
}

/// Commits as [`commit`] does, with a view of the parent that the caller has already, as from [`Views`]; `job.parents` is
/// not read.
pub fn commit_on(job: &CommitJob, parent: &RootView) -> Result<Committed, Error> {
    let entries = diff(&job.diff, parent)?;
    let files = count(&entries, parent);
    let file = File::create(&job.blob).map_err(Error::io("write", &job.blob))?;
    // Segments are written whole; the buffer only spares small layers a call.
    let mut sink = BufWriter::new(file);
    let options = WriteOptions { compression: job.compression };
    let scanner = job.watch.as_ref().map(Scanner::new);
    let written = write_watched(entries, &options, scanner.as_ref(), &mut sink)?;
    sink.into_inner().map_err(|error| Error::io("write", &job.blob)(error.into_error()))?;
    let index = Index::from_entries(&written.entries, &written.data_offsets)?;
    fs::write(&job.index, index.to_bytes()).map_err(Error::io("write", &job.index))?;
    Ok(Committed {
        diff_id: written.diff_id,
        digest: written.digest,
        size: written.size,
        uncompressed_size: written.uncompressed_size,
        entries: written.entries.len(),
        annotations: written.annotations,
        found: written.found,
        files,
    })
}

/// The roots that jobs of one process name by their index files. Reading the indexes of a base and merging them
/// takes longer than running a small command, and steps follow one another on the same base.
#[derive(Debug, Default)]
pub struct Views {
    /// Layers and what they make together, what was asked for last at the end.
    recent: Vec<(Vec<PathBuf>, RootView)>,
}

/// So many branches of a build can take turns without forgetting each other's.
const RECENT_VIEWS: usize = 4;

impl Views {
    /// The root of the layers with these index files, the lowest first. The files must never change, which those
    /// named by diff ids do not.
    pub fn get(&mut self, layers: &[PathBuf]) -> Result<RootView, Error> {
        let below = self.recent.iter().filter(|(known, _)| layers.starts_with(known));
        let below = below.max_by_key(|(known, _)| known.len());
        let (known, mut view) = below.map_or((0, RootView::default()), |(l, view)| (l.len(), view.clone()));
        for path in &layers[known..] {
            view = view.push(read_index(path)?);
        }
        self.recent.retain(|(known, _)| known != layers);
        if self.recent.len() == RECENT_VIEWS {
            self.recent.remove(0);
        }
        self.recent.push((layers.to_vec(), view.clone()));
        Ok(view)
    }
}

/// The root that layers make together, from their index files, the lowest first.
pub(super) fn read_view(indexes: &[PathBuf]) -> Result<RootView, Error> {
    Views::default().get(indexes)
}

fn read_index(path: &Path) -> Result<Arc<Index>, Error> {
    let bytes = crate::rootfs::read_regular(path).map_err(Error::io("read", path))?;
    let index = Index::from_bytes(&bytes);
    index.map(Arc::new).map_err(|source| Error::Index { path: path.to_owned(), source })
}
