//! Text in, listing out.
