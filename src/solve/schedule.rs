//! Runs the steps of a graph on a few threads: each as soon as its inputs are there, the longest chain first.
//!
//! Knows nothing of what a step does.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::sync::{into_inner, lock, wait};

/// A graph as the scheduler sees it: for each step the earlier steps whose results it needs, and how long
/// it may take compared with others.
pub(super) struct Shape {
    /// `inputs[i]` are all smaller than `i`.
    pub(super) inputs: Vec<Vec<usize>>,
    /// Guessed cost of each step, in no unit.
    pub(super) weights: Vec<u64>,
}

impl Shape {
    /// For each step the cost of the longest chain from it to the end, itself included.
    fn priorities(&self) -> Vec<u64> {
        let mut priorities = self.weights.clone();
        for step in (0..self.inputs.len()).rev() {
            for &input in &self.inputs[step] {
                priorities[input] = priorities[input].max(self.weights[input] + priorities[step]);
            }
        }
        priorities
    }

    /// No more chains than this can run at once: one begins at each step without inputs, and one more for each
    /// further step that needs the same step.
    fn width(&self) -> usize {
        let begin = self.inputs.iter().filter(|inputs| inputs.is_empty()).count();
        let mut followers = vec![0_usize; self.inputs.len()];
        self.inputs.iter().flatten().for_each(|input| followers[*input] += 1);
        begin + followers.iter().map(|count| count.saturating_sub(1)).sum::<usize>()
    }
}

/// The results of the steps that a step needs.
pub(super) struct Inputs<'s, T> {
    numbers: &'s [usize],
    results: Vec<Arc<T>>,
    /// How long they were all there before somebody had time for the step.
    pub(super) waited: Duration,
}

impl<T> Inputs<'_, T> {
    /// The result of a step; it must be in the `Shape::inputs` of the one that runs.
    pub(super) fn of(&self, step: usize) -> Arc<T> {
        let at = self.numbers.iter().position(|number| *number == step);
        Arc::clone(&self.results[at.expect("a step asks for what its shape says that it needs")])
    }
}

struct State<T, E> {
    /// Ready steps, by priority and then by the place in the file, last is next.
    ready: BTreeSet<(u64, std::cmp::Reverse<usize>)>,
    missing_inputs: Vec<usize>,
    results: Vec<Option<Arc<T>>>,
    /// Since when a step could be run.
    ready_since: Vec<Instant>,
    unfinished: usize,
    failure: Option<E>,
}

/// Runs every step and gives their results in order, or the first failure; after a failure nothing new is
/// begun, and what runs is waited for (`on_failure` may hurry it).
///
/// `work` gets a step's number and its inputs' results. At most `threads`
/// steps run at once; the calling thread is one of them, so a chain without branches starts no thread.
pub(super) fn run<T, E>(
    shape: &Shape,
    threads: usize,
    work: impl Fn(usize, Inputs<'_, T>) -> Result<T, E> + Sync,
    on_failure: impl Fn() + Sync,
) -> Result<Vec<Arc<T>>, E>
where
    T: Send + Sync,
    E: Send,
{
    let count = shape.inputs.len();
    let priorities = shape.priorities();
    let mut dependants = vec![Vec::new(); count];
    for (step, inputs) in shape.inputs.iter().enumerate() {
        for &input in inputs {
            dependants[input].push(step);
        }
    }
    let missing_inputs: Vec<usize> = shape.inputs.iter().map(Vec::len).collect();
    let ready = (0..count)
        .filter(|s| missing_inputs[*s] == 0)
        .map(|s| (priorities[s], std::cmp::Reverse(s)))
        .collect();
    let state = State {
        ready,
        missing_inputs,
        results: (0..count).map(|_| None).collect(),
        ready_since: vec![Instant::now(); count],
        unfinished: count,
        failure: None,
    };
    let board = Board { shape, priorities, dependants, state: Mutex::new(state), changed: Condvar::new() };
    let helpers = threads.min(shape.width()).saturating_sub(1);
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            let help = || board.work_through(&work, &on_failure);
            // Where no more threads can be had, those that there are do the work.
            if std::thread::Builder::new().name("step".to_owned()).spawn_scoped(scope, help).is_err() {
                break;
            }
        }
        board.work_through(&work, &on_failure);
    });
    let state = into_inner(board.state);
    match state.failure {
        Some(failure) => Err(failure),
        // Without a failure every worker stayed until the last result was in.
        None => Ok(state.results.into_iter().flatten().collect()),
    }
}

struct Board<'a, T, E> {
    shape: &'a Shape,
    priorities: Vec<u64>,
    dependants: Vec<Vec<usize>>,
    state: Mutex<State<T, E>>,
    changed: Condvar,
}

impl<T, E> Board<'_, T, E> {
    fn work_through(
        &self,
        work: &(impl Fn(usize, Inputs<'_, T>) -> Result<T, E> + Sync),
        on_failure: &(impl Fn() + Sync),
    ) {
        while let Some((step, inputs)) = self.take() {
            match work(step, inputs) {
                Ok(result) => self.finish(step, result),
                Err(failure) => {
                    self.fail(failure);
                    on_failure();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        // A panic elsewhere ends the process; the state is still whole for whoever cleans up.
        lock(&self.state)
    }

    /// The next step to run, or `None` when all is done or something failed.
    fn take(&self) -> Option<(usize, Inputs<'_, T>)> {
        let mut state = self.lock();
        loop {
            if state.unfinished == 0 || state.failure.is_some() {
                return None;
            }
            if let Some((_, std::cmp::Reverse(step))) = state.ready.pop_last() {
                let numbers = &self.shape.inputs[step];
                let results = numbers.iter().filter_map(|i| state.results[*i].clone()).collect();
                let waited = state.ready_since[step].elapsed();
                return Some((step, Inputs { numbers, results, waited }));
            }
            state = wait(&self.changed, state);
        }
    }

    fn finish(&self, step: usize, result: T) {
        let mut state = self.lock();
        state.results[step] = Some(Arc::new(result));
        state.unfinished -= 1;
        let mut ready = 0_usize;
        for &next in &self.dependants[step] {
            state.missing_inputs[next] -= 1;
            if state.missing_inputs[next] == 0 {
                state.ready_since[next] = Instant::now();
                state.ready.insert((self.priorities[next], std::cmp::Reverse(next)));
                ready += 1;
            }
        }
        if state.unfinished == 0 {
            return self.changed.notify_all();
        }
        // This thread takes one of them itself: along a chain nobody else need wake up.
        (1..ready).for_each(|_| self.changed.notify_one());
    }

    fn fail(&self, failure: E) {
        let mut state = self.lock();
        state.failure.get_or_insert(failure);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn shape(inputs: &[&[usize]]) -> Shape {
        Shape { inputs: inputs.iter().map(|i| i.to_vec()).collect(), weights: vec![1; inputs.len()] }
    }

    #[test]
    fn results_reach_the_steps_that_need_them() {
        let shape = shape(&[&[], &[0], &[0], &[2, 1]]);
        let work = |step: usize, inputs: Inputs<'_, String>| {
            let texts: Vec<_> = inputs.numbers.iter().map(|i| inputs.of(*i).to_string()).collect();
            Ok::<_, ()>(format!("{step}({})", texts.join(",")))
        };
        let results = run(&shape, 4, work, || ()).unwrap();
        assert_eq!(*results[3], "3(2(0()),1(0()))");
    }

    #[test]
    fn independent_chains_overlap() {
        // Each of the two waits for the other: only steps that run at once get through.
        let barrier = Barrier::new(2);
        let work = |step: usize, _: Inputs<'_, ()>| {
            if step < 2 {
                barrier.wait();
            }
            Ok::<_, ()>(())
        };
        run(&shape(&[&[], &[], &[0, 1]]), 2, work, || ()).unwrap();
    }

    #[test]
    fn chains_from_one_step_overlap() {
        let barrier = Barrier::new(2);
        let work = |step: usize, _: Inputs<'_, ()>| {
            if step == 1 || step == 2 {
                barrier.wait();
            }
            Ok::<_, ()>(())
        };
        run(&shape(&[&[], &[0], &[0]]), 2, work, || ()).unwrap();
    }

    #[test]
    fn nothing_begins_after_a_failure() {
        let begun = AtomicUsize::new(0);
        let work = |step: usize, _: Inputs<'_, ()>| {
            begun.fetch_add(1, Ordering::SeqCst);
            if step == 1 { Err("no") } else { Ok(()) }
        };
        assert_eq!(run(&shape(&[&[], &[0], &[1], &[2]]), 2, work, || ()).unwrap_err(), "no");
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn the_longest_chain_goes_first() {
        let order = Mutex::new(Vec::new());
        let work = |step: usize, _: Inputs<'_, ()>| {
            order.lock().unwrap().push(step);
            Ok::<_, ()>(())
        };
        run(&shape(&[&[], &[], &[1], &[2]]), 1, work, || ()).unwrap();
        assert_eq!(*order.lock().unwrap(), [1, 2, 0, 3]);
    }
}
