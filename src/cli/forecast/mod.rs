//! A plan and what would become of its steps, as text, JSON and a Graphviz graph.

pub(super) mod dot;
pub(super) mod json;
mod table;
pub(super) mod text;
