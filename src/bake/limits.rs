//! Bounds of an evaluation: definitions come from strangers, and no file of a few lines may take all memory or all day.

use std::cell::Cell;

/// Units of work: a step of an expression is one, and so are sixteen bytes of text that is made.
const WORK: usize = 4_000_000;
/// Expressions, functions and variables within each other.
const DEPTH: usize = 1_200;
/// As large as a definition may be, in bytes.
pub(super) const FILE: usize = 4 << 20;
/// As many variants as the matrices of all targets may have together.
pub(super) const VARIANTS: usize = 4_096;
/// Evaluation is recursive, and this is enough for `DEPTH` of the largest frames.
pub(super) const STACK: usize = 256 << 20;

/// What is left.
#[derive(Debug)]
pub(super) struct Limits {
    work: Cell<usize>,
    depth: Cell<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { work: Cell::new(WORK), depth: Cell::new(0) }
    }
}

impl Limits {
    /// Takes `units` of what is left.
    pub(super) fn charge(&self, units: usize) -> Result<(), String> {
        let left = self.work.get().checked_sub(units);
        self.work.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| "evaluating this definition takes too much work".to_owned())
    }

    /// One level deeper, until what is given back is dropped.
    pub(super) fn deeper(&self) -> Result<Deeper<'_>, String> {
        if self.depth.get() >= DEPTH {
            return Err(format!("more than {DEPTH} expressions are within each other"));
        }
        self.depth.set(self.depth.get() + 1);
        Ok(Deeper(self))
    }
}

/// A level.
pub(super) struct Deeper<'l>(&'l Limits);

impl Drop for Deeper<'_> {
    fn drop(&mut self) {
        self.0.depth.set(self.0.depth.get() - 1);
    }
}
