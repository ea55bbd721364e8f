//! Steps in real namespaces: as root, and the same again as an ordinary user.

mod death;
mod escapes;
mod owners;
mod rootless;
mod stage;
mod steps;
