//! Finds the steps whose files instructions use.

use crate::report::Span;

use super::bases::Bases;
use super::builder::Builder;
use super::graph::StepId;
use super::origin::Origin;
use super::place::{Fault, Place};
use super::stage::{Stage, Stages};
use super::state::State;

/// What is there to take files from.
pub(super) struct Sources<'a> {
    /// Where new sources become steps.
    pub(super) builder: &'a mut Builder,
    /// The stages lowered so far.
    pub(super) done: &'a [Option<State>],
    /// All stages.
    pub(super) stages: &'a Stages<'a>,
    /// The resolved images.
    pub(super) bases: &'a Bases<'a>,
    /// SOURCE_DATE_EPOCH.
    pub(super) epoch: Option<i64>,
}

/// Who wants files, for the message when there are none yet.
#[derive(Clone, Copy)]
pub(super) struct User<'a> {
    /// `copy` or `mount`.
    pub(super) verb: &'static str,
    /// Its stage.
    pub(super) stage: &'a Stage,
    /// Where it stands.
    pub(super) place: &'a Place,
    /// Where it names the source.
    pub(super) span: Span,
}

impl User<'_> {
    /// Where it stands in the Dockerfile itself: a trigger of a base image at FROM.
    fn in_file(&self) -> Span {
        self.place.trigger.as_ref().map_or(self.span, |trigger| trigger.from)
    }
}

impl Sources<'_> {
    /// The step of an origin; the main context for none.
    pub(super) fn step(&mut self, origin: Option<&Origin>, user: User<'_>) -> Result<StepId, Fault> {
        Ok(match origin {
            None => self.builder.local(""),
            Some(Origin::Stage(index)) => match &self.done[*index] {
                Some(state) => state.tip,
                None => return Err(self.too_late(&self.stages.list[*index], user)),
            },
            Some(Origin::Scratch) => self.builder.nothing(),
            Some(Origin::Base(request)) => {
                let base = self.bases.place(request);
                let base = base.expect("every request of a needed stage was checked to be resolved");
                self.builder.files_of_base(base, self.bases.at(base))
            }
            Some(Origin::Image(image)) => self.builder.image(image, Some(user.in_file())),
            Some(Origin::Local(name)) => self.builder.local(name),
            Some(Origin::Remote(remote)) => self.builder.remote(remote, self.epoch),
        })
    }

    fn too_late(&self, source: &Stage, user: User<'_>) -> Fault {
        let message = format!(
            "cannot {} from stage `{}`, it needs to be defined before current stage `{}`",
            user.verb, source.label, user.stage.label
        );
        let mut fault = user.place.fault(user.span, message);
        let (line, _) = self.stages.place.source.line_column(source.from.span.start);
        fault.help.push(format!("move the stage on line {line} up"));
        fault
    }
}
