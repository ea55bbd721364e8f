//! Reads an OCI image layout with other people's code: oci-spec, tar and flate2.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};
use sha2::{Digest as _, Sha256};

/// A layout's folder.
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub fn index(&self) -> ImageIndex {
        ImageIndex::from_file(self.root.join("index.json")).unwrap()
    }

    /// The names in the index, sorted.
    pub fn names(&self) -> Vec<String> {
        let index = self.index();
        let name = |d: &oci_spec::image::Descriptor| {
            d.annotations().as_ref()?.get("org.opencontainers.image.ref.name").cloned()
        };
        let mut names: Vec<String> = index.manifests().iter().filter_map(name).collect();
        names.sort();
        names
    }

    /// The manifests in the index of that digest, by platform.
    #[track_caller]
    pub fn platforms(&self, digest: &str) -> BTreeMap<String, String> {
        let index = ImageIndex::from_reader(self.blob(digest).as_slice()).unwrap();
        let entry = |d: &oci_spec::image::Descriptor| {
            let platform = d.platform().as_ref().unwrap();
            let variant = platform.variant().as_ref().map(|v| format!("/{v}")).unwrap_or_default();
            (format!("{}/{}{variant}", platform.os(), platform.architecture()), d.digest().to_string())
        };
        index.manifests().iter().map(entry).collect()
    }

    /// The image of that manifest digest, every blob of it verified.
    #[track_caller]
    pub fn image(&self, digest: &str) -> ImageOnDisk {
        let manifest = ImageManifest::from_reader(self.blob(digest).as_slice()).unwrap();
        let config = self.blob(manifest.config().digest().as_ref());
        let config = ImageConfiguration::from_reader(config.as_slice()).unwrap();
        let layers: Vec<LayerOnDisk> = manifest
            .layers()
            .iter()
            .map(|layer| {
                let blob = self.blob(layer.digest().as_ref());
                assert_eq!(blob.len() as u64, layer.size());
                LayerOnDisk::read(&blob)
            })
            .collect();
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        assert_eq!(&diff_ids, config.rootfs().diff_ids(), "the diff ids are those of the layers");
        ImageOnDisk { manifest, config, layers }
    }

    #[track_caller]
    fn blob(&self, digest: &str) -> Vec<u8> {
        let path = self.root.join("blobs").join(digest.replace(':', "/"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(sha256(&bytes), digest, "the blob's bytes are those of its name");
        bytes
    }
}

/// An image, read and verified.
pub struct ImageOnDisk {
    pub manifest: ImageManifest,
    pub config: ImageConfiguration,
    pub layers: Vec<LayerOnDisk>,
}

impl ImageOnDisk {
    /// History as `instruction` or `instruction (empty)`, without BuildKit's mark.
    pub fn history(&self) -> Vec<String> {
        let line = |entry: &oci_spec::image::History| {
            let text = entry.created_by().clone().unwrap_or_default().replace(" # buildkit", "");
            if entry.empty_layer() == Some(true) { format!("{text} (empty)") } else { text }
        };
        self.config.history().iter().flatten().map(line).collect()
    }

    /// The merged files, by path: what a container sees.
    pub fn files(&self) -> BTreeMap<String, Entry> {
        let mut files: BTreeMap<String, Entry> = BTreeMap::new();
        for layer in &self.layers {
            for (path, _) in &layer.entries {
                let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                if name == ".wh..wh..opq" {
                    files.retain(|p, _| !p.starts_with(&format!("{folder}/")));
                } else if let Some(name) = name.strip_prefix(".wh.") {
                    let gone = format!("{folder}/{name}").trim_start_matches('/').to_owned();
                    files.retain(|p, _| *p != gone && !p.starts_with(&format!("{gone}/")));
                }
            }
            // The root directory itself has an empty name.
            let is_file =
                |path: &str| !path.is_empty() && !path.rsplit('/').next().unwrap().starts_with(".wh.");
            files.extend(layer.entries.iter().filter(|(path, _)| is_file(path)).cloned());
        }
        files
    }

    /// One line for each file of all layers together, without times.
    pub fn listing(&self) -> Vec<String> {
        self.files().iter().map(|(path, entry)| entry.line(path)).collect()
    }
}

/// A layer, read.
pub struct LayerOnDisk {
    pub diff_id: String,
    /// In the order of the tar; names without `./` and slashes at the ends.
    pub entries: Vec<(String, Entry)>,
}

impl LayerOnDisk {
    fn read(blob: &[u8]) -> Self {
        let mut tar = Vec::new();
        // By other decoders than rbuild's own way of choosing them.
        match blob {
            [0x1f, 0x8b, ..] => {
                flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut tar).map(drop).unwrap();
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::stream::copy_decode(blob, &mut tar).unwrap(),
            _ => tar.extend_from_slice(blob),
        }
        let mut archive = tar::Archive::new(tar.as_slice());
        let entries = archive.entries().unwrap().map(|entry| Entry::read(&mut entry.unwrap())).collect();
        Self { diff_id: sha256(&tar), entries }
    }

    /// One line for each entry, in their order.
    pub fn listing(&self) -> Vec<String> {
        self.entries.iter().map(|(path, entry)| entry.line(path)).collect()
    }
}

/// A file of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: tar::EntryType,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub link: Option<String>,
    pub content: Vec<u8>,
}

impl Entry {
    fn read(entry: &mut tar::Entry<'_, impl std::io::Read>) -> (String, Self) {
        let path = entry.path().unwrap().display().to_string();
        let path = path.trim_start_matches("./").trim_matches('/').to_owned();
        let link = entry.link_name().unwrap().map(|link| link.display().to_string());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let (mode, mtime) = (header.mode().unwrap(), header.mtime().unwrap());
        let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
        (path, Self { kind: header.entry_type(), mode, uid, gid, mtime, link, content })
    }

    /// `path type mode uid:gid size [-> link]`
    pub fn line(&self, path: &str) -> String {
        let kind = match self.kind {
            tar::EntryType::Directory => "dir",
            tar::EntryType::Symlink => "symlink",
            tar::EntryType::Link => "hardlink",
            tar::EntryType::Fifo => "fifo",
            tar::EntryType::Char | tar::EntryType::Block => "device",
            _ => "file",
        };
        let Self { mode, uid, gid, link, content, .. } = self;
        let link = link.as_ref().map(|link| format!(" -> {link}")).unwrap_or_default();
        format!("{path} {kind} {mode:04o} {uid}:{gid} {}{link}", content.len())
    }
}

/// `sha256:…` of bytes.
pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
