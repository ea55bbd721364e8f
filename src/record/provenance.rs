//! The provenance of what a build made, from its record: SLSA's predicates in the form that BuildKit gives them
//! (moby/buildkit, `docs/attestations/slsa-definitions.md`), which `docker buildx` and its clients read.
//!
//! Of build arguments only those are in it whose values were recorded; of secrets and agents only ids. What is kept beside an image is
//! in `attested`.

mod attested;
mod materials;
mod purl;

use materials::materials;

pub use attested::{BUILD_TYPE, Terms, Version, predicate};
pub use purl::{image_purl, uri};

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::format::{Context, ContextKind, Image, Record, Step, Target};
use crate::oci::rfc3339_ms;
use crate::text::url::without_passwords;

/// The type of SLSA's first predicate of version 1.
pub const SLSA_1: &str = "https://slsa.dev/provenance/v1";
/// The type of the one before.
pub const SLSA_02: &str = "https://slsa.dev/provenance/v0.2";

const BUILD_TYPE_1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const BUILD_TYPE_02: &str = "https://mobyproject.org/buildkit@v1";

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Neither steps nor what is known of the run.
    Min,
    /// All of it.
    Max,
}

/// A build's target, and the image of it that is meant; `None` where there is one only.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'r> {
    /// The record.
    pub record: &'r Record,
    /// The target.
    pub target: &'r Target,
    /// The image.
    pub image: Option<&'r Image>,
}

impl Subject<'_> {
    /// The predicate of version 1.
    pub fn slsa_1(&self) -> Value {
        let Subject { record, target, .. } = self;
        let mut internal = Map::from_iter([("builderPlatform".to_owned(), json!(record.machine.platform))]);
        internal.insert("buildConfig".to_owned(), self.build_config());
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE_1,
                "externalParameters": {
                    "configSource": config_source(target, record, "path"),
                    "request": parameters(target),
                },
                "internalParameters": internal,
                "resolvedDependencies": materials(self),
            },
            "runDetails": {
                "builder": { "id": "" },
                "metadata": {
                    "invocationId": record.id,
                    "startedOn": rfc3339_ms(record.started_ms),
                    "finishedOn": self.finished(),
                    "buildkit_metadata": self.metadata(),
                    "buildkit_completeness": {
                        "request": all_arguments(target), "resolvedDependencies": is_complete(target),
                    },
                },
            },
        })
    }

    /// The predicate before that, which `--metadata-file` has.
    pub fn slsa_02(&self, mode: Mode) -> Value {
        let Subject { record, target, .. } = self;
        let mut predicate = Map::from_iter([
            ("builder".to_owned(), json!({"id": ""})),
            ("buildType".to_owned(), json!(BUILD_TYPE_02)),
        ]);
        let materials = materials(self);
        if !materials.is_empty() {
            predicate.insert("materials".to_owned(), json!(materials));
        }
        let invocation = json!({
            "configSource": config_source(target, record, "entryPoint"),
            "parameters": parameters(target),
            "environment": { "platform": record.machine.platform },
        });
        predicate.insert("invocation".to_owned(), invocation);
        if mode == Mode::Max {
            predicate.insert("buildConfig".to_owned(), self.build_config());
            let metadata = json!({
                "buildInvocationID": record.id,
                "buildStartedOn": rfc3339_ms(record.started_ms),
                "buildFinishedOn": self.finished(),
                "completeness": {
                    "parameters": all_arguments(target), "environment": true, "materials": is_complete(target),
                },
                "reproducible": false,
                "https://mobyproject.org/buildkit@v1#metadata": self.metadata(),
            });
            predicate.insert("metadata".to_owned(), metadata);
        }
        Value::Object(predicate)
    }

    fn finished(&self) -> String {
        rfc3339_ms(self.record.started_ms.saturating_add(self.record.took_ms.unwrap_or_default()))
    }

    /// The steps, without what BuildKit's solver would be told of each.
    fn build_config(&self) -> Value {
        let step = |step: &Step| {
            let inputs: Vec<String> = step.needs.iter().map(|number| format!("{}:0", id(*number))).collect();
            let mut object = Map::from_iter([("id".to_owned(), json!(id(step.number)))]);
            if !inputs.is_empty() {
                object.insert("inputs".to_owned(), json!(inputs));
            }
            Value::Object(object)
        };
        json!({ "llbDefinition": self.record.steps.iter().map(step).collect::<Vec<_>>() })
    }

    fn metadata(&self) -> Value {
        let Subject { record, target, image } = self;
        let mut metadata = Map::new();
        let vcs = [("source", target.context.repository()), ("revision", target.context.revision())];
        let vcs: BTreeMap<&str, &str> =
            vcs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        if !vcs.is_empty() && target.context.kind == ContextKind::Folder {
            metadata.insert("vcs".to_owned(), json!(vcs));
        }
        if let Some(text) = &target.dockerfile.text {
            metadata.insert("source".to_owned(), source(record, target, text));
        }
        let layers = image.iter().flat_map(|image| &image.layers);
        let mut by_step: Map<String, Value> = Map::new();
        for layer in layers {
            let made = |step: &&Step| step.layer.as_ref().is_some_and(|made| made.diff_id == layer.diff_id);
            let Some(step) = record.steps.iter().find(made) else { continue };
            let descriptor = json!({"digest": layer.digest, "size": layer.size});
            by_step.insert(format!("{}:0", id(step.number)), json!([[descriptor]]));
        }
        if !by_step.is_empty() {
            metadata.insert("layers".to_owned(), Value::Object(by_step));
        }
        Value::Object(metadata)
    }
}

fn id(number: usize) -> String {
    format!("step{}", number.saturating_sub(1))
}

/// The Dockerfile, and which lines of it each step is.
fn source(record: &Record, target: &Target, text: &str) -> Value {
    let at = record.target_number(target);
    let mut locations = Map::new();
    for step in record.steps_of(at) {
        let Some((first, last)) = step.lines else { continue };
        let range = json!({"start": {"line": first}, "end": {"line": last}});
        locations.insert(id(step.number), json!({"locations": [{"ranges": [range]}]}));
    }
    // Encoded, nothing that looks over the whole would find one.
    let told = without_passwords(text);
    json!({
        "locations": locations,
        "infos": [{
            "filename": file_name(target), "language": "Dockerfile", "data": STANDARD.encode(told.as_bytes()),
        }],
    })
}

fn file_name(target: &Target) -> &str {
    target.dockerfile.name.rsplit('/').next().unwrap_or_default()
}

/// Where the Dockerfile came from.
fn config_source(target: &Target, record: &Record, path: &str) -> Value {
    let Context { kind, at, commit, .. } = &target.context;
    let mut source = Map::new();
    match kind {
        ContextKind::Git => {
            source.insert("uri".to_owned(), json!(at));
            let digest = commit.as_deref().map(|commit| digest_set(&algorithm(commit)));
            digest.into_iter().for_each(|digest| drop(source.insert("digest".to_owned(), digest)));
        }
        ContextKind::Url => {
            source.insert("uri".to_owned(), json!(at));
            let known = record.materials.iter().find(|known| known.name == *at);
            let digest = known.and_then(|known| known.digest.as_deref()).map(digest_set);
            digest.into_iter().for_each(|digest| drop(source.insert("digest".to_owned(), digest)));
        }
        ContextKind::Folder | ContextKind::Stdin | ContextKind::Archive => {}
    }
    source.insert(path.to_owned(), json!(file_name(target)));
    Value::Object(source)
}

fn algorithm(commit: &str) -> String {
    format!("{}:{commit}", if commit.len() == 64 { "sha256" } else { "sha1" })
}

/// What was asked for.
fn parameters(target: &Target) -> Value {
    let mut args: BTreeMap<String, &str> = BTreeMap::new();
    for argument in &target.arguments {
        if let Some(value) = &argument.value {
            args.insert(format!("build-arg:{}", argument.name), value);
        }
    }
    args.extend(target.labels.iter().map(|label| (format!("label:{}", label.name), label.value.as_str())));
    args.extend(
        target.contexts.iter().map(|named| (format!("context:{}", named.name), named.value.as_str())),
    );
    args.extend(target.stage.iter().map(|stage| ("target".to_owned(), stage.as_str())));
    // What is true of the machine says nothing of the result.
    let own = target.attributes.iter().filter(|(name, _)| *name != "image-resolve-mode");
    args.extend(own.map(|(name, value)| (name.clone(), value.as_str())));
    let mut parameters = Map::from_iter([("frontend".to_owned(), json!("dockerfile.v0"))]);
    if !args.is_empty() {
        parameters.insert("args".to_owned(), json!(args));
    }
    let ids =
        |ids: &[String]| -> Vec<Value> { ids.iter().map(|id| json!({"id": id, "optional": true})).collect() };
    for (name, ids) in [("secrets", ids(&target.secrets)), ("ssh", ids(&target.ssh))] {
        if !ids.is_empty() {
            parameters.insert(name.to_owned(), json!(ids));
        }
    }
    if target.context.kind == ContextKind::Folder {
        parameters.insert("locals".to_owned(), json!([{"name": "context"}, {"name": "dockerfile"}]));
    }
    Value::Object(parameters)
}

fn all_arguments(target: &Target) -> bool {
    target.arguments.iter().all(|argument| argument.value.is_some())
}

/// Whether the materials are all that it was made of: what lies in a folder is in no list.
pub fn is_complete(target: &Target) -> bool {
    matches!(target.context.kind, ContextKind::Git | ContextKind::Url)
        && target.contexts.iter().all(|named| named.value.contains(':'))
}

fn digest_set(digest: &str) -> Value {
    let (algorithm, hex) = digest.split_once(':').unwrap_or(("sha256", digest));
    json!({ algorithm: hex })
}

#[cfg(test)]
mod tests {
    use super::super::format::{Argument, Dockerfile, Layer, Material, MaterialKind, Pair};
    use super::*;

    pub(super) fn record() -> Record {
        let pair = |name: &str, value: &str| Pair { name: name.to_owned(), value: value.to_owned() };
        let layer = Layer { digest: "sha256:l".to_owned(), diff_id: "sha256:d".to_owned(), size: 3 };
        let target = Target {
            dockerfile: Dockerfile {
                name: "docker/Dockerfile".to_owned(),
                text: Some("FROM a\n".to_owned()),
                ..Dockerfile::default()
            },
            arguments: vec![
                Argument { name: "A".to_owned(), value: Some("1".to_owned()) },
                Argument { name: "TOKEN".to_owned(), value: None },
            ],
            labels: vec![pair("l", "v")],
            secrets: vec!["s".to_owned()],
            ..Target::default()
        };
        let steps = vec![
            Step { number: 1, target: 1, lines: Some((1, 1)), ..Step::default() },
            Step { number: 2, target: 1, needs: vec![1], layer: Some(layer), ..Step::default() },
        ];
        let materials = vec![Material {
            kind: MaterialKind::Image,
            name: "debian:12".to_owned(),
            digest: Some("sha256:ab".to_owned()),
            platform: None,
        }];
        Record { id: "abc".to_owned(), targets: vec![target], steps, materials, ..Record::default() }
    }

    #[test]
    fn the_least_has_no_steps_and_no_times() {
        let record = record();
        let subject = Subject { record: &record, target: &record.targets[0], image: None };
        let least = subject.slsa_02(Mode::Min);
        assert_eq!(least["invocation"]["configSource"], json!({"entryPoint": "Dockerfile"}));
        assert_eq!(least["invocation"]["parameters"]["args"], json!({"build-arg:A": "1", "label:l": "v"}));
        assert_eq!(least["materials"][0]["digest"], json!({"sha256": "ab"}));
        assert!(least.get("metadata").is_none() && least.get("buildConfig").is_none());
        assert!(!least.to_string().contains("TOKEN"));
    }

    #[test]
    fn passwords_of_urls_in_the_dockerfile_are_not_told() {
        let mut record = record();
        record.targets[0].dockerfile.text = Some("FROM a\nADD https://me:pw@h/x /\n".to_owned());
        let subject = Subject { record: &record, target: &record.targets[0], image: None };
        for all in [subject.slsa_1(), subject.slsa_02(Mode::Max)] {
            let encoded = STANDARD.encode("FROM a\nADD https://xxxxx:xxxxx@h/x /\n");
            assert!(all.to_string().contains(&encoded), "{all}");
        }
    }

    #[test]
    fn all_of_it_has_steps_with_their_lines_and_layers() {
        let record = record();
        let layer = record.steps[1].layer.clone();
        let made = Image {
            platform: String::new(),
            manifest: String::new(),
            media_type: String::new(),
            size: 0,
            config: String::new(),
            layers: layer.into_iter().collect(),
        };
        let subject = Subject { record: &record, target: &record.targets[0], image: Some(&made) };
        let all = subject.slsa_02(Mode::Max);
        assert_eq!(all["buildConfig"]["llbDefinition"][1], json!({"id": "step1", "inputs": ["step0:0"]}));
        let metadata = &all["metadata"];
        assert_eq!(
            metadata["completeness"],
            json!({"parameters": false, "environment": true, "materials": false})
        );
        let own = &metadata["https://mobyproject.org/buildkit@v1#metadata"];
        assert_eq!(own["layers"]["step1:0"][0][0]["size"], 3);
        assert_eq!(own["source"]["infos"][0]["data"], "RlJPTSBhCg==");
        assert!(own["source"]["locations"].get("step0").is_some());
        let newest = subject.slsa_1();
        assert_eq!(newest["runDetails"]["metadata"]["invocationId"], "abc");
        assert_eq!(newest["buildDefinition"]["externalParameters"]["request"]["secrets"][0]["id"], "s");
    }
}
