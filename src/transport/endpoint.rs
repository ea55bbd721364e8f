//! Where an image is or goes, in skopeo's words.

use std::path::PathBuf;
use std::str::FromStr;

use crate::export::Engine;
use crate::oci::{Reference, ReferenceError};
use crate::text::closest;

/// Where an image is or goes: a transport, and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `docker://NAME[:TAG|@DIGEST]`
    Registry(Reference),
    /// `store:NAME`, or a name without a transport.
    Store(String),
    /// `oci:DIR[:LABEL]`
    Layout {
        /// The folder.
        path: PathBuf,
        /// What the image is called there; may be empty.
        label: String,
    },
    /// `oci-archive:FILE[:LABEL]`
    OciArchive {
        /// The file.
        path: PathBuf,
        /// What the image is called there; may be empty.
        label: String,
    },
    /// `docker-archive:FILE[:NAME[:TAG]]`
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// The name in it.
        name: Option<Reference>,
    },
    /// `docker-daemon:NAME[:TAG]` and `containers-storage:NAME[:TAG]`
    Engine {
        /// Whose images.
        engine: Engine,
        /// A name; of an image that is there, also an id.
        name: String,
    },
}

impl Endpoint {
    /// Whether documents can be kept beside an image there.
    pub(super) fn has_referrers(&self) -> bool {
        match self {
            Endpoint::Registry(_)
            | Endpoint::Store(_)
            | Endpoint::Layout { .. }
            | Endpoint::OciArchive { .. } => true,
            Endpoint::DockerArchive { .. } | Endpoint::Engine { .. } => false,
        }
    }
}

/// Why a text names no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// What follows the transport is no name.
    #[error(transparent)]
    Name(#[from] ReferenceError),
    /// No file or folder is named.
    #[error("`{text}` names no file or folder")]
    NoPath {
        /// As written.
        text: String,
    },
    /// No image is named.
    #[error("`{text}` names no image")]
    NoName {
        /// As written.
        text: String,
    },
    /// skopeo knows it, rbuild does not.
    #[error("`{transport}` is not supported: {instead}")]
    NotSupported {
        /// As written.
        transport: String,
        /// What to do.
        instead: &'static str,
    },
    /// Nobody knows it.
    #[error(
        "there is no transport `{transport}`{}; there are docker://, store:, oci:, oci-archive:, docker-archive:, docker-daemon: and containers-storage:",
        .near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"))
    )]
    Unknown {
        /// As written.
        transport: String,
        /// The nearest.
        near: Option<&'static str>,
    },
}

const TRANSPORTS: [&str; 7] = [
    "docker://",
    "store:",
    "oci:",
    "oci-archive:",
    "docker-archive:",
    "docker-daemon:",
    "containers-storage:",
];

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Endpoint::Registry(name.parse()?));
        }
        let Some((transport, rest)) = text.split_once(':') else {
            return Ok(Endpoint::Store(text.to_owned()));
        };
        let not_supported =
            |instead| EndpointError::NotSupported { transport: format!("{transport}:"), instead };
        match transport {
            "store" => Ok(Endpoint::Store(rest.to_owned())),
            "oci" => path_and_label(text, rest).map(|(path, label)| Endpoint::Layout { path, label }),
            "oci-archive" => {
                path_and_label(text, rest).map(|(path, label)| Endpoint::OciArchive { path, label })
            }
            "docker-archive" => {
                let (path, name) = path_and_label(text, rest)?;
                let name = (!name.is_empty()).then(|| name.parse()).transpose()?;
                Ok(Endpoint::DockerArchive { path, name })
            }
            "docker" => Err(not_supported("write `docker://NAME`")),
            "dir" => Err(not_supported("use `oci:DIR`")),
            "docker-daemon" => in_engine(Engine::DOCKER, text, rest),
            "containers-storage" if rest.starts_with('[') => {
                Err(not_supported("a storage in brackets; podman's own configuration says which is used"))
            }
            "containers-storage" => in_engine(Engine::Podman, text, rest),
            // A name with a tag or a port is a name in the store.
            _ if text.parse::<Reference>().is_ok() && !looks_like_a_transport(transport) => {
                Ok(Endpoint::Store(text.to_owned()))
            }
            _ => {
                let written = format!("{transport}:");
                let near = closest(&written, TRANSPORTS);
                Err(EndpointError::Unknown { transport: written, near })
            }
        }
    }
}

/// A name, or the id of an image, with or without `sha256:`.
fn in_engine(engine: Engine, text: &str, name: &str) -> Result<Endpoint, EndpointError> {
    if name.is_empty() {
        return Err(EndpointError::NoName { text: text.to_owned() });
    }
    let is_id = name.parse::<crate::oci::Digest>().is_ok();
    if !is_id {
        name.parse::<Reference>()?;
    }
    Ok(Endpoint::Engine { engine, name: name.to_owned() })
}

/// Nearly one: `oci-archiv:x.tar` is no image of that name.
fn looks_like_a_transport(word: &str) -> bool {
    closest(&format!("{word}:"), TRANSPORTS).is_some() && word.contains('-')
}

fn path_and_label(text: &str, rest: &str) -> Result<(PathBuf, String), EndpointError> {
    let (path, label) = rest.split_once(':').unwrap_or((rest, ""));
    match path.is_empty() {
        true => Err(EndpointError::NoPath { text: text.to_owned() }),
        false => Ok((PathBuf::from(path), label.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_as_skopeo_writes_them() {
        let shown = |text: &str| match text.parse::<Endpoint>() {
            Ok(place) => format!("{place:?}"),
            Err(error) => error.to_string(),
        };
        for (text, expected) in [
            ("store:app:1", "Store(\"app:1\")"),
            ("app", "Store(\"app\")"),
            ("app:1", "Store(\"app:1\")"),
            ("localhost:5000/a:1", "Store(\"localhost:5000/a:1\")"),
            ("oci:/x/y:1", "Layout { path: \"/x/y\", label: \"1\" }"),
            ("oci:rel", "Layout { path: \"rel\", label: \"\" }"),
            ("oci-archive:a.tar:x", "OciArchive { path: \"a.tar\", label: \"x\" }"),
            ("oci:", "`oci:` names no file or folder"),
            ("docker-daemon:a:1", "Engine { engine: Docker { context: None }, name: \"a:1\" }"),
            ("containers-storage:localhost/a", "Engine { engine: Podman, name: \"localhost/a\" }"),
            ("docker-daemon:", "`docker-daemon:` names no image"),
            ("docker-daemon:A", "`A` is no image name: the repository's name must be lower case"),
            ("dir:/x", "`dir:` is not supported: use `oci:DIR`"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert!(shown("docker://localhost:5000/a").starts_with("Registry("));
        assert!(shown("docker-archive:a.tar:b:1").contains("DockerArchive"));
        assert!(shown("oci-archiv:a.tar").contains("did you mean `oci-archive:`?"));
        assert!(shown("docker:x").contains("write `docker://NAME`"));
    }
}
