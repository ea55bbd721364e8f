//! `--metadata-file`: what a build gave, with the keys of `docker buildx build`.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli::Failure;
use crate::cli::command::history::whole_reference;
use crate::cli::options::request::variable;
use crate::oci::Reference;
use crate::pipeline::Built;
use crate::record::provenance::{Mode, Subject};
use crate::report::Diagnostic;
use crate::text::boolean;

use super::progress::rawjson;

/// How much of the provenance is in it: `$BUILDX_METADATA_PROVENANCE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Provenance {
    Disabled,
    Given(Mode),
}

impl Provenance {
    /// As buildx reads the variable: what it does not know is as if nothing were said.
    pub(in crate::cli) fn parse(text: &str) -> Self {
        match text {
            "max" => Self::Given(Mode::Max),
            "disabled" => Self::Disabled,
            other if boolean(other) == Some(false) => Self::Disabled,
            _ => Self::Given(Mode::Min),
        }
    }

    /// What the environment says.
    pub(in crate::cli) fn wanted() -> Self {
        Self::parse(&variable("BUILDX_METADATA_PROVENANCE").unwrap_or_default())
    }
}

/// What of the record belongs to the target `name`; of a build alone that is empty.
fn of_record(built: &Built, name: &str, provenance: Provenance) -> Map<String, Value> {
    let mut object = Map::new();
    let Some(record) = &built.record else { return object };
    let target = record.targets.iter().find(|target| target.name == name);
    if let (Provenance::Given(mode), Some(target)) = (provenance, target) {
        let images = target.made.iter().flat_map(|made| &made.images);
        let images: Vec<_> = images.collect();
        for image in &images {
            let predicate = Subject { record, target, image: Some(image) }.slsa_02(mode);
            let key = match images.len() {
                1 => "buildx.build.provenance".to_owned(),
                _ => format!("buildx.build.provenance/{}", image.platform),
            };
            object.insert(key, predicate);
        }
    }
    object.insert("buildx.build.ref".to_owned(), json!(whole_reference(&record.id)));
    object
}

/// The object. Warnings are in it only if asked for, as with buildx.
pub(in crate::cli) fn object(
    built: &Built,
    with_warnings: bool,
    provenance: Provenance,
) -> Map<String, Value> {
    named(built, "", with_warnings, provenance)
}

fn named(built: &Built, name: &str, with_warnings: bool, provenance: Provenance) -> Map<String, Value> {
    let mut object = of_record(built, name, provenance);
    if let Some(digest) = built.config_digest {
        object.insert("containerimage.config.digest".to_owned(), json!(digest));
    }
    object.insert("containerimage.descriptor".to_owned(), json!(built.descriptor));
    object.insert("containerimage.digest".to_owned(), json!(built.digest));
    if !built.names.is_empty() {
        let names: Vec<String> = built.names.iter().map(Reference::full).collect();
        object.insert("image.name".to_owned(), json!(names.join(",")));
    }
    if with_warnings && !built.warnings.is_empty() {
        let warnings = built.warnings.iter().map(|warning| rawjson::warning(warning, ""));
        object.insert("buildx.build.warnings".to_owned(), warnings.collect());
    }
    object
}

/// An object for each target, and the warnings of all.
pub(in crate::cli) fn of_targets(
    made: &[(String, Built)],
    with_warnings: bool,
    provenance: Provenance,
) -> Map<String, Value> {
    let one = |(name, built): &(String, Built)| {
        (name.clone(), Value::Object(named(built, name, false, provenance)))
    };
    let mut all: Map<String, Value> = made.iter().map(one).collect();
    let warnings = made.iter().flat_map(|(_, built)| &built.warnings);
    let warnings: Vec<Value> = warnings.map(|warning| rawjson::warning(warning, "")).collect();
    if with_warnings && !warnings.is_empty() {
        all.insert("buildx.build.warnings".to_owned(), warnings.into());
    }
    all
}

/// Writes it in one go, so that nobody reads half of it; but to what is no file, such as `/dev/stdout`, directly.
pub(in crate::cli) fn write(path: &Path, object: &Map<String, Value>) -> Result<(), Failure> {
    let text = format!("{:#}\n", Value::Object(object.clone()));
    let is_other = std::fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    let written = match path.file_name().filter(|_| !is_other) {
        None => std::fs::write(path, text),
        Some(name) => {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}", std::process::id()));
            let beside = path.with_file_name(hidden);
            let renamed = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
            renamed.inspect_err(|_| drop(std::fs::remove_file(&beside)))
        }
    };
    written.map_err(|error| {
        let diagnostic = Diagnostic::error(format!("cannot write `{}`: {error}", path.display()));
        Failure::build(vec![diagnostic.note("the image itself was built, and is kept in the local store")])
    })
}
