//! Reads tar archives, compressed or not, into entries that the rest of the program can trust.
//!
//! Layers come from registries and ADD takes any file, so everything here is hostile: names cannot
//! leave the root, numbers and lengths are bounded, and an error names the entry and what is wrong with it.
//! The index, the unpacker and ADD all read through [`Reader`], so they cannot disagree about what an
//! archive means. Where tars are ambiguous, the reader of Go's standard library is the reference, because
//! that is what docker and containerd use.
//!
//! The `tar` crate's own reader is not used: it cuts PAX values at newlines (a binary
//! `security.capability` may hold one) and puts no bound on the size of extension headers.

mod block;
mod compression;
mod error;
mod name;
mod pax;
mod reader;
mod streams;

pub use compression::{Decoder, Format, decompress, detect};
pub use error::{Error, Problem};
pub use name::{PATH_LIMIT, clean};
pub(in crate::layer) use name::{join, split};
pub use reader::{Data, Kind, Limits, Member, Names, Reader, is_archive};
pub use streams::Streams;

#[cfg(test)]
mod tests;
