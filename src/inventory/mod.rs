//! Which packages an image has, and which of its steps brought each.
//!
//! Told from indexes and blobs of layers, never from an unpacked root: `scan` reads the few files of one layer that databases,
//! manifests and programs are, and what these say is kept with the layer (`keep`), for it depends on nothing else. What an image has
//! is the merge of that, decided by the view of its layers: a file that a later layer replaced or removed says nothing
//! any more (`merge`). `steps` compares the merges below and above each step. What a build took from elsewhere is told by its record
//! (`origin`), and stages that were copied from are looked into as the image is (`stages`). [`document`] writes it down.
//!
//! Not here: packages that nothing on the image's files names, lock files (they say what should be installed), and asking
//! any server.

pub mod catalog;
pub mod document;
mod image;
mod keep;
mod memory;
mod merge;
pub mod origin;
mod package;
mod scan;
mod stages;
mod steps;
mod unowned;

pub use image::{Depth, Known};
pub use keep::{Error, Layered, index, layered};
pub use merge::{Component, State, state};
pub use package::{Kind, Package, Release};
pub use scan::{LayerInventory, Told, Unread, scan};
pub use steps::{Change, Difference, Event, History, difference, history};
pub use unowned::{Unowned, unowned};
