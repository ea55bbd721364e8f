//! A plan as a list of lines: what the three formats have in common.

use crate::build::Foresight;
use crate::plan::graph::{Mount, MountKind, Op, Plan, StepId, TransferSource};
use crate::solve::Outlook;

/// One instruction, or a source that no instruction stands for.
pub(super) struct Line<'f> {
    /// Counted from 0, as progress numbers it.
    pub(super) number: usize,
    /// `[build 2/5]`, or empty.
    pub(super) place: &'f str,
    /// The instruction on one line.
    pub(super) title: &'f str,
    /// The numbers of the lines whose files it needs.
    pub(super) inputs: Vec<usize>,
    /// What would become of it; `None` for one that changes only the configuration.
    pub(super) outlook: Option<&'f Outlook>,
}

/// The lines of a plan.
pub(super) fn lines(foresight: &Foresight) -> Vec<Line<'_>> {
    let Foresight { plan, outlooks } = foresight;
    let line = |(number, listed): (usize, &'_ crate::plan::graph::ListedInstruction)| {
        let (inputs, outlook) = match (listed.step, listed.after) {
            (Some(step), _) => (inputs(plan, step), Some(step)),
            (None, Some(after)) => (vec![plan.steps[after.0].number.0], None),
            (None, None) => (Vec::new(), None),
        };
        (number, inputs, outlook)
    };
    plan.listing
        .iter()
        .enumerate()
        .map(|(number, listed)| {
            let (number, inputs, step) = line((number, listed));
            let outlook = step.map(|step| &outlooks[step.0]);
            Line { number, place: &listed.place, title: &listed.title, inputs, outlook }
        })
        .collect()
}

/// The lines of the steps that a step needs, each once: its parent, then what it reads.
fn inputs(plan: &Plan, step: StepId) -> Vec<usize> {
    let own = plan.steps[step.0].number.0;
    let mut numbers: Vec<usize> = Vec::new();
    let step = &plan.steps[step.0];
    for id in step.parent.into_iter().chain(reads(&step.op)) {
        let number = plan.steps[id.0].number.0;
        if number != own && !numbers.contains(&number) && number < plan.listing.len() {
            numbers.push(number);
        }
    }
    numbers
}

fn reads(op: &Op) -> Vec<StepId> {
    let of_source = |source: &TransferSource| match source {
        TransferSource::Path { from, .. } => Some(*from),
        TransferSource::Inline { .. } | TransferSource::Url { .. } | TransferSource::Git { .. } => None,
    };
    let of_mount = |mount: &Mount| match &mount.kind {
        MountKind::Bind { from, .. } => Some(*from),
        MountKind::Cache { from, .. } => from.as_ref().map(|(from, _)| *from),
        MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
    };
    match op {
        Op::Transfer(op) => op.sources.iter().filter_map(of_source).collect(),
        Op::Exec(op) => op.mounts.iter().filter_map(of_mount).collect(),
        Op::Scratch | Op::Base(_) | Op::Image(_) | Op::Local(_) | Op::Workdir(_) => Vec::new(),
    }
}

/// How many steps there are of each kind.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) cached: usize,
    pub(super) run: usize,
    pub(super) fetch: usize,
    pub(super) fetch_bytes: u64,
}

/// Counts the lines' outlooks.
pub(super) fn count(lines: &[Line<'_>]) -> Counts {
    let mut counts = Counts::default();
    for outlook in lines.iter().filter_map(|line| line.outlook) {
        match outlook {
            Outlook::Here => {}
            Outlook::Fetch { bytes, .. } => {
                counts.fetch += 1;
                counts.fetch_bytes += bytes;
            }
            Outlook::Cached(_) => counts.cached += 1,
            Outlook::Run { .. } => counts.run += 1,
        }
    }
    counts
}
