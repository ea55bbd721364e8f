//! Root file systems that somebody enters: that of a failed step, that before a step or at the end of a stage, that of
//! an image. What was done in one can be kept, entered again, and made an image of.

mod keep;
mod record;
mod working_container;

pub use keep::FailedSteps;
pub(in crate::solve) use keep::Left;
pub(in crate::solve) use keep::keep_failed;
pub use record::{Kind, Session, Sessions};
pub use working_container::{Place, WorkingContainer};
