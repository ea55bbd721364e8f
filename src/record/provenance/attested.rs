//! Provenance that is kept beside an image: SLSA's predicates with a build type of rbuild's own.
//!
//! What means the same as in BuildKit's has the same name, because there are readers of that. In the place of BuildKit's solver definition
//! are the steps of the record.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    Mode, SLSA_1, SLSA_02, Subject, all_arguments, config_source, id, is_complete, materials, parameters,
};
use crate::oci::rfc3339_ms;
use crate::record::format::Step;

/// What tells how to read it: `docs/attestations.md` has its members.
pub const BUILD_TYPE: &str = "urn:rbuild:build:v1";
/// The builder, unless the user says by whom or where the build was run.
const BUILDER: &str = "urn:rbuild:builder";

/// Which of SLSA's predicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// [`SLSA_1`]
    #[default]
    V1,
    /// [`SLSA_02`]
    V02,
}

impl Version {
    /// The type of the predicate.
    pub fn predicate_type(self) -> &'static str {
        match self {
            Version::V1 => SLSA_1,
            Version::V02 => SLSA_02,
        }
    }
}

/// What is to be said, and in which words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Which predicate.
    pub version: Version,
    /// How much.
    pub mode: Mode,
    /// Who built it.
    pub builder_id: Option<String>,
    /// Whether the user says that the build can be repeated.
    pub is_reproducible: bool,
}

/// The predicate. Arguments whose values the record has are in it with [`Mode::Max`] only, and so are labels, and ids of secrets and
/// agents.
pub fn predicate(subject: &Subject<'_>, terms: &Terms) -> Value {
    let said = Said::of(subject, terms);
    match terms.version {
        Version::V1 => said.slsa_1(),
        Version::V02 => said.slsa_02(),
    }
}

/// What both predicates have.
struct Said<'s> {
    subject: Subject<'s>,
    terms: &'s Terms,
    parameters: Value,
    has_all_parameters: bool,
    /// Numbers of steps that the target is of.
    steps: BTreeSet<usize>,
}

impl<'s> Said<'s> {
    fn of(subject: &Subject<'s>, terms: &'s Terms) -> Self {
        let mut parameters = parameters(subject.target);
        let mut has_all_parameters = all_arguments(subject.target);
        if let Some(args) = parameters.get_mut("args").and_then(Value::as_object_mut) {
            for (name, value) in args.iter_mut() {
                let context = name.strip_prefix("context:");
                // Where folders lie on this machine is nobody's affair.
                if let Some(context) = context.filter(|_| is_local(value)) {
                    *value = json!(format!("local:{context}"));
                }
            }
            if terms.mode == Mode::Min {
                let all = args.len();
                args.retain(|name, _| !name.starts_with("build-arg:") && !name.starts_with("label:"));
                has_all_parameters &= all == args.len();
            }
        }
        if let Some(parameters) = parameters.as_object_mut().filter(|_| terms.mode == Mode::Min) {
            parameters.remove("secrets");
            parameters.remove("ssh");
        }
        Self { subject: *subject, terms, parameters, has_all_parameters, steps: steps(subject) }
    }

    fn slsa_1(&self) -> Value {
        let Subject { record, target, .. } = self.subject;
        let mut internal = Map::from_iter([("builderPlatform".to_owned(), json!(record.machine.platform))]);
        internal.extend(self.build_config().map(|config| ("buildConfig".to_owned(), config)));
        let mut metadata = json!({
            "invocationId": record.id,
            "startedOn": rfc3339_ms(record.started_ms),
            "finishedOn": self.subject.finished(),
            "buildkit_metadata": self.metadata(),
            "buildkit_hermetic": self.is_hermetic(),
            "buildkit_completeness": {
                "request": self.has_all_parameters, "resolvedDependencies": is_complete(target),
            },
        });
        if self.terms.is_reproducible {
            metadata["buildkit_reproducible"] = json!(true);
        }
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "configSource": config_source(target, record, "path"), "request": self.parameters,
                },
                "internalParameters": internal,
                "resolvedDependencies": materials(&self.subject),
            },
            "runDetails": {
                "builder": { "id": self.builder(), "version": { "rbuild": record.rbuild } },
                "metadata": metadata,
            },
        })
    }

    fn slsa_02(&self) -> Value {
        let Subject { record, target, .. } = self.subject;
        let mut predicate = json!({
            "builder": { "id": self.builder() },
            "buildType": BUILD_TYPE,
            "materials": materials(&self.subject),
            "invocation": {
                "configSource": config_source(target, record, "entryPoint"),
                "parameters": self.parameters,
                "environment": { "platform": record.machine.platform },
            },
            "metadata": {
                "buildInvocationID": record.id,
                "buildStartedOn": rfc3339_ms(record.started_ms),
                "buildFinishedOn": self.subject.finished(),
                "completeness": {
                    "parameters": self.has_all_parameters, "environment": true, "materials": is_complete(target),
                },
                "reproducible": self.terms.is_reproducible,
                "https://mobyproject.org/buildkit@v1#metadata": self.metadata(),
                "https://mobyproject.org/buildkit@v1#hermetic": self.is_hermetic(),
            },
        });
        if let Some(config) = self.build_config() {
            predicate["buildConfig"] = config;
        }
        predicate
    }

    fn builder(&self) -> &str {
        self.terms.builder_id.as_deref().unwrap_or(BUILDER)
    }

    fn build_config(&self) -> Option<Value> {
        let step = |step: &Step| {
            let mut object = Map::from_iter([
                ("id".to_owned(), json!(id(step.number))),
                ("instruction".to_owned(), json!(step.name())),
            ]);
            let inputs: Vec<String> = step.needs.iter().map(|number| format!("{}:0", id(*number))).collect();
            let known = [
                ("inputs", (!inputs.is_empty()).then(|| json!(inputs))),
                ("lines", step.lines.map(|(first, last)| json!([first, last]))),
                ("platform", step.platform.as_ref().map(|platform| json!(platform))),
            ];
            object.extend(known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
            Value::Object(object)
        };
        (self.terms.mode == Mode::Max)
            .then(|| json!({ "steps": self.own_steps().map(step).collect::<Vec<_>>() }))
    }

    fn own_steps(&self) -> impl Iterator<Item = &Step> {
        self.subject.record.steps.iter().filter(|step| self.steps.contains(&step.number))
    }

    /// What a reader of BuildKit's looks for: the commit always, the rest with [`Mode::Max`].
    fn metadata(&self) -> Value {
        let mut metadata = self.subject.metadata();
        if let Some(members) = metadata.as_object_mut().filter(|_| self.terms.mode == Mode::Min) {
            members.retain(|name, _| name == "vcs");
        }
        metadata
    }

    /// Whether no command could use a network, as far as the record tells.
    fn is_hermetic(&self) -> bool {
        let is_off =
            self.subject.target.attributes.get("force-network-mode").is_some_and(|mode| mode == "none");
        is_off
            || !self
                .own_steps()
                .any(|step| step.title.split_whitespace().any(|word| word.eq_ignore_ascii_case("run")))
    }
}

/// A context of this machine, by its path.
fn is_local(value: &Value) -> bool {
    let path = value.as_str().map(|text| text.strip_prefix("oci-layout://").unwrap_or(text));
    path.is_some_and(|path| path.starts_with(['/', '.']))
}

/// Whether a line of the display is about how the image came about, and not about where it goes. What is fetched is needed by a step.
fn is_part(step: &Step) -> bool {
    !step.place.is_empty() || step.lines.is_some() || step.layer.is_some()
}

/// The steps of a target: its own, and all that these need, whoever has them. What several targets share is listed as the first's.
pub(super) fn steps(subject: &Subject<'_>) -> BTreeSet<usize> {
    let Subject { record, target, image } = subject;
    let at = record.target_number(target);
    let layers = image.iter().flat_map(|image| &image.layers);
    let made: BTreeSet<&str> = layers.map(|layer| layer.diff_id.as_str()).collect();
    let is_own = |step: &&Step| step.target == at + 1 && is_part(step);
    let layer = |step: &'_ Step| step.layer.as_ref().map(|layer| layer.diff_id.clone());
    let own: BTreeSet<String> = record.steps.iter().filter(is_own).filter_map(layer).collect();
    // Another target's step may have made the same of something else: what an own step made needs none of others.
    let is_shared = |step: &&Step| {
        layer(step).is_some_and(|made_there| made.contains(made_there.as_str()) && !own.contains(&made_there))
    };
    let is_own = |step: &&Step| is_own(step) || is_shared(step);
    let mut wanted: Vec<usize> = record.steps.iter().filter(is_own).map(|step| step.number).collect();
    let mut found = BTreeSet::new();
    while let Some(number) = wanted.pop() {
        if found.insert(number) {
            let step = record.steps.iter().find(|step| step.number == number);
            wanted.extend(step.iter().flat_map(|step| &step.needs));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;
    use crate::record::format::Pair;

    fn terms(version: Version, mode: Mode) -> Terms {
        Terms { version, mode, builder_id: None, is_reproducible: false }
    }

    #[test]
    fn the_least_has_no_arguments_labels_secrets_or_steps() {
        let mut record = record();
        let folder = Pair { name: "lib".to_owned(), value: "/home/me/lib".to_owned() };
        record.targets[0].contexts.push(folder);
        let subject = Subject { record: &record, target: &record.targets[0], image: None };
        for version in [Version::V1, Version::V02] {
            let text = predicate(&subject, &terms(version, Mode::Min)).to_string();
            for absent in
                ["build-arg", "label:", "TOKEN", "\"s\"", "Dockerfile\",\"language", "step0", "/home/me"]
            {
                assert!(!text.contains(absent), "{absent}: {text}");
            }
            assert!(text.contains("local:lib") && text.contains(BUILD_TYPE), "{text}");
        }
        let least = predicate(&subject, &terms(Version::V1, Mode::Min));
        assert_eq!(least["runDetails"]["metadata"]["buildkit_completeness"]["request"], false);
        assert_eq!(least["buildDefinition"]["resolvedDependencies"][0]["digest"], json!({"sha256": "ab"}));
    }

    #[test]
    fn the_most_has_them() {
        let mut record = record();
        record.steps[1].title = "RUN make".to_owned();
        record.steps.push(Step { number: 3, target: 2, title: "RUN other".to_owned(), ..Step::default() });
        let subject = Subject { record: &record, target: &record.targets[0], image: None };
        let mut wanted = terms(Version::V1, Mode::Max);
        wanted.builder_id = Some("https://ci.example/1".to_owned());
        wanted.is_reproducible = true;
        let most = predicate(&subject, &wanted);
        let definition = &most["buildDefinition"];
        assert_eq!(definition["externalParameters"]["request"]["args"]["build-arg:A"], "1");
        assert_eq!(definition["externalParameters"]["request"]["secrets"][0]["id"], "s");
        let steps = definition["internalParameters"]["buildConfig"]["steps"].as_array().map(Vec::as_slice);
        let expected = json!([
            {"id": "step0", "instruction": "", "lines": [1, 1]},
            {"id": "step1", "instruction": "RUN make", "inputs": ["step0:0"]},
        ]);
        assert_eq!(steps, expected.as_array().map(Vec::as_slice));
        let details = &most["runDetails"];
        assert_eq!(details["builder"]["id"], "https://ci.example/1");
        assert_eq!(details["metadata"]["buildkit_reproducible"], true);
        assert_eq!(details["metadata"]["buildkit_hermetic"], false);
        assert!(details["metadata"]["buildkit_metadata"]["source"].is_object());
        let old = predicate(&subject, &terms(Version::V02, Mode::Max));
        assert_eq!(old["buildConfig"]["steps"][1]["instruction"], "RUN make");
    }
}
