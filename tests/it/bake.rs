//! `rbuild bake`: definitions against what buildx prints of them, builds of several targets, and what a definition may not do.

mod build;
mod faults;
mod print;
mod remote;
mod rights;
