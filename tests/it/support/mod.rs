//! What several integration tests need.
// A test that uses one half of a helper shall not be warned about the other half.
#![allow(dead_code, unreachable_pub)]

pub mod http;
pub mod image;
pub mod registry;
