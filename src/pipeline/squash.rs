//! `--squash`: the layers that a build adds to its base as one.

use super::Request;
use crate::cache::Record;
use crate::key::{self, LayerOptions};
use crate::oci::{ChainId, DiffId, History, Layer};
use crate::plan::graph::{Goal, HistoryPlan};
use crate::report::{Diagnostic, Event};
use crate::solve::{self, Services};

/// Which layers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Squash {
    /// None.
    #[default]
    None,
    /// Those that the build adds to its base.
    New,
    /// All of them.
    All,
}

impl Request {
    /// How many layers stay as they are, of an image that has so many.
    fn stay(&self, goal: &Goal, layers: usize) -> usize {
        let is_made = |entry: &&HistoryPlan| matches!(entry, HistoryPlan::Made { layer: Some(_), .. });
        match self.squash {
            Squash::None => layers,
            Squash::New => layers.saturating_sub(goal.image.history.iter().filter(is_made).count()),
            Squash::All => 0,
        }
    }
}

/// The layers of the image, those together that are to be one; it is made once, and then found in the cache.
pub(super) fn squash(
    request: &Request,
    goal: &Goal,
    layers: Vec<Layer>,
    services: &Services,
) -> Result<Vec<Layer>, Vec<Diagnostic>> {
    let below = request.stay(goal, layers.len());
    if layers.len() - below < 2 {
        return Ok(layers);
    }
    let form = squashed_form(request, goal);
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
    let base = ChainId::of(&diff_ids[..below]);
    let preimage = key::squash(base, &diff_ids[below..], form);
    let fail = |e: crate::cache::Error| vec![Diagnostic::error(e.to_string())];
    let known = services.lookup.find(&preimage).map_err(fail)?.record();
    let layer = match known.filter(|_| !request.no_cache) {
        Some(known) => known.layer,
        None => {
            let note = format!("making one layer of {}, for --squash", layers.len() - below);
            services.events.send(Event::Note(note));
            let made = solve::squashed(services, form, &layers, below);
            let made = made.map_err(|error| vec![error.explain(services.store.root())])?;
            let record = Record::new(preimage.key(), made.clone(), base.push(made.diff_id), 0);
            services.lookup.publish_alias(record, &preimage).map_err(fail)?;
            made
        }
    };
    Ok(layers[..below].iter().cloned().chain([layer]).collect())
}

fn squashed_form(request: &Request, goal: &Goal) -> LayerOptions {
    request.layer_options(goal.epoch)
}

/// The history of an image that has so many layers: of entries whose layers became one, the last has it.
pub(super) fn history(mut history: Vec<History>, layers: usize) -> Vec<History> {
    let mut surplus = history.iter().filter(|entry| !entry.empty_layer).count().saturating_sub(layers);
    let last = history.iter().rposition(|entry| !entry.empty_layer);
    for (at, entry) in history.iter_mut().enumerate().rev() {
        if surplus > 0 && !entry.empty_layer && Some(at) != last {
            entry.empty_layer = true;
            surplus -= 1;
        }
    }
    history
}
