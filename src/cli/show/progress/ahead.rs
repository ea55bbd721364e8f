//! What is still to come: which of the steps that run the build waits for most, how long that may take, and who waits for a turn.
//!
//! Earlier builds of the same place tell how long steps take. Without one, the step that most others stand on counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::report::{Foresight, StepHeading, StepNumber};

/// Beyond so many steps nobody is told who waits for whom.
const MOST_STEPS: usize = 2000;
/// Builds that are over sooner are not compared with others.
const PATIENCE: Duration = Duration::from_secs(1);
/// Who has waited for less is no news.
const LEAST_WAIT: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Ahead {
    pub(super) headings: Vec<StepHeading>,
    /// Steps that have ended, and when; of those that failed or were cancelled, not when.
    ended: BTreeMap<StepNumber, Option<Instant>>,
    foresight: Option<Foresight>,
    /// How long each step took the last time that it ran, as far as is known.
    expected: Vec<Option<Duration>>,
}

/// The step that the build waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Critical {
    pub(super) step: StepNumber,
    /// How many steps stand on it.
    pub(super) waiting: usize,
    /// How long it and what stands on it may take, if earlier builds tell.
    pub(super) rest: Option<Duration>,
}

impl Ahead {
    /// Where to ask how long steps take.
    pub(super) fn foresee(&mut self, foresight: Foresight) {
        self.foresight = Some(foresight);
    }

    /// Asks it, once the build has taken a while: that reads files.
    pub(super) fn look(&mut self, elapsed: Duration) {
        if elapsed >= PATIENCE
            && !self.headings.is_empty()
            && let Some(foresight) = self.foresight.take()
        {
            self.expected = foresight.look();
        }
    }

    pub(super) fn end(&mut self, step: StepNumber, time: Instant) {
        self.ended.insert(step, Some(time));
    }

    /// It failed or was cancelled: what stands on it waits for no turn, for it will have none.
    pub(super) fn fail(&mut self, step: StepNumber) {
        self.ended.insert(step, None);
    }

    /// Which of those that run is critical; `running` with how long each has run.
    pub(super) fn critical(&self, running: &[(StepNumber, Duration)]) -> Option<Critical> {
        if self.headings.len() > MOST_STEPS {
            return None;
        }
        let rests = self.rests(running);
        let all = running.iter().map(|(step, elapsed)| {
            let rest = rests.get(step.0).copied().unwrap_or_default();
            (rest, self.waiting_for(*step), *elapsed, *step)
        });
        let (rest, waiting, _, step) = all.max()?;
        let is_told = rest > Duration::ZERO && self.expected.iter().any(Option::is_some);
        let rest = is_told.then_some(rest);
        (rest.is_some() || waiting > 0).then_some(Critical { step, waiting, rest })
    }

    /// How long all that is left may take, if no more steps can be under way at once than now.
    pub(super) fn work(&self, running: &[(StepNumber, Duration)]) -> Duration {
        let own = (0..self.headings.len()).map(|at| self.own(at, running));
        // Times of records that came from elsewhere may be anything.
        own.fold(Duration::ZERO, Duration::saturating_add)
            / u32::try_from(running.len().max(1)).unwrap_or(u32::MAX)
    }

    /// How long a step may take yet.
    fn own(&self, at: usize, running: &[(StepNumber, Duration)]) -> Duration {
        let number = self.headings[at].number;
        if self.ended.contains_key(&number) {
            return Duration::ZERO;
        }
        let elapsed = running.iter().find(|(step, _)| *step == number).map(|(_, elapsed)| *elapsed);
        let expected = self.expected.get(at).copied().flatten().unwrap_or_default();
        expected.saturating_sub(elapsed.unwrap_or_default())
    }

    /// For each step how long it and what stands on it may take, the longest way.
    fn rests(&self, running: &[(StepNumber, Duration)]) -> Vec<Duration> {
        let mut rests = vec![Duration::ZERO; self.headings.len()];
        let mut above = vec![Duration::ZERO; self.headings.len()];
        // What a step needs comes before it.
        for (at, heading) in self.headings.iter().enumerate().rev() {
            rests[at] = self.own(at, running).saturating_add(above[at]);
            for needed in &heading.needs {
                if let Some(above) = above.get_mut(needed.0).filter(|_| needed.0 < at) {
                    *above = (*above).max(rests[at]);
                }
            }
        }
        rests
    }

    /// How many steps that have not ended stand on this one, and so wait for it.
    fn waiting_for(&self, step: StepNumber) -> usize {
        let mut stands_on = vec![false; self.headings.len()];
        let mut count = 0;
        for heading in self.headings.iter().skip(step.0 + 1) {
            let is_above = heading
                .needs
                .iter()
                .any(|needed| *needed == step || stands_on.get(needed.0).copied().unwrap_or(false));
            if is_above && let Some(known) = stands_on.get_mut(heading.number.0) {
                *known = true;
                count += usize::from(!self.ended.contains_key(&heading.number));
            }
        }
        count
    }

    /// Of the steps that could run and have no turn yet, the one that has waited longest; `is_running` tells of the others.
    pub(super) fn longest_waiting(
        &self,
        is_running: impl Fn(StepNumber) -> bool,
        now: Instant,
    ) -> Option<(StepNumber, Duration)> {
        if self.headings.len() > MOST_STEPS {
            return None;
        }
        let idle = self.headings.iter().filter(|heading| {
            !heading.needs.is_empty()
                && !self.ended.contains_key(&heading.number)
                && !is_running(heading.number)
        });
        let since = idle.filter_map(|heading| {
            let ready = heading.needs.iter().map(|needed| self.ended.get(needed).copied().flatten());
            let ready = ready.collect::<Option<Vec<_>>>()?.into_iter().max()?;
            Some((now.saturating_duration_since(ready), std::cmp::Reverse(heading.number)))
        });
        let (waited, std::cmp::Reverse(step)) = since.max()?;
        (waited >= LEAST_WAIT).then_some((step, waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ahead(needs: &[&[usize]]) -> Ahead {
        let heading = |(number, needs): (usize, &&[usize])| StepHeading {
            number: StepNumber(number),
            place: String::new(),
            title: format!("RUN {number}"),
            platform: None,
            needs: needs.iter().map(|needed| StepNumber(*needed)).collect(),
            owner: 0,
            lines: None,
        };
        Ahead { headings: needs.iter().enumerate().map(heading).collect(), ..Ahead::default() }
    }

    #[test]
    fn earlier_builds_tell_which_step_is_waited_for() {
        let mut ahead = ahead(&[&[], &[], &[1], &[2], &[0, 3]]);
        let running = [(StepNumber(0), SECOND), (StepNumber(1), SECOND)];
        let by_number = Critical { step: StepNumber(1), waiting: 3, rest: None };
        assert_eq!(ahead.critical(&running), Some(by_number));
        let times = [30, 4, 3, 2, 1].map(|seconds| Some(SECOND * seconds)).to_vec();
        ahead.foresee(Foresight::new(move || times.clone()));
        ahead.look(SECOND / 2);
        assert_eq!(ahead.critical(&running), Some(by_number), "it is too early");
        ahead.look(SECOND);
        let by_time = Critical { step: StepNumber(0), waiting: 1, rest: Some(SECOND * 30) };
        assert_eq!(ahead.critical(&running), Some(by_time));
        assert_eq!(ahead.work(&running), SECOND * 19);
        ahead.end(StepNumber(0), Instant::now());
        let last = Critical { step: StepNumber(1), waiting: 3, rest: Some(SECOND * 9) };
        assert_eq!(ahead.critical(&running[1..]), Some(last));
        // One that takes longer than ever has what stands on it before it.
        let late = ahead.critical(&[(StepNumber(1), SECOND * 99)]);
        assert_eq!(late.and_then(|late| late.rest), Some(SECOND * 6));
        assert_eq!(ahead.critical(&[]), None);
    }

    #[test]
    fn who_waits_for_a_turn_is_known() {
        let mut ahead = ahead(&[&[], &[0], &[0], &[1, 2]]);
        let now = Instant::now();
        let waiting = |ahead: &Ahead, running: usize, seconds| {
            ahead.longest_waiting(|step| step.0 == running, now + SECOND * seconds)
        };
        assert_eq!(waiting(&ahead, 0, 9), None);
        ahead.end(StepNumber(0), now);
        assert_eq!(waiting(&ahead, 1, 1), None);
        assert_eq!(waiting(&ahead, 1, 5), Some((StepNumber(2), SECOND * 5)));
        assert_eq!(waiting(&ahead, 2, 5), Some((StepNumber(1), SECOND * 5)));
        ahead.end(StepNumber(1), now);
        ahead.fail(StepNumber(2));
        assert_eq!(waiting(&ahead, 0, 9), None, "what stands on a step that failed has no turn");
    }

    #[test]
    fn times_without_end_are_no_fault() {
        let mut ahead = ahead(&[&[], &[0]]);
        ahead.foresee(Foresight::new(|| vec![Some(Duration::from_millis(u64::MAX)); 2]));
        ahead.look(SECOND);
        assert!(ahead.work(&[]) > SECOND && ahead.critical(&[(StepNumber(0), SECOND)]).is_some());
        ahead.expected = vec![Some(Duration::MAX); 2];
        assert!(ahead.work(&[]) > SECOND && ahead.critical(&[(StepNumber(0), SECOND)]).is_some());
    }
}
