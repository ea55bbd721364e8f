//! Text to syntax, with spans: what a Dockerfile says, before any variable is expanded.
//!
//! Knows nothing of images, stages' meaning or the machine; pure.

pub mod syntax;
