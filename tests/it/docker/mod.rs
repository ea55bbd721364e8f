//! What scripts that know docker, buildx, podman and compose pass, and what they read back.

mod actions;
mod flags;
mod image;
mod index;
mod plugin;
mod podman;
