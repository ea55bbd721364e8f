//! What a target was made of. A record has the materials of all its targets in one list: which of them a target took is told by its steps,
//! which name what they take, and by its contexts.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::attested::steps;
use super::{Subject, digest_set, uri};
use crate::oci::Reference;
use crate::record::format::{Material, MaterialKind, Step, Target};

/// The materials of the target, as SLSA's predicates list them.
pub(super) fn materials(subject: &Subject<'_>) -> Vec<Value> {
    let material = |material: &&Material| {
        let mut object = Map::from_iter([("uri".to_owned(), json!(uri(material)))]);
        if let Some(digest) = &material.digest {
            object.insert("digest".to_owned(), digest_set(digest));
        }
        Value::Object(object)
    };
    taken(subject).iter().map(material).collect()
}

/// Of several targets those that this one took, and those of which nobody knows who did: one too many does no harm.
fn taken<'r>(subject: &Subject<'r>) -> Vec<&'r Material> {
    let Subject { record, target, .. } = *subject;
    let own = Takes::of(subject);
    let others: Vec<Takes<'_>> = (record.targets.iter())
        .filter(|other| !std::ptr::eq(*other, target))
        .map(|other| Takes::of(&Subject { record, target: other, image: None }))
        .collect();
    let is_taken = |known: &&Material| own.has(known) || !others.iter().any(|other| other.has(known));
    record.materials.iter().filter(is_taken).collect()
}

/// What a target names.
struct Takes<'r> {
    target: &'r Target,
    titles: Vec<&'r str>,
    /// Images, by their whole names.
    images: BTreeSet<String>,
}

impl<'r> Takes<'r> {
    fn of(subject: &Subject<'r>) -> Self {
        let wanted = steps(subject);
        let of_target = subject.record.steps.iter().filter(|step| wanted.contains(&step.number));
        let titles: Vec<&str> = of_target.map(|step: &Step| step.title.as_str()).collect();
        let given = subject.target.contexts.iter().filter_map(|given| given.value.split_once("://"));
        let named = titles.iter().filter_map(|title| image(title)).chain(given.map(|(_, name)| name));
        let images = named.filter_map(full).collect();
        Self { target: subject.target, titles, images }
    }

    fn has(&self, known: &Material) -> bool {
        let name = known.name.as_str();
        let place = url(name);
        let is_context = url(&self.target.context.at) == place
            || self
                .target
                .contexts
                .iter()
                .any(|given| url(&given.value) == place || given.value.ends_with(name));
        match known.kind {
            MaterialKind::Image => self.images.contains(name) || is_context,
            MaterialKind::LocalImage => is_context || self.titles.iter().any(|title| title.contains(name)),
            MaterialKind::Git | MaterialKind::Http => {
                is_context || self.titles.iter().any(|title| title.contains(place))
            }
        }
    }
}

/// Without what a repository's name has behind it.
fn url(name: &str) -> &str {
    name.split('#').next().unwrap_or(name)
}

/// The image that a step takes: `FROM --platform=P NAME AS STAGE`, `image NAME`.
fn image(title: &str) -> Option<&str> {
    let named = title.strip_prefix("FROM ").or_else(|| title.strip_prefix("image "))?;
    named.split(' ').find(|word| !word.starts_with("--"))
}

fn full(name: &str) -> Option<String> {
    name.parse::<Reference>().ok().map(|name| name.with_default_tag().full())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::format::{Pair, Record};

    #[test]
    fn each_target_has_its_own() {
        let material = |kind, name: &str| Material {
            kind,
            name: name.to_owned(),
            digest: Some("sha256:ab".to_owned()),
            platform: None,
        };
        let step = |number, target, title: &str, needs: &[usize]| Step {
            number,
            target,
            title: title.to_owned(),
            place: "[1/1]".to_owned(),
            needs: needs.to_vec(),
            ..Step::default()
        };
        let given =
            Pair { name: "lib".to_owned(), value: "docker-image://docker.io/library/lib:1".to_owned() };
        let record = Record {
            targets: vec![Target::default(), Target { contexts: vec![given], ..Target::default() }],
            steps: vec![
                step(1, 1, "FROM debian:12", &[]),
                step(2, 1, "ADD https://example.org/a.tar /", &[1]),
                step(3, 2, "FROM --platform=linux/arm64 docker.io/library/alpine AS x", &[]),
                step(4, 2, "COPY --from=tools /a /", &[3, 5]),
                step(5, 2, "image tools:2", &[]),
                step(6, 2, "COPY --from=one /a /", &[4, 2]),
            ],
            materials: vec![
                material(MaterialKind::Image, "docker.io/library/alpine:latest"),
                material(MaterialKind::Image, "docker.io/library/debian:12"),
                material(MaterialKind::Image, "docker.io/library/lib:1"),
                material(MaterialKind::Image, "docker.io/library/tools:2"),
                material(MaterialKind::Http, "https://example.org/a.tar"),
                material(MaterialKind::Http, "https://example.org/nobodys"),
            ],
            ..Record::default()
        };
        let of = |target: usize| -> Vec<&str> {
            let subject = Subject { record: &record, target: &record.targets[target], image: None };
            taken(&subject).iter().map(|known| known.name.as_str()).collect()
        };
        let nobodys = "https://example.org/nobodys";
        assert_eq!(of(0), ["docker.io/library/debian:12", "https://example.org/a.tar", nobodys]);
        // It copies what the first one added, and what that stands on.
        assert_eq!(
            of(1),
            [
                "docker.io/library/alpine:latest",
                "docker.io/library/debian:12",
                "docker.io/library/lib:1",
                "docker.io/library/tools:2",
                "https://example.org/a.tar",
                nobodys
            ]
        );
    }
}
