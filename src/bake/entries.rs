//! Entries that have a short form and a long one: caches, outputs, secrets, ssh agents, attestations, policies.

use std::collections::BTreeMap;

use serde_json::{Map, Value as JsonValue};

use super::convert::convert;
use super::value::{Type, Value};
use crate::text;

/// `key=value` pairs beside those that have a place of their own.
pub(super) type Attributes = BTreeMap<String, String>;

/// `cache-from` and `cache-to`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cache {
    /// Such as `registry`.
    pub kind: String,
    /// All else.
    pub attributes: Attributes,
}

/// `output`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Such as `docker`.
    pub kind: String,
    /// `dest`, or empty.
    pub destination: String,
    /// All else.
    pub attributes: Attributes,
}

/// `secret`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// What RUN names it.
    pub id: String,
    /// The file it is in, or empty.
    pub file: String,
    /// The variable of the environment that has it, or empty.
    pub env: String,
}

/// `ssh`
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ssh {
    /// What RUN names it.
    pub id: String,
    /// A socket, or keys; none is the agent of the environment.
    pub paths: Vec<String>,
}

/// `attest`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attest {
    /// `sbom` or `provenance`.
    pub kind: String,
    /// Whether it is not wanted.
    pub disabled: bool,
    /// All else.
    pub attributes: Attributes,
}

/// `policy`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Files with rules.
    pub files: Vec<String>,
    /// Rules that were given before do not count.
    pub reset: bool,
    /// No rules count.
    pub disabled: bool,
    /// Whether what cannot be told is refused.
    pub strict: Option<bool>,
    /// How much it tells.
    pub log_level: Option<String>,
}

/// What all kinds of entries have in common.
pub(super) trait Entry: Sized + Clone {
    /// The type that an entry has when it is looked at in an expression.
    fn shown_type() -> Type;
    /// Reads the short form.
    fn parse(text: &str) -> Result<Self, String>;
    /// As [`Entry::parse`], where one text may be several entries.
    fn parse_several(text: &str) -> Result<Vec<Self>, String> {
        Self::parse(text).map(|one| vec![one])
    }
    /// Reads the long form.
    fn read(value: &Value) -> Result<Self, String>;
    fn shown(&self) -> Value;
    fn json(&self) -> JsonValue;
    /// Without what is there twice.
    fn unique(all: Vec<Self>) -> Vec<Self>;
}

/// The entries of a list, each in either form; empty texts are none.
pub(super) fn read_all<E: Entry>(value: &Value) -> Result<Vec<E>, String> {
    let elements = match value {
        Value::List(_, elements) | Value::Tuple(elements) => elements,
        other => return Err(format!("a list is required, not {}", other.kind())),
    };
    let mut all = Vec::new();
    for element in elements.iter() {
        match element {
            Value::Text(text) if text.is_empty() => {}
            Value::Text(text) => all.extend(E::parse_several(text)?),
            Value::Null(_) => return Err("an entry cannot be null".to_owned()),
            other => all.push(E::read(other)?),
        }
    }
    Ok(all)
}

/// Entries in their short form.
pub(super) fn parse_all<E: Entry>(texts: &[String]) -> Result<Vec<E>, String> {
    let mut all = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        all.extend(E::parse_several(text)?);
    }
    Ok(all)
}

/// As buildx parts with what is there twice: the last stays in the place of the later one, which the very last takes.
fn without_duplicates<T: PartialEq>(mut all: Vec<T>) -> Vec<T> {
    for at in (0..all.len().saturating_sub(1)).rev() {
        if let Some(later) = (at + 1..all.len()).find(|later| all[at] == all[*later]) {
            all.swap_remove(later);
        }
    }
    all
}

/// The last of each name, where the first was.
fn last_of_each<T>(all: Vec<T>, name: fn(&T) -> &str) -> Vec<T> {
    let mut unique: Vec<T> = Vec::new();
    for one in all {
        match unique.iter_mut().find(|known| name(known) == name(&one)) {
            Some(known) => *known = one,
            None => unique.push(one),
        }
    }
    unique
}

fn fields(text: &str) -> Result<Vec<String>, String> {
    text::csv::fields(text).map_err(|fault| format!("`{text}`: {fault}"))
}

fn pair(field: &str) -> Result<(String, &str), String> {
    let (key, value) = field.split_once('=').ok_or_else(|| format!("`{field}` is no `key=value`"))?;
    Ok((key.trim().to_lowercase(), value))
}

/// A value as texts by names; those that are null are left out.
fn texts_of(value: &Value) -> Result<Attributes, String> {
    let map = convert(value, &Type::Map(Box::new(Type::Text)))?;
    let mut texts = Attributes::new();
    for (key, value) in map.entries().into_iter().flatten() {
        match value {
            Value::Text(text) => drop(texts.insert(key.clone(), text.to_string())),
            _ => return Err(format!("`{key}` cannot be null")),
        }
    }
    Ok(texts)
}

fn text_map(attributes: &Attributes, own: &[(&str, String)]) -> Value {
    let own = own.iter().map(|(key, value)| ((*key).to_owned(), Value::text(value)));
    let all = attributes.iter().map(|(key, value)| (key.clone(), Value::text(value))).chain(own);
    Value::map(Type::Text, all.collect())
}

fn json_map(attributes: &Attributes, own: Vec<(&str, JsonValue)>) -> JsonValue {
    let mut all: BTreeMap<String, JsonValue> =
        attributes.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    all.extend(own.into_iter().map(|(key, value)| (key.to_owned(), value)));
    JsonValue::Object(Map::from_iter(all))
}

fn text_map_type() -> Type {
    Type::Map(Box::new(Type::Text))
}

impl Entry for Cache {
    fn shown_type() -> Type {
        text_map_type()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let fields = fields(text)?;
        if let [reference] = fields.as_slice()
            && !reference.contains('=')
        {
            let attributes = Attributes::from([("ref".to_owned(), reference.clone())]);
            return Ok(Self { kind: "registry".to_owned(), attributes });
        }
        let mut cache = Self::default();
        for field in &fields {
            let (key, value) = pair(field)?;
            match key.as_str() {
                "type" => value.clone_into(&mut cache.kind),
                _ => drop(cache.attributes.insert(key, value.to_owned())),
            }
        }
        match cache.kind.is_empty() {
            true => Err(format!("`{text}` has no `type=`")),
            false => Ok(cache),
        }
    }

    fn parse_several(text: &str) -> Result<Vec<Self>, String> {
        match text.contains('=') {
            true => Ok(vec![Self::parse(text)?]),
            // Names alone: each is an entry.
            false => fields(text)?.iter().map(|name| Self::parse(name)).collect(),
        }
    }

    fn read(value: &Value) -> Result<Self, String> {
        let mut attributes = texts_of(value)?;
        let kind = attributes.remove("type").filter(|kind| !kind.is_empty()).ok_or("`type` is required")?;
        Ok(Self { kind, attributes })
    }

    fn shown(&self) -> Value {
        text_map(&self.attributes, &[("type", self.kind.clone())])
    }

    fn json(&self) -> JsonValue {
        json_map(&self.attributes, vec![("type", self.kind.as_str().into())])
    }

    fn unique(all: Vec<Self>) -> Vec<Self> {
        without_duplicates(all)
    }
}

impl Entry for Output {
    fn shown_type() -> Type {
        text_map_type()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let fields = fields(text)?;
        if fields.len() == 1 && fields[0] == text && !text.starts_with("type=") {
            let kind = if text == "-" { "tar" } else { "local" };
            return Ok(Self { kind: kind.to_owned(), destination: text.to_owned(), ..Self::default() });
        }
        let mut output = Self::default();
        for field in &fields {
            let (key, value) = pair(field)?;
            match key.as_str() {
                "type" => value.clone_into(&mut output.kind),
                "dest" => value.clone_into(&mut output.destination),
                _ => drop(output.attributes.insert(key, value.to_owned())),
            }
        }
        match output.kind.is_empty() {
            true => Err(format!("`{text}` has no `type=`")),
            false => Ok(output),
        }
    }

    fn read(value: &Value) -> Result<Self, String> {
        let mut attributes = texts_of(value)?;
        let kind = attributes.remove("type").filter(|kind| !kind.is_empty()).ok_or("`type` is required")?;
        let destination = attributes.remove("dest").unwrap_or_default();
        Ok(Self { kind, destination, attributes })
    }

    fn shown(&self) -> Value {
        text_map(&self.attributes, &[("type", self.kind.clone()), ("dest", self.destination.clone())])
    }

    fn json(&self) -> JsonValue {
        let mut own = vec![("type", JsonValue::from(self.kind.as_str()))];
        if !self.destination.is_empty() {
            own.push(("dest", self.destination.as_str().into()));
        }
        json_map(&self.attributes, own)
    }

    fn unique(all: Vec<Self>) -> Vec<Self> {
        without_duplicates(all)
    }
}

impl Entry for Secret {
    fn shown_type() -> Type {
        let text = |name: &str| (name.to_owned(), Type::Text);
        Type::object(["id", "src", "env"].map(text).into())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (mut secret, mut is_env) = (Self::default(), false);
        for field in fields(text)? {
            let (key, value) = pair(&field)?;
            match (key.as_str(), value) {
                ("type", "file") => {}
                ("type", "env") => is_env = true,
                ("type", other) => {
                    return Err(format!("a secret has the type `file` or `env`, not `{other}`"));
                }
                ("id", id) => id.clone_into(&mut secret.id),
                ("source" | "src", file) => file.clone_into(&mut secret.file),
                ("env", name) => name.clone_into(&mut secret.env),
                (other, _) => return Err(format!("a secret has no `{other}`; it has id, src, env and type")),
            }
        }
        if is_env && secret.env.is_empty() {
            secret.env = std::mem::take(&mut secret.file);
        }
        Ok(secret)
    }

    fn read(value: &Value) -> Result<Self, String> {
        let mut texts = texts_of(value)?;
        let mut take = |name: &str| texts.remove(name).unwrap_or_default();
        let secret = Self { id: take("id"), file: take("src"), env: take("env") };
        match texts.keys().next() {
            Some(other) => Err(format!("a secret has no `{other}`; it has id, src and env")),
            None => Ok(secret),
        }
    }

    fn shown(&self) -> Value {
        let all = [("id", &self.id), ("src", &self.file), ("env", &self.env)];
        Value::object(all.map(|(name, text)| (name.to_owned(), Value::text(text))).into())
    }

    fn json(&self) -> JsonValue {
        let all = [("id", &self.id), ("src", &self.file), ("env", &self.env)];
        let given = all.into_iter().filter(|(_, text)| !text.is_empty());
        JsonValue::Object(given.map(|(name, text)| (name.to_owned(), text.as_str().into())).collect())
    }

    fn unique(all: Vec<Self>) -> Vec<Self> {
        last_of_each(all, |secret| &secret.id)
    }
}

impl Entry for Ssh {
    fn shown_type() -> Type {
        let paths = ("paths".to_owned(), Type::List(Box::new(Type::Text)));
        Type::object([("id".to_owned(), Type::Text), paths].into())
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.split_once('=') {
            Some((id, paths)) => {
                Self { id: id.to_owned(), paths: paths.split(',').map(str::to_owned).collect() }
            }
            None => Self { id: text.to_owned(), paths: Vec::new() },
        })
    }

    fn read(value: &Value) -> Result<Self, String> {
        let wanted = match Self::shown_type() {
            Type::Object(attributes, _) => {
                let optional = attributes.keys().cloned().collect();
                Type::Object(attributes, optional)
            }
            other => other,
        };
        let value = convert(value, &wanted)?;
        let field = |name: &str| value.entries().and_then(|entries| entries.get(name)).cloned();
        let id = match field("id") {
            Some(Value::Text(id)) => id.to_string(),
            _ => String::new(),
        };
        let text = |one: &Value| if let Value::Text(text) = one { text.to_string() } else { String::new() };
        let paths = field("paths").and_then(|paths| Some(paths.elements()?.iter().map(text).collect()));
        Ok(Self { id, paths: paths.unwrap_or_default() })
    }

    fn shown(&self) -> Value {
        let paths = ("paths".to_owned(), Value::texts(&self.paths));
        Value::object([("id".to_owned(), Value::text(&self.id)), paths].into())
    }

    fn json(&self) -> JsonValue {
        let mut map = Map::new();
        if !self.id.is_empty() {
            map.insert("id".to_owned(), self.id.as_str().into());
        }
        if !self.paths.is_empty() {
            map.insert("paths".to_owned(), self.paths.clone().into());
        }
        JsonValue::Object(map)
    }

    fn unique(all: Vec<Self>) -> Vec<Self> {
        last_of_each(all, |ssh| &ssh.id)
    }
}

impl Entry for Attest {
    fn shown_type() -> Type {
        text_map_type()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut attest = Self::default();
        for field in fields(text)? {
            let (key, value) = field.split_once('=').ok_or_else(|| format!("`{field}` is no `key=value`"))?;
            match key.trim().to_lowercase().as_str() {
                "type" => value.clone_into(&mut attest.kind),
                "disabled" => attest.disabled = boolean(value)?,
                _ => drop(attest.attributes.insert(key.to_owned(), value.to_owned())),
            }
        }
        match attest.kind.is_empty() {
            true => Err(format!("`{text}` has no `type=`")),
            false => Ok(attest),
        }
    }

    fn read(value: &Value) -> Result<Self, String> {
        let mut attributes = texts_of(value)?;
        let kind = attributes.remove("type").unwrap_or_default();
        let disabled = attributes.remove("disabled").map_or(Ok(false), |text| boolean(&text))?;
        Ok(Self { kind, disabled, attributes })
    }

    fn shown(&self) -> Value {
        let mut own = vec![("type", self.kind.clone())];
        own.extend(self.disabled.then(|| ("disabled", "true".to_owned())));
        text_map(&self.attributes, &own)
    }

    fn json(&self) -> JsonValue {
        let mut own = vec![("type", JsonValue::from(self.kind.as_str()))];
        own.extend(self.disabled.then_some(("disabled", true.into())));
        json_map(&self.attributes, own)
    }

    fn unique(all: Vec<Self>) -> Vec<Self> {
        last_of_each(all, |attest| &attest.kind)
    }
}

impl Policy {
    fn of(pairs: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let mut policy = Self::default();
        for (key, value) in pairs {
            match key.as_str() {
                "filename" if !value.is_empty() => policy.files.push(value),
                "reset" => policy.reset = boolean(&value)?,
                "disabled" => policy.disabled = boolean(&value)?,
                "strict" => policy.strict = Some(boolean(&value)?),
                "log-level" => policy.log_level = Some(value),
                _ => return Err(format!("`{key}={value}` means nothing for a policy")),
            }
        }
        Ok(policy)
    }
}

impl Entry for Policy {
    fn shown_type() -> Type {
        text_map_type()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let fields = fields(text)?;
        let pairs = fields.iter().map(|field| pair(field).map(|(key, value)| (key, value.to_owned())));
        Self::of(pairs.collect::<Result<Vec<_>, _>>()?.into_iter())
    }

    fn read(value: &Value) -> Result<Self, String> {
        let entries =
            value.entries().ok_or_else(|| format!("an object is required, not {}", value.kind()))?;
        let given = entries.iter().filter(|(_, value)| !value.is_null());
        let one =
            |(key, value): (&String, &Value)| Ok((key.clone(), super::convert::text_of(value)?.to_string()));
        let pairs = given.map(one).collect::<Result<Vec<_>, String>>()?;
        Self::of(pairs.into_iter().filter(|(_, value)| !value.is_empty()))
    }

    fn shown(&self) -> Value {
        let mut own: Vec<(&str, String)> = Vec::new();
        own.extend(self.files.first().map(|file| ("filename", file.clone())));
        own.extend(self.reset.then(|| ("reset", "true".to_owned())));
        own.extend(self.disabled.then(|| ("disabled", "true".to_owned())));
        own.extend(self.strict.map(|strict| ("strict", strict.to_string())));
        own.extend(self.log_level.clone().map(|level| ("log-level", level)));
        text_map(&Attributes::new(), &own)
    }

    fn json(&self) -> JsonValue {
        let file = |name: &String| serde_json::json!({"Filename": name, "Data": null});
        let files: Option<Vec<JsonValue>> =
            (!self.files.is_empty()).then(|| self.files.iter().map(file).collect());
        serde_json::json!({
            "Files": files,
            "Reset": self.reset,
            "Disabled": self.disabled,
            "Strict": self.strict,
            "LogLevel": self.log_level,
        })
    }

    fn unique(all: Vec<Self>) -> Vec<Self> {
        all
    }
}

fn boolean(value: &str) -> Result<bool, String> {
    text::boolean(value).ok_or_else(|| format!("`{value}` is no bool"))
}
