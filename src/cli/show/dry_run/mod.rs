//! A plan and what would become of its steps, as text, JSON and a Graphviz graph.

pub(in crate::cli) mod dot;
pub(in crate::cli) mod json;
mod table;
pub(in crate::cli) mod text;
