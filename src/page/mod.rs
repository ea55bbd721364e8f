//! One build, or one image, as a page that needs nothing else: what took its time, why steps ran again, what makes the image big.
//!
//! [`gather()`] asks the store, and [`crate::insight`], for all that is to be seen; [`html()`] puts it into the page, [`text()`] into lines for a
//! terminal. Where a page is written is the affair of those above.
//!
//! The pictures are drawn by a script of ours (`template/`), not by a library: what is needed of one is a treemap, bars and lines, some
//! hundred lines, and whoever opens a page that was sent to him runs all of its script. d3-hierarchy with what draws its rectangles would
//! be as long, and somebody else's.

mod data;
mod gather;
mod html;
mod text;

pub use data::Report;
pub use gather::{Asked, gather};
pub use html::html;
pub use text::text;
