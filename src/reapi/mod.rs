//! Speaks the Remote Execution API (version 2) with servers that keep results of actions and blobs, and run actions: Buildbarn, BuildBuddy,
//! BuildGrid, NativeLink, `buildbox-casd` and others.
//!
//! Says what the protocol says, and leaves to callers what an action is for. Blobs are named by SHA-256 alone. What comes is bounded
//! and verified: a blob by its digest, by whoever takes its last byte.
//!
//! ```text
//! client     one instance of a server: capabilities, results of actions
//! blobs      which blobs it has; small ones, several in a message
//! stream     large blobs, in pieces, taken up where they broke off
//! execution  has an action run, and follows it
//! tree       folders as messages
//! messages   the protocol's messages, as far as they are used
//! wire       protobuf
//! ```

mod blobs;
mod client;
mod execution;
mod messages;
mod stream;
mod tree;
mod wire;

pub(crate) use client::{Client, Error};
pub(crate) use execution::{Executed, Going, Progress, Stage, is_worth_another};
pub(crate) use messages::{Action, ActionResult, Blob, Command, Output, OutputFile, tree_of};
pub(crate) use stream::{Packing, Source};
pub(crate) use tree::{Folder, files_of_tree};
#[cfg(test)]
pub(crate) use wire::Writer;
