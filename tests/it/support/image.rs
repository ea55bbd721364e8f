//! Small images made in memory.

use std::io::Write;

use rbuild::oci::{Descriptor, DiffId, Digest, ImageConfig, Manifest, MediaType, Platform};

/// One layer's blob.
#[derive(Debug, Clone)]
pub struct TestLayer {
    pub media_type: MediaType,
    pub blob: Vec<u8>,
    pub diff_id: DiffId,
}

impl TestLayer {
    /// A gzip layer with these files, mode 0644, owner 0, time 0.
    pub fn files(files: &[(&str, &str)]) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        Self::gzip(&tar.into_inner().unwrap())
    }

    /// A gzip layer of a tar that the caller made.
    pub fn gzip(tar: &[u8]) -> Self {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(tar).unwrap();
        let blob = gzip.finish().unwrap();
        Self { media_type: MediaType::LAYER_GZIP, blob, diff_id: DiffId(Digest::of(tar)) }
    }

    /// A layer of `size` bytes that do not compress and are no tar: for transfers only.
    pub fn noise(size: usize, seed: u8) -> Self {
        let mut state = u64::from(seed) + 1;
        let blob: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        })
        .take(size)
        .collect();
        Self { media_type: MediaType::LAYER, diff_id: DiffId(Digest::of(&blob)), blob }
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.blob)
    }

    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest(), self.blob.len() as u64)
    }
}

/// A tar with one file.
pub fn tar_of(path: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, path, content).unwrap();
    tar.into_inner().unwrap()
}

/// An image of which every byte is known.
#[derive(Debug, Clone)]
pub struct TestImage {
    pub config: ImageConfig,
    pub layers: Vec<TestLayer>,
    /// Docker's media types in place of OCI's.
    pub docker: bool,
}

impl TestImage {
    pub fn new(platform: &str, layers: Vec<TestLayer>) -> Self {
        let platform: Platform = platform.parse().unwrap();
        let mut config = ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        Self { config, layers, docker: false }
    }

    pub fn docker(mut self) -> Self {
        self.docker = true;
        for layer in &mut self.layers {
            layer.media_type = MediaType::DOCKER_LAYER_GZIP;
        }
        self
    }

    pub fn config_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.config).unwrap()
    }

    pub fn manifest(&self) -> Manifest {
        let (manifest, config) = match self.docker {
            true => (MediaType::DOCKER_MANIFEST, MediaType::DOCKER_CONFIG),
            false => (MediaType::MANIFEST, MediaType::CONFIG),
        };
        let bytes = self.config_bytes();
        Manifest {
            schema_version: 2,
            media_type: Some(manifest),
            config: Descriptor::new(config, Digest::of(&bytes), bytes.len() as u64),
            layers: self.layers.iter().map(TestLayer::descriptor).collect(),
            annotations: Default::default(),
        }
    }

    pub fn manifest_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.manifest()).unwrap()
    }

    /// The manifest's descriptor with the image's platform, as an index lists it.
    pub fn descriptor(&self) -> Descriptor {
        let bytes = self.manifest_bytes();
        let media_type = self.manifest().media_type.unwrap();
        let platform = Some(self.config.platform());
        Descriptor { platform, ..Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64) }
    }
}
