//! Archives for engines: what they read, without the layers that they have.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write};

use serde_json::json;
use tar::EntryType;

use super::picked::{Picked, Whole};
use crate::export;
use crate::oci::{Descriptor, Digest, Reference};
use crate::store::{self, Store};

/// An archive that is written when somebody takes it. How long it is, is known before.
pub(super) struct Archive<'a> {
    store: &'a Store,
    members: Vec<Member>,
}

enum Member {
    Folder(&'static str),
    Small { name: &'static str, bytes: Vec<u8> },
    Blob { name: String, digest: Digest, size: u64 },
}

/// Why it was not written.
#[derive(Debug)]
pub(super) enum Failure {
    /// Who takes it does not.
    Sink(io::Error),
    /// The store does not have it.
    Store(store::Error),
}

impl<'a> Archive<'a> {
    /// Docker's archive of one platform, without the layers below the first `there`. The daemon looks each layer up by what
    /// is below it before it opens its file.
    pub(super) fn docker(store: &'a Store, image: &Picked, names: &[Reference], there: usize) -> Self {
        let of = |descriptor: &Descriptor| format!("blobs/sha256/{}", descriptor.digest.hex());
        let layers: Vec<String> = image.manifest.layers.iter().map(of).collect();
        let manifest = json!([{
            "Config": of(&image.manifest.config), "RepoTags": export::docker_names(names), "Layers": layers,
        }]);
        let mut members = vec![
            Member::Folder("blobs/"),
            Member::Folder("blobs/sha256/"),
            Member::Small { name: "manifest.json", bytes: manifest.to_string().into_bytes() },
        ];
        let mut seen = BTreeSet::new();
        let blobs = std::iter::once(&image.manifest.config).chain(&image.manifest.layers[there..]);
        members.extend(blobs.filter(|blob| seen.insert(blob.digest)).map(Member::blob));
        Self { store, members }
    }

    /// An OCI layout of all of an image, without the layers in `there`.
    pub(super) fn layout(
        store: &'a Store,
        image: &Whole,
        names: &[Reference],
        there: &BTreeSet<Digest>,
    ) -> Self {
        let entries = export::entries(&image.target, names, &Default::default());
        let mut members = vec![
            Member::Folder("blobs/"),
            Member::Folder("blobs/sha256/"),
            Member::Small { name: "oci-layout", bytes: export::LAYOUT.to_vec() },
            Member::Small { name: "index.json", bytes: export::index(entries, Default::default()) },
        ];
        members.extend(image.documents.iter().map(Member::blob));
        members.extend(image.layers.iter().filter(|layer| !there.contains(&layer.digest)).map(Member::blob));
        Self { store, members }
    }

    /// The bytes of layers and documents in it.
    pub(super) fn content(&self) -> u64 {
        self.members.iter().map(Member::content).sum()
    }

    /// The length of it all.
    pub(super) fn size(&self) -> u64 {
        let whole = |member: &Member| 512 + member.content().next_multiple_of(512);
        self.members.iter().map(whole).sum::<u64>() + export::END.len() as u64
    }

    /// Writes it; `hear` is told how much of the content is written, and how much there is.
    pub(super) fn write(&self, sink: &mut impl Write, hear: &dyn Fn(u64, u64)) -> Result<(), Failure> {
        let (mut done, total) = (0, self.content());
        for member in &self.members {
            let size = member.content();
            let kind = match member {
                Member::Folder(_) => EntryType::Directory,
                Member::Small { .. } | Member::Blob { .. } => EntryType::Regular,
            };
            put(sink, &export::header(member.name(), size, kind))?;
            match member {
                Member::Folder(_) => {}
                Member::Small { bytes, .. } => put(sink, bytes)?,
                Member::Blob { digest, .. } => {
                    self.blob(digest, size, sink, &mut |more| {
                        done += more;
                        hear(done, total);
                    })?;
                }
            }
            put(sink, export::padding(size))?;
        }
        put(sink, &export::END)
    }

    fn blob(
        &self,
        digest: &Digest,
        size: u64,
        sink: &mut impl Write,
        hear: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        let mut file = self.store.open_blob(digest).map_err(Failure::Store)?.take(size);
        let mut buffer = vec![0; 256 << 10];
        let mut copied = 0;
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Failure::Sink(e)),
            };
            put(sink, &buffer[..read])?;
            copied += read as u64;
            hear(read as u64);
        }
        match copied == size {
            true => Ok(()),
            false => Err(Failure::Store(store::Error::WrongSize {
                digest: *digest,
                expected: size,
                actual: copied,
            })),
        }
    }
}

impl Member {
    fn blob(descriptor: &Descriptor) -> Self {
        let Descriptor { digest, size, .. } = *descriptor;
        Member::Blob { name: format!("blobs/sha256/{}", digest.hex()), digest, size }
    }

    fn name(&self) -> &str {
        match self {
            Member::Folder(name) | Member::Small { name, .. } => name,
            Member::Blob { name, .. } => name,
        }
    }

    fn content(&self) -> u64 {
        match self {
            Member::Folder(_) => 0,
            Member::Small { bytes, .. } => bytes.len() as u64,
            Member::Blob { size, .. } => *size,
        }
    }
}

fn put(sink: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    sink.write_all(bytes).map_err(Failure::Sink)
}
