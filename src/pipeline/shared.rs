//! The caches that a build shares with other machines: where it looks, and what it leaves there.

use std::sync::Arc;

use super::{Request, result};
use crate::cache::Place;
use crate::oci::{CarriedRecord, Layer, Seconds};
use crate::plan::graph::Goal;
use crate::registry::Client;
use crate::report::{Diagnostic, Event, Events};
use crate::shared_cache::mounts::Travel;
use crate::shared_cache::{
    CacheFrom, CacheTo, Exported, Exporter, Import, Location, Results, Trust, backend, carried_records,
};
use crate::signature::{self, Signers, SigningKey};
use crate::solve::Services;
use crate::solve::cache_mounts::{CacheMounts, Leaving};
use crate::text::duration::seconds;
use crate::text::size::bytes;

impl Request {
    /// Begins to read what `--cache-from` names, in its order.
    ///
    /// # Errors
    /// When a file of keys cannot be read: then nobody is trusted instead of everybody.
    pub(super) fn imports(
        &self,
        registry: &Client,
        events: &Events,
    ) -> Result<Vec<Arc<Import>>, Vec<Diagnostic>> {
        let import = |from: &CacheFrom| {
            let trust = match from.verify.is_empty() {
                true => Trust::Anybody,
                false => Trust::Signers(Signers::read(&from.verify).map_err(|e| about_keys("verify", &e))?),
            };
            Ok(Import::start(backend::at(&from.location, registry), trust, events))
        };
        let named = self.cache_from.iter().filter(|from| self.may_ask(&from.location)).map(import);
        let brought = self.brought.iter().map(|(precedence, made)| {
            let trust = (Trust::Anybody, *precedence);
            Ok(Import::begin(Arc::clone(made), trust, events))
        });
        named.chain(brought).collect()
    }

    /// Says which caches are left alone.
    pub(super) fn note_offline(&self, events: &Events) {
        let from = self.cache_from.iter().map(|from| &from.location);
        let locations = from.chain(self.cache_to.iter().filter_map(|to| to.location.as_ref()));
        if locations.into_iter().any(|location| !self.may_ask(location)) {
            let note = "with `--offline` caches on other machines are neither read nor written";
            events.send(Event::Note(note.to_owned()));
        }
    }

    /// Whether a cache is on this machine, or others may be asked.
    fn may_ask(&self, location: &Location) -> bool {
        !self.offline || matches!(location, Location::Local(..))
    }
}

impl Request {
    /// How cache mounts travel between `imports`, and what `--cache-to` names.
    pub(super) fn mounts(&self, imports: &[Arc<Import>]) -> CacheMounts {
        let usual = if self.cache_to.is_empty() { Travel::In } else { Travel::InAndOut };
        // Those that are imported, in their order.
        let read = self.cache_from.iter().filter(|from| self.may_ask(&from.location));
        let limits = read.map(|from| from.mount_limit);
        let imports = imports.iter().map(Arc::clone).zip(limits).collect();
        let is_said = self.cache_mounts == Some(Travel::InAndOut);
        CacheMounts::new(self.cache_mounts.unwrap_or(usual), is_said, imports)
    }
}

impl Request {
    /// The records that an image of `layers` carries. One whose times are given carries none: its bytes follow what it is made of.
    pub(super) fn carried(
        &self,
        services: &Services,
        layers: &[Layer],
        epoch: Option<Seconds>,
    ) -> Vec<CarriedRecord> {
        let mut inline = self.cache_to.iter().filter(|to| to.location.is_none()).peekable();
        if inline.peek().is_none() || epoch.is_some() {
            return Vec::new();
        }
        let skip_secrets = inline.any(|to| to.skip_secrets);
        carried_records(&services.lookup, layers, skip_secrets)
    }

    /// Says why an image carries no records that was to carry some.
    pub(super) fn note_carried(&self, goals: &[Goal], events: &Events) {
        let is_dated = |goal: &Goal| self.image_epoch(goal.epoch).is_some();
        if self.cache_to.iter().any(|to| to.location.is_none()) && goals.iter().any(is_dated) {
            let note = "`--cache-to type=inline` does nothing with SOURCE_DATE_EPOCH: the bytes of such an image \
                        follow from what it is made of, and not from when its steps ran";
            events.send(Event::Note(note.to_owned()));
        }
    }
}

fn about_keys(option: &str, error: &signature::Error) -> Vec<Diagnostic> {
    vec![Diagnostic::error(format!("`{option}=` of a cache: {error}"))]
}

/// What imports are to the lookup.
pub(super) fn places(imports: &[Arc<Import>]) -> impl Iterator<Item = Arc<dyn Place>> {
    imports.iter().map(|import| Arc::clone(import) as Arc<dyn Place>)
}

/// Everything that `--cache-to` names.
pub(super) struct Exports {
    all: Arc<Vec<(CacheTo, Exporter)>>,
}

impl Exports {
    /// Begins: layers are sent from now on as they are made.
    ///
    /// # Errors
    /// When a key cannot be read.
    pub(super) fn start(request: &Request, services: &Services) -> Result<Self, Vec<Diagnostic>> {
        let mut all = Vec::new();
        for to in &request.cache_to {
            let Some(location) = to.location.as_ref().filter(|location| request.may_ask(location)) else {
                continue;
            };
            let backend = backend::at(location, &services.registry);
            let is_same = |import: &&Arc<Import>| import.backend().name() == backend.name();
            let import = services.imports.iter().find(is_same).map(Arc::clone);
            let key = to.sign.as_deref().map(SigningKey::read).transpose();
            let key = key.map_err(|e| about_keys("sign", &e))?;
            all.push((to.clone(), Exporter::start((backend, import), key, &services.store, to)));
        }
        let all = Arc::new(all);
        if !all.is_empty() {
            let hear = Arc::downgrade(&all);
            services.lookup.tell_layers(Box::new(move |layer| {
                let Some(all) = hear.upgrade() else { return };
                all.iter().for_each(|(_, exporter)| exporter.hear(layer));
            }));
        }
        Ok(Self { all })
    }

    /// Sends the rest, and says what it came to. What goes wrong is an error only if `ignore-error=false` was said.
    pub(super) fn finish(
        self,
        services: &Services,
        (results, names): (&[result::Results], &[String]),
        project: &str,
    ) -> Result<(), Vec<Diagnostic>> {
        if self.all.is_empty() {
            return Ok(());
        }
        let images = results.iter().flat_map(|results| &results.images);
        let layers: Vec<Layer> = images.flat_map(|image| image.layers().iter().cloned()).collect();
        // What steps stood on is the same for all that are built together.
        let seen = results.first().map(|results| results.seen.as_slice()).unwrap_or_default();
        let results = Results {
            lookup: &services.lookup,
            layers: &layers,
            seen,
            project,
            mounts: &Leaving(services),
            images: names,
        };
        let mut failed = Vec::new();
        for (to, exporter) in Arc::into_inner(self.all).into_iter().flatten() {
            let name = exporter.name();
            match exporter.finish(&results) {
                Ok(exported) => services.events.send(Event::Note(told(&name, exported))),
                Err(error) if to.ignore_error => {
                    let note = format!("the cache `{name}` was not written: {error}");
                    services.events.send(Event::Note(note));
                }
                Err(error) => {
                    failed.push(Diagnostic::error(format!("the cache `{name}` cannot be written: {error}")));
                }
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => Err(failed),
        }
    }
}

fn told(name: &str, exported: Exported) -> String {
    let Exported { records, mounts, bytes: sent, dropped, took } = exported;
    let mounts = match mounts {
        0 => String::new(),
        1 => ", 1 cache mount".to_owned(),
        several => format!(", {several} cache mounts"),
    };
    let dropped = if dropped > 0 { format!(", {dropped} dropped") } else { String::new() };
    match (records, sent) {
        (0, 0) => format!("the cache `{name}` has it all{dropped}"),
        _ => format!(
            "cached to `{name}`: {records} new {}{mounts}, {} sent, {}{dropped}",
            if records == 1 { "record" } else { "records" },
            bytes(sent),
            seconds(took)
        ),
    }
}
