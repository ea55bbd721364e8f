//! Writes an image somewhere; one file for each kind of destination.
//!
//! Knows nothing of building: the image is complete in the store, every layer included. Pushing is not
//! here either.

mod archive;
mod beside;
mod contents;
#[allow(
    clippy::disallowed_methods,
    reason = "the destination that the user names, until something of an image is put in it"
)]
mod destination;
mod engine;
#[allow(clippy::disallowed_methods, reason = "indexes in the store, by digest")]
mod files;
mod naming;
mod output;
mod parse;
mod save;
mod tree;
mod ustar;

use std::io;
use std::path::{Path, PathBuf};

pub use beside::{Along, Beside, Say};
pub use engine::{Engine, LoadInto};
pub use output::{AttestationOptions, Epoch, LayerOptions, LocalMode, Output, OutputError, Sink, Target};

use crate::image::is_attestation;
use crate::layer;
use crate::oci::{Annotation, AnnotationLevel, Descriptor, DiffId, Digest, Reference, Seconds, TooDeep};
use crate::report::Events;
use crate::store::{self, Store};
use archive::Dialect;
use contents::Contents;
use destination::sink::OpenSink;
use destination::{layout, local, tar};
use naming::Named;
pub use naming::entry_of_referrers;
pub(crate) use naming::{LAYOUT, docker_names, entries, index, is_of_referrers};
pub use save::{Call, SaveTo, Saved, save};
pub(crate) use ustar::{END, header, padding};

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store could not give a blob.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A manifest that does not parse.
    #[error("the manifest {digest} does not parse: {reason}")]
    BadManifest {
        /// The manifest's digest.
        digest: Digest,
        /// What the parser said.
        reason: String,
    },
    /// A layer that does not parse.
    #[error("the layer {digest} cannot be read: {source}")]
    BadLayer {
        /// Its blob.
        digest: Digest,
        /// What the reader of archives met.
        source: layer::archive::Error,
    },
    /// The tar of the files could not be made.
    #[error("cannot write the files as a tar: {source}")]
    Archive {
        /// What the writer of archives met.
        source: layer::WriteError,
    },
    /// A layer that is another one than the configuration says.
    #[error("the layer {layer} holds {actual}, and the configuration says {expected}")]
    WrongDiffId {
        /// Its blob.
        layer: Digest,
        /// What the configuration says.
        expected: DiffId,
        /// What the blob holds.
        actual: DiffId,
    },
    /// A layer that lacks what its index has.
    #[error("the layer {digest} changed while it was exported, or its index is not its own")]
    LayerChanged {
        /// Its blob.
        digest: Digest,
    },
    /// Two platforms' images with the same path.
    #[error(
        "`{}` is in the image {first} and in the image {second}; leave platform-split=false out",
        path.display()
    )]
    Conflict {
        /// The path.
        path: PathBuf,
        /// The manifest of the first image.
        first: Digest,
        /// The manifest of the second.
        second: Digest,
    },
    /// Indexes of indexes of indexes.
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
    /// Docker's archives hold one platform.
    #[error(
        "a docker archive holds one platform, and this image has {count}; use type=oci, or build one --platform"
    )]
    SeveralPlatforms {
        /// How many.
        count: usize,
    },
    /// A directory where a file is to be written.
    #[error("`{}` is a directory; name a file, or write a directory with tar=false or type=local", path.display())]
    IsADirectory {
        /// The directory, as the user named it.
        path: PathBuf,
    },
    /// The destination of a layout is a store.
    #[error("`{}` is a store of rbuild; name another directory", path.display())]
    IsAStore {
        /// The directory, as the user named it.
        path: PathBuf,
    },
    /// An `index.json` that does not parse.
    #[error("`{}` is no index of an OCI layout: {reason}", path.display())]
    BadIndex {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// An archive for a terminal.
    #[error("an archive is not written to a terminal; add dest=FILE, or redirect the output")]
    Terminal,
    /// Everything else that the system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Io { action, path: path.to_owned(), source }
    }
}

/// Writes `image`, a manifest or an index in the store with all of its blobs, to each of `outputs`; it is called by
/// `names` and by those that each output adds. Files appear when they are complete; nothing half-written stays
/// behind on an error; but files that are merged into a directory with other files are written in place. `events` hears of what
/// could not be exported, such as devices by a user who may not make them. What is `along` goes with it. `epoch` is the build's SOURCE_DATE_EPOCH in seconds, the time
/// of plain files unless an output has its own.
pub fn write(
    store: &Store,
    image: &Descriptor,
    (names, along): (&[Reference], &Along<'_>),
    (outputs, epoch): (&[Output], Option<Seconds>),
    events: &Events,
) -> Result<(), Error> {
    let mut contents = None;
    for output in outputs {
        if matches!(output.target, Target::Image { .. } | Target::Load(_) | Target::CacheOnly) {
            continue;
        }
        let contents = match &mut contents {
            Some(contents) => contents,
            none => none.insert(Contents::collect(store, image)?),
        };
        write_one(store, contents, (names, along), (output, output.epoch.or(epoch)), events)?;
    }
    Ok(())
}

fn write_one(
    store: &Store,
    contents: &Contents,
    (names, along): (&[Reference], &Along<'_>),
    (output, epoch): (&Output, Option<Seconds>),
    events: &Events,
) -> Result<(), Error> {
    let names = all_names(names, &output.names);
    let level = match contents.root.media_type.is_index() {
        true => AnnotationLevel::IndexDescriptor,
        false => AnnotationLevel::ManifestDescriptor,
    };
    let annotations = Annotation::at(&output.annotations, level, contents.root.platform.as_ref());
    let entries = naming::entries(&contents.root, &names, &annotations);
    match &output.target {
        Target::OciArchive(to) => {
            let mut sink = OpenSink::open(to)?;
            let referrers = Contents::of_referrers(store, &contents.root, &along.referrers)?;
            let all = [Named { contents, names, entries }, naming::referrers(&referrers, &along.referrers)];
            archive::write(store, &all, Dialect::Oci, &mut sink)?;
            sink.finish()
        }
        Target::DockerArchive(to) => {
            refuse_several(contents)?;
            let mut sink = OpenSink::open(to)?;
            archive::write(store, &[Named { contents, names, entries }], Dialect::Docker, &mut sink)?;
            sink.finish()
        }
        Target::OciDirectory(dest) => {
            layout::write(store, contents, entries, dest)?;
            let referrers = Contents::of_referrers(store, &contents.root, &along.referrers)?;
            layout::write(store, &referrers, along.referrers.clone(), dest)
        }
        Target::LocalDirectory { dest, mode, split } => {
            let roots = files::open_all(store, contents, *split)?;
            let written = beside::written(store, &roots, (&along.beside, &output.attestations.prefix))?;
            local::write(store, (&roots, &written), dest, (*mode, epoch), events)
        }
        Target::Tar { sink, split } => {
            let roots = files::open_all(store, contents, *split)?;
            let written = beside::written(store, &roots, (&along.beside, &output.attestations.prefix))?;
            let mut sink = OpenSink::open(sink)?;
            tar::write(store, (&roots, &written), epoch, &mut sink)?;
            sink.finish()
        }
        Target::Image { .. } | Target::Load(_) | Target::CacheOnly => Ok(()),
    }
}

fn refuse_several(contents: &Contents) -> Result<(), Error> {
    match contents.images.iter().filter(|image| !is_attestation(&image.descriptor)).count() {
        0 | 1 => Ok(()),
        count => Err(Error::SeveralPlatforms { count }),
    }
}

/// Each name once, in order.
pub(crate) fn all_names(names: &[Reference], more: &[Reference]) -> Vec<Reference> {
    let mut all: Vec<Reference> = Vec::new();
    for name in names.iter().chain(more).map(|name| name.clone().with_default_tag()) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}
