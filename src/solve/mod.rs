//! (to be written)

pub mod ops;
