//! File changes to layer blobs and back.

pub mod archive;
pub mod compress;
pub mod contents;
mod count;
mod deflate;
pub mod entry;
pub mod erofs;
mod header;
pub mod index;
mod member;
mod pipeline;
mod repack;
#[cfg(test)]
mod sample;
pub mod unpack;
pub mod view;
pub mod writer;

pub use compress::Compression;
pub use count::count;
pub use repack::{Repacked, repack};
pub use writer::{
    Remembered, Segments, WriteError, WriteOptions, Written, write, write_remembering, write_watched,
};
