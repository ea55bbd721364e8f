//! Secrets must not get into an image: each new layer is searched for those that the build was given, before anybody can
//! know the layer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::environment::Environment;
use super::error::Error;
use super::state::SshSource;
use crate::report::{Event, Span};
use crate::secrets::Secrets;
use crate::sync::lock;
use crate::tripwire::{Found, Needles, Scanner, What};

/// What becomes of a secret that is found in a layer, a configuration or a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tripwire {
    /// The build ends, before the layer has a name.
    #[default]
    Stop,
    /// It is told, and the build goes on.
    Warn,
    /// Nothing is searched for.
    Off,
}

/// The values that a build searches for. One that comes from a pipe is known once a step has read it.
#[derive(Debug, Default)]
pub struct Watched(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// So many values were known.
    values: usize,
    needles: Option<Arc<Needles>>,
    scanner: Option<Arc<Scanner>>,
    words: Option<Arc<Words>>,
}

/// What is hidden in output: values, and the long lines of those that have several; each with what stands in its place.
#[derive(Debug, Default)]
pub struct Words(Vec<(String, String)>);

/// Shorter lines of a secret are shown: `[global]` is one in many.
const MIN_LINE: usize = 16;

impl Watched {
    fn with<T>(
        &self,
        secrets: &Secrets,
        ssh: &BTreeMap<String, SshSource>,
        get: impl FnOnce(&mut Known) -> T,
    ) -> T {
        let mut known = lock(&self.0);
        let values = secrets.searched().len();
        if known.needles.is_none() || known.values != values {
            let mut needles = Needles::default();
            let named = named(secrets, ssh);
            named.iter().for_each(|(name, value)| needles.add(name, value));
            let words = Some(Words::of(&named)).filter(|words| !words.0.is_empty());
            let needles = Some(Arc::new(needles));
            *known = Known { values, needles, scanner: None, words: words.map(Arc::new) };
        }
        get(&mut known)
    }
}

/// All values that are known, and what messages call them.
fn named(secrets: &Secrets, ssh: &BTreeMap<String, SshSource>) -> Vec<(String, Vec<u8>)> {
    let secrets = secrets.searched().into_iter().map(|(id, value)| (format!("the secret `{id}`"), value));
    let mut named: Vec<(String, Vec<u8>)> = secrets.collect();
    for (id, source) in ssh {
        let SshSource::Keys(files) = source else { continue };
        let keys = files.iter().filter_map(|file| read_key(file));
        named.extend(keys.map(|key| (format!("the ssh key `{id}`"), key)));
    }
    named
}

impl Words {
    /// Of what a build was given.
    pub fn of_given(secrets: &Secrets, ssh: &BTreeMap<String, SshSource>) -> Self {
        Self::of(&named(secrets, ssh))
    }

    fn of(named: &[(String, Vec<u8>)]) -> Self {
        let texts = named.iter().filter_map(|(name, value)| Some((name, std::str::from_utf8(value).ok()?)));
        let mut words: Vec<(String, String)> = texts.flat_map(|(name, text)| words_of(name, text)).collect();
        // The longest first: one can be a part of another.
        words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        Self(words)
    }

    /// A text with names in the place of secrets; none where there are none.
    pub fn masked(&self, text: &str) -> Option<String> {
        let mut masked = None;
        for (word, name) in &self.0 {
            let text = masked.as_deref().unwrap_or(text);
            if text.contains(word.as_str()) {
                masked = Some(text.replace(word.as_str(), name));
            }
        }
        masked
    }
}

fn read_key(file: &Path) -> Option<Vec<u8>> {
    crate::rootfs::read_regular(file).ok().filter(|bytes| bytes.len() <= 64 << 10)
}

fn words_of(name: &str, text: &str) -> Vec<(String, String)> {
    let text = text.trim();
    let lines =
        text.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE && !line.starts_with("-----"));
    let words: Vec<&str> = match text.contains('\n') {
        true => lines.collect(),
        false => Some(text).filter(|text| text.len() >= 8).into_iter().collect(),
    };
    words.into_iter().map(|word| (word.to_owned(), format!("[{name}]"))).collect()
}

/// What is watched for in the layer of one step.
pub(super) struct Watch<'e> {
    environment: &'e Environment<'e>,
    span: Option<Span>,
}

impl<'a> Environment<'a> {
    /// Watches what the step at `span` makes.
    pub(super) fn watch(&'a self, span: Option<Span>) -> Watch<'a> {
        Watch { environment: self, span }
    }

    fn known<T>(&self, get: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let given = &self.given;
        (self.policy.tripwire != Tripwire::Off).then(|| given.watched.with(&given.secrets, &given.ssh, get))
    }

    /// What output is to be shown without, if there is anything; with `--tripwire off`, too. Asked once for each command: what its mounts read is
    /// known then.
    pub(super) fn words(&self) -> Option<Arc<Words>> {
        let given = &self.given;
        given.watched.with(&given.secrets, &given.ssh, |known| known.words.clone())
    }

    /// Fails, or tells, when a document that is to be published holds a secret. `what` is such as `the configuration of the image`.
    pub fn watch_document(&self, what: &str, bytes: &[u8]) -> Result<(), Error> {
        let Some(scanner) = self.watch(None).scanner().filter(|scanner| scanner.has_values()) else {
            return Ok(());
        };
        let given = scanner.whats(bytes).into_iter().filter(|what| matches!(what, What::Given { .. }));
        let found: Vec<Found> = given.map(|what| Found { path: String::new(), what }).collect();
        match found.is_empty() {
            true => Ok(()),
            false => self.watch(None).stop_or_tell(Leak { place: what.to_owned(), found }),
        }
    }
}

impl Watch<'_> {
    /// What a worker is to search for.
    pub(super) fn needles(&self) -> Option<Needles> {
        self.environment.known(|known| known.needles.as_deref().cloned().unwrap_or_default())
    }

    /// What searches here.
    pub(super) fn scanner(&self) -> Option<Arc<Scanner>> {
        self.environment.known(|known| {
            let Known { needles, scanner, .. } = known;
            let make = || Arc::new(Scanner::new(needles.as_deref().unwrap_or(&Needles::default())));
            Arc::clone(scanner.get_or_insert_with(make))
        })
    }

    /// Says what was found in a layer that is not published yet.
    ///
    /// # Errors
    /// A secret is in it, and the build is to stop.
    pub(super) fn judge(&self, found: Vec<Found>) -> Result<(), Error> {
        let found = self.masked(found);
        let is_given = |found: &Found| matches!(found.what, What::Given { .. });
        let (given, looks): (Vec<Found>, Vec<Found>) = found.into_iter().partition(is_given);
        let looks: Vec<Found> = looks.into_iter().filter(|found| !is_sample(&found.path)).collect();
        if !looks.is_empty() {
            let text = told(&looks, |what| match what {
                What::Looks { like } => format!("what looks like {like}"),
                What::Given { name, .. } => name.clone(),
            });
            self.warn(format!("everybody who gets the image gets {text}"));
        }
        match given.is_empty() {
            true => Ok(()),
            false => self.stop_or_tell(Leak { place: "the layer of this step".to_owned(), found: given }),
        }
    }

    /// Finds with names in the place of secrets that paths have: a message must not tell what it warns of.
    fn masked(&self, mut found: Vec<Found>) -> Vec<Found> {
        if found.is_empty() {
            return found;
        }
        let (words, needles) = (self.environment.words(), self.needles().unwrap_or_default());
        for Found { path, .. } in &mut found {
            let plain = words.as_ref().and_then(|words| words.masked(path));
            let text = needles.masked(plain.as_deref().unwrap_or(path));
            if let Some(masked) = text.or(plain) {
                *path = masked;
            }
        }
        found
    }

    fn stop_or_tell(&self, leak: Leak) -> Result<(), Error> {
        match self.environment.policy.tripwire {
            Tripwire::Stop => Err(Error::Leak(Box::new(leak))),
            Tripwire::Warn | Tripwire::Off => {
                self.warn(leak.to_string());
                Ok(())
            }
        }
    }

    fn warn(&self, message: String) {
        self.environment.services.events.send(Event::Warning(self.environment.warning(self.span, message)));
    }
}

/// A secret that was found where everybody can read it.
#[derive(Debug)]
pub struct Leak {
    place: String,
    found: Vec<Found>,
}

impl std::fmt::Display for Leak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let told = told(&self.found, |what| match what {
            What::Given { name, form } => format!("{name}{}", form.words()),
            What::Looks { like } => like.clone(),
        });
        write!(f, "{} holds {told}", self.place)
    }
}

impl std::error::Error for Leak {}

impl Leak {
    /// What a document that is to be published holds of secrets, if it does. `place` is such as `the configuration of the image`.
    pub fn in_document(
        secrets: &Secrets,
        ssh: &BTreeMap<String, SshSource>,
        place: &str,
        bytes: &[u8],
    ) -> Option<Self> {
        let mut needles = Needles::default();
        named(secrets, ssh).iter().for_each(|(name, value)| needles.add(name, value));
        let scanner = Scanner::new(&needles);
        let given = scanner.whats(bytes).into_iter().filter(|what| matches!(what, What::Given { .. }));
        let found: Vec<Found> = given.map(|what| Found { path: String::new(), what }).collect();
        (!found.is_empty()).then(|| Self { place: place.to_owned(), found })
    }

    /// Ways to go on.
    pub(super) fn help(&self) -> Vec<String> {
        let id = self.found.iter().find_map(|found| match &found.what {
            What::Given { name, .. } => name.strip_prefix("the secret `")?.strip_suffix('`'),
            What::Looks { .. } => None,
        });
        let off = match id {
            Some(id) => format!(
                "if it is no secret: `--secret id={id},…,tripwire=off`; to be told only: `--tripwire warn`"
            ),
            None => "to be told only: `--tripwire warn`".to_owned(),
        };
        let mount = "a later RUN that deletes it leaves it in this layer: let a mount bring it \
                     (`RUN --mount=type=secret,…`), write it nowhere, or delete it in the same RUN";
        vec![mount.to_owned(), off]
    }
}

/// Each thing once, with the first files that it is in.
fn told(found: &[Found], name: impl Fn(&What) -> String) -> String {
    const SHOWN: usize = 3;
    let mut things: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for found in found {
        let paths = things.entry(name(&found.what)).or_default();
        if !found.path.is_empty() && !paths.contains(&found.path.as_str()) {
            paths.push(&found.path);
        }
    }
    let told = things.into_iter().map(|(thing, paths)| match paths.as_slice() {
        [] => thing,
        paths => {
            let shown: Vec<String> = paths.iter().take(SHOWN).map(|path| format!("`/{path}`")).collect();
            let more = match paths.len().saturating_sub(SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{thing} (in {}{more})", shown.join(", "))
        }
    });
    told.collect::<Vec<_>>().join(", ")
}

/// Keys that everybody knows: libraries bring them for their own tests and as examples.
fn is_sample(path: &str) -> bool {
    const FOLDERS: [&str; 10] =
        ["test", "tests", "testing", "testdata", "fixtures", "spec", "example", "examples", "doc", "docs"];
    path.split('/')
        .any(|part| FOLDERS.contains(&part) || part.starts_with("test_") || part.contains("_test."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_a_few_at_a_time() {
        let found: Vec<Found> = (0..5)
            .map(|n| Found { path: format!("etc/{n}"), what: What::Looks { like: "a key".to_owned() } })
            .collect();
        let text = told(&found, |_| "a key".to_owned());
        assert_eq!(text, "a key (in `/etc/0`, `/etc/1`, `/etc/2` and 2 more)");
    }

    #[test]
    fn long_lines_of_a_secret_are_hidden_and_short_ones_are_not() {
        let words =
            |text| words_of("the secret `a`", text).into_iter().map(|(word, _)| word).collect::<Vec<_>>();
        assert_eq!(words("hunter2-hunter2\n"), ["hunter2-hunter2"]);
        assert_eq!(words("short"), [""; 0]);
        assert_eq!(words("[global]\nindex-url = https://u:p@host/\n"), ["index-url = https://u:p@host/"]);
    }
}
