//! What the commands that move images have in common: progress, and several images at a time.

use std::sync::Mutex;
use std::time::Instant;

use clap::Args;

use super::progress::Progress;
use crate::cli::Failure;
use crate::cli::args::ProgressMode;
use crate::cli::options::configuration::{Configuration, RegistryArgs};
use crate::oci::Descriptor;
use crate::pipeline::heed_quota;
use crate::registry::{Client, Progress as Bytes};
use crate::report::{Diagnostic, Event, Events, Outcome, StepHeading, StepNumber};
use crate::store::Store;
use crate::sync::{into_inner, lock};
use crate::transport::{complete, is_promised};

/// So many images move at once; each moves several blobs at once.
const AT_ONCE: usize = 4;

/// How to show progress, and how to talk to registries.
#[derive(Debug, Args)]
pub(crate) struct MovingArgs {
    /// How to show progress [default: auto]
    #[arg(long, value_name = "MODE", value_enum, hide_possible_values = false)]
    progress: Option<ProgressMode>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    registries: RegistryArgs,
}

impl MovingArgs {
    /// As the options of a build say.
    pub(crate) fn of(registries: &RegistryArgs, mode: ProgressMode) -> Self {
        Self { progress: Some(mode), quiet: false, registries: registries.clone() }
    }

    /// A client for registries as the configuration and these options say.
    pub(crate) fn client(&self, configuration: &Configuration) -> Result<Client, Failure> {
        Ok(Client::new(configuration.registries(&self.registries)?))
    }

    /// Fetches what images of the store lack that registries have under their names, and shows that. Each goes with what the user
    /// calls it. Where nothing is lacking nothing is shown and nobody is asked.
    pub(crate) fn complete(&self, store: &Store, images: &[(String, Descriptor)]) -> Result<(), Failure> {
        let mut lacking: Vec<&(String, Descriptor)> = Vec::new();
        for image in images {
            let is_new = !lacking.iter().any(|(_, known)| known.digest == image.1.digest);
            if is_new && is_promised(store, &image.1).map_err(|e| Failure::build(vec![explain_copy(&e)]))? {
                lacking.push(image);
            }
        }
        if lacking.is_empty() {
            return Ok(());
        }
        let configuration = Configuration::load()?;
        if let Some(quota) = configuration.own.store_quota_bytes {
            heed_quota(store, quota)?;
        }
        let titles: Vec<String> = lacking.iter().map(|(name, _)| format!("fetch layers of {name}")).collect();
        self.each(self.client(&configuration)?, &titles, |client, at, bytes| {
            complete(store, client, &lacking[at].1, bytes).map_err(|e| explain_copy(&e))
        })?;
        Ok(())
    }

    fn mode(&self) -> ProgressMode {
        if self.quiet { ProgressMode::Quiet } else { self.progress.unwrap_or(ProgressMode::Auto) }
    }

    /// Does `work` for each of `titles`, several at a time, and gives what it made of each, in order. One that fails does not
    /// keep the others from going on; all failures are told.
    pub(crate) fn each<T: Send>(
        &self,
        client: Client,
        titles: &[String],
        work: impl Fn(&Client, usize, &Bytes) -> Result<T, Diagnostic> + Sync,
    ) -> Result<Vec<T>, Failure> {
        each(self.mode(), client, titles, work)
    }
}

/// As [`MovingArgs::each`], shown in a mode.
pub(crate) fn each<T: Send>(
    mode: ProgressMode,
    client: Client,
    titles: &[String],
    work: impl Fn(&Client, usize, &Bytes) -> Result<T, Diagnostic> + Sync,
) -> Result<Vec<T>, Failure> {
    let progress = Progress::start(mode);
    let events = progress.events();
    client.tell(&events);
    events.send(Event::Planned(titles.iter().enumerate().map(heading).collect()));
    let next = Mutex::new(0..titles.len());
    let results: Mutex<Vec<(usize, Result<T, Diagnostic>)>> = Mutex::default();
    let worker = || {
        loop {
            let at = lock(&next).next();
            let Some(at) = at else { return };
            let result = one(&events, at, |bytes| work(&client, at, bytes));
            lock(&results).push((at, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..titles.len().min(AT_ONCE) {
            scope.spawn(worker);
        }
        worker();
    });
    // The client tells events, too; the display ends when nobody can.
    drop((events, client));
    progress.finish();
    let mut results = into_inner(results);
    results.sort_by_key(|(at, _)| *at);
    let (done, failed): (Vec<_>, Vec<_>) =
        results.into_iter().map(|(_, result)| result).partition(Result::is_ok);
    let failed: Vec<Diagnostic> = failed.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() {
        Ok(done.into_iter().filter_map(Result::ok).collect())
    } else {
        Err(Failure::build(failed))
    }
}

fn heading((number, title): (usize, &String)) -> StepHeading {
    StepHeading {
        number: StepNumber(number),
        place: String::new(),
        title: title.clone(),
        platform: None,
        needs: Vec::new(),
        owner: 0,
        lines: None,
    }
}

fn one<T>(
    events: &Events,
    at: usize,
    work: impl FnOnce(&Bytes) -> Result<T, Diagnostic>,
) -> Result<T, Diagnostic> {
    let (step, started) = (StepNumber(at), Instant::now());
    events.send(Event::Started(step));
    let result = work(&Bytes::new(events.clone(), step));
    let took = started.elapsed();
    events.send(match result {
        Ok(_) => Event::Finished { step, outcome: Outcome::Ran, took, result: Box::default() },
        Err(_) => Event::Failed { step, took, usage: None },
    });
    result
}

/// An error of a registry in words, with a way on.
pub(crate) fn explain(error: &crate::registry::Error) -> Diagnostic {
    error.diagnose()
}

/// An error of moving in words.
pub(crate) fn explain_copy(error: &crate::transport::Error) -> Diagnostic {
    match error {
        crate::transport::Error::Registry(error) => explain(error),
        crate::transport::Error::Engine(error) => error.diagnose(),
        crate::transport::Error::Attestations(error) => error.diagnose(""),
        crate::transport::Error::NotInStore { .. } => {
            Diagnostic::error(error.to_string()).help("`rbuild images` lists what there is")
        }
        other => Diagnostic::error(other.to_string()),
    }
}
