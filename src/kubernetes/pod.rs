//! Jobs and their pods: made, looked at, removed.

use serde_json::{Value, json};

use super::job::{CONTAINER, selector};
use super::server::{Error, Server, Verb};
use super::websocket::WebSocket;
use crate::http::percent_encoded;
use crate::text::terminal::for_people;

/// A pod, as far as it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    /// Where it is; empty before that is known.
    pub(crate) node: String,
    pub(crate) state: State,
}

/// How far a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It does not run yet, and why, as far as somebody said.
    Waits(String),
    /// It does not run, and waiting does not mend it.
    Unable(String),
    Runs,
    /// Its container ended.
    Ended {
        code: i64,
        /// It had more memory than it may have.
        is_out_of_memory: bool,
    },
    /// It is being taken away, or was: another one may do better.
    Lost(String),
}

/// Why containers do not begin that begin neither a minute later.
const HOPELESS: [&str; 5] = [
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerError",
    "RunContainerError",
];

impl Server {
    /// Makes a job.
    ///
    /// # Errors
    /// Those of asking.
    pub(crate) fn make_job(&self, namespace: &str, job: &Value) -> Result<(), Error> {
        let path = format!("/apis/batch/v1/namespaces/{}/jobs", percent_encoded(namespace));
        self.ask(Verb::Post, &path, Some(job)).map(drop)
    }

    /// Removes a job with its pod. One that is gone is no error.
    ///
    /// # Errors
    /// Those of asking.
    pub(crate) fn remove_job(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let path = format!(
            "/apis/batch/v1/namespaces/{}/jobs/{}",
            percent_encoded(namespace),
            percent_encoded(name)
        );
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
        match self.ask(Verb::Delete, &path, Some(&options)) {
            Err(error) if !error.is_absent() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Why a job has no pod, if it says so.
    ///
    /// # Errors
    /// Those of asking.
    pub(crate) fn job_failed(&self, namespace: &str, name: &str) -> Result<Option<String>, Error> {
        let path = format!(
            "/apis/batch/v1/namespaces/{}/jobs/{}",
            percent_encoded(namespace),
            percent_encoded(name)
        );
        let job = self.ask(Verb::Get, &path, None)?;
        let conditions = job["status"]["conditions"].as_array();
        let failed =
            conditions.into_iter().flatten().find(|c| c["type"] == "Failed" && c["status"] == "True");
        Ok(failed.map(told))
    }

    /// The pod of a job, once it has one.
    ///
    /// # Errors
    /// Those of asking.
    pub(crate) fn pod_of(&self, namespace: &str, job: &str) -> Result<Option<Pod>, Error> {
        let (namespace, selector) = (percent_encoded(namespace), percent_encoded(&selector(job)));
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}&limit=2");
        let listed = self.ask(Verb::Get, &path, None)?;
        let pods =
            listed["items"].as_array().ok_or_else(|| Error::Malformed("a list without items".to_owned()))?;
        Ok(pods.first().map(read))
    }

    /// Runs a program in a pod's container, beside what runs there.
    ///
    /// # Errors
    /// When it does not come about.
    pub(crate) fn run_in(&self, namespace: &str, pod: &str, words: &[&str]) -> Result<WebSocket, Error> {
        let (namespace, pod) = (percent_encoded(namespace), percent_encoded(pod));
        let mut path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/exec?container={CONTAINER}");
        words.iter().for_each(|word| path.push_str(&format!("&command={}", percent_encoded(word))));
        self.stream(&(path + "&stdin=true&stdout=true&stderr=true"))
    }
}

/// Reason and message of a condition or state.
fn told(value: &Value) -> String {
    let text = |name: &str| value[name].as_str().unwrap_or_default().trim();
    match (text("reason"), text("message")) {
        ("", message) => for_people(message),
        (reason, "") => for_people(reason),
        (reason, message) => for_people(&format!("{reason}: {message}")),
    }
}

fn read(pod: &Value) -> Pod {
    let text = |value: &Value| value.as_str().map(for_people).unwrap_or_default();
    Pod { name: text(&pod["metadata"]["name"]), node: text(&pod["spec"]["nodeName"]), state: state(pod) }
}

fn state(pod: &Value) -> State {
    let status = &pod["status"];
    let conditions = || status["conditions"].as_array().into_iter().flatten();
    let containers = || status["containerStatuses"].as_array().into_iter().flatten();
    let own =
        containers().find(|container| container["name"] == CONTAINER).map(|container| &container["state"]);
    // Kubernetes 1.26 and later say so when it is not the pod's own doing.
    let disrupted = conditions().find(|c| c["type"] == "DisruptionTarget" && c["status"] == "True");
    if let Some(condition) = disrupted {
        return State::Lost(told(condition));
    }
    let ended = own.map(|state| &state["terminated"]).filter(|ended| ended.is_object());
    let reason = status["reason"].as_str().unwrap_or_default();
    // Evicted, Shutdown, NodeLost, Preempting: said of the pod, not of its container.
    let is_given_up = status["phase"] == "Failed" && !reason.is_empty() && reason != "DeadlineExceeded";
    if is_given_up || (ended.is_none() && !pod["metadata"]["deletionTimestamp"].is_null()) {
        let why = told(status);
        return State::Lost(if why.is_empty() { "it was removed".to_owned() } else { why });
    }
    if let Some(ended) = ended {
        let is_out_of_memory = ended["reason"] == "OOMKilled";
        return State::Ended { code: ended["exitCode"].as_i64().unwrap_or(-1), is_out_of_memory };
    }
    if status["phase"] == "Failed" || status["phase"] == "Succeeded" {
        return State::Ended { code: -1, is_out_of_memory: false };
    }
    if own.is_some_and(|state| state["running"].is_object()) {
        return State::Runs;
    }
    let waiting = own.map(|state| &state["waiting"]).filter(|waiting| waiting.is_object());
    if let Some(waiting) = waiting {
        let reason = waiting["reason"].as_str().unwrap_or_default();
        let why = told(waiting);
        return match HOPELESS.contains(&reason) {
            true => State::Unable(why),
            false => State::Waits(if reason == "ContainerCreating" { String::new() } else { why }),
        };
    }
    let unscheduled = conditions().find(|c| c["type"] == "PodScheduled" && c["status"] == "False");
    State::Waits(unscheduled.map(told).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a real API server and job controller have it, the status as the tests' node said it (testdata/kubernetes/README.md).
    #[test]
    fn a_pod_of_a_real_server_is_read() {
        let text = include_str!("../../testdata/kubernetes/pods.json");
        let listed: Value = serde_json::from_str(text).expect("JSON");
        let pod = read(&listed["items"][0]);
        assert!(pod.name.starts_with("rbuild-"), "{}", pod.name);
        assert_eq!((pod.node.as_str(), pod.state), ("test-node", State::Runs));
        let name = pod.name.rsplit_once('-').expect("the controller adds to the job's name").0;
        let (label, value) =
            selector(name).split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a label");
        assert_eq!(listed["items"][0]["metadata"]["labels"][label], value);
    }

    #[test]
    fn how_far_a_pod_is() {
        let own = |state: Value| {
            json!({"status": {"phase": "Running", "containerStatuses": [
            {"name": "beside", "state": {"running": {}}}, {"name": "rbuild", "state": state}]}})
        };
        let ended = |code, reason: &str| own(json!({"terminated": {"exitCode": code, "reason": reason}}));
        let waits = |reason: &str| own(json!({"waiting": {"reason": reason, "message": "words"}}));
        let condition = |kind: &str, status: &str| {
            json!({"status": {"phase": "Pending", "conditions": [
                {"type": kind, "status": status, "reason": "R", "message": "words"}]}})
        };
        for (pod, expected) in [
            (json!({}), State::Waits(String::new())),
            (condition("PodScheduled", "False"), State::Waits("R: words".to_owned())),
            (condition("PodScheduled", "True"), State::Waits(String::new())),
            (condition("DisruptionTarget", "True"), State::Lost("R: words".to_owned())),
            (waits("ContainerCreating"), State::Waits(String::new())),
            (waits("ErrImagePull"), State::Waits("ErrImagePull: words".to_owned())),
            (
                waits("CreateContainerConfigError"),
                State::Waits("CreateContainerConfigError: words".to_owned()),
            ),
            (waits("ImagePullBackOff"), State::Unable("ImagePullBackOff: words".to_owned())),
            (own(json!({"running": {}})), State::Runs),
            (ended(3, "Error"), State::Ended { code: 3, is_out_of_memory: false }),
            (ended(137, "OOMKilled"), State::Ended { code: 137, is_out_of_memory: true }),
            (
                json!({"status": {"phase": "Failed", "reason": "Evicted", "message": "low on disk"}}),
                State::Lost("Evicted: low on disk".to_owned()),
            ),
            (
                json!({"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}}),
                State::Lost("it was removed".to_owned()),
            ),
            (
                json!({"status": {"phase": "Failed", "reason": "DeadlineExceeded"}}),
                State::Ended { code: -1, is_out_of_memory: false },
            ),
        ] {
            assert_eq!(state(&pod), expected, "{pod}");
        }
    }
}
