//! `--on`: who does the build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::configuration::Configuration;
use crate::cli::Failure;
use crate::config::Kubernetes;
use crate::kubernetes::Wanted;
use crate::pipeline::{Cluster, EngineOn, Grain, On};
use crate::report::{Diagnostic, Source};
use crate::shared_cache::spec;
use crate::text::duration::parse_age;
use crate::text::{closest, csv};
use crate::yaml;

/// Before the names of properties.
const PROPERTY: &str = "platform.";
const KUBERNETES: &str = "kubernetes://";
/// What a template is called that nobody chose.
const TEMPLATE: &str = "default";
/// A pod has so long to begin.
const START: Duration = Duration::from_secs(600);
/// What may stand behind `kubernetes://…`.
const KEYS: [&str; 7] = ["template", "image", "key", "start", "timeout", "fallback", "grain"];

/// `--on`
pub(crate) fn parse(text: Option<&str>, configuration: &Configuration) -> Result<Option<On>, Failure> {
    let Some(text) = text else { return Ok(None) };
    // It may have a token in it, and is not repeated as it is.
    let bad = |why: String| Failure::usage(Diagnostic::error(format!("`--on {}`: {why}", spec::shown(text))));
    let on = match text.starts_with(KUBERNETES) {
        true => kubernetes(text, &configuration.own.kubernetes),
        false => reapi(text),
    };
    on.map(Some).map_err(bad)
}

/// What engines of both kinds are told.
#[derive(Default)]
struct Common {
    timeout: Option<Duration>,
    falls_back: bool,
    grain: Option<Grain>,
}

impl Common {
    /// Takes a field, if it is one of these.
    fn take(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match (key, value) {
            ("fallback", "local") => self.falls_back = true,
            ("fallback", "none") => self.falls_back = false,
            ("fallback", other) => return Err(format!("`fallback={other}`: it is `local` or `none`")),
            ("grain", "build") => self.grain = Some(Grain::Build),
            ("grain", "target") => self.grain = Some(Grain::Target),
            ("grain", "platform") => self.grain = Some(Grain::Platform),
            ("grain", other) => {
                return Err(format!("`grain={other}`: it is `build`, `target` or `platform`"));
            }
            ("timeout", text) => self.timeout = Some(time(key, text)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn time(key: &str, text: &str) -> Result<Duration, String> {
    let seconds = parse_age(text).and_then(|seconds| u64::try_from(seconds).ok());
    let seconds = seconds.filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| format!("`{key}={text}` is no time such as `1h`"))
}

fn reapi(text: &str) -> Result<On, String> {
    let is_ours = |key: &str| matches!(key, "timeout" | "fallback" | "grain") || key.starts_with(PROPERTY);
    let (at, others) = spec::engine(text, is_ours)?;
    let shown = format!("`{}`", at.endpoint.replacen("grpc", "reapi", 1));
    let (mut common, mut properties) = (Common::default(), Vec::new());
    for (key, value) in others {
        if common.take(&key, &value)? {
            continue;
        }
        let name = key.strip_prefix(PROPERTY).unwrap_or(&key);
        if name.is_empty() {
            return Err("`platform.=`: the property has no name".to_owned());
        }
        properties.push((name.to_owned(), value));
    }
    let Common { timeout, falls_back, grain } = common;
    let engine = EngineOn::Reapi { at: Box::new(at), properties };
    Ok(On { engine, shown, timeout, falls_back, grain })
}

fn kubernetes(text: &str, templates: &BTreeMap<String, Kubernetes>) -> Result<On, String> {
    let fields = csv::fields(text).map_err(|fault| fault.to_string())?;
    let (first, others) = fields.split_first().ok_or("it is empty")?;
    let place = first.strip_prefix(KUBERNETES).unwrap_or_default();
    // Names of contexts have slashes in them, those of namespaces have none.
    let (context, namespace) = match place.rsplit_once('/') {
        Some((context, namespace)) => (Some(context).filter(|name| !name.is_empty()), namespace),
        None => (None, place),
    };
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !namespace.chars().all(is_name) || place.is_empty() {
        return Err("it begins with `kubernetes://[CONTEXT/]NAMESPACE`".to_owned());
    }
    let (mut common, mut given, mut seen) = (Common::default(), BTreeMap::new(), BTreeSet::new());
    for (number, field) in (2..).zip(others) {
        let (key, value) =
            field.split_once('=').ok_or_else(|| format!("field {number} is no `KEY=VALUE`"))?;
        let key = key.trim().to_lowercase();
        if !KEYS.contains(&key.as_str()) {
            let near = closest(&key, KEYS).map(|near| format!("; `{near}`?")).unwrap_or_default();
            return Err(format!("`{key}` is unknown for Kubernetes{near}"));
        }
        if value.is_empty() {
            return Err(format!("`{key}=` is empty"));
        }
        if !seen.insert(key.clone()) {
            return Err(format!("`{key}` is said twice"));
        }
        if !common.take(&key, value)? {
            given.insert(key, value.to_owned());
        }
    }
    let template = match given.get("template") {
        Some(name) => templates.get(name).ok_or_else(|| {
            let near = closest(name, templates.keys().map(String::as_str));
            let near = near.map(|near| format!("; `{near}`?")).unwrap_or_default();
            format!("the configuration has no `[kubernetes.{name}]`{near}")
        })?,
        None => templates.get(TEMPLATE).unwrap_or(&NOTHING),
    };
    let start = given.get("start").map(|text| time("start", text)).transpose()?.unwrap_or(START);
    let mut wanted = wanted(template)?;
    wanted.image = given.remove("image").or(wanted.image);
    if wanted.image.is_none() && wanted.template.is_none() {
        return Err(format!(
            "no image with rbuild in it is named: say `image=…`, or write it into `[kubernetes.{TEMPLATE}]` of the configuration"
        ));
    }
    if given.contains_key("key") && template.claims.is_empty() {
        return Err("`key` chooses among `claims`, and the configuration has none for this".to_owned());
    }
    let cluster = Cluster {
        context: context.map(str::to_owned),
        namespace: Some(namespace.to_owned()).filter(|name| !name.is_empty()),
        wanted,
        claims: template.claims.clone(),
        key: given.remove("key"),
        part: String::new(),
        start,
    };
    let Common { timeout, falls_back, grain } = common;
    let engine = EngineOn::Kubernetes(Box::new(cluster));
    Ok(On { engine, shown: format!("`{first}`"), timeout, falls_back, grain })
}

static NOTHING: Kubernetes = Kubernetes {
    job: None,
    image: None,
    service_account: None,
    node_selector: BTreeMap::new(),
    requests: BTreeMap::new(),
    limits: BTreeMap::new(),
    secrets: None,
    login: None,
    claims: Vec::new(),
    user_namespace: false,
};

fn wanted(template: &Kubernetes) -> Result<Wanted, String> {
    let pairs = |map: &BTreeMap<String, String>| map.clone().into_iter().collect();
    Ok(Wanted {
        template: template.job.as_deref().map(job).transpose()?,
        image: template.image.clone(),
        service_account: template.service_account.clone(),
        node_selector: pairs(&template.node_selector),
        requests: pairs(&template.requests),
        limits: pairs(&template.limits),
        secrets: template.secrets.clone(),
        login: template.login.clone(),
        has_users: template.user_namespace,
        ..Wanted::default()
    })
}

/// A job in a file, of YAML or JSON.
fn job(path: &Path) -> Result<Value, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| format!("the job in `{name}`: {e}"))?;
    let source = Arc::new(Source { name: name.clone(), text });
    let documents = yaml::parse(&source).map_err(|told| format!("the job in `{name}`: {}", told.message))?;
    match documents.as_slice() {
        [job] => Ok(job.to_json()),
        _ => Err(format!("the job in `{name}`: it is not one document")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn engines_are_read() {
        let on = reapi("reapis://e.example,instance=main,token=hidden,platform.OSFamily=linux,platform.Pool=a=b,timeout=2h,fallback=local").unwrap();
        let EngineOn::Reapi { at, properties } = &on.engine else { panic!("{on:?}") };
        assert_eq!((&*at.endpoint, &*at.instance), ("grpcs://e.example:443", "main"));
        assert_eq!(on.shown, "`reapis://e.example:443`");
        let expected = [("OSFamily", "linux"), ("Pool", "a=b")];
        assert_eq!(*properties, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((on.timeout, on.falls_back), (Some(Duration::from_secs(7200)), true));
        assert!(!format!("{on:?}").contains("hidden"));
    }

    #[test]
    fn clusters_are_read() {
        let small = Kubernetes {
            image: Some("small".to_owned()),
            claims: vec!["a".to_owned()],
            limits: BTreeMap::from([("memory".to_owned(), "1Gi".to_owned())]),
            ..NOTHING.clone()
        };
        let templates = BTreeMap::from([(TEMPLATE.to_owned(), small)]);
        let cluster = |text: &str| match kubernetes(text, &templates).unwrap().engine {
            EngineOn::Kubernetes(cluster) => *cluster,
            EngineOn::Reapi { .. } => panic!("{text}"),
        };
        let one = cluster("kubernetes://builds");
        assert_eq!((one.context, one.namespace.as_deref()), (None, Some("builds")));
        assert_eq!((one.wanted.image.as_deref(), one.claims.len(), one.start), (Some("small"), 1, START));
        let other = cluster("kubernetes://arn:aws:eks:eu:1:cluster/x/builds,image=large,key=k,start=1m");
        assert_eq!(other.context.as_deref(), Some("arn:aws:eks:eu:1:cluster/x"));
        assert_eq!((other.wanted.image.as_deref(), other.key.as_deref()), (Some("large"), Some("k")));
        assert_eq!(other.start, Duration::from_secs(60));
        assert_eq!(cluster("kubernetes://staging/").namespace, None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let begins = "it begins with `reapi://HOST:PORT` or, over TLS, `reapis://HOST[:PORT]`";
        for (text, expected) in [
            ("", "no fields"),
            ("host:1", begins),
            ("reapi://host", begins),
            ("http://host:1", begins),
            ("reapi://host:1,x", "field 2 is no `KEY=VALUE`"),
            ("reapi://host:1,name=x", "`name` is unknown"),
            ("reapi://host:1,fallback=no", "`fallback=no`: it is `local` or `none`"),
            ("reapi://host:1,grain=step", "`grain=step`: it is `build`, `target` or `platform`"),
            ("reapi://host:1,timeout=soon", "`timeout=soon` is no time such as `1h`"),
            (
                "reapi://host:1,token=x",
                "tokens do not travel in plain text: write the endpoint with `reapis://`",
            ),
        ] {
            assert_eq!(reapi(text).unwrap_err(), expected, "{text}");
        }
        let begins = "it begins with `kubernetes://[CONTEXT/]NAMESPACE`";
        for (text, expected) in [
            ("kubernetes://", begins),
            ("kubernetes://a_b", begins),
            (
                "kubernetes://a",
                "no image with rbuild in it is named: say `image=…`, or write it into `[kubernetes.default]` of the configuration",
            ),
            ("kubernetes://a,x", "field 2 is no `KEY=VALUE`"),
            ("kubernetes://a,imaeg=x", "`imaeg` is unknown for Kubernetes; `image`?"),
            ("kubernetes://a,image=", "`image=` is empty"),
            ("kubernetes://a,image=x,image=y", "`image` is said twice"),
            (
                "kubernetes://a,image=x,key=y",
                "`key` chooses among `claims`, and the configuration has none for this",
            ),
            ("kubernetes://a,image=x,template=y", "the configuration has no `[kubernetes.y]`"),
            ("kubernetes://a,image=x,start=0s", "`start=0s` is no time such as `1h`"),
        ] {
            assert_eq!(kubernetes(text, &BTreeMap::new()).unwrap_err(), expected, "{text}");
        }
    }
}
