//! What people and programs are shown: progress, forecasts, findings, tables, errors.

pub(super) mod after;
pub(super) mod bake;
pub(in crate::cli) mod diagnostic;
pub(super) mod differences;
pub(super) mod dry_run;
pub(super) mod findings;
pub(super) mod listing;
pub(super) mod metadata;
pub(super) mod moving;
pub(in crate::cli) mod notes;
pub(super) mod progress;
pub(super) mod template;
