//! Brings images from layouts and archives into the store; every blob is verified.
//!
//! Reads what docker, podman, skopeo, umoci and buildx write: OCI layouts as folders and tars, and docker's archives of both
//! kinds, compressed or not. Names of images are told, but not set.

#[allow(clippy::disallowed_methods, reason = "numbered files in a folder of rbuild's")]
mod archive;
mod docker;
mod error;
#[allow(
    clippy::disallowed_methods,
    reason = "the layout that the user names, in which the names are digests"
)]
mod oci;

use std::path::Path;

pub use archive::Archive;
pub use error::Error;
pub use oci::Layout;

use crate::oci::{Descriptor, Digest, Platform, Reference};
use crate::store::Store;

/// The largest file that tells what is in a layout or an archive: there is no limit to how many images these have. Manifests
/// and configurations have [limits](crate::image::MANIFEST_LIMIT) of their own.
const DOCUMENT_LIMIT: u64 = 16 << 20;

/// An image that something to import lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its manifest or index. Of docker's older archives that is made while it is imported.
    pub target: Option<Descriptor>,
    /// Its full names.
    pub names: Vec<Reference>,
    /// What a layout calls it, if that is no full name.
    pub label: Option<String>,
    /// Without a target: which element of docker's `manifest.json` describes it.
    at: usize,
}

/// Files by their names in a layout or an archive.
trait Files {
    /// What to call it in messages.
    fn name(&self) -> String;
    /// A small file; `None` when there is none.
    fn small(&self, name: &str) -> Result<Option<Vec<u8>>, Error>;
    /// Takes a file as a blob; `None` when there is none. `expected` must be its digest.
    fn keep(
        &self,
        store: &Store,
        name: &str,
        expected: Option<Digest>,
    ) -> Result<Option<(Digest, u64)>, Error>;
    /// Opens a file; `None` when there is none.
    fn open(&self, name: &str) -> Result<Option<std::fs::File>, Error>;
}

/// Something that images can be imported from.
#[derive(Debug)]
pub enum Source {
    /// A folder.
    Layout(Layout),
    /// An archive that was read.
    Archive(Archive),
}

impl Source {
    /// Opens a folder with an OCI layout, or an archive.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] when it is neither.
    #[allow(clippy::disallowed_methods, reason = "the layout or archive that the user names")]
    pub fn open(store: &Store, path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            return Layout::open(path).map(Source::Layout);
        }
        let file = std::fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
        Archive::read(store, file, &path.display().to_string()).map(Source::Archive)
    }

    fn files(&self) -> &dyn Files {
        match self {
            Source::Layout(layout) => layout,
            Source::Archive(archive) => archive,
        }
    }

    /// Every image in it, in its order.
    ///
    /// # Errors
    /// [`Error::NotAnImage`], or what does not parse.
    pub fn images(&self) -> Result<Vec<Listed>, Error> {
        let files = self.files();
        match oci::list(files)? {
            Some(mut listed) => {
                docker::add_names(files, &mut listed)?;
                Ok(listed)
            }
            None => docker::list(files)?.ok_or_else(|| Error::NotAnImage { name: files.name() }),
        }
    }

    /// Every entry of a layout's `index.json`, also those that are no images.
    ///
    /// # Errors
    /// What does not parse.
    pub fn entries(&self) -> Result<Vec<Descriptor>, Error> {
        oci::entries(self.files())
    }

    /// A document of a layout, verified; the store has it then.
    ///
    /// # Errors
    /// It is not there, damaged, or larger than `limit` bytes.
    pub fn document(&self, store: &Store, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, Error> {
        oci::read(store, self.files(), descriptor, limit)
    }

    /// Brings one of its images into the store, and gives its manifest or index. `platform` chooses one of several; without it
    /// everything is brought that is there.
    ///
    /// # Errors
    /// What is missing, damaged or does not parse; complete blobs stay.
    pub fn take(
        &self,
        store: &Store,
        image: &Listed,
        platform: Option<&Platform>,
    ) -> Result<Descriptor, Error> {
        match &image.target {
            Some(descriptor) => oci::take(store, self.files(), descriptor, platform),
            None => docker::take(store, self.files(), image.at),
        }
    }

    /// The one image that `selector` means: a name, a label, a digest, or nothing for the only one.
    ///
    /// # Errors
    /// [`Error::NotThere`] with those that there are.
    pub fn select(&self, selector: &str) -> Result<Listed, Error> {
        let images = self.images()?;
        let fits = |image: &&Listed| {
            let is_name = |name: &Reference| {
                name.full() == selector || name.to_string() == selector || name.wanted() == selector
            };
            let label = image.label.as_deref();
            label.is_some_and(|label| label == selector || label.ends_with(&format!(":{selector}")))
                || image.names.iter().any(is_name)
                || image.target.as_ref().is_some_and(|target| target.digest.to_string() == selector)
        };
        let found = match (selector, images.as_slice()) {
            ("", [only]) => Some(only.clone()),
            ("", several) => {
                let latest = |i: &&Listed| i.label.as_deref() == Some("latest");
                let same = several.iter().all(|i| {
                    i.target.is_some()
                        && i.target.as_ref().map(|t| t.digest) == several[0].target.as_ref().map(|t| t.digest)
                });
                several.iter().find(latest).or(several.first().filter(|_| same)).cloned()
            }
            _ => images.iter().find(fits).cloned(),
        };
        found.ok_or_else(|| Error::NotThere {
            name: self.files().name(),
            wanted: selector.to_owned(),
            offered: images.iter().map(Listed::shown).collect(),
        })
    }
}

impl Listed {
    /// What to call it in a list.
    fn shown(&self) -> String {
        let name = self.names.first().map(Reference::to_string).or_else(|| self.label.clone());
        name.or_else(|| self.target.as_ref().map(|t| t.digest.to_string()))
            .unwrap_or_else(|| "an image without a name".to_owned())
    }
}
