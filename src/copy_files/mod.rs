//! COPY and ADD: from sources to the entries of a layer, with BuildKit's semantics.
//!
//! It happens in two phases. [`select()`] finds the source files and digests them, which needs no destination:
//! its result gives the fields of the cache key. Only when the key misses, [`copy_into()`] puts them into the root
//! file system that the step starts from. Where BuildKit's rules are odd, they are kept; the facts are in its
//! `frontend/dockerfile/dockerfile2llb/convert_copy.go`, `solver/llbsolver/file/` and
//! `vendor/github.com/tonistiigi/fsutil/copy/copy.go`.

pub mod accounts;
mod archive;
pub mod chmod;
mod copy_into;
mod error;
mod gather;
mod glob;
mod key;
mod mounted;
mod overlaid;
mod remake;
pub mod select;
#[allow(clippy::disallowed_methods, reason = "the store's own files, by digest")]
pub mod stored;
pub mod tree;
mod unpack;
pub mod workdir;

pub use accounts::Accounts;
pub use archive::Scratch;
pub use copy_into::{Destination, Outcome, copy_into, is_linked};
pub use error::{Error, NotFound};
pub use key::FileReasons;
pub use mounted::mounted;
pub use remake::remake;
pub use select::{Selected, Source, select};
pub use tree::FileTree;

#[cfg(test)]
mod tests;
