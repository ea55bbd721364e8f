//! A target: what one image is built from, and what becomes of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value as JsonValue};

use super::convert::convert;
use super::entries::{Attest, Cache, Entry, Output, Policy, Secret, Ssh, parse_all, read_all};
use super::value::{Number, Type, Value};

/// What a target says. What it leaves out is `None`, or empty where that means the same.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs, reason = "named as the fields of a definition, which docs/bake.md explains")]
pub struct Target {
    pub name: String,
    pub description: String,
    pub inherits: Vec<String>,
    pub annotations: Vec<String>,
    pub attest: Vec<Attest>,
    pub context: Option<String>,
    pub contexts: BTreeMap<String, String>,
    pub dockerfile: Option<String>,
    pub dockerfile_inline: Option<String>,
    pub args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub tags: Option<Vec<String>>,
    pub cache_from: Vec<Cache>,
    pub cache_to: Option<Vec<Cache>>,
    pub target: Option<String>,
    pub secrets: Vec<Secret>,
    pub ssh: Vec<Ssh>,
    pub platforms: Option<Vec<String>>,
    pub outputs: Option<Vec<Output>>,
    pub pull: Option<bool>,
    pub no_cache: Option<bool>,
    pub network: Option<String>,
    pub no_cache_filter: Vec<String>,
    pub shm_size: Option<String>,
    pub ulimits: Vec<String>,
    pub resources: Option<Resources>,
    pub call: Option<String>,
    pub entitlements: Vec<String>,
    pub extra_hosts: BTreeMap<String, String>,
    pub policy: Vec<Policy>,
    /// Only another target needs it: it has no output of its own.
    pub is_linked: bool,
    /// The folders that paths count from where they count from the file.
    pub(super) bases: Bases,
}

/// What RUN may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the fields of a definition, which docs/bake.md explains")]
pub struct Resources {
    pub memory: Option<String>,
    pub memory_swap: Option<String>,
    pub cpu_shares: Option<i64>,
    pub cpu_period: Option<i64>,
    pub cpu_quota: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
}

/// Folders of the files that said something of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bases {
    /// Of `context` where nobody says anything.
    pub(super) usual: Option<String>,
    pub(super) context: Option<String>,
    pub(super) contexts: BTreeMap<String, String>,
}

/// Names of the fields of a target, in the order in which they are printed.
pub(super) const FIELDS: [&str; 30] = [
    "description",
    "inherits",
    "annotations",
    "attest",
    "context",
    "contexts",
    "dockerfile",
    "dockerfile-inline",
    "args",
    "labels",
    "tags",
    "cache-from",
    "cache-to",
    "target",
    "secret",
    "ssh",
    "platforms",
    "output",
    "pull",
    "no-cache",
    "network",
    "no-cache-filter",
    "shm-size",
    "ulimits",
    "resources",
    "call",
    "entitlements",
    "extra-hosts",
    "policy",
    "name",
];

fn texts_type() -> Type {
    Type::List(Box::new(Type::Text))
}

fn text_map_type() -> Type {
    Type::Map(Box::new(Type::Text))
}

/// The type that a field has in expressions.
pub(super) fn field_type(field: &str) -> Option<Type> {
    let list = |of: Type| Type::List(Box::new(of));
    Some(match field {
        "name" | "description" | "context" | "dockerfile" | "dockerfile-inline" | "target" | "network"
        | "shm-size" | "call" => Type::Text,
        "inherits" | "annotations" | "tags" | "platforms" | "no-cache-filter" | "ulimits"
        | "entitlements" => texts_type(),
        "contexts" | "args" | "labels" | "extra-hosts" => text_map_type(),
        "pull" | "no-cache" => Type::Bool,
        "attest" => list(Attest::shown_type()),
        "cache-from" | "cache-to" => list(Cache::shown_type()),
        "secret" => list(Secret::shown_type()),
        "ssh" => list(Ssh::shown_type()),
        "output" => list(Output::shown_type()),
        "policy" => list(Policy::shown_type()),
        "resources" => Resources::shown_type(),
        _ => return None,
    })
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.to_string()),
        _ => None,
    }
}

fn texts(value: &Value) -> Result<Option<Vec<String>>, String> {
    let Some(elements) = value.elements() else { return Ok(None) };
    let one = |value: &Value| text(value).ok_or_else(|| "an element cannot be null".to_owned());
    elements.iter().map(one).collect::<Result<_, _>>().map(Some)
}

/// Those that are null are left out.
fn text_map(value: &Value) -> BTreeMap<String, String> {
    let given = value.entries().into_iter().flatten();
    given.filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        _ => None,
    }
}

fn entries<E: Entry>(value: &Value) -> Result<Option<Vec<E>>, String> {
    match value.is_null() {
        true => Ok(None),
        false => read_all(value).map(Some),
    }
}

impl Target {
    /// Takes what an expression gave for a field; gives it in the form that other expressions see.
    pub(super) fn set(&mut self, field: &str, value: &Value) -> Result<Value, String> {
        let wanted = field_type(field).unwrap_or(Type::Any);
        let is_plain = !matches!(
            field,
            "attest" | "cache-from" | "cache-to" | "secret" | "ssh" | "output" | "policy" | "resources"
        );
        let plain = if is_plain { convert(value, &wanted)? } else { value.clone() };
        match field {
            "description" => self.description = text(&plain).unwrap_or_default(),
            "inherits" => self.inherits = texts(&plain)?.unwrap_or_default(),
            "annotations" => self.annotations = texts(&plain)?.unwrap_or_default(),
            "context" => self.context = text(&plain),
            "contexts" => {
                self.contexts = text_map(&plain);
                if let Some(key) = plain.entries().and_then(|all| all.iter().find(|(_, v)| v.is_null())) {
                    return Err(format!("the context `{}` cannot be null", key.0));
                }
            }
            "dockerfile" => self.dockerfile = text(&plain),
            "dockerfile-inline" => self.dockerfile_inline = text(&plain),
            "args" => self.args = text_map(&plain),
            "labels" => self.labels = text_map(&plain),
            "tags" => self.tags = texts(&plain)?,
            "target" => self.target = text(&plain),
            "platforms" => self.platforms = texts(&plain)?,
            "pull" => self.pull = boolean(&plain),
            "no-cache" => self.no_cache = boolean(&plain),
            "network" => self.network = text(&plain),
            "no-cache-filter" => self.no_cache_filter = texts(&plain)?.unwrap_or_default(),
            "shm-size" => self.shm_size = text(&plain),
            "ulimits" => self.ulimits = texts(&plain)?.unwrap_or_default(),
            "call" => self.call = text(&plain),
            "entitlements" => self.entitlements = texts(&plain)?.unwrap_or_default(),
            "extra-hosts" => self.extra_hosts = text_map(&plain),
            "attest" => self.attest = entries(value)?.unwrap_or_default(),
            "cache-from" => self.cache_from = entries(value)?.unwrap_or_default(),
            "cache-to" => self.cache_to = entries(value)?,
            "secret" => self.secrets = entries(value)?.unwrap_or_default(),
            "ssh" => self.ssh = entries(value)?.unwrap_or_default(),
            "output" => self.outputs = entries(value)?,
            "policy" => self.policy = entries(value)?.unwrap_or_default(),
            "resources" => {
                self.resources = if value.is_null() { None } else { Some(Resources::read(value)?) }
            }
            _ => {}
        }
        Ok(self.shown(field).unwrap_or(plain))
    }

    /// Entries as expressions see them.
    fn shown(&self, field: &str) -> Option<Value> {
        fn all<E: Entry>(entries: &[E]) -> Value {
            Value::list(E::shown_type(), entries.iter().map(E::shown).collect())
        }
        Some(match field {
            "attest" => all(&self.attest),
            "cache-from" => all(&self.cache_from),
            "cache-to" => all(self.cache_to.as_deref().unwrap_or_default()),
            "secret" => all(&self.secrets),
            "ssh" => all(&self.ssh),
            "output" => all(self.outputs.as_deref().unwrap_or_default()),
            "policy" => all(&self.policy),
            "resources" => {
                self.resources.as_ref().map_or(Value::Null(Resources::shown_type()), Resources::shown)
            }
            _ => return None,
        })
    }

    /// Lays `other` over it.
    pub(super) fn merge(&mut self, other: &Target) {
        fn over<T: Clone>(own: &mut Option<T>, other: &Option<T>) {
            if other.is_some() {
                own.clone_from(other);
            }
        }
        fn extend(own: &mut BTreeMap<String, String>, other: &BTreeMap<String, String>) {
            own.extend(other.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        over(&mut self.bases.usual, &other.bases.usual);
        if other.context.is_some() {
            self.context.clone_from(&other.context);
            self.bases.context.clone_from(&other.bases.context);
        }
        for (name, context) in &other.contexts {
            self.contexts.insert(name.clone(), context.clone());
            match other.bases.contexts.get(name) {
                Some(base) => drop(self.bases.contexts.insert(name.clone(), base.clone())),
                None => drop(self.bases.contexts.remove(name)),
            }
        }
        over(&mut self.dockerfile, &other.dockerfile);
        over(&mut self.dockerfile_inline, &other.dockerfile_inline);
        extend(&mut self.args, &other.args);
        extend(&mut self.labels, &other.labels);
        over(&mut self.tags, &other.tags);
        over(&mut self.target, &other.target);
        over(&mut self.call, &other.call);
        self.annotations.extend(other.annotations.iter().cloned());
        self.attest = merged(&self.attest, &other.attest);
        self.policy.extend(other.policy.iter().cloned());
        self.secrets = merged(&self.secrets, &other.secrets);
        self.ssh = merged(&self.ssh, &other.ssh);
        over(&mut self.platforms, &other.platforms);
        self.cache_from = merged(&self.cache_from, &other.cache_from);
        over(&mut self.cache_to, &other.cache_to);
        over(&mut self.outputs, &other.outputs);
        over(&mut self.pull, &other.pull);
        over(&mut self.no_cache, &other.no_cache);
        over(&mut self.network, &other.network);
        self.no_cache_filter.extend(other.no_cache_filter.iter().cloned());
        over(&mut self.shm_size, &other.shm_size);
        self.ulimits.extend(other.ulimits.iter().cloned());
        if let Some(resources) = &other.resources {
            self.resources.get_or_insert_default().merge(resources);
        }
        if !other.description.is_empty() {
            self.description.clone_from(&other.description);
        }
        self.entitlements.extend(other.entitlements.iter().cloned());
        extend(&mut self.extra_hosts, &other.extra_hosts);
        self.inherits.extend(other.inherits.iter().cloned());
    }

    /// Takes out what is there twice or empty; a network of the host wants its entitlement.
    pub(super) fn normalize(&mut self) {
        for texts in [
            Some(&mut self.annotations),
            self.tags.as_mut(),
            self.platforms.as_mut(),
            Some(&mut self.no_cache_filter),
            Some(&mut self.ulimits),
        ]
        .into_iter()
        .flatten()
        {
            tidy(texts);
        }
        self.attest = Attest::unique(std::mem::take(&mut self.attest));
        self.secrets = Secret::unique(std::mem::take(&mut self.secrets));
        self.ssh = Ssh::unique(std::mem::take(&mut self.ssh));
        self.cache_from = Cache::unique(std::mem::take(&mut self.cache_from));
        self.cache_to = self.cache_to.take().map(Cache::unique);
        self.outputs = self.outputs.take().map(Output::unique);
        if self.network.as_deref() == Some("host") {
            self.entitlements.push("network.host".to_owned());
        }
        tidy(&mut self.entitlements);
        self.contexts.retain(|_, context| !context.is_empty());
    }

    /// As `--print` has it: what can be a template in a definition is escaped, so that the output is one.
    pub(super) fn json(&self) -> JsonValue {
        fn all<E: Entry>(entries: &[E]) -> Option<JsonValue> {
            (!entries.is_empty()).then(|| entries.iter().map(E::json).collect::<Vec<_>>().into())
        }
        let escaped = |text: &str| text.replace("${", "$${").replace("%{", "%%{");
        let text = |text: &Option<String>| text.as_deref().map(JsonValue::from);
        let texts = |texts: &[String]| (!texts.is_empty()).then(|| JsonValue::from(texts.to_vec()));
        let map = |map: &BTreeMap<String, String>, escape: &dyn Fn(&str) -> String| {
            let entries = map.iter().map(|(key, value)| (key.clone(), JsonValue::from(escape(value))));
            (!map.is_empty()).then(|| JsonValue::Object(entries.collect()))
        };
        let escaped_texts: Vec<String> = self.annotations.iter().map(|text| escaped(text)).collect();
        let fields = [
            ("description", (!self.description.is_empty()).then(|| self.description.as_str().into())),
            ("annotations", texts(&escaped_texts)),
            ("attest", all(&self.attest)),
            ("context", text(&self.context)),
            ("contexts", map(&self.contexts, &str::to_owned)),
            ("dockerfile", text(&self.dockerfile)),
            ("dockerfile-inline", self.dockerfile_inline.as_deref().map(|text| escaped(text).into())),
            ("args", map(&self.args, &escaped)),
            ("labels", map(&self.labels, &escaped)),
            ("tags", texts(self.tags.as_deref().unwrap_or_default())),
            ("cache-from", all(&self.cache_from)),
            ("cache-to", all(self.cache_to.as_deref().unwrap_or_default())),
            ("target", text(&self.target)),
            ("secret", all(&self.secrets)),
            ("ssh", all(&self.ssh)),
            ("platforms", texts(self.platforms.as_deref().unwrap_or_default())),
            ("output", all(self.outputs.as_deref().unwrap_or_default())),
            ("pull", self.pull.map(JsonValue::from)),
            ("no-cache", self.no_cache.map(JsonValue::from)),
            ("network", text(&self.network)),
            ("no-cache-filter", texts(&self.no_cache_filter)),
            ("shm-size", text(&self.shm_size)),
            ("ulimits", texts(&self.ulimits)),
            ("resources", self.resources.as_ref().map(Resources::json)),
            ("call", text(&self.call)),
            ("entitlements", texts(&self.entitlements)),
            ("extra-hosts", map(&self.extra_hosts, &escaped)),
            ("policy", all(&self.policy)),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        JsonValue::Object(given.collect::<Map<_, _>>())
    }
}

/// Both, without what is there twice.
pub(super) fn merged<E: Entry>(own: &[E], other: &[E]) -> Vec<E> {
    match other.is_empty() {
        true => own.to_vec(),
        false => E::unique(own.iter().chain(other).cloned().collect()),
    }
}

/// Each text once, and none that is empty.
pub(super) fn tidy(texts: &mut Vec<String>) {
    let mut known = std::collections::BTreeSet::new();
    texts.retain(|text| !text.is_empty() && known.insert(text.clone()));
}

/// Of a memory size nothing is asked here: what builds reads it.
const TEXTS: [&str; 4] = ["memory", "memory-swap", "cpuset-cpus", "cpuset-mems"];
const NUMBERS: [&str; 3] = ["cpu-shares", "cpu-period", "cpu-quota"];

impl Resources {
    fn shown_type() -> Type {
        let texts = TEXTS.map(|name| (name.to_owned(), Type::Text));
        let numbers = NUMBERS.map(|name| (name.to_owned(), Type::Number));
        let names = TEXTS.into_iter().chain(NUMBERS).map(str::to_owned);
        Type::Object(texts.into_iter().chain(numbers).collect(), names.collect())
    }

    fn read(value: &Value) -> Result<Self, String> {
        if let Some(entries) = value.entries() {
            let known = |name: &&String| TEXTS.contains(&name.as_str()) || NUMBERS.contains(&name.as_str());
            if let Some(other) = entries.keys().find(|name| !known(name)) {
                let near = super::fault::did_you_mean(other, TEXTS.into_iter().chain(NUMBERS));
                let near = near.map(|near| format!("; {near}")).unwrap_or_default();
                return Err(format!("there is no resource `{other}`{near}"));
            }
        }
        let value = convert(value, &Self::shown_type())?;
        let mut resources = Self::default();
        for (name, value) in value.entries().into_iter().flatten() {
            match value {
                Value::Text(text) => resources.set(name, text)?,
                Value::Number(Number::Whole(number)) => resources.set(name, &number.to_string())?,
                Value::Null(_) => {}
                other => return Err(format!("`{name}` is a whole number, not {}", other.json())),
            }
        }
        Ok(resources)
    }

    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number =
            || value.parse::<i64>().map_err(|_| format!("`{value}` is no whole number for `{name}`"));
        match name {
            "memory" => self.memory = Some(value.to_owned()),
            "memory-swap" => self.memory_swap = Some(value.to_owned()),
            "cpu-shares" => self.cpu_shares = Some(number()?),
            "cpu-period" => self.cpu_period = Some(number()?),
            "cpu-quota" => self.cpu_quota = Some(number()?),
            "cpuset-cpus" => self.cpuset_cpus = Some(value.to_owned()),
            "cpuset-mems" => self.cpuset_mems = Some(value.to_owned()),
            other => return Err(format!("there is no resource `{other}`")),
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        let own = std::mem::take(self);
        let other = other.clone();
        *self = Self {
            memory: other.memory.or(own.memory),
            memory_swap: other.memory_swap.or(own.memory_swap),
            cpu_shares: other.cpu_shares.or(own.cpu_shares),
            cpu_period: other.cpu_period.or(own.cpu_period),
            cpu_quota: other.cpu_quota.or(own.cpu_quota),
            cpuset_cpus: other.cpuset_cpus.or(own.cpuset_cpus),
            cpuset_mems: other.cpuset_mems.or(own.cpuset_mems),
        };
    }

    fn json(&self) -> JsonValue {
        let text = |text: &Option<String>| text.as_deref().map(JsonValue::from);
        let number = |number: Option<i64>| number.map(JsonValue::from);
        let fields = [
            ("memory", text(&self.memory)),
            ("memory-swap", text(&self.memory_swap)),
            ("cpu-shares", number(self.cpu_shares)),
            ("cpu-period", number(self.cpu_period)),
            ("cpu-quota", number(self.cpu_quota)),
            ("cpuset-cpus", text(&self.cpuset_cpus)),
            ("cpuset-mems", text(&self.cpuset_mems)),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        JsonValue::Object(given.collect())
    }

    fn shown(&self) -> Value {
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null(Type::Text), Value::text);
        let number = |number: Option<i64>| {
            number.map_or(Value::Null(Type::Number), |number| Value::whole(i128::from(number)))
        };
        Value::object(
            [
                ("memory".to_owned(), text(&self.memory)),
                ("memory-swap".to_owned(), text(&self.memory_swap)),
                ("cpu-shares".to_owned(), number(self.cpu_shares)),
                ("cpu-period".to_owned(), number(self.cpu_period)),
                ("cpu-quota".to_owned(), number(self.cpu_quota)),
                ("cpuset-cpus".to_owned(), text(&self.cpuset_cpus)),
                ("cpuset-mems".to_owned(), text(&self.cpuset_mems)),
            ]
            .into(),
        )
    }

    /// `key=value` pairs as `--resource` takes them.
    pub fn pairs(&self) -> Vec<(String, String)> {
        let JsonValue::Object(map) = self.json() else { return Vec::new() };
        let text = |value: JsonValue| match value {
            JsonValue::String(text) => text,
            other => other.to_string(),
        };
        map.into_iter().map(|(key, value)| (key, text(value))).collect()
    }
}

/// Short forms of entries, as `--set` gives them.
pub(super) fn parsed<E: Entry>(texts: &[String]) -> Result<Vec<E>, String> {
    parse_all(texts)
}
