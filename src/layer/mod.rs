//! File changes to layer blobs and back.

pub mod archive;
pub mod entry;
pub mod index;
mod pipeline;
pub mod view;
