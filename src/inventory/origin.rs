//! What an image is made of beside its base, as the record of its build tells: stages and images that were copied from, files of web
//! servers, repositories, the context.
//!
//! Pure: the record's steps are linked by their numbers, and a step is known by the layer that it made. An image whose layers were joined or
//! that was built elsewhere has none of this.

use std::collections::BTreeMap;

use serde::Serialize;

use super::document::{Base, Step};
use crate::oci::{DiffId, Digest, Layer, Reference};
use crate::record::{self, ContextKind, MaterialKind, Record, instruction};

/// What was taken from where.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// Everything, once.
    pub sources: Vec<Source>,
    /// For each layer of the image, which of it its step took, as places in `sources`.
    pub of_layer: Vec<Vec<usize>>,
    /// What the image stands on.
    pub base: Option<Base>,
}

/// Something that a step took files from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Source {
    /// Another stage of the Dockerfile.
    Stage(Stage),
    /// An image that COPY or a mount names.
    Image(Base),
    /// A file of a web server.
    Http {
        /// Where, without a password.
        url: String,
        /// `sha256:…`
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// A repository.
    Git {
        /// Where, without a password, and `#REF`.
        url: String,
        /// The commit.
        #[serde(skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
    },
    /// The build's context, or a named one.
    Context {
        /// The name; empty of the main one.
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
        /// The repository that it is, or that its folder lies in.
        #[serde(skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
        /// What is checked out there; the folder's files may have been changed since.
        #[serde(skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
        /// Its place in the repository.
        #[serde(skip_serializing_if = "String::is_empty")]
        path: String,
    },
}

/// A stage as it was when something was copied from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Its name, or `stage-N`.
    pub name: String,
    /// What it stands on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// What it is for.
    #[serde(skip)]
    pub platform: Option<String>,
    /// The layers that its instructions made, lowest first.
    #[serde(skip)]
    pub layers: Vec<(Layer, Step)>,
}

impl Source {
    /// In a few words.
    pub fn words(&self) -> String {
        let of_commit =
            |commit: &Option<String>| commit.as_ref().map_or_else(String::new, |id| format!(", commit {id}"));
        match self {
            Source::Stage(Stage { name, base, .. }) => match base {
                Some(base) => format!("stage `{name}`, on {}", base.words()),
                None => format!("stage `{name}`"),
            },
            Source::Image(image) => format!("image {}", image.words()),
            Source::Http { url, digest: Some(digest) } => format!("{url} ({digest})"),
            Source::Http { url, digest: None } => url.clone(),
            Source::Git { url, commit } => format!("{url}{}", of_commit(commit)),
            Source::Context { name, repository, commit, path } => {
                let what = match name.as_str() {
                    "" => "the context".to_owned(),
                    name => format!("the context `{name}`"),
                };
                let folder = if path.is_empty() { String::new() } else { format!("`{path}` of ") };
                let place = repository.as_ref().map(|url| format!(": {folder}{url}")).unwrap_or_default();
                format!("{what}{place}{}", of_commit(commit))
            }
        }
    }
}

impl Origins {
    /// What the record says of the image of one of its targets, which has these layers.
    pub fn of(record: &Record, at: usize, layers: &[Layer]) -> Self {
        let Some(target) = record.targets.get(at) else { return Self::default() };
        let reader = Reader { record, target };
        let mut origins = Self::default();
        for layer in layers {
            let diff_id = layer.diff_id.to_string();
            let made =
                record.steps.iter().find(|step| made(step).is_some_and(|made| made.diff_id == diff_id));
            let mut numbers = Vec::new();
            for source in made.map(|step| reader.sources(step)).unwrap_or_default() {
                let known = origins.sources.iter().position(|known| *known == source);
                numbers.push(known.unwrap_or_else(|| {
                    origins.sources.push(source);
                    origins.sources.len() - 1
                }));
            }
            numbers.sort_unstable();
            numbers.dedup();
            if let Some(step) = made {
                origins.base = reader.stage_of(step).base.or(origins.base);
            }
            origins.of_layer.push(numbers);
        }
        origins
    }
}

fn is_from(step: &record::Step) -> bool {
    instruction(&step.title, "FROM").is_some()
}

fn made(step: &record::Step) -> Option<&record::Layer> {
    step.layer.as_ref()
}

/// `[linux/arm64 build 2/5]` without the numbers: what the steps of one stage have in common.
fn stage_words(step: &record::Step) -> Option<&str> {
    let words = step.place.strip_prefix('[')?.strip_suffix(']')?;
    Some(words.rsplit_once(' ').map_or("", |(stage, _)| stage))
}

struct Reader<'r> {
    record: &'r Record,
    target: &'r record::Target,
}

impl<'r> Reader<'r> {
    fn step(&self, number: usize) -> Option<&'r record::Step> {
        self.record.steps.get(number.checked_sub(1)?)
    }

    fn needs(&self, step: &'r record::Step) -> impl Iterator<Item = &'r record::Step> {
        // Inputs come first, which also rules out circles in a record that somebody else wrote.
        step.needs.iter().filter(move |needed| **needed < step.number).filter_map(|needed| self.step(*needed))
    }

    /// What a step stands on, and the number of that among its needs: the instruction before it, or the line of FROM. That is not
    /// among them where its base is another stage or was named before, but what it needs itself is.
    fn parent(&self, step: &'r record::Step) -> Option<(&'r record::Step, usize)> {
        if is_from(step) {
            return self.needs(step).next().map(|needed| (needed, needed.number));
        }
        let is_same = |other: &record::Step| {
            stage_words(other).is_some()
                && (stage_words(other), &other.platform, other.target)
                    == (stage_words(step), &step.platform, step.target)
        };
        if let Some(same) = self.needs(step).find(|needed| is_same(needed)) {
            return Some((same, same.number));
        }
        let from = self.record.steps.iter().find(|other| is_from(other) && is_same(other));
        if let Some(from) = from {
            return Some((from, self.needs(from).next().map_or(from.number, |needed| needed.number)));
        }
        self.needs(step).find(|needed| needed.title == "scratch").map(|needed| (needed, needed.number))
    }

    fn sources(&self, step: &'r record::Step) -> Vec<Source> {
        let parent = self.parent(step).map(|(_, number)| number);
        let others = self.needs(step).filter(|needed| Some(needed.number) != parent);
        let mut found: Vec<Source> = others.filter_map(|needed| self.source(needed)).collect();
        if instruction(&step.title, "ADD").is_some() || step.title.starts_with("context `") {
            found.extend(self.fetched(&step.title));
        }
        found
    }

    /// What a step is to one that copies from it.
    fn source(&self, step: &'r record::Step) -> Option<Source> {
        if stage_words(step).is_some() {
            return Some(Source::Stage(self.stage_of(step)));
        }
        let quoted = |prefix: &str| step.title.strip_prefix(prefix)?.strip_suffix('`');
        if let Some(name) = step.image() {
            return Some(Source::Image(self.image(name, step.platform.as_deref())));
        }
        if let Some(name) = quoted("load context `").or_else(|| quoted("context `")) {
            return Some(self.named(name));
        }
        (step.title == "load build context").then(|| self.context()).flatten()
    }

    fn stage_of(&self, tip: &'r record::Step) -> Stage {
        let words = stage_words(tip).unwrap_or_default();
        let name = words.rsplit(' ').next().unwrap_or_default().to_owned();
        let mut stage = Stage { name, base: None, platform: tip.platform.clone(), layers: Vec::new() };
        let mut next = Some(tip);
        while let Some(step) = next {
            if let Some((layer, made)) = made(step).and_then(layer).zip(self.made_by(step)) {
                stage.layers.push((layer, made));
            }
            let parent =
                self.parent(step).map(|(parent, _)| parent).filter(|parent| parent.number < step.number);
            let from = step.image().filter(|name| is_from(step) && *name != "scratch");
            if let (None, Some(name)) = (parent, from) {
                stage.base = Some(self.image(name, step.platform.as_deref()));
            }
            next = parent;
        }
        stage.layers.reverse();
        stage
    }

    fn made_by(&self, step: &record::Step) -> Option<Step> {
        // The line of a base has its uppermost layer, which the base's own list has, too.
        let is_instruction = stage_words(step).is_some() && !is_from(step);
        let number =
            || step.place.rsplit(' ').next()?.split_once('/')?.0.trim_start_matches('[').parse().ok();
        is_instruction.then(|| Step {
            number: number().unwrap_or_default(),
            instruction: step.title.clone(),
            line: step.lines.map(|(first, _)| first),
            base: Some(false),
        })
    }

    /// An image with the digest that it had.
    fn image(&self, name: &str, platform: Option<&str>) -> Base {
        let full = name.parse::<Reference>().map(|reference| reference.with_default_tag().full());
        let full = full.unwrap_or_else(|_| name.to_owned());
        let is_it = |known: &&record::Material| {
            matches!(known.kind, MaterialKind::Image | MaterialKind::LocalImage)
                && (known.name == full || known.name == name)
        };
        let mut known: Vec<_> = self.record.materials.iter().filter(is_it).collect();
        known.sort_by_key(|known| known.platform.as_deref() != platform);
        Base { name: name.to_owned(), digest: known.first().and_then(|known| known.digest.clone()) }
    }

    /// Files and repositories that an instruction names.
    fn fetched(&self, title: &str) -> Vec<Source> {
        let is_named = |known: &&record::Material| {
            let url = known.name.split('#').next().unwrap_or(&known.name);
            !url.is_empty() && title.contains(url)
        };
        self.record.materials.iter().filter(is_named).filter_map(fetched).collect()
    }

    fn named(&self, name: &str) -> Source {
        let given = self.target.contexts.iter().find(|given| given.name == name);
        let given = given.map(|given| given.value.as_str()).unwrap_or_default();
        let known = self.record.materials.iter().find(|known| known.name == given);
        known.and_then(fetched).unwrap_or_else(|| Source::Context {
            name: name.to_owned(),
            repository: None,
            commit: None,
            path: String::new(),
        })
    }

    /// The main context, if anything is known of it: of a folder in no repository there is nothing to say.
    fn context(&self) -> Option<Source> {
        let context = &self.target.context;
        if context.kind == ContextKind::Url {
            let known = self.record.materials.iter().find(|known| known.name == context.at);
            let digest = known.and_then(|known| known.digest.clone());
            return Some(Source::Http { url: context.at.clone(), digest });
        }
        let (repository, commit) = (context.repository(), context.revision());
        (repository.is_some() || commit.is_some()).then(|| Source::Context {
            name: String::new(),
            repository: repository.map(str::to_owned),
            commit: commit.map(str::to_owned),
            path: context.repository.as_ref().map(|found| found.path.clone()).unwrap_or_default(),
        })
    }
}

fn fetched(known: &record::Material) -> Option<Source> {
    let hex = |digest: &String| digest.split_once(':').map_or(digest.clone(), |(_, hex)| hex.to_owned());
    match known.kind {
        MaterialKind::Http => Some(Source::Http { url: known.name.clone(), digest: known.digest.clone() }),
        MaterialKind::Git => {
            Some(Source::Git { url: known.name.clone(), commit: known.digest.as_ref().map(hex) })
        }
        MaterialKind::Image | MaterialKind::LocalImage => None,
    }
}

fn layer(known: &record::Layer) -> Option<Layer> {
    let diff_id = DiffId(known.diff_id.parse().ok()?);
    let digest: Digest = known.digest.parse().ok()?;
    Some(Layer {
        descriptor: crate::oci::Descriptor::new(crate::oci::MediaType::LAYER_GZIP, digest, known.size),
        diff_id,
    })
}

/// Numbers of sources by the layers that took from them.
pub(super) fn users(origins: &Origins) -> BTreeMap<usize, Vec<usize>> {
    let mut users: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (layer, sources) in origins.of_layer.iter().enumerate() {
        sources.iter().for_each(|source| users.entry(*source).or_default().push(layer));
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_behind_an_argument_has_its_digest() {
        let digest = Digest::of(b"layer");
        let made = record::Layer { digest: digest.to_string(), diff_id: digest.to_string(), size: 1 };
        let step = |number, title: &str| record::Step {
            number,
            target: 1,
            place: format!("[{number}/2]"),
            title: title.to_owned(),
            ..record::Step::default()
        };
        let name = "docker.io/library/debian:12".to_owned();
        let material = record::Material {
            kind: MaterialKind::Image,
            name: name.clone(),
            digest: Some("sha256:ab".to_owned()),
            platform: None,
        };
        let base = |image: Option<String>| {
            let record = Record {
                targets: vec![record::Target::default()],
                steps: vec![
                    record::Step { image, ..step(1, "FROM ${BASE} AS x") },
                    record::Step { needs: vec![1], layer: Some(made.clone()), ..step(2, "COPY a /") },
                ],
                materials: vec![material.clone()],
                ..Record::default()
            };
            Origins::of(&record, 0, layer(&made).as_slice()).base
        };
        assert_eq!(base(Some(name.clone())), Some(Base { name, digest: Some("sha256:ab".to_owned()) }));
        // `${BASE}` is no image.
        assert_eq!(base(None), None);
    }
}
