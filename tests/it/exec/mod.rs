//! Steps in real namespaces: as root, and the same again as an ordinary user.

mod death;
mod rootless;
mod stage;
mod steps;
