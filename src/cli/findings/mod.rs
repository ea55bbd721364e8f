//! What was found in a Dockerfile, in the formats of other programs.

pub(super) mod docker;
pub(super) mod sarif;
