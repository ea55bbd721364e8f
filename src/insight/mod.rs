//! What the record of a build and the layers of an image tell people who look back: where the time went, why steps ran again, what
//! makes the image big, what changed since the last build of the same place.
//!
//! Values in, values out: [`layers`] alone reads the store. How it is shown is the affair of those above. What a record or an image says
//! may be wrong in any way (clocks that jump, steps that need what is not there): then less is told, and nothing fails.

pub mod advice;
pub mod budget;
pub mod contents;
pub mod findings;
pub mod growth;
pub mod layers;
pub mod missed;
pub mod path;
pub mod place;
pub mod timeline;
pub mod tree;
pub mod waste;
