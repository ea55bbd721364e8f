//! What people configured: rbuild's own file, and what they already have for docker and podman.
//!
//! Reads files and turns them into values; it contacts nobody. rbuild's own file is read when a command starts
//! that heeds it, the others when the first registry is asked: a build without one shall not fail over them.

mod containers;
mod docker;
mod error;
mod kubernetes;
mod lockfile;
mod lookup;
mod name;
mod own;
pub mod policy;
mod proxies;
mod registries;
mod sources;

pub use error::Error;
pub use kubernetes::Kubernetes;
pub use lockfile::{Change, Lockfile};
pub use lookup::Place;
pub use own::{Config, Defaults, History};
pub use proxies::dockers_proxies;
pub use registries::Registries;
pub use sources::{Files, Flags, Foreign, Sources, told};
