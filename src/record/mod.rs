//! Records of builds: what each was asked for, what it took from where, what its steps did, and what came of it.
//!
//! One format for all who look back: `rbuild history`, the metadata file, provenance. A [`Recorder`] hears the events of a build and
//! is told what they do not carry; [`kept`] is where records lie. What commands printed is in the logs, under the same id; values of
//! secrets, and values of build arguments unless somebody asks for them, are in neither.

mod format;
pub mod kept;
mod mask;
mod name;
pub mod provenance;
mod recent;
mod recorder;
pub mod trace;

#[cfg(test)]
pub(crate) use format::tests;
pub use format::{
    Argument, Context, ContextKind, Dockerfile, FORMAT, Form, Image, Layer, Machine, Made, Material,
    MaterialKind, Message, Outcome, Pair, Place, Record, Repository, Status, Step, Target, Transfer, Usage,
    VERSION, Waits, image, instruction,
};
pub use mask::Hide;
pub use recorder::Recorder;
