//! The image configuration: OCI's fields and those that Docker adds, in Docker's order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::manifest::null_is_default;
use super::{DiffId, Platform, Seconds};

/// The whole configuration blob of an image (image-spec, "Image Configuration", with Docker's
/// additional fields of `config`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ImageConfig {
    /// RFC 3339; when the image was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// MAINTAINER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// In GOARCH's words.
    #[serde(default)]
    pub architecture: String,
    /// Such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// In GOOS's words.
    #[serde(default)]
    pub os: String,
    /// Windows only.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Windows only.
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub os_features: Vec<String>,
    /// What a container of this image starts with.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: Config,
    /// The layers' identities.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    /// How each layer came to be, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub history: Vec<History>,
    /// What later builds find in the image: rbuild's own, and no standard's. Written only: an image that is made of another carries
    /// nothing of it.
    #[serde(rename = "io.rbuild.cache.v1", skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<CarriedRecord>,
}

/// The record of a step, as the configuration of the image carries it that the step is part of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CarriedRecord {
    /// The number of the step's layer, the lowest being 0.
    pub layer: usize,
    /// The step's key, in hex.
    pub key: String,
    /// The step's time, in seconds since 1970.
    pub time: Seconds,
    /// How long it took when it ran, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}

impl ImageConfig {
    /// The platform that the configuration states.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }
}

/// What a container of the image starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// USER.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub user: String,
    /// EXPOSE, as `80/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// ENV, as `K=V`, in order of first appearance.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// ENTRYPOINT; an empty list is kept apart from none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// CMD; an empty list is kept apart from none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// HEALTHCHECK (Docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The command is already escaped (Docker, set by CMD).
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_default")]
    pub args_escaped: bool,
    /// VOLUME.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub volumes: BTreeMap<String, Empty>,
    /// WORKDIR.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// ONBUILD (Docker), as written.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub on_build: Vec<String>,
    /// LABEL.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// STOPSIGNAL.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// Seconds (Docker; inherited, never set by an instruction).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// SHELL (Docker).
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub shell: Vec<String>,
}

/// The value of Go's `map[string]struct{}`: `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Empty {}

/// HEALTHCHECK; durations are in nanoseconds, 0 means the runtime's default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", "…"]`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// For one check.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// The layers of an image by identity, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One for each layer; an image without layers has an empty list.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One line of an image's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct History {
    /// RFC 3339; rbuild always writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// MAINTAINER at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Who wrote the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether no layer belongs to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_default")]
    pub empty_layer: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keeps_docker_fields_and_reads_go_nulls() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Healthcheck":{"Test":["CMD","true"],"Interval":5000000000},"ArgsEscaped":true,"OnBuild":["RUN x"],"Shell":["/bin/ash","-c"]},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.on_build, ["RUN x"]);
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(
            written,
            r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"Healthcheck":{"Test":["CMD","true"],"Interval":5000000000},"ArgsEscaped":true,"OnBuild":["RUN x"],"Shell":["/bin/ash","-c"]},"rootfs":{"type":"layers","diff_ids":[]},"history":[]}"#
        );
    }
}
