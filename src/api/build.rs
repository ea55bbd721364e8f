//! Builds and plans.

use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::{Error, Event, Message};
use crate::exec::Stop;
use crate::pipeline::{self, DockerfileFrom, Request};
use crate::report::{Diagnostic, channel};
use crate::solve;

/// A build that has nothing to tell for so long is waited for once more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A build, as it is asked for. Nothing happens before [`run`](Build::run) or [`plan`](Build::plan).
#[derive(Debug, Clone)]
pub struct Build {
    request: Request,
    tags: Vec<String>,
    platforms: Vec<String>,
    stop: Stop,
}

/// What a build made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Built {
    /// `sha256:…` of the manifest, or of the index over several platforms.
    pub digest: String,
    /// The full names that it has in the store.
    pub names: Vec<String>,
    /// How many layers it has.
    pub layers: usize,
    /// Bytes of its layers, compressed, each counted once.
    pub size_bytes: u64,
    /// How many steps ran.
    pub ran: usize,
    /// How many layers came from the cache.
    pub cached: usize,
    /// What was found about the Dockerfile.
    pub warnings: Vec<Message>,
}

/// One instruction of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedStep {
    /// The stage and the place in it, such as `[build 2/5]`.
    pub place: String,
    /// As it was written, on one line, variables expanded.
    pub instruction: String,
    /// The platform that it is for, such as `linux/arm64`; none where it is the same on every one.
    pub platform: Option<String>,
    /// What would become of it.
    pub outlook: Outlook,
}

impl PlannedStep {
    /// Whether a build would run it.
    pub fn would_run(&self) -> bool {
        matches!(self.outlook, Outlook::Run { .. })
    }
}

/// What would become of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outlook {
    /// It changes the configuration only.
    Configuration,
    /// A source whose files are here.
    Here,
    /// An image of which layers would be fetched.
    Fetch {
        /// How many.
        layers: usize,
        /// Their bytes, compressed.
        bytes: u64,
    },
    /// Its layer is in the cache.
    Cached,
    /// It would run.
    Run {
        /// Why, in one clause.
        why: String,
    },
}

impl Build {
    /// A build of `Dockerfile` in the folder `context`, for this machine, into the store in the folder `store`, which is made where there is
    /// none. Logins and certificates are those of the user.
    pub fn new(store: impl Into<PathBuf>, context: impl Into<PathBuf>) -> Self {
        Self {
            request: Request::new(store.into(), context.into()),
            tags: Vec::new(),
            platforms: Vec::new(),
            stop: Stop::default(),
        }
    }

    /// Another Dockerfile than that of the context.
    pub fn dockerfile(mut self, path: impl Into<PathBuf>) -> Self {
        self.request.dockerfile = DockerfileFrom::Path(path.into());
        self
    }

    /// The stage that is built; else the last one.
    pub fn target(mut self, stage: impl Into<String>) -> Self {
        self.request.options.target = Some(stage.into());
        self
    }

    /// A build argument; of two with a name the later one counts.
    pub fn build_arg(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.options.build_args.push((name.into(), Some(value.into())));
        self
    }

    /// One more name of the image.
    pub fn tag(mut self, name: impl Into<String>) -> Self {
        self.tags.push(name.into());
        self
    }

    /// One more platform, such as `linux/arm64`; without any it is built for this machine.
    pub fn platform(mut self, platform: impl Into<String>) -> Self {
        self.platforms.push(platform.into());
        self
    }

    /// Runs every step again.
    pub fn without_cache(mut self) -> Self {
        self.request.no_cache = true;
        self
    }

    /// Fetches nothing from anywhere; commands may still use the network.
    pub fn offline(mut self) -> Self {
        self.request.offline = true;
        self
    }

    /// Pushes the image to the registries of its names.
    pub fn push(mut self) -> Self {
        self.request.push = true;
        self
    }

    /// What ends this build early, from another thread: [`run`](Build::run) fails then. What was ended so, with its
    /// clones, does not run again: another [`Build`] does.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let stop = self.stop.clone();
        move || stop.all()
    }

    fn request(&self) -> Result<Request, Error> {
        let mut request = self.request.clone();
        for tag in &self.tags {
            request.tags.push(tag.parse().map_err(|error| Error::plain(format!("`{tag}`: {error}")))?);
        }
        for platform in &self.platforms {
            let parsed = platform.parse().map_err(|error| Error::plain(format!("`{platform}`: {error}")))?;
            request.platforms.push(parsed);
        }
        if let Some(first) = request.platforms.first() {
            request.options.platform = first.clone();
            request.options.explicit_platform = true;
        }
        Ok(request)
    }

    /// Builds, and tells `listen` in this thread what happens. Without RUN neither privileges nor other programs are needed.
    ///
    /// # Errors
    /// What to tell people. Then the image has no name, unless only what comes after naming failed, such as a push.
    pub fn run(&self, mut listen: impl FnMut(Event)) -> Result<Built, Error> {
        let request = self.request()?;
        let (events, reader) = channel();
        let outcome = std::thread::scope(|scope| {
            // It has the only sender, so the reader ends with it.
            let building = scope.spawn(|| pipeline::run(&request, &{ events }, &self.stop));
            loop {
                match reader.next_within(PATIENCE) {
                    Ok((_, event)) => Event::of(event).map_or((), &mut listen),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            building.join()
        });
        let built = match outcome {
            Ok(built) => built.map_err(|failed| Error::of(&failed.diagnostics))?,
            Err(_) => return Err(Error::plain("the build panicked, which is rbuild's own fault")),
        };
        Ok(Built {
            digest: built.digest.to_string(),
            names: built.names.iter().map(ToString::to_string).collect(),
            layers: built.layers,
            size_bytes: built.size_bytes,
            ran: built.ran,
            cached: built.cached,
            warnings: built.warnings.iter().map(Message::of).collect(),
        })
    }

    /// What a build would do. Nothing runs and no layer is fetched, but registries are asked for base images, whose digests count.
    ///
    /// # Errors
    /// What to tell people.
    pub fn plan(&self) -> Result<Vec<PlannedStep>, Error> {
        let planned = pipeline::dry_run(&self.request()?, &crate::report::Events::silent());
        let planned = planned.map_err(|diagnostics: Vec<Diagnostic>| Error::of(&diagnostics))?;
        let outlook = |step: usize| match &planned.outlooks[step] {
            solve::Outlook::Here => Outlook::Here,
            solve::Outlook::Fetch { layers, bytes } => Outlook::Fetch { layers: *layers, bytes: *bytes },
            solve::Outlook::Cached { .. } => Outlook::Cached,
            solve::Outlook::Run { why } => Outlook::Run { why: why.clone() },
        };
        let steps = planned.graph.listing.iter().map(|listed| PlannedStep {
            place: listed.place.clone(),
            instruction: listed.title.clone(),
            platform: listed.platform.as_ref().map(ToString::to_string),
            outlook: listed.step.map_or(Outlook::Configuration, |step| outlook(step.0)),
        });
        Ok(steps.collect())
    }
}
