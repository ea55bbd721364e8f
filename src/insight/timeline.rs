//! When the steps of a build ran, what each waited for, and which of them made it as long as it was.
//!
//! Times are milliseconds since the build began, as in the record.

use crate::record::{Outcome, Record, Step};

/// Beyond so many steps it is not asked of each what the build would take without it.
const MOST_SAVINGS: usize = 2000;

/// A build in time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Until the last step had ended, or the build had.
    pub total_ms: u64,
    /// The steps that had a beginning and an end, in the record's order.
    pub bars: Vec<Bar>,
    /// The chain of steps that the build waited for, the first one first. Each began because the one before had ended.
    pub critical: Vec<Link>,
    /// How many steps were under way from which moment on.
    pub under_way: Vec<(u64, usize)>,
}

/// When a step was under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// Its index in the record.
    pub step: usize,
    /// When all that it needed was done.
    pub ready: u64,
    /// When it had its turn.
    pub start: u64,
    /// When its own work began, behind what it waited for.
    pub work: u64,
    /// When it had ended.
    pub end: u64,
}

/// A step of the critical path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index in the record.
    pub step: usize,
    /// Between the end of the one before (or the build's beginning) and its own work.
    pub waited_ms: u64,
    /// Its own work.
    pub took_ms: u64,
    /// How much sooner the build would have ended had the cache had it, when nothing but what steps need counts.
    pub saves_ms: u64,
}

impl Timeline {
    /// The timeline of a build, as far as its steps tell.
    pub fn of(record: &Record) -> Self {
        let bars: Vec<Bar> =
            record.steps.iter().enumerate().filter_map(|(at, step)| bar(record, at, step)).collect();
        let last = bars.iter().map(|bar| bar.end).max().unwrap_or(0);
        let total_ms = record.took_ms.unwrap_or(0).max(last);
        let critical = critical(record, &bars);
        Self { total_ms, under_way: under_way(record, &bars), critical, bars }
    }

    /// Milliseconds of the critical path in which a step of it worked.
    pub fn critical_ms(&self) -> u64 {
        self.critical.iter().fold(0, |sum, link| sum.saturating_add(link.took_ms))
    }
}

/// The indexes of the steps that a step needed, without what cannot be.
fn needs<'r>(record: &'r Record, step: &'r Step) -> impl Iterator<Item = usize> + 'r {
    let own = step.number;
    let needs = step.needs.iter().filter_map(|number| number.checked_sub(1));
    needs.filter(move |at| *at < record.steps.len() && *at + 1 != own)
}

fn bar(record: &Record, at: usize, step: &Step) -> Option<Bar> {
    let start = step.started_ms?;
    let end = step.ended_ms?.max(start);
    let ready = needs(record, step).filter_map(|at| record.steps[at].ended_ms).max().unwrap_or(0).min(start);
    let work = match step.took_ms {
        Some(took) => end.saturating_sub(took).max(start),
        None => start,
    };
    Some(Bar { step: at, ready, start, work, end })
}

/// From the step that ended last back to the first, by what each needed and what of that ended last.
fn critical(record: &Record, bars: &[Bar]) -> Vec<Link> {
    let mut of_step: Vec<Option<&Bar>> = vec![None; record.steps.len()];
    bars.iter().for_each(|bar| of_step[bar.step] = Some(bar));
    let mut chain: Vec<&Bar> = Vec::new();
    let mut is_in = vec![false; record.steps.len()];
    let mut next = bars.iter().max_by_key(|bar| (bar.end, bar.step));
    while let Some(bar) = next {
        is_in[bar.step] = true;
        chain.push(bar);
        let before = needs(record, &record.steps[bar.step]).filter(|at| !is_in[*at]);
        // A step that ends after this one began cannot have been waited for.
        next =
            before.filter_map(|at| of_step[at]).filter(|b| b.end <= bar.end).max_by_key(|b| (b.end, b.step));
    }
    chain.reverse();
    // What changes nothing but the configuration takes no time, and would only make the path long to read.
    chain.retain(|bar| bar.end > bar.work || record.steps[bar.step].outcome != Some(Outcome::ConfigOnly));
    let graph = Graph::of(record, bars);
    let mut ended = 0;
    let mut links = Vec::with_capacity(chain.len());
    for bar in chain {
        let waited_ms = bar.work.saturating_sub(ended);
        let took_ms = bar.end.saturating_sub(bar.work.max(ended));
        let saves_ms = if bars.len() <= MOST_SAVINGS { graph.saved_without(bar.step) } else { 0 };
        links.push(Link { step: bar.step, waited_ms, took_ms, saves_ms });
        ended = ended.max(bar.end);
    }
    links
}

/// What each step took, and what it needed; in an order in which whatever is needed comes first.
struct Graph {
    took: Vec<u64>,
    needs: Vec<Vec<usize>>,
    order: Vec<usize>,
    longest: u64,
}

impl Graph {
    fn of(record: &Record, bars: &[Bar]) -> Self {
        let mut took = vec![0; record.steps.len()];
        bars.iter().for_each(|bar| took[bar.step] = bar.end - bar.work);
        let needs: Vec<Vec<usize>> = record.steps.iter().map(|step| needs(record, step).collect()).collect();
        let order = in_order(&needs);
        let mut graph = Self { took, needs, order, longest: 0 };
        graph.longest = graph.longest(None);
        graph
    }

    fn longest(&self, without: Option<usize>) -> u64 {
        let mut ends = vec![0; self.took.len()];
        for at in &self.order {
            let ready = self.needs[*at].iter().map(|needed| ends[*needed]).max().unwrap_or(0);
            let own = if without == Some(*at) { 0 } else { self.took[*at] };
            ends[*at] = u64::saturating_add(ready, own);
        }
        ends.into_iter().max().unwrap_or(0)
    }

    fn saved_without(&self, step: usize) -> u64 {
        self.longest.saturating_sub(self.longest(Some(step)))
    }
}

/// The nodes of a graph behind those that they need; of those in a circle, none.
fn in_order(needs: &[Vec<usize>]) -> Vec<usize> {
    let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    for (at, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|needed| needed_by[*needed].push(at));
    }
    let mut order: Vec<usize> = (0..needs.len()).filter(|at| open[*at] == 0).collect();
    let mut done = 0;
    while let Some(at) = order.get(done).copied() {
        done += 1;
        for next in &needed_by[at] {
            open[*next] -= 1;
            if open[*next] == 0 {
                order.push(*next);
            }
        }
    }
    order
}

fn under_way(record: &Record, bars: &[Bar]) -> Vec<(u64, usize)> {
    let ran = |bar: &&Bar| matches!(record.steps[bar.step].outcome, Some(Outcome::Ran | Outcome::Failed));
    let mut changes: Vec<(u64, bool)> =
        bars.iter().filter(ran).flat_map(|bar| [(bar.start, true), (bar.end, false)]).collect();
    // Whoever ends makes room for whoever begins in the same moment.
    changes.sort_unstable();
    let mut counts: Vec<(u64, usize)> = vec![(0, 0)];
    let mut count = 0usize;
    for (time, begins) in changes {
        count = if begins { count + 1 } else { count.saturating_sub(1) };
        match counts.last_mut().filter(|(last, _)| *last == time) {
            Some(last) => last.1 = count,
            None => counts.push((time, count)),
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::step;

    fn timeline(steps: Vec<Step>) -> Timeline {
        Timeline::of(&Record { steps, took_ms: Some(200), ..Record::default() })
    }

    #[test]
    fn the_critical_path_goes_by_what_ended_last() {
        let told = timeline(vec![
            step(1, &[], (0, 100, 100)),
            step(2, &[], (0, 50, 50)),
            step(3, &[1, 2], (110, 180, 60)),
            step(4, &[2], (50, 70, 20)),
        ]);
        let path: Vec<_> =
            told.critical.iter().map(|l| (l.step, l.waited_ms, l.took_ms, l.saves_ms)).collect();
        // Without step 1, step 2 would have to be waited for.
        assert_eq!(path, [(0, 0, 100, 50), (2, 20, 60, 60)]);
        assert_eq!(told.critical_ms(), 160);
        assert_eq!(told.bars[2], Bar { step: 2, ready: 100, start: 110, work: 120, end: 180 });
        assert_eq!(told.under_way, [(0, 2), (50, 2), (70, 1), (100, 0), (110, 1), (180, 0)]);
        assert_eq!(told.total_ms, 200);
    }

    #[test]
    fn what_cannot_be_makes_nothing_fall_over() {
        let mut steps = vec![
            // Each needs the other, itself, and what is not there.
            step(1, &[2, 1, 0, 9], (10, 5, 1000)),
            step(2, &[1, usize::MAX], (u64::MAX, 3, u64::MAX)),
            step(3, &[4], (50, 60, 10)),
            Step { number: 4, ..Step::default() },
        ];
        let told = timeline(steps.clone());
        assert_eq!((told.bars.len(), told.total_ms), (3, u64::MAX));
        steps.clear();
        let nothing = timeline(steps);
        assert_eq!((nothing.critical.len(), nothing.under_way.as_slice()), (0, &[(0, 0)][..]));
    }
}
