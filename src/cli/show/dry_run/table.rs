//! A plan as a list of lines: what the three formats have in common.

use crate::oci::Platform;
use crate::pipeline::DryRun;
use crate::plan::graph::{ListedInstruction, StepId};
use crate::solve::Outlook;

/// One instruction, or a source that no instruction stands for.
pub(super) struct Line<'f> {
    /// Counted from 0, as progress numbers it.
    pub(super) number: usize,
    /// `[build 2/5]`, or empty.
    pub(super) place: &'f str,
    /// The instruction on one line.
    pub(super) title: &'f str,
    /// The platform that it is for; none where it is the same on every one.
    pub(super) platform: Option<&'f Platform>,
    /// The line that it starts from.
    pub(super) parent: Option<usize>,
    /// The lines whose files it reads beside that, each once.
    pub(super) reads: Vec<usize>,
    /// What would become of it; `None` for one that changes only the configuration.
    pub(super) outlook: Option<&'f Outlook>,
}

/// The lines of a plan.
pub(super) fn lines(dry_run: &DryRun) -> Vec<Line<'_>> {
    let DryRun { graph, outlooks, .. } = dry_run;
    let number_of = |id: StepId| graph.steps[id.0].number.0;
    let line = |(number, listed): (usize, &'_ ListedInstruction)| {
        let step = listed.step.map(|id| &graph.steps[id.0]);
        let parent = step.map_or(listed.after, |step| step.op.parent().copied()).map(number_of);
        let mut inputs: Vec<usize> = Vec::new();
        for input in step.map_or(Vec::new(), |step| step.op.inputs()).into_iter().map(number_of) {
            if Some(input) != parent && !inputs.contains(&input) && input < graph.listing.len() {
                inputs.push(input);
            }
        }
        let parent = parent.filter(|parent| *parent != number);
        (parent, inputs)
    };
    graph
        .listing
        .iter()
        .enumerate()
        .map(|(number, listed)| {
            let (parent, reads) = line((number, listed));
            let outlook = listed.step.map(|step| &outlooks[step.0]);
            let ListedInstruction { place, title, platform, .. } = listed;
            Line { number, place, title, platform: platform.as_ref(), parent, reads, outlook }
        })
        .collect()
}

/// How many steps there are of each kind.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) cached: usize,
    /// Of these, those that another place has.
    pub(super) remote: usize,
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
            Outlook::Cached { from, .. } => {
                counts.cached += 1;
                counts.remote += usize::from(from.is_some());
            }
            Outlook::Run { .. } => counts.run += 1,
        }
    }
    counts
}
