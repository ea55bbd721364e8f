//! What a target was made of. A record has the materials of all its targets in one list: which of them a target took is told by its steps,
//! which name what they take, and by its contexts.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::attested::steps;
use super::{Subject, digest_set, uri};
use crate::oci::Reference;
use crate::record::format::{Material, MaterialKind, Step, Target, image, instruction, is_open};

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
    let is_taken = |known: &&Material| own.may_have(known) || !others.iter().any(|other| other.has(known));
    record.materials.iter().filter(is_taken).collect()
}

/// What a target names.
struct Takes<'r> {
    target: &'r Target,
    titles: Vec<&'r str>,
    /// Images, by their whole names.
    images: BTreeSet<String>,
    /// Whether it may have taken an image that no line names: of which nobody knows what the argument in it was.
    has_open_image: bool,
    /// What URLs begin with that have an argument in them.
    open_urls: Vec<&'r str>,
}

impl<'r> Takes<'r> {
    fn of(subject: &Subject<'r>) -> Self {
        let wanted = steps(subject);
        let of_target = || subject.record.steps.iter().filter(|step| wanted.contains(&step.number));
        let titles: Vec<&str> = of_target().map(|step: &Step| step.title.as_str()).collect();
        let given = subject.target.contexts.iter().filter_map(|given| given.value.split_once("://"));
        let named = of_target().filter_map(Step::image).chain(given.map(|(_, name)| name));
        let images = named.filter_map(full).collect();
        let is_open_image = |step: &Step| image(&step.title).is_some() && step.image().is_none();
        let added = titles.iter().filter_map(|title| instruction(title, "ADD"));
        let words = added.flat_map(str::split_whitespace).filter(|word| !word.starts_with("--"));
        let open_urls = words.filter(|word| is_open(word)).filter_map(|word| word.split(['$', '…']).next());
        Self {
            target: subject.target,
            images,
            has_open_image: of_target().any(is_open_image),
            open_urls: open_urls.collect(),
            titles,
        }
    }

    /// Whether it may have taken this, for all that is known.
    fn may_have(&self, known: &Material) -> bool {
        self.has(known)
            || match known.kind {
                MaterialKind::Image | MaterialKind::LocalImage => self.has_open_image,
                MaterialKind::Git | MaterialKind::Http => {
                    self.open_urls.iter().any(|begin| known.name.starts_with(begin))
                }
            }
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

    /// Of an argument's value the record has no more than what it was taken for; where not even that is known, all that it may have been.
    #[test]
    fn what_an_argument_names_is_told() {
        let material = |kind, name: &str| Material {
            kind,
            name: name.to_owned(),
            digest: Some("sha256:ab".to_owned()),
            platform: None,
        };
        let taken = |title: &str, image: Option<&str>| {
            let step = |number, target, title: &str, image: Option<&str>| Step {
                number,
                target,
                title: title.to_owned(),
                image: image.map(str::to_owned),
                place: "[1/1]".to_owned(),
                ..Step::default()
            };
            let record = Record {
                targets: vec![Target::default(), Target::default()],
                steps: vec![
                    step(1, 1, "FROM debian:12", None),
                    step(2, 1, "FROM alpine:3", None),
                    step(3, 1, "ADD https://example.org/a.tar /", None),
                    step(4, 2, title, image),
                ],
                materials: vec![
                    material(MaterialKind::Image, "docker.io/library/alpine:3"),
                    material(MaterialKind::Image, "docker.io/library/debian:12"),
                    material(MaterialKind::Http, "https://example.org/a.tar"),
                ],
                ..Record::default()
            };
            let subject = Subject { record: &record, target: &record.targets[1], image: None };
            taken(&subject).iter().map(|known| known.name.clone()).collect::<Vec<_>>().join(" ")
        };
        let (alpine, debian, file) =
            ("docker.io/library/alpine:3", "docker.io/library/debian:12", "https://example.org/a.tar");
        let all = format!("{alpine} {debian}");
        for (title, image, expected) in [
            ("from debian:12", None, debian),
            ("FROM ${BASE} AS x", Some(debian), debian),
            ("FROM ${BASE} AS x", None, &all),
            ("image …:12", None, &all),
            ("ADD --chmod=$M https://example.org/$V /", None, file),
            ("ADD https://other.example/$V /", None, ""),
            ("ADD $URL /", None, file),
            ("RUN make $X", None, ""),
        ] {
            assert_eq!(taken(title, image), expected, "{title}");
        }
    }
}
