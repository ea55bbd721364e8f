//! Where an image goes: the files and folders that the user names.
//!
//! What an image puts below them is `tree`'s affair, which works on descriptors.

pub(super) mod layout;
pub(super) mod local;
pub(super) mod sink;
pub(super) mod tar;
