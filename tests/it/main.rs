//! Tests through the front door of each module.
#![allow(clippy::unwrap_used)]

mod support;

mod cache;
mod export;
mod registry;
mod store;
