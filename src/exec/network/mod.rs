//! A network of the step's own, and the files that name its resolvers and hosts.

pub(super) mod files;
pub(super) mod pasta;
