//! Steps in real namespaces: as root, and the same again as an ordinary user.

mod death;
mod escapes;
mod own_program;
mod owners;
mod rootless;
mod stage;
mod steps;
