//! Stored logins: docker's `config.json` and podman's `auth.json`, with their credential helpers.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};

use crate::http::Environment;

/// A configuration larger than this is not one.
const FILE_LIMIT: u64 = 4 << 20;

/// The variable that holds a whole file.
const HELD: &str = "DOCKER_AUTH_CONFIG";

/// A login. Has no `Debug`, so that it cannot get into a log by accident.
#[derive(Clone)]
pub(super) enum Credential {
    /// A name and a password.
    Basic { user: String, password: String },
    /// An OAuth2 refresh token, which docker calls identity token.
    Identity(String),
}

/// What was found for a repository.
pub(super) struct Found {
    /// The first login in the order of the files.
    pub(super) credential: Option<Credential>,
    /// Why a file or a helper could not be asked; the search went on.
    pub(super) problem: Option<String>,
}

/// Looks for a login: in what `$DOCKER_AUTH_CONFIG` holds, as docker does, then in `$REGISTRY_AUTH_FILE`, docker's file and
/// podman's.
pub(super) fn find(environment: &Environment, registry: &str, repository: &str) -> Found {
    let mut found = Found { credential: None, problem: None };
    let held =
        environment.text(&[HELD]).map(|text| (PathBuf::from(format!("${HELD}")), text.as_bytes().to_vec()));
    let read = |file: PathBuf| Some((read(&file)?, file)).map(|(bytes, file)| (file, bytes));
    for (file, bytes) in held.into_iter().chain(files(environment).into_iter().filter_map(read)) {
        for key in keys(&file, registry, repository) {
            match get_credential_from_reader(bytes.as_slice(), &key) {
                Ok(credential) => {
                    found.credential = Some(credential.into());
                    return found;
                }
                Err(error) => found.problem = found.problem.or_else(|| describe(&error, &file)),
            }
        }
    }
    found
}

fn files(environment: &Environment) -> Vec<PathBuf> {
    let docker = environment
        .path("DOCKER_CONFIG", "config.json")
        .or_else(|| environment.path("HOME", ".docker/config.json"));
    let candidates = [
        environment.get("REGISTRY_AUTH_FILE").map(PathBuf::from),
        docker,
        environment.path("XDG_RUNTIME_DIR", "containers/auth.json"),
        environment
            .path("XDG_CONFIG_HOME", "containers/auth.json")
            .or_else(|| environment.path("HOME", ".config/containers/auth.json")),
    ];
    candidates.into_iter().flatten().collect()
}

/// Under which names a login may be stored. Podman's files may name a repository or a part of its path, the
/// longest wins; docker's name only registries.
fn keys(file: &Path, registry: &str, repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    if file.file_name().is_none_or(|name| name != "config.json") {
        let mut path = repository;
        loop {
            keys.push(format!("{registry}/{path}"));
            match path.rsplit_once('/') {
                Some((parent, _)) => path = parent,
                None => break,
            }
        }
    }
    if registry == "docker.io" {
        keys.push("https://index.docker.io/v1/".to_owned());
    }
    keys.push(registry.to_owned());
    keys
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_LIMIT).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// One clause about a failure, without anything that the file or a helper said: that may be a secret.
fn describe(error: &CredentialRetrievalError, file: &Path) -> Option<String> {
    let file = file.display();
    Some(match error {
        CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::ConfigNotFound => {
            return None;
        }
        // The helpers' agreed way to say that there is nothing (docker-credential-helpers, `credentials/error.go`).
        CredentialRetrievalError::HelperFailure { stdout, .. }
            if stdout.contains("credentials not found") =>
        {
            return None;
        }
        CredentialRetrievalError::HelperFailure { helper, .. } => {
            format!("the credential helper `{helper}` that `{file}` names failed")
        }
        CredentialRetrievalError::HelperCommunicationError => {
            format!("the credential helper that `{file}` names could not be run")
        }
        CredentialRetrievalError::MalformedHelperResponse => {
            format!("the credential helper that `{file}` names gave a malformed answer")
        }
        CredentialRetrievalError::CredentialDecodingError
        | CredentialRetrievalError::CredentialMismatchError => {
            format!("the login in `{file}` is malformed")
        }
        CredentialRetrievalError::ConfigReadError => format!("`{file}` is no valid JSON"),
    })
}

impl From<DockerCredential> for Credential {
    fn from(credential: DockerCredential) -> Self {
        match credential {
            DockerCredential::IdentityToken(token) => Self::Identity(token),
            DockerCredential::UsernamePassword(user, password) => Self::Basic { user, password },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn login(environment: &Environment, registry: &str, repository: &str) -> String {
        let found = find(environment, registry, repository);
        match found.credential {
            Some(Credential::Basic { user, password }) => format!("{user}:{password}"),
            Some(Credential::Identity(token)) => format!("token {token}"),
            None => found.problem.map_or("none".to_owned(), |p| format!("none, {p}")),
        }
    }

    #[test]
    fn reads_docker_and_podman_files() {
        let dir = tempfile::tempdir().unwrap();
        // "dTpw" is u:p, "bjpx" is n:q.
        let docker = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"ghcr.io":{"auth":"bjpx"},
            "id.example":{"auth":"","identitytoken":"T"},"https://old.example/v1/":{"auth":"dTpw"}}}"#;
        std::fs::write(dir.path().join("config.json"), docker).unwrap();
        let podman = r#"{"auths":{"quay.io/team/app":{"auth":"dTpw"},"quay.io/team":{"auth":"bjpx"}}}"#;
        std::fs::create_dir(dir.path().join("containers")).unwrap();
        std::fs::write(dir.path().join("containers/auth.json"), podman).unwrap();
        let environment =
            Environment::empty().with("DOCKER_CONFIG", dir.path()).with("XDG_RUNTIME_DIR", dir.path());
        for (registry, repository, expected) in [
            ("docker.io", "library/debian", "u:p"),
            ("ghcr.io", "a/b", "n:q"),
            ("id.example", "x", "token T"),
            ("old.example", "x", "u:p"),
            ("quay.io", "team/app", "u:p"),
            ("quay.io", "team/other/deep", "n:q"),
            ("quay.io", "elsewhere", "none"),
            ("localhost:5000", "x", "none"),
        ] {
            assert_eq!(login(&environment, registry, repository), expected, "{registry}/{repository}");
        }
    }

    #[test]
    fn a_missing_helper_is_a_problem_and_no_credential() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), r#"{"credsStore":"no-such-helper-for-rbuild"}"#)
            .unwrap();
        let environment = Environment::empty().with("DOCKER_CONFIG", dir.path());
        let said = login(&environment, "ghcr.io", "x");
        assert!(said.starts_with("none, the credential helper that"), "{said}");
    }

    #[test]
    fn errors_never_repeat_what_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"auths":{"ghcr.io":{"auth":"hunter2!"}}}"#).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let environment = Environment::empty().with("DOCKER_CONFIG", dir.path());
        let said = login(&environment, "ghcr.io", "x");
        assert!(said.contains("is malformed") && !said.contains("hunter2"), "{said}");
    }
}
