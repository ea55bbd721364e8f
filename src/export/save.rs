//! Writes images of the store, one or several, into one archive or layout.

use std::path::PathBuf;

use super::archive::{self, Dialect};
use super::contents::Contents;
use super::destination::sink::OpenSink;
use super::naming::{self, Named};
use super::{Error, Sink, layout, refuse_several};
use crate::oci::{Descriptor, Reference};
use crate::store::Store;

/// An image to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its manifest or index.
    pub target: Descriptor,
    /// What it is called there.
    pub call: Call,
    /// What is kept beside it, as `index.json` is to list it; docker's archives have no place for it.
    pub referrers: Vec<Descriptor>,
}

/// What an image is called in an archive or a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// By full names, as docker and containerd read them; none is possible.
    Names(Vec<Reference>),
    /// By a word in a layout, as skopeo and umoci do.
    Label(String),
}

/// Where images go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaveTo {
    /// An OCI layout in a tar.
    OciArchive(Sink),
    /// What `docker load` and `podman load` read.
    DockerArchive(Sink),
    /// An OCI layout; one that is there gets the images added.
    OciDirectory(PathBuf),
}

/// Writes `images`. A file appears when it is complete.
///
/// # Errors
/// What is missing in the store, or cannot be written; nothing half-written stays.
pub fn save(store: &Store, images: &[Saved], to: &SaveTo) -> Result<(), Error> {
    let contents: Vec<Contents> =
        images.iter().map(|image| Contents::collect(store, &image.target)).collect::<Result<_, _>>()?;
    let named: Vec<Named<'_>> =
        images.iter().zip(&contents).map(|(image, contents)| named(image, contents)).collect();
    let beside: Vec<Contents> = images
        .iter()
        .map(|image| Contents::of_referrers(store, &image.target, &image.referrers))
        .collect::<Result<_, _>>()?;
    let beside =
        images.iter().zip(&beside).map(|(image, contents)| naming::referrers(contents, &image.referrers));
    match to {
        SaveTo::OciDirectory(dest) => {
            let named = named.into_iter().chain(beside);
            let mut all = named;
            all.try_for_each(|named| layout::write(store, named.contents, named.entries, dest))
        }
        SaveTo::OciArchive(sink) => {
            write(store, &named.into_iter().chain(beside).collect::<Vec<_>>(), Dialect::Oci, sink)
        }
        SaveTo::DockerArchive(sink) => {
            contents.iter().try_for_each(refuse_several)?;
            write(store, &named, Dialect::Docker, sink)
        }
    }
}

fn named<'c>(image: &Saved, contents: &'c Contents) -> Named<'c> {
    match &image.call {
        Call::Names(names) => {
            let entries = naming::entries(&contents.root, names, &std::collections::BTreeMap::new());
            Named { contents, names: names.clone(), entries }
        }
        Call::Label(label) => {
            Named { contents, names: Vec::new(), entries: vec![naming::labelled(&contents.root, label)] }
        }
    }
}

fn write(store: &Store, images: &[Named<'_>], dialect: Dialect, sink: &Sink) -> Result<(), Error> {
    let mut sink = OpenSink::open(sink)?;
    archive::write(store, images, dialect, &mut sink)?;
    sink.finish()
}
