//! Where an image is asked for: the registry that its name begins with, or what a configuration puts in its place.

use std::path::Path;

use super::error::Error;
use super::{Access, Client, Target};
use crate::config::{self, Place, Registries};
use crate::http::Trusted;
use crate::oci::Reference;
use crate::report::Event;
use crate::sync::lock;

impl Client {
    /// Everything that is configured.
    fn registries(&self) -> Result<&Registries, Error> {
        self.inner.settings.registries.registries().map_err(Error::Config)
    }

    /// Where the image may be had, in the order in which to ask. Mirrors that could not be reached before are left out.
    pub(super) fn places(&self, reference: &Reference) -> Result<Vec<Place>, Error> {
        let places = self.registries()?.places(reference).map_err(|file| blocked(reference, file))?;
        let broken = lock(&self.inner.broken_mirrors);
        let usable =
            places.into_iter().filter(|place| !(place.is_mirror && broken.contains(&place.registry)));
        Ok(usable.map(|place| self.with_flags(place, Access::Pull)).collect())
    }

    /// Where the image goes.
    pub(super) fn place_to_push(&self, reference: &Reference) -> Result<Place, Error> {
        let place = self.registries()?.place_to_push(reference).map_err(|file| blocked(reference, file))?;
        Ok(self.with_flags(place, Access::Push))
    }

    /// What a name may mean, in the order in which to look.
    pub(super) fn candidates(&self, reference: &Reference) -> Result<Vec<Reference>, Error> {
        let found = self.registries()?.candidates(reference);
        for (meant, said_by) in &found {
            if let Some(file) = said_by.as_ref().filter(|_| meant != reference) {
                self.note(format!("`{reference}` is `{meant}`, as `{}` says", file.display()));
            }
        }
        Ok(found.into_iter().map(|(meant, _)| meant).collect())
    }

    fn with_flags(&self, place: Place, access: Access) -> Place {
        let sources = &self.inner.settings.registries;
        let mut place = place;
        place.insecure |= sources.insecure(access == Access::Push);
        if let Some(verify) = sources.tls_verify() {
            place.insecure = !verify;
            place.http = place.http && !verify;
        }
        place.ca.extend(sources.cert_dir().map(Path::to_owned));
        place
    }

    /// What a connection needs to a host that no place names, such as one that a redirect leads to.
    pub(super) fn usual_trust(sources: &config::Sources) -> Trusted {
        Trusted {
            insecure: sources.tls_verify() == Some(false),
            ca: sources.cert_dir().map(Path::to_owned).into_iter().collect(),
            client: None,
        }
    }

    /// Asks each place in turn. What a mirror cannot do is told once, and the next place does it; the error is that of
    /// the last place.
    pub(super) fn at_each_place<'a, T>(
        &self,
        reference: &'a Reference,
        places: &'a [Place],
        mut ask: impl FnMut(Target<'a>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        for (place, next) in places.iter().zip(&places[1..]) {
            match ask(Target { reference, place, access: Access::Pull }) {
                Err(error) if error.may_differ_elsewhere() => self.mirror_failed(place, next, &error),
                outcome => return outcome,
            }
        }
        let place = places.last().expect("the last place is the registry itself");
        ask(Target { reference, place, access: Access::Pull })
    }

    /// Remembers where an image was found.
    pub(super) fn found(&self, target: &Target<'_>) {
        let mut found = lock(&self.inner.found_at);
        found.insert(repository(target.reference), target.place.clone());
    }

    /// Where to ask for blobs: where the image was found, then elsewhere.
    pub(super) fn places_of_blobs(&self, reference: &Reference) -> Result<Vec<Place>, Error> {
        let mut places = self.places(reference)?;
        let found = lock(&self.inner.found_at);
        if let Some(at) = found.get(&repository(reference)).and_then(|f| places.iter().position(|p| p == f)) {
            places[..=at].rotate_right(1);
        }
        Ok(places)
    }

    /// Remembers a mirror that cannot be reached, and tells what happened.
    pub(super) fn mirror_failed(&self, mirror: &Place, next: &Place, error: &Error) {
        if matches!(error, Error::Unreachable { .. }) {
            let mut broken = lock(&self.inner.broken_mirrors);
            broken.insert(mirror.registry.clone());
        }
        self.note(format!("mirror `{}` failed, going on with `{}`: {error}", mirror.registry, next.registry));
    }

    /// Tells something once.
    pub(crate) fn note(&self, text: String) {
        let Some(events) = self.inner.events.get() else { return };
        let mut told = lock(&self.inner.told);
        if told.insert(text.clone()) {
            events.send(Event::Note(text));
        }
    }
}

fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

fn blocked(reference: &Reference, file: &Path) -> Error {
    Error::Blocked { image: reference.to_string(), file: file.to_owned() }
}
