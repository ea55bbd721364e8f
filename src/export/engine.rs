//! Engines that run containers, as values: what `--load` names. Loading is another module's affair.

use std::fmt;
use std::str::FromStr;

use crate::text::closest;

/// Something that keeps images to run them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Docker's daemon.
    Docker {
        /// One of docker's contexts, in place of the one that docker itself would take.
        context: Option<String>,
    },
    /// The storage that podman, buildah and CRI-O share.
    Podman,
    /// containerd, and so a node of Kubernetes.
    Containerd {
        /// In place of `$CONTAINERD_NAMESPACE`, or `default`.
        namespace: Option<String>,
    },
}

/// Where an image is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadInto {
    /// The first engine that is there; it is an error if none is.
    WhatIsThere,
    /// Docker's daemon; if there is none, that is said, and the image stays where it is.
    DockerIfThere,
    /// This one.
    Engine(Engine),
}

impl Engine {
    /// Docker's daemon, the one that docker itself would speak to.
    pub const DOCKER: Engine = Engine::Docker { context: None };

    /// Its name, as it is typed.
    pub fn name(&self) -> &'static str {
        match self {
            Engine::Docker { .. } => "docker",
            Engine::Podman => "podman",
            Engine::Containerd { .. } => "containerd",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Engine::Containerd { namespace: Some(namespace) } => write!(f, ":{namespace}"),
            Engine::Docker { context: Some(context) } => write!(f, " (context `{context}`)"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for LoadInto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadInto::WhatIsThere => f.write_str("what is there"),
            LoadInto::DockerIfThere => f.write_str("docker"),
            LoadInto::Engine(engine) => engine.fmt(f),
        }
    }
}

/// `docker`, `podman`, `containerd` or `containerd:NAMESPACE`
impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
        match (name, rest) {
            ("docker", None) => Ok(Engine::DOCKER),
            ("podman", None) => Ok(Engine::Podman),
            ("containerd", None) => Ok(Engine::Containerd { namespace: None }),
            ("containerd", Some(namespace)) if is_namespace(namespace) => {
                Ok(Engine::Containerd { namespace: Some(namespace.to_owned()) })
            }
            ("containerd", Some(namespace)) => Err(format!("`{namespace}` is no namespace of containerd's")),
            ("docker" | "podman", Some(_)) => Err(format!("`{name}` has no namespaces")),
            _ => {
                let near = closest(name, ["docker", "podman", "containerd"]);
                let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                Err(format!("it is docker, podman, containerd or containerd:NAMESPACE{near}"))
            }
        }
    }
}

/// containerd's `identifiers`.
fn is_namespace(text: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 76
        && is_end(text.chars().next())
        && is_end(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_by_name() {
        let shown = |text: &str| text.parse::<Engine>().map_or_else(|e| e, |engine| engine.to_string());
        for (text, expected) in [
            ("docker", "docker"),
            ("podman", "podman"),
            ("containerd", "containerd"),
            ("containerd:k8s.io", "containerd:k8s.io"),
            ("containerd:", "`` is no namespace of containerd's"),
            ("containerd:-x", "`-x` is no namespace of containerd's"),
            ("docker:x", "`docker` has no namespaces"),
            ("dokcer", "it is docker, podman, containerd or containerd:NAMESPACE; did you mean `docker`?"),
            ("", "it is docker, podman, containerd or containerd:NAMESPACE"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
