//! Lowers syntax to a graph of steps, a configuration and a history. Pure: touches neither disk nor
//! network.

pub mod graph;
