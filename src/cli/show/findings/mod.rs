//! What was found in a Dockerfile, in the formats of other programs.

pub(in crate::cli) mod docker;
pub(in crate::cli) mod sarif;
