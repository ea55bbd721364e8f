//! A job as it is made of a template: one pod, one container that rbuild has things done in.

use serde_json::{Map, Value, json};

/// What rbuild's container is called.
pub(crate) const CONTAINER: &str = "rbuild";
/// The label by which a job's pod is found.
const LABEL: &str = "app.kubernetes.io/instance";
/// A folder of the pod's own, which goes with it.
pub(crate) const WORK: &str = "/rbuild-work";
/// What stays from pod to pod, if a claim is named.
const KEPT: &str = "/var/cache/rbuild-worker";
/// Where a worker has its secrets.
const SECRETS: &str = "/etc/rbuild/worker-secrets";
/// And its logins.
const LOGIN: &str = "/etc/rbuild/worker-login";
/// A job that nobody removed goes after so many seconds.
const TTL: u64 = 600;
/// And one that nobody ends is ended after so many.
const DEADLINE: u64 = 6 * 3600;

/// What a job is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// A whole one, which is completed.
    pub(crate) template: Option<Value>,
    pub(crate) image: Option<String>,
    pub(crate) service_account: Option<String>,
    /// Labels that a node must have.
    pub(crate) node_selector: Vec<(String, String)>,
    /// What the container asks for, and what it gets at most.
    pub(crate) requests: Vec<(String, String)>,
    pub(crate) limits: Vec<(String, String)>,
    /// A Secret whose keys are the ids of a build's secrets.
    pub(crate) secrets: Option<String>,
    /// A Secret of the type `kubernetes.io/dockerconfigjson`.
    pub(crate) login: Option<String>,
    /// A claim of a volume that stays.
    pub(crate) claim: Option<String>,
    /// Whether the pod has a user namespace of its own, in which RUN has its full rights.
    pub(crate) has_users: bool,
    /// The pod is ended after so many seconds.
    pub(crate) deadline: Option<u64>,
}

/// The job of that name, whose container runs `rbuild` with these words.
///
/// # Errors
/// In words, when the template is none that can be completed.
pub(crate) fn job(name: &str, wanted: &Wanted, words: &[&str]) -> Result<Value, String> {
    let mut job = wanted.template.clone().unwrap_or_else(|| json!({"apiVersion": "batch/v1", "kind": "Job"}));
    if job["kind"] != "Job" || job["apiVersion"] != "batch/v1" {
        return Err("it is no Job of `batch/v1`".to_owned());
    }
    let metadata = map(&mut job, "metadata")?;
    // Whose namespace that is says `--on`.
    for key in ["namespace", "generateName"] {
        metadata.remove(key);
    }
    metadata.insert("name".to_owned(), name.into());
    label(metadata, name)?;
    let spec = map(&mut job, "spec")?;
    for key in ["parallelism", "completions"] {
        if spec.get(key).is_some_and(|value| *value != json!(1)) {
            return Err(format!("`spec.{key}` is not 1"));
        }
    }
    // What is lost is begun again by rbuild, which sends the context to the new pod.
    spec.insert("backoffLimit".to_owned(), 0.into());
    spec.entry("ttlSecondsAfterFinished").or_insert(TTL.into());
    match wanted.deadline {
        Some(seconds) => {
            // A shorter one of the template stays.
            let own = spec.get("activeDeadlineSeconds").and_then(Value::as_u64).unwrap_or(u64::MAX);
            spec.insert("activeDeadlineSeconds".to_owned(), seconds.min(own).into());
        }
        None => drop(spec.entry("activeDeadlineSeconds").or_insert(DEADLINE.into())),
    }
    let template = inner(spec, "template")?;
    label(inner(template, "metadata")?, name)?;
    let pod = inner(template, "spec")?;
    pod.insert("restartPolicy".to_owned(), "Never".into());
    // A build has no business with the API server.
    pod.entry("automountServiceAccountToken").or_insert(false.into());
    if let Some(account) = &wanted.service_account {
        pod.insert("serviceAccountName".to_owned(), account.as_str().into());
    }
    if !wanted.node_selector.is_empty() {
        inner(pod, "nodeSelector")?.extend(texts(&wanted.node_selector));
    }
    if wanted.has_users {
        pod.insert("hostUsers".to_owned(), false.into());
    }
    let mut volumes = vec![json!({"name": "rbuild-work", "emptyDir": {}})];
    let mut mounts = vec![json!({"name": "rbuild-work", "mountPath": WORK})];
    let mut variables = vec![];
    if let Some(claim) = &wanted.claim {
        volumes.push(json!({"name": "rbuild-kept", "persistentVolumeClaim": {"claimName": claim}}));
        mounts.push(json!({"name": "rbuild-kept", "mountPath": KEPT}));
        variables.push(json!({"name": "RBUILD_ROOT", "value": format!("{KEPT}/store")}));
    }
    if let Some(secret) = &wanted.secrets {
        volumes.push(json!({"name": "rbuild-secrets", "secret": {"secretName": secret}}));
        mounts.push(json!({"name": "rbuild-secrets", "mountPath": SECRETS, "readOnly": true}));
        variables.push(json!({"name": "RBUILD_WORKER_SECRETS", "value": SECRETS}));
    }
    if let Some(secret) = &wanted.login {
        let items = json!([{"key": ".dockerconfigjson", "path": "config.json"}]);
        volumes.push(json!({"name": "rbuild-login", "secret": {"secretName": secret, "items": items}}));
        mounts.push(json!({"name": "rbuild-login", "mountPath": LOGIN, "readOnly": true}));
        variables.push(json!({"name": "DOCKER_CONFIG", "value": LOGIN}));
    }
    list(pod, "volumes")?.extend(volumes);
    let containers = list(pod, "containers")?;
    let at = match containers.iter().position(|container| container["name"] == CONTAINER) {
        Some(at) => at,
        None if containers.len() == 1 && containers[0].get("name").is_none() => 0,
        None if containers.is_empty() => {
            containers.push(json!({}));
            0
        }
        None => return Err(format!("none of its containers is called `{CONTAINER}`")),
    };
    let container = containers[at].as_object_mut().ok_or("a container is none")?;
    container.insert("name".to_owned(), CONTAINER.into());
    if let Some(image) = &wanted.image {
        container.insert("image".to_owned(), image.as_str().into());
    }
    if container.get("image").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err("no image is named: one with rbuild in it".to_owned());
    }
    container.insert("command".to_owned(), json!([&["rbuild"], words].concat()));
    container.remove("args");
    list(container, "volumeMounts")?.extend(mounts);
    list(container, "env")?.extend(variables);
    for (kind, amounts) in [("requests", &wanted.requests), ("limits", &wanted.limits)] {
        if !amounts.is_empty() {
            inner(inner(container, "resources")?, kind)?.extend(texts(amounts));
        }
    }
    if wanted.has_users {
        let security = inner(container, "securityContext")?;
        security.insert("procMount".to_owned(), "Unmasked".into());
        security.insert("seccompProfile".to_owned(), json!({"type": "Unconfined"}));
    }
    Ok(job)
}

/// How the pod of a job is asked for.
pub(crate) fn selector(name: &str) -> String {
    format!("{LABEL}={name}")
}

fn label(metadata: &mut Map<String, Value>, name: &str) -> Result<(), String> {
    let labels = inner(metadata, "labels")?;
    labels.insert(LABEL.to_owned(), name.into());
    labels.insert("app.kubernetes.io/managed-by".to_owned(), "rbuild".into());
    Ok(())
}

fn texts(pairs: &[(String, String)]) -> impl Iterator<Item = (String, Value)> {
    pairs.iter().map(|(name, value)| (name.clone(), value.as_str().into()))
}

fn map<'v>(value: &'v mut Value, key: &str) -> Result<&'v mut Map<String, Value>, String> {
    inner(value.as_object_mut().ok_or("it is no object")?, key)
}

/// The object of that key, made if it is not there.
fn inner<'v>(map: &'v mut Map<String, Value>, key: &str) -> Result<&'v mut Map<String, Value>, String> {
    let value = map.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().ok_or_else(|| format!("`{key}` is no object"))
}

fn list<'v>(map: &'v mut Map<String, Value>, key: &str) -> Result<&'v mut Vec<Value>, String> {
    let value = map.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().ok_or_else(|| format!("`{key}` is no list"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_template_is_completed_and_keeps_what_it_has() {
        let template = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"generateName": "x-", "namespace": "other", "annotations": {"a": "b"}},
            "spec": {
                "backoffLimit": 6, "ttlSecondsAfterFinished": 5,
                "template": {"spec": {
                    "tolerations": [{"operator": "Exists"}],
                    "volumes": [{"name": "mine", "emptyDir": {}}],
                    "containers": [
                        {"name": "beside", "image": "x"},
                        {"name": "rbuild", "image": "old", "args": ["x"], "env": [{"name": "A", "value": "b"}],
                         "resources": {"limits": {"cpu": "1"}}},
                    ],
                }},
            },
        });
        let wanted = Wanted {
            template: Some(template),
            image: Some("registry.example/rbuild".to_owned()),
            requests: vec![pair("cpu", "2")],
            limits: vec![pair("memory", "4Gi")],
            node_selector: vec![pair("kubernetes.io/arch", "arm64")],
            claim: Some("rbuild-2".to_owned()),
            deadline: Some(60),
            ..Wanted::default()
        };
        let job = job("rbuild-1", &wanted, &["__pod"]).unwrap();
        let (spec, pod) = (&job["spec"], &job["spec"]["template"]["spec"]);
        assert_eq!(job["metadata"]["name"], "rbuild-1");
        assert!(job["metadata"].get("namespace").is_none() && job["metadata"].get("generateName").is_none());
        assert_eq!(job["metadata"]["annotations"]["a"], "b");
        assert_eq!((&spec["backoffLimit"], &spec["ttlSecondsAfterFinished"]), (&json!(0), &json!(5)));
        assert_eq!((&spec["activeDeadlineSeconds"], &pod["restartPolicy"]), (&json!(60), &json!("Never")));
        assert_eq!(spec["template"]["metadata"]["labels"][LABEL], "rbuild-1");
        assert_eq!(pod["tolerations"][0]["operator"], "Exists");
        assert_eq!(pod["nodeSelector"]["kubernetes.io/arch"], "arm64");
        let container = &pod["containers"][1];
        assert_eq!(container["image"], "registry.example/rbuild");
        assert_eq!(container["command"], json!(["rbuild", "__pod"]));
        assert!(container.get("args").is_none());
        assert_eq!(
            container["resources"],
            json!({"limits": {"cpu": "1", "memory": "4Gi"}, "requests": {"cpu": "2"}})
        );
        assert_eq!(
            container["env"][1],
            json!({"name": "RBUILD_ROOT", "value": "/var/cache/rbuild-worker/store"})
        );
        let claims: Vec<&Value> = pod["volumes"].as_array().unwrap().iter().collect();
        assert_eq!(claims[0]["name"], "mine");
        assert_eq!(claims[2]["persistentVolumeClaim"]["claimName"], "rbuild-2");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let image = |template: Value| Wanted {
            template: Some(template),
            image: Some("x".to_owned()),
            ..Wanted::default()
        };
        let of = |spec: Value| json!({"apiVersion": "batch/v1", "kind": "Job", "spec": spec});
        for (wanted, expected) in [
            (image(json!({"kind": "Pod", "apiVersion": "v1"})), "it is no Job"),
            (image(of(json!([]))), "`spec` is no object"),
            (image(of(json!({"parallelism": 2}))), "`spec.parallelism` is not 1"),
            (
                image(of(json!({"template": {"spec": {"containers": [{"name": "a"}]}}}))),
                "none of its containers",
            ),
            (image(of(json!({"template": {"spec": {"containers": {}}}}))), "`containers` is no list"),
            (Wanted::default(), "no image is named"),
        ] {
            let told = job("x", &wanted, &[]).unwrap_err();
            assert!(told.contains(expected), "{told}");
        }
    }
}
