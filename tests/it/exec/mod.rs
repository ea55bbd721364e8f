//! Steps in real namespaces: as root, and the same again as an ordinary user.

mod stage;
mod steps;
