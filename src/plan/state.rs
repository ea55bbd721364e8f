//! A stage while its instructions are applied, one after another.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::oci::{Config, ImageConfig, Platform};
use crate::report::{Diagnostic, Span};

use super::graph::{HistoryPlan, Op, StepId};
use super::place::Place;
use super::scope::{Argument, Environment, Expander};

/// The PATH of an image that has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the instructions so far have made of a stage.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// What the next instruction sees: ENV and ARG together.
    pub(super) env: Environment,
    /// ARGs in order, repeated ones, too.
    pub(super) arguments: Vec<Argument>,
    /// Their names.
    pub(super) argument_names: Arc<BTreeSet<String>>,
    /// The image so far, without history and layers.
    pub(super) image: ImageConfig,
    /// Where each variable of the image is in its `Env`; the first, where a base has one twice.
    pub(super) env_places: HashMap<String, usize>,
    /// The stage that it continues, whose history comes first.
    pub(super) parent: Option<usize>,
    /// The history since then. Not the whole of it: with thousands of stages in a chain, that would be
    /// kept for each.
    pub(super) history: Vec<HistoryPlan>,
    /// What commands of this stage run on.
    pub(super) platform: Platform,
    /// The step whose files the stage has now.
    pub(super) tip: StepId,
    /// How many steps the stage's own instructions made.
    pub(super) steps: usize,
    /// Whether some WORKDIR of this file was applied.
    pub(super) workdir_set: bool,
    /// Where this stage's own CMD stands; an inherited one does not count.
    pub(super) cmd: Option<Span>,
}

impl State {
    /// Brings in what the configuration of a base, or of a parent stage, says. An ENV of the base wins
    /// over an ARG that came along from a parent stage.
    pub(super) fn enter(&mut self) {
        if !self.image.config.env.iter().any(|pair| key_value(pair).0 == "PATH") && self.image.os != "windows"
        {
            self.image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for (place, pair) in self.image.config.env.iter().enumerate() {
            let (key, value) = key_value(pair);
            self.env.set(key, value);
            self.env_places.entry(key.to_owned()).or_insert(place);
        }
        let directory = &self.image.config.working_dir;
        if !directory.is_empty() {
            self.image.config.working_dir = super::paths::join(directory, directory);
        }
        self.image.config.on_build.clear();
        self.cmd = None;
        self.steps = 0;
    }

    /// For the words of one instruction.
    pub(super) fn expander<'a>(
        &'a self,
        place: &'a Place,
        warnings: &'a mut Vec<Diagnostic>,
    ) -> Expander<'a> {
        Expander { env: &self.env, declared: &self.argument_names, place, warnings }
    }

    /// About how many bytes a copy of it takes.
    pub(super) fn weight(&self) -> usize {
        const ENTRY_BYTES: usize = 64;
        let Config { env, exposed_ports, volumes, on_build, labels, .. } = &self.image.config;
        let texts = env.iter().chain(on_build).chain(exposed_ports.keys()).chain(volumes.keys());
        let texts = texts.map(|text| text.len() + ENTRY_BYTES).sum::<usize>();
        let labels = labels.iter().map(|(key, value)| key.len() + value.len() + ENTRY_BYTES).sum::<usize>();
        // Each variable is there thrice: in the image, in the environment and in the places of the first.
        let history = ENTRY_BYTES * 4 * self.history.len();
        texts + labels + history + 3 * ENTRY_BYTES * self.env.len() + ENTRY_BYTES * self.arguments.len()
    }

    /// Moves out what only a stage that continues this one needs; history, files and the like stay.
    pub(super) fn take(&mut self) -> State {
        let emptied = self.env.emptied();
        State {
            env: std::mem::replace(&mut self.env, emptied),
            arguments: std::mem::take(&mut self.arguments),
            argument_names: std::mem::take(&mut self.argument_names),
            image: std::mem::take(&mut self.image),
            env_places: std::mem::take(&mut self.env_places),
            history: Vec::new(),
            platform: self.platform.clone(),
            ..*self
        }
    }

    /// The working directory, absolute.
    pub(super) fn directory(&self) -> &str {
        match self.image.config.working_dir.as_str() {
            "" => "/",
            directory => directory,
        }
    }
}

/// What an instruction does beside changing the [`State`].
#[derive(Debug)]
pub(super) enum Effect {
    /// Nothing that the history tells.
    Silent,
    /// An entry of the history without a layer.
    Entry(String),
    /// A step, with its entry of the history.
    Step(Box<Op>, String),
}

/// The halves of `K=V`.
pub fn key_value(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}
