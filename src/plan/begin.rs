//! FROM: the state that a stage starts from.

use std::collections::HashMap;
use std::sync::Arc;

use crate::dockerfile::checks::{self, message};
use crate::oci::{Config, History, ImageConfig, Platform, RootFs};

use super::builder::Line;
use super::graph::{BaseOp, HistoryPlan, StepId};
use super::lower::Lowering;
use super::origin::Origin;
use super::place::Fault;
use super::scope::Environment;
use super::stage::Stage;
use super::state::{DEFAULT_PATH, State};
use super::title;

impl Lowering<'_> {
    /// The state that a stage starts from.
    pub(super) fn begin(&mut self, stage: &Stage) -> Result<State, Fault> {
        let line = self.line(stage, 1, title::from(stage), self.platform_of(stage));
        let mut state = match &stage.base {
            Origin::Stage(parent) => self.parent(*parent, stage, line)?,
            Origin::Scratch => {
                let tip = self.builder.scratch(line);
                self.empty(tip)
            }
            Origin::Base(request) => {
                let base = self.bases.place(request);
                self.base(
                    base.expect("every request of a needed stage was checked to be resolved"),
                    stage,
                    line,
                )?
            }
            Origin::Image(image) => {
                let tip = self.builder.image(image, Some(stage.from.image.span));
                self.root(tip, line)
            }
            Origin::Local(name) => {
                let tip = self.builder.local_root(name, self.globals.epoch);
                self.root(tip, line)
            }
            Origin::Remote(remote) => {
                let tip = self.builder.remote(remote, self.globals.epoch);
                self.root(tip, line)
            }
        };
        if stage.replaced {
            state.image.config.on_build.clear();
        } else {
            state.enter();
        }
        Ok(state)
    }

    /// What the commands of a stage run on.
    fn platform_of<'s>(&'s self, stage: &'s Stage) -> &'s Platform {
        let platform = match &stage.base {
            Origin::Stage(parent) => self.done[*parent].as_ref().map(|parent| &parent.platform),
            Origin::Base(request) => Some(&request.platform),
            Origin::Scratch | Origin::Image(_) | Origin::Local(_) | Origin::Remote(_) => None,
        };
        platform.unwrap_or(&self.stages.options().platform)
    }

    fn parent(&mut self, parent: usize, stage: &Stage, line: Line) -> Result<State, Fault> {
        let Some(state) = self.continued(parent, stage)? else {
            let parent = &self.stages.list[parent].label;
            let message =
                format!("stage `{parent}` needs to be defined before current stage `{}`", stage.label);
            return Err(self.stages.place.fault(stage.from.image.span, message));
        };
        self.builder.line(line, Some(state.tip));
        Ok(State { parent: Some(parent), history: Vec::new(), ..state })
    }

    fn base(&mut self, index: usize, stage: &Stage, line: Line) -> Result<State, Fault> {
        let base = self.bases.at(index);
        let tip = self.builder.base(index, base, stage.from.span, line);
        let platform = base.request.platform.clone();
        self.check_platform(stage, base, &platform);
        let mut image = base.image.config.clone();
        image.created = None;
        image.rootfs = RootFs::default();
        let history = inherited(&std::mem::take(&mut image.history), base);
        let state = State { platform, ..State::new(image, history, tip, self.globals.env.emptied()) };
        self.afford_copy(&state, stage)?;
        Ok(state)
    }

    /// A stage that begins with files of unknown origin: nothing is known of their configuration.
    fn root(&mut self, tip: StepId, line: Line) -> State {
        self.builder.line(line, Some(tip));
        let mut state = self.empty(tip);
        state.history.push(HistoryPlan::Made {
            created_by: "COPY / / # buildkit".to_owned(),
            author: None,
            layer: Some(tip),
            after: tip,
        });
        state
    }

    fn empty(&self, tip: StepId) -> State {
        let platform = &self.stages.options().platform;
        let state = State::new(empty_image(platform), Vec::new(), tip, self.globals.env.emptied());
        State { platform: platform.clone(), ..state }
    }

    /// InvalidBaseImagePlatform: an image that exists for one platform only is taken as it is.
    fn check_platform(&mut self, stage: &Stage, base: &BaseOp, wanted: &Platform) {
        let actual = base.image.config.platform().normalised();
        if actual.os == wanted.os && actual.architecture == wanted.architecture {
            return;
        }
        let (actual, wanted) = (actual.to_string(), wanted.to_string());
        let message = message::invalid_base_image_platform(&stage.base_name, &actual, &wanted);
        let rule = &checks::INVALID_BASE_IMAGE_PLATFORM;
        self.warnings.push(self.stages.place.warning(rule, stage.from.image.span, message));
    }
}

impl State {
    fn new(image: ImageConfig, history: Vec<HistoryPlan>, tip: StepId, env: Environment) -> Self {
        Self {
            env,
            arguments: Vec::new(),
            argument_names: Arc::default(),
            platform: image.platform(),
            image,
            env_places: HashMap::new(),
            parent: None,
            history,
            tip,
            steps: 0,
            workdir_set: false,
            cmd: None,
        }
    }
}

/// The configuration of FROM scratch.
fn empty_image(platform: &Platform) -> ImageConfig {
    let env = match platform.os.as_str() {
        "windows" => Vec::new(),
        _ => vec![format!("PATH={DEFAULT_PATH}")],
    };
    ImageConfig {
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        os: platform.os.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
        config: Config { env, working_dir: "/".to_owned(), ..Config::default() },
        ..ImageConfig::default()
    }
}

/// The base's history, made to fit its layers as BuildKit does: surplus entries count as empty, missing
/// ones are added at the end.
fn inherited(history: &[History], base: &BaseOp) -> Vec<HistoryPlan> {
    let mut entries = history.to_vec();
    let count = entries.iter().filter(|entry| !entry.empty_layer).count();
    let surplus = count.saturating_sub(base.image.layers.len());
    for entry in entries.iter_mut().filter(|entry| !entry.empty_layer).take(surplus) {
        entry.empty_layer = true;
    }
    for _ in count..base.image.layers.len() {
        entries.push(History {
            created: base.image.config.created.clone(),
            created_by: Some(format!("layer of {}", base.request.name)),
            comment: Some("buildkit.exporter.image.v0".to_owned()),
            ..History::default()
        });
    }
    entries.into_iter().map(HistoryPlan::Inherited).collect()
}
