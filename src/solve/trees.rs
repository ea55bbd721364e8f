//! The files of a step as something that COPY and ADD can take from.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::environment::Services;
use super::error::Error;
use super::state::{Files, RootState};
use crate::copy_files::FileTree;
use crate::copy_files::stored::StoredLayers;
use crate::copy_files::tree::LayerTree;
use crate::store::{Folder, Store};

/// The files that a step left.
pub(super) fn of(services: &Services, files: &Files) -> Result<FileTree, Error> {
    match files {
        Files::Root(root) => of_root(services, root),
        Files::Folder(_, context) => Ok(FileTree::Context(Arc::clone(context))),
    }
}

/// The files of a stack of layers; their bytes come out of the blobs.
pub(super) fn of_root(services: &Services, root: &RootState) -> Result<FileTree, Error> {
    let view = services.indexes.view(&root.layers)?;
    let store = services.store.clone();
    let open = {
        let (store, lookup) = (store.clone(), Arc::clone(&services.lookup));
        let (indexes, layers) = (Arc::clone(&services.indexes), root.layers.clone());
        move |layer: usize| {
            lookup.bring(&layers[layer..=layer]).map_err(io::Error::other)?;
            // What is read is where the index says.
            indexes.prove_one(&layers[layer]).map_err(io::Error::other)?;
            indexes.prove_blob(&layers[layer]).map_err(io::Error::other)?;
            let blob = store.open_blob(&layers[layer].descriptor.digest);
            blob.map(|file| Box::new(file) as Box<dyn io::Read>).map_err(io::Error::other)
        }
    };
    let bytes = StoredLayers {
        open: Box::new(open),
        diff_ids: root.layers.iter().map(|layer| layer.diff_id).collect(),
        folder: store.private(Folder::Digests),
        scratch: Box::new(move || scratch_file(&store)),
    };
    Ok(FileTree::Layers(LayerTree { view: view.as_ref().clone(), bytes: Arc::new(bytes) }))
}

/// An empty file without a name, gone when it is closed.
pub(super) fn scratch_file(store: &Store) -> io::Result<File> {
    let scratch = store.scratch_dir().map_err(io::Error::other)?;
    let path = scratch.path().join("contents");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
