//! File changes to layer blobs and back.

pub mod entry;
