//! Docker's archives: `manifest.json`, configurations, and layers as plain tars.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use serde::Deserialize;

use super::oci::{bounded, parse};
use super::{Error, Files, Listed};
use crate::image::CONFIG_LIMIT;
use crate::layer::archive::{self, Format, decompress, detect};
use crate::layer::{Compression, repack};
use crate::oci::{Descriptor, DiffId, Digest, Hasher, ImageConfig, Manifest, MediaType, Reference};
use crate::store::Store;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Entry {
    fn names(&self) -> Vec<Reference> {
        let tags = self.repo_tags.iter().flatten();
        tags.filter_map(|tag| tag.parse::<Reference>().ok()).map(Reference::with_default_tag).collect()
    }
}

fn entries(files: &dyn Files) -> Result<Option<Vec<Entry>>, Error> {
    let Some(bytes) = files.small("manifest.json")? else { return Ok(None) };
    parse(files, "manifest.json", &bytes).map(Some)
}

/// The images of `manifest.json`; `None` when there is no such file.
pub(super) fn list(files: &dyn Files) -> Result<Option<Vec<Listed>>, Error> {
    let Some(entries) = entries(files)? else { return Ok(None) };
    let listed =
        |(at, entry): (usize, &Entry)| Listed { target: None, names: entry.names(), label: None, at };
    Ok(Some(entries.iter().enumerate().map(listed).collect()))
}

/// Archives with both files may have names in only one of them: an image is known by its configuration.
pub(super) fn add_names(files: &dyn Files, listed: &mut [Listed]) -> Result<(), Error> {
    let nameless = listed.iter_mut().filter(|image| image.names.is_empty());
    let mut nameless: Vec<&mut Listed> = nameless.collect();
    if nameless.is_empty() {
        return Ok(());
    }
    let Some(entries) = entries(files)? else { return Ok(()) };
    for image in &mut nameless {
        let Some(target) = image.target.as_ref().filter(|target| target.media_type.is_manifest()) else {
            continue;
        };
        let Some(bytes) = files.small(&format!("blobs/sha256/{}", target.digest.hex()))? else { continue };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { continue };
        let is_its = |entry: &&Entry| entry.config.contains(&manifest.config.digest.hex());
        image.names = entries.iter().find(is_its).map(Entry::names).unwrap_or_default();
    }
    Ok(())
}

/// Makes an OCI image of an entry: the configuration as it is, so that its digest, docker's id of the image, stays; layers
/// compressed; a new manifest.
pub(super) fn take(store: &Store, files: &dyn Files, at: usize) -> Result<Descriptor, Error> {
    let missing = |file: &str| Error::Missing { name: files.name(), file: file.to_owned() };
    let entry = entries(files)?.and_then(|entries| entries.into_iter().nth(at));
    let entry = entry.ok_or_else(|| missing("manifest.json"))?;
    let bytes = files.small(&entry.config)?.ok_or_else(|| missing(&entry.config))?;
    bounded(files, &entry.config, bytes.len() as u64, CONFIG_LIMIT)?;
    let config: ImageConfig = parse(files, &entry.config, &bytes)?;
    let paths = entry.layers.unwrap_or_default();
    if paths.len() != config.rootfs.diff_ids.len() {
        let reason = format!("it has {} layers, manifest.json {}", config.rootfs.diff_ids.len(), paths.len());
        return Err(Error::BadDocument { name: files.name(), file: entry.config, reason });
    }
    let mut layers = Vec::new();
    for (path, diff_id) in paths.iter().zip(&config.rootfs.diff_ids) {
        layers.push(layer(store, files, path, *diff_id)?);
    }
    let digest = store.put_blob(&bytes)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MediaType::MANIFEST),
        config: Descriptor::new(MediaType::CONFIG, digest, bytes.len() as u64),
        layers,
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec_pretty(&manifest)
        .expect("these types have string keys and no failing serialisers");
    let digest = store.put_blob(&bytes)?;
    let mut descriptor = Descriptor::new(MediaType::MANIFEST, digest, bytes.len() as u64);
    descriptor.platform = Some(config.platform());
    Ok(descriptor)
}

/// A plain tar is compressed; what is compressed already stays as it is, once it is known to hold what it should.
fn layer(store: &Store, files: &dyn Files, path: &str, expected: DiffId) -> Result<Descriptor, Error> {
    let missing = || Error::Missing { name: files.name(), file: path.to_owned() };
    let unreadable = |source: std::io::Error| {
        let source = archive::Error::Read { offset: 0, source };
        Error::BadArchive { name: format!("{}: {path}", files.name()), source }
    };
    let check = |actual: DiffId| match actual == expected {
        true => Ok(()),
        false => Err(Error::WrongDiffId { name: files.name(), file: path.to_owned(), expected, actual }),
    };
    let mut file = files.open(path)?.ok_or_else(missing)?;
    let mut start = [0; 8];
    let read = file.read(&mut start).and_then(|read| file.rewind().map(|()| read)).map_err(unreadable)?;
    let media_type = match detect(&start[..read]) {
        Some(Format::Gzip) => MediaType::LAYER_GZIP,
        Some(Format::Zstd) => MediaType::LAYER_ZSTD,
        _ => {
            let mut blob = store.new_blob()?.without_hashing();
            let tar = decompress(file).map_err(unreadable)?;
            let packed = repack(tar, Compression::default(), &mut blob).map_err(unreadable)?;
            check(packed.diff_id)?;
            blob.commit_trusted(packed.digest, packed.size)?;
            return Ok(Descriptor::new(MediaType::LAYER_GZIP, packed.digest, packed.size));
        }
    };
    check(DiffId(hash(decompress(file).map_err(unreadable)?).map_err(unreadable)?))?;
    let (digest, size) = files.keep(store, path, None)?.ok_or_else(missing)?;
    Ok(Descriptor::new(media_type, digest, size))
}

fn hash(mut stream: impl Read) -> std::io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
