//! The index of a layer of 10,000 files: read from a gzip layer (0.16 s: inflating and hashing 67 MB), made of the entries
//! that a build has at hand (0.4 ms), and loaded from the file that keeps it (0.4 ms).

use rbuild::layer::archive::Limits;
use rbuild::layer::index::Index;

use super::{Work, tree, write};

/// From a gzip layer.
pub(crate) fn read(files: usize) -> Work {
    let (_, blob) = write::blob(files, write::GZIP);
    Box::new(move || drop(Index::read(blob.as_slice(), Limits::default()).expect("the layer is right")))
}

/// From an uncompressed layer, unhashed and on one thread: the reading of headers.
pub(crate) fn read_unhashed(files: usize) -> Work {
    let (_, blob) = write::blob_of(tree::empty(files), write::NONE);
    Box::new(move || {
        drop(Index::read_unhashed(blob.as_slice(), Limits::default()).expect("the layer is right"));
    })
}

/// From entries at hand.
pub(crate) fn from_entries(files: usize) -> Work {
    let (written, _) = write::blob(files, write::NONE);
    Box::new(move || {
        drop(Index::from_entries(&written.entries, &written.data_offsets).expect("the layer is right"));
    })
}

/// From its own file.
pub(crate) fn load(files: usize) -> Work {
    let (written, _) = write::blob(files, write::NONE);
    let index = Index::from_entries(&written.entries, &written.data_offsets).expect("the layer is right");
    let bytes = index.to_bytes();
    Box::new(move || drop(Index::from_bytes(&bytes).expect("the index is right")))
}
