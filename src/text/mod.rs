//! What people type and what they read: spellings, sizes, durations, files of accounts, and text that strangers wrote.
//!
//! Text in, value out. Which words there are to choose from, and what a wrong one is called, is the caller's affair.

pub mod csv;
pub mod duration;
pub(crate) mod passwd;
pub mod size;
mod spelling;
pub mod terminal;
pub mod url;

pub use spelling::{boolean, closest, nearest_names};
