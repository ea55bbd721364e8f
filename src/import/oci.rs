//! OCI layouts: `index.json` and blobs by digest.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{DOCUMENT_LIMIT, Error, Files, Listed};
use crate::export::is_of_referrers;
use crate::image::{self, CONFIG_LIMIT, MANIFEST_LIMIT};
use crate::oci::image::{Dialect, assemble_index};
use crate::oci::{Descriptor, Digest, Index, MAX_INDEX_DEPTH, Manifest, Platform, Reference, TooDeep};
use crate::store::{self, Store};

/// What other tools call an image by (image-spec, "Pre-Defined Annotation Keys").
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's word for the full name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// A layout as a folder.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
}

impl Layout {
    /// Opens a folder that has an `index.json`.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] when it has none.
    pub fn open(path: &Path) -> Result<Self, Error> {
        match path.join("index.json").is_file() {
            true => Ok(Self { path: path.to_owned() }),
            false => Err(Error::NotAnImage { name: path.display().to_string() }),
        }
    }
}

impl Files for Layout {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn small(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        use std::io::Read as _;
        let Some(file) = self.open(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(DOCUMENT_LIMIT).read_to_end(&mut bytes);
        read.map(|_| Some(bytes)).map_err(|e| Error::io("read", &self.path.join(name), e))
    }

    fn keep(
        &self,
        store: &Store,
        name: &str,
        expected: Option<Digest>,
    ) -> Result<Option<(Digest, u64)>, Error> {
        let Some(mut file) = self.open(name)? else { return Ok(None) };
        let mut blob = store.new_blob()?;
        io::copy(&mut file, &mut blob).map_err(|e| Error::io("read", &self.path.join(name), e))?;
        match blob.commit(expected) {
            Ok(kept) => Ok(Some(kept)),
            Err(store::Error::WrongDigest { actual, .. }) => {
                Err(Error::Damaged { name: self.name(), file: name.to_owned(), actual })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, name: &str) -> Result<Option<File>, Error> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.path.join(name);
        // Links are followed: what they lead to must have the digest. But a pipe would never begin, and some devices never end.
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let opened = File::options().read(true).custom_flags(flags).open(&path);
        match opened.and_then(|file| Ok((file.metadata()?.is_file(), file))) {
            Ok((true, file)) => Ok(Some(file)),
            Ok((false, _)) => Err(Error::io("read", &path, io::Error::other("it is no regular file"))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("open", &path, e)),
        }
    }
}

/// Every entry of `index.json`, as it stands there.
pub(super) fn entries(files: &dyn Files) -> Result<Vec<Descriptor>, Error> {
    match files.small("index.json")? {
        Some(bytes) => Ok(parse::<Index>(files, "index.json", &bytes)?.manifests),
        None => Ok(Vec::new()),
    }
}

/// What is kept beside images is no image, unless it has a name in full.
fn is_image(entry: &Descriptor) -> bool {
    let is_named = entry.annotations.contains_key(CONTAINERD_NAME);
    is_named || (entry.artifact_type.is_none() && !is_of_referrers(entry))
}

/// A blob that is a document, verified; it is in the store then.
pub(super) fn read(
    store: &Store,
    files: &dyn Files,
    descriptor: &Descriptor,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    bounded(files, &blob_name(descriptor), descriptor.size, limit)?;
    blob(store, files, descriptor)?;
    Ok(store.read_blob(descriptor, limit)?)
}

/// The entries of `index.json`, those of one image put together; `None` when there is no such file.
pub(super) fn list(files: &dyn Files) -> Result<Option<Vec<Listed>>, Error> {
    let Some(bytes) = files.small("index.json")? else { return Ok(None) };
    let index: Index = parse(files, "index.json", &bytes)?;
    let mut listed: Vec<Listed> = Vec::new();
    let mut places: HashMap<(Digest, Option<String>), usize> = HashMap::new();
    for entry in index.manifests.into_iter().filter(is_image) {
        let label = entry.annotations.get(REF_NAME).cloned();
        let names: Vec<Reference> = full_name(&entry, label.as_deref()).into_iter().collect();
        let plain = Descriptor { annotations: std::collections::BTreeMap::new(), ..entry };
        // Under several names an image has several entries.
        match places.entry((plain.digest, label.clone())) {
            Occupied(known) => listed[*known.get()].names.extend(names),
            Vacant(place) => {
                place.insert(listed.len());
                listed.push(Listed { target: Some(plain), names, label, at: 0 });
            }
        }
    }
    Ok(Some(listed))
}

/// Its name, where one is written in full. A label such as `latest` alone says nothing of the repository.
fn full_name(entry: &Descriptor, label: Option<&str>) -> Option<Reference> {
    let written = entry.annotations.get(CONTAINERD_NAME).map(String::as_str);
    let written = written.or_else(|| label.filter(|label| label.contains(['/', ':'])))?;
    written.parse::<Reference>().ok().filter(|name| name.digest().is_none()).map(Reference::with_default_tag)
}

/// Brings a manifest or index into the store with what it names.
pub(super) fn take(
    store: &Store,
    files: &dyn Files,
    descriptor: &Descriptor,
    platform: Option<&Platform>,
) -> Result<Descriptor, Error> {
    if !descriptor.media_type.is_index() {
        take_manifest(store, files, descriptor)?;
        return Ok(descriptor.clone());
    }
    let index: Index = document(files, descriptor)?;
    if let Some(wanted) = platform {
        return take(store, files, &choose(files, index, wanted)?, None);
    }
    take_index(store, files, descriptor, &index, &mut HashMap::new(), 0)
}

fn choose(files: &dyn Files, index: Index, wanted: &Platform) -> Result<Descriptor, Error> {
    let entries = index.flatten::<Error>(&mut |inner| match document(files, inner) {
        Err(Error::Missing { .. }) => Ok(None),
        outcome => outcome.map(Some),
    })?;
    let best = image::best(wanted, &entries, |entry| entry.platform.clone());
    best.cloned().ok_or_else(|| Error::NoPlatform {
        name: files.name(),
        wanted: Box::new(wanted.clone()),
        offered: entries.into_iter().filter_map(|d| d.platform).collect(),
    })
}

/// docker saves an index with only those of its platforms that are there: then an index of these takes its place.
/// `taken` has by digest what took the place of each entry so far, `None` for what is not there: nothing is taken twice.
fn take_index(
    store: &Store,
    files: &dyn Files,
    descriptor: &Descriptor,
    index: &Index,
    taken: &mut HashMap<Digest, Option<Descriptor>>,
    depth: u32,
) -> Result<Descriptor, Error> {
    let mut here = Vec::new();
    for entry in &index.manifests {
        let place = match taken.get(&entry.digest) {
            Some(known) => known.clone(),
            None => {
                let place = take_entry(store, files, entry, taken, depth)?;
                taken.insert(entry.digest, place.clone());
                place
            }
        };
        here.extend(place.map(|place| match place.digest == entry.digest {
            true => entry.clone(),
            false => Descriptor { platform: entry.platform.clone().or(place.platform), ..place },
        }));
    }
    match here.as_slice() {
        _ if here == index.manifests => {
            blob(store, files, descriptor)?;
            Ok(descriptor.clone())
        }
        [] => Err(Error::Missing { name: files.name(), file: blob_name(descriptor) }),
        [only] => Ok(only.clone()),
        _ => {
            let (bytes, descriptor) = assemble_index(here, (&index.annotations, Dialect::Oci));
            store.put_blob(&bytes)?;
            Ok(descriptor)
        }
    }
}

/// What takes the place of an entry of an index; `None` where that is not there.
fn take_entry(
    store: &Store,
    files: &dyn Files,
    entry: &Descriptor,
    taken: &mut HashMap<Digest, Option<Descriptor>>,
    depth: u32,
) -> Result<Option<Descriptor>, Error> {
    if files.open(&blob_name(entry))?.is_none() {
        return Ok(None);
    }
    if !entry.media_type.is_index() {
        take_manifest(store, files, entry)?;
        return Ok(Some(entry.clone()));
    }
    if depth == MAX_INDEX_DEPTH {
        return Err(TooDeep(entry.digest).into());
    }
    let inner: Index = document(files, entry)?;
    take_index(store, files, entry, &inner, taken, depth + 1).map(Some)
}

/// The manifest goes last: once it is there, the image is whole.
fn take_manifest(store: &Store, files: &dyn Files, descriptor: &Descriptor) -> Result<(), Error> {
    if descriptor.media_type.is_manifest() {
        let manifest: Manifest = document(files, descriptor)?;
        bounded(files, &blob_name(&manifest.config), manifest.config.size, CONFIG_LIMIT)?;
        blob(store, files, &manifest.config)?;
        for layer in manifest.layers.iter().filter(|layer| layer.urls.is_empty()) {
            blob(store, files, layer)?;
        }
    }
    blob(store, files, descriptor)
}

fn blob(store: &Store, files: &dyn Files, descriptor: &Descriptor) -> Result<(), Error> {
    if store.intact_blob(&descriptor.digest)? == Some(descriptor.size) {
        return Ok(());
    }
    let name = blob_name(descriptor);
    match files.keep(store, &name, Some(descriptor.digest))? {
        Some((_, actual)) => sized(files, name, descriptor.size, actual),
        None => Err(Error::Missing { name: files.name(), file: name }),
    }
}

/// A wrong size would go on into every image that is built on this one, and registries refuse it.
fn sized(files: &dyn Files, file: String, expected: u64, actual: u64) -> Result<(), Error> {
    match actual == expected {
        true => Ok(()),
        false => Err(Error::WrongSize { name: files.name(), file, expected, actual }),
    }
}

/// What was larger could be loaded, but neither be read again nor be pushed.
pub(super) fn bounded(files: &dyn Files, file: &str, size: u64, limit: u64) -> Result<(), Error> {
    match size > limit {
        true => Err(Error::TooLarge { name: files.name(), file: file.to_owned(), size, limit }),
        false => Ok(()),
    }
}

fn blob_name(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest.hex())
}

fn document<T: serde::de::DeserializeOwned>(files: &dyn Files, descriptor: &Descriptor) -> Result<T, Error> {
    let name = blob_name(descriptor);
    bounded(files, &name, descriptor.size, MANIFEST_LIMIT)?;
    let bytes =
        files.small(&name)?.ok_or_else(|| Error::Missing { name: files.name(), file: name.clone() })?;
    let actual = Digest::of(&bytes);
    if actual != descriptor.digest {
        return Err(Error::Damaged { name: files.name(), file: name, actual });
    }
    sized(files, name.clone(), descriptor.size, bytes.len() as u64)?;
    parse(files, &name, &bytes)
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(
    files: &dyn Files,
    name: &str,
    bytes: &[u8],
) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|e| Error::BadDocument {
        name: files.name(),
        file: name.to_owned(),
        reason: e.to_string(),
    })
}
