//! Tests through the front door of each module.
#![allow(clippy::unwrap_used)]

mod cache;
mod export;
mod store;
