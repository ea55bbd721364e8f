//! File changes to layer blobs and back.

pub mod archive;
pub mod contents;
pub mod entry;
pub mod index;
mod pipeline;
#[cfg(test)]
mod sample;
pub mod unpack;
pub mod view;
