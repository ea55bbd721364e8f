//! Attacks: what a hostile Dockerfile, context, archive, image, registry or machine tries, and that nothing comes of it.
//!
//! One file per attack. Each is short in CI; `tests/run --long` tries much more, with another seed each time, and prints how
//! often what was tried ([`crate::support::attack`]).

mod made_again;
mod run_probe;
mod unseen_writes;
