//! The plan as values: steps whose inputs are earlier steps, and what the image is made of.
//!
//! What a step does is an [`Op`].

mod op;

pub use op::{
    BaseOp, CacheOwner, Chmod, CopyKind, CopyOp, CopySource, ExecOp, ImageOp, LocalOp, Mount, MountKind,
    Mounted, Network, Op, Security, Sharing, WorkdirOp,
};

use std::collections::BTreeSet;

use crate::export::Engine;
use crate::oci::{self, History, ImageConfig, Platform, Reference, Seconds};
use crate::report::{Diagnostic, Span, StepNumber};

/// Steps, and how they are shown.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The steps that the goals need, in an order in which inputs come first; [`StepId`] indexes it.
    pub steps: Vec<Step>,
    /// Every instruction of the needed stages, in order, for display: those that change files name
    /// their step, the others change only the configuration. [`StepNumber`] indexes it.
    pub listing: Vec<ListedInstruction>,
}

/// What a graph is run for: the image of one platform.
#[derive(Debug, Clone)]
pub struct Goal {
    /// What is built for.
    pub platform: Platform,
    /// The target's image.
    pub image: ImagePlan,
    /// SOURCE_DATE_EPOCH in seconds, if some argument or the environment gives it: the time of everything
    /// that rbuild makes itself.
    pub epoch: Option<i64>,
    /// Where the plan stops before the target's end, because [`super::Options::stop`] says so.
    pub next: Option<Next>,
}

/// Everything that one platform's build consists of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The stages that were lowered, by their number in the file.
    pub stages: BTreeSet<usize>,
    /// What is to be done.
    pub graph: Graph,
    /// What for.
    pub goal: Goal,
    /// What to tell the user: the findings of all build checks (those of the syntax included, those that
    /// the file switches off left out) and unused build arguments.
    pub warnings: Vec<Diagnostic>,
}

impl Plan {
    /// The only goal of its graph.
    pub fn goals(&self) -> &[Goal] {
        std::slice::from_ref(&self.goal)
    }
}

impl Graph {
    /// For each step, whether it is to be done: every one, unless a goal stops early and not all are for what comes
    /// [`next`](Goal::next).
    pub fn needed(&self, goals: &[Goal]) -> Vec<bool> {
        match goals.iter().all(|goal| goal.next.is_none()) {
            true => vec![true; self.steps.len()],
            false => self.reached(goals),
        }
    }

    /// For each step, whether one of these goals needs it.
    pub fn reached(&self, goals: &[Goal]) -> Vec<bool> {
        let mut needed = vec![false; self.steps.len()];
        for goal in goals {
            needed[goal.image.result.0] = true;
            let op = goal.next.iter().filter_map(|next| next.op.as_ref());
            op.flat_map(|op| op.mounted()).for_each(|mounted| needed[mounted.from.0] = true);
        }
        for at in (0..self.steps.len()).rev() {
            if needed[at] {
                self.steps[at].op.inputs().iter().for_each(|id| needed[id.0] = true);
            }
        }
        needed
    }

    /// A step, then what it starts from, what that starts from, and so on.
    pub fn chain(&self, step: StepId) -> impl Iterator<Item = StepId> {
        std::iter::successors(Some(step), |id| self.steps[id.0].op.parent().copied())
    }
}

/// The instruction before which a plan stops.
#[derive(Debug, Clone)]
pub struct Next {
    /// Such as `[build 2/5]`.
    pub place: String,
    /// The instruction, variables expanded, on one line.
    pub title: String,
    /// Where it stands.
    pub span: Span,
    /// The command, if it is RUN.
    pub op: Option<Box<ExecOp>>,
}

/// A step's place in [`Graph::steps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub usize);

/// One step. What counts for the cache is in `op`; the rest is for people.
#[derive(Debug, Clone)]
pub struct Step {
    /// Which of the builds that are run together it is of, the first of those that have it: with that one's contexts, secrets and
    /// policy it is done. 0 where there is one build.
    pub owner: usize,
    /// What to do.
    pub op: Op,
    /// Where its instruction stands; `None` for sources that no line names. For a trigger of a base
    /// image, the FROM line.
    pub span: Option<Span>,
    /// Its line in the listing.
    pub number: StepNumber,
    /// A name that stays the same when the Dockerfile changes a little, such as `build/3` (third
    /// file-changing step of stage `build`); lets a miss be compared with the last build's step.
    pub slot: String,
    /// The stage, by its number in the file, and the instruction in it, FROM being the first, that the step stands for;
    /// `None` for sources.
    pub origin: Option<(usize, usize)>,
}

/// One instruction for display.
#[derive(Debug, Clone)]
pub struct ListedInstruction {
    /// Such as `[build 2/5]`, FROM being the first of five; `[2/5]` when there is only one stage; empty for
    /// a source that no instruction stands for.
    pub place: String,
    /// The instruction, variables expanded, on one line.
    pub title: String,
    /// What the stage is for: its commands run on that. None for what is the same on every platform, such as a context.
    pub platform: Option<Platform>,
    /// The step, if it changes files.
    pub step: Option<StepId>,
    /// The config-only instruction's predecessor, whose time it takes.
    pub after: Option<StepId>,
    /// Where the instruction stands; as in [`Step::span`].
    pub span: Option<Span>,
}

impl ListedInstruction {
    /// Place and title: `[build 2/5] RUN make`.
    pub fn name(&self) -> String {
        format!("{} {}", self.place, self.title).trim().to_owned()
    }
}

/// The image that a plan makes, but for what only running can tell: digests and times.
#[derive(Debug, Clone)]
pub struct ImagePlan {
    /// The last step of the target stage.
    pub result: StepId,
    /// Everything except `created`, `rootfs` and `history`.
    pub config: ImageConfig,
    /// The base's history as it is, then one entry for each instruction.
    pub history: Vec<HistoryPlan>,
}

/// One entry of the history.
#[derive(Debug, Clone)]
pub enum HistoryPlan {
    /// Taken over from the base, unchanged.
    Inherited(History),
    /// Made by an instruction of this file (or a trigger).
    Made {
        /// `created_by`.
        created_by: String,
        /// `author` of the entry; `None` in what `lower` makes, as in BuildKit.
        author: Option<String>,
        /// The step whose layer this is; `None` makes it `empty_layer`.
        layer: Option<StepId>,
        /// Whose time an empty entry takes: the nearest step before it.
        after: StepId,
    },
}

impl HistoryPlan {
    /// The entry, as BuildKit writes it; `time_of` knows when a step's result was made.
    pub fn entry(&self, time_of: impl FnOnce(StepId) -> Seconds) -> History {
        match self {
            HistoryPlan::Inherited(history) => history.clone(),
            HistoryPlan::Made { created_by, author, layer, after } => History {
                created: Some(oci::rfc3339(time_of(layer.unwrap_or(*after)))),
                created_by: Some(created_by.clone()),
                author: author.clone(),
                comment: Some("buildkit.dockerfile.v0".to_owned()),
                empty_layer: layer.is_none(),
            },
        }
    }
}

/// What FROM asks for, before anything is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseRequest {
    /// As written, expanded.
    pub name: String,
    /// Where it is.
    pub origin: BaseOrigin,
    /// For which platform.
    pub platform: Platform,
    /// Where the Dockerfile names it.
    pub span: Span,
}

impl BaseRequest {
    /// What two requests for the same image have in common, wherever they stand.
    pub fn key(&self) -> (&BaseOrigin, &Platform) {
        (&self.origin, &self.platform)
    }
}

/// Where a base is to be found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BaseOrigin {
    /// In a registry (or the local store, under the same name).
    Image(Reference),
    /// In an OCI layout on disk: path, and tag or digest.
    Layout {
        /// The folder.
        path: String,
        /// Tag or digest; empty for the only image.
        selector: String,
    },
    /// What another target of the same run makes for a platform; where plans are joined, that target's last step takes its place.
    Linked {
        /// The target's name.
        target: String,
        /// The platform that is wanted.
        platform: Platform,
    },
    /// In an engine on this machine.
    Engine(EngineImage),
}

/// An image of docker's or podman's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EngineImage {
    /// Whose.
    pub engine: Engine,
    /// A name or an id.
    pub name: String,
}

impl EngineImage {
    /// Reads `docker-daemon:IMAGE` and `containers-storage:IMAGE`; `None` for what begins with neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (transport, name) = text.split_once(':')?;
        let engine = match transport {
            "docker-daemon" => Engine::DOCKER,
            "containers-storage" => Engine::Podman,
            _ => return None,
        };
        Some(Self { engine, name: name.to_owned() })
    }
}
