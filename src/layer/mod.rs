//! File changes to layer blobs and back.

pub mod compress;
pub mod entry;
mod header;
pub mod writer;

pub use compress::Compression;
pub use writer::{WriteError, WriteOptions, Written, write};
