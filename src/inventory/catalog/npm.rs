//! `package.json` of what npm, yarn and pnpm installed, and of programs themselves.

use serde_json::Value;

use super::{Candidate, Cataloger, Tells, folder, packages};
use crate::inventory::package::{Kind, Package};

/// A package's own description.
pub(super) struct PackageJson;

impl Cataloger for PackageJson {
    fn wants(&self, file: &Candidate<'_>) -> bool {
        file.name() == "package.json"
    }

    fn limit(&self) -> u64 {
        16 << 20
    }

    fn read(&self, path: &str, bytes: &[u8]) -> Result<Vec<Tells>, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("");
        let (name, version) = (text("name"), text("version"));
        // Many folders have one that only says how their files are to be read.
        if name.is_empty() || version.is_empty() {
            return Ok(Vec::new());
        }
        let mut package = Package::new(Kind::Npm, name, version);
        package.licences = licences(&value);
        package.supplier = author(value.get("author"));
        let own = folder(path);
        if own.split('/').any(|part| part == "node_modules") {
            package.folder = Some(own.to_owned());
        } else {
            package.own(path);
        }
        Ok(packages(vec![package]))
    }
}

/// `license` as a text or, as it was once, an object or a list.
fn licences(value: &Value) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) => fields.get("type").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let found = value.get("license").and_then(one).map(|licence| vec![licence]);
    let several =
        || value.get("licenses").and_then(Value::as_array).map(|all| all.iter().filter_map(one).collect());
    let found = found.or_else(several).unwrap_or_default();
    found.into_iter().filter(|licence: &String| !licence.is_empty()).collect()
}

fn author(value: Option<&Value>) -> String {
    let name = match value {
        Some(Value::String(text)) => text.as_str(),
        Some(Value::Object(fields)) => fields.get("name").and_then(Value::as_str).unwrap_or(""),
        _ => "",
    };
    name.to_owned()
}
