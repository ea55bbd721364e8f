//! What docker's daemon is asked, and what its answers mean.

use std::io::{BufRead as _, BufReader, Read as _};

use serde::Deserialize;

use super::address::Address;
use super::wire::{self, Answer, Payload};
use crate::engine::Error;
use crate::engine::archive::Archive;
use crate::http::Environment;
use crate::oci::{DiffId, Digest, Reference};

/// The first API in which images are known by what they are.
const OLDEST: (u32, u32) = (1, 24);
/// The longest line of what a daemon tells while it works.
const LINE_LIMIT: u64 = 1 << 20;

/// A daemon that can be asked.
pub(super) struct Daemon {
    address: Address,
}

/// An image that a daemon has.
pub(super) struct Known {
    pub(super) id: Digest,
    pub(super) names: Vec<Reference>,
    pub(super) layers: Vec<DiffId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: Digest,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default, rename = "RootFS")]
    rootfs: Option<RootFs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(default)]
    layers: Option<Vec<DiffId>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Facts {
    #[serde(default)]
    driver_status: Option<Vec<Vec<String>>>,
}

/// A line of what it tells while it works; the error is in any of them, and the status was 200 before.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    #[serde(default)]
    error: Option<String>,
}

impl Daemon {
    /// The daemon of a context, or of what docker would take.
    pub(super) fn find(environment: &Environment, context: Option<&str>) -> Result<Self, Error> {
        Ok(Self { address: Address::find(environment, context)? })
    }

    /// Whether it can pull from a registry on this machine's loopback, as far as its address tells.
    pub(super) fn is_here(&self) -> bool {
        self.address.is_here()
    }

    /// Whether something listens.
    pub(super) fn probe(&self) -> Result<(), Error> {
        self.address.connect().map(drop)
    }

    /// An image by name or id; `None` when it has none.
    pub(super) fn image(&self, name: &str) -> Result<Option<Known>, Error> {
        let what = "did not say what it has";
        let answer = self.get(&format!("/images/{name}/json"))?;
        if answer.status == 404 {
            return Ok(None);
        }
        let Inspected { id, repo_tags, rootfs } = self.parse(&self.fine(answer, what)?, what)?;
        let names = repo_tags.into_iter().flatten().filter_map(|name| name.parse().ok()).collect();
        let layers = rootfs.and_then(|rootfs| rootfs.layers).unwrap_or_default();
        Ok(Some(Known { id, names, layers }))
    }

    /// The images that it has, newest first.
    pub(super) fn images(&self) -> Result<Vec<Digest>, Error> {
        let what = "did not list its images";
        let listed: Vec<Listed> = self.parse(&self.fine(self.get("/images/json")?, what)?, what)?;
        Ok(listed.into_iter().map(|image| image.id).collect())
    }

    /// Whether its images are containerd's.
    pub(super) fn has_containerds_store(&self) -> Result<bool, Error> {
        let what = "did not say what store it has";
        let facts: Facts = self.parse(&self.fine(self.get("/info")?, what)?, what)?;
        let is_containerds = |pair: &Vec<String>| matches!(pair.as_slice(), [key, value] if key == "driver-type" && value.starts_with("io.containerd.snapshotter"));
        Ok(facts.driver_status.into_iter().flatten().any(|pair| is_containerds(&pair)))
    }

    /// Gives an image one more name.
    pub(super) fn tag(&self, image: &str, name: &Reference) -> Result<(), Error> {
        let what = "did not name the image";
        let (repository, tag) = parts(name);
        let path = format!("/images/{image}/tag?repo={}&tag={}", escaped(&repository), escaped(&tag));
        self.fine(wire::ask(&self.address, "POST", &path, &Payload::Nothing)?, what).map(drop)
    }

    /// Takes a name away from an image that has another.
    pub(super) fn untag(&self, name: &str) -> Result<(), Error> {
        let path = format!("/images/{name}?noprune=1");
        self.fine(wire::ask(&self.address, "DELETE", &path, &Payload::Nothing)?, "did not forget a name")
            .map(drop)
    }

    /// Has it read an archive of images.
    pub(super) fn load(&self, archive: &Archive<'_>, hear: &(dyn Fn(u64, u64) + Sync)) -> Result<(), Error> {
        self.work("POST", "/images/load?quiet=1", &Payload::Archive(archive, hear), "did not load the image")
    }

    /// Has it pull an image from a registry.
    pub(super) fn pull(&self, name: &str, tag: &str, platform: Option<&str>) -> Result<(), Error> {
        let platform =
            platform.map_or_else(String::new, |platform| format!("&platform={}", escaped(platform)));
        let path = format!("/images/create?fromImage={}&tag={tag}{platform}", escaped(name));
        self.work("POST", &path, &Payload::Nothing, "did not pull the image")
    }

    /// The archive of an image.
    pub(super) fn save(&self, id: &str) -> Result<wire::Body, Error> {
        let what = "did not give the image";
        let path = format!("/images/{id}/get");
        let mut answer = wire::open(&self.address, "GET", &path, &Payload::Nothing)?;
        if answer.status != 200 {
            let mut body = Vec::new();
            let _ = (&mut answer.body).take(LINE_LIMIT).read_to_end(&mut body);
            return Err(self.refused(what, &body));
        }
        Ok(answer.body)
    }

    /// Has it do something about which it tells by and by.
    fn work(&self, method: &str, path: &str, payload: &Payload<'_>, what: &'static str) -> Result<(), Error> {
        let mut answer = wire::open(&self.address, method, path, payload)?;
        self.check_version(answer.api_version.as_deref())?;
        if answer.status != 200 {
            let mut body = Vec::new();
            let _ = (&mut answer.body).take(LINE_LIMIT).read_to_end(&mut body);
            return Err(self.refused(what, &body));
        }
        let broken = |source| Error::Broken { engine: "docker", place: self.address.to_string(), source };
        let mut lines = BufReader::new(answer.body);
        loop {
            let mut line = Vec::new();
            if (&mut lines).take(LINE_LIMIT).read_until(b'\n', &mut line).map_err(broken)? == 0 {
                return Ok(());
            }
            if let Ok(Told { error: Some(reason) }) = serde_json::from_slice(&line) {
                return Err(Error::Refused { engine: "docker".to_owned(), what, reason });
            }
        }
    }

    fn get(&self, path: &str) -> Result<Answer, Error> {
        let answer = wire::ask(&self.address, "GET", path, &Payload::Nothing)?;
        self.check_version(answer.api_version.as_deref())?;
        Ok(answer)
    }

    fn check_version(&self, version: Option<&str>) -> Result<(), Error> {
        let Some(version) = version else { return Ok(()) };
        let number =
            version.split_once('.').and_then(|(a, b)| Some((a.parse::<u32>().ok()?, b.parse::<u32>().ok()?)));
        match number {
            Some(number) if number < OLDEST => {
                Err(Error::TooOld { place: self.address.to_string(), version: version.to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn fine(&self, answer: Answer, what: &'static str) -> Result<Vec<u8>, Error> {
        match answer.status {
            200..=299 => Ok(answer.body),
            _ => Err(self.refused(what, &answer.body)),
        }
    }

    /// It says why in JSON; what stands before it may not.
    fn refused(&self, what: &'static str, body: &[u8]) -> Error {
        #[derive(Deserialize)]
        struct Message {
            message: String,
        }
        let text = || String::from_utf8_lossy(body).trim().chars().take(500).collect::<String>();
        let reason = serde_json::from_slice::<Message>(body).map_or_else(|_| text(), |told| told.message);
        Error::Refused { engine: format!("docker at `{}`", self.address), what, reason }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, body: &[u8], what: &'static str) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|e| Error::Refused {
            engine: format!("docker at `{}`", self.address),
            what,
            reason: format!("its answer is not understood: {e}"),
        })
    }
}

/// As docker takes them apart.
fn parts(name: &Reference) -> (String, String) {
    let tag = name.tag().unwrap_or("latest");
    (format!("{}/{}", name.registry(), name.repository()), tag.to_owned())
}

/// What names and platforms have that means something in a query.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('+', "%2B").replace('&', "%26")
}
