//! Stores and forgets logins, where docker and podman look for them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::http::Environment;

/// Why a login could not be stored or forgotten. Never holds a password.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Neither `$REGISTRY_AUTH_FILE` nor `$DOCKER_CONFIG` nor `$HOME` is set.
    #[error("there is no place for logins: $HOME is not set")]
    NoPlace,
    /// The file holds something else.
    #[error("`{}` is no configuration of docker's: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The helper that the file names does not work.
    #[error("the credential helper `{helper}` that `{}` names failed: {reason}", path.display())]
    Helper {
        /// The program.
        helper: String,
        /// The file that names it.
        path: PathBuf,
        /// What it said, or why it did not start.
        reason: String,
    },
    /// The system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where a login went or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In this file.
    File(PathBuf),
    /// With this helper.
    Helper(String),
    /// Nowhere: there was none to forget.
    Nowhere,
}

/// The file with logins: `file`, else `$REGISTRY_AUTH_FILE`, else docker's.
fn path(environment: &Environment, file: Option<&Path>) -> Result<PathBuf, KeepError> {
    let chosen =
        file.map(Path::to_owned).or_else(|| environment.get("REGISTRY_AUTH_FILE").map(PathBuf::from));
    let docker = || {
        let config = environment.path("DOCKER_CONFIG", "config.json");
        config.or_else(|| environment.path("HOME", ".docker/config.json"))
    };
    chosen.or_else(docker).ok_or(KeepError::NoPlace)
}

/// Under which name docker keeps a login for a registry.
fn key(registry: &str, path: &Path) -> String {
    match registry == "docker.io" && path.file_name().is_some_and(|name| name == "config.json") {
        true => "https://index.docker.io/v1/".to_owned(),
        false => registry.to_owned(),
    }
}

/// Stores a login for `registry` (`host[:port]`).
///
/// # Errors
/// Any of [`KeepError`]; then the file is as it was.
pub fn keep_login(
    environment: &Environment,
    file: Option<&Path>,
    registry: &str,
    user: &str,
    password: &str,
) -> Result<Kept, KeepError> {
    let mut logins = Logins::open(path(environment, file)?)?;
    let key = key(registry, &logins.path);
    if let Some(helper) = logins.helper(registry, &key) {
        let request = json!({ "ServerURL": key, "Username": user, "Secret": password });
        ask(environment, &logins.path, &helper, "store", request.to_string().as_bytes())?;
        // As docker does, so that one sees in the file that there is a login.
        logins.auths()?.insert(key, json!({}));
        logins.save()?;
        return Ok(Kept::Helper(helper));
    }
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    logins.auths()?.insert(key, json!({ "auth": auth }));
    logins.save()?;
    Ok(Kept::File(logins.path))
}

/// Forgets the login for `registry`.
///
/// # Errors
/// Any of [`KeepError`]; then the file is as it was.
pub fn forget_login(
    environment: &Environment,
    file: Option<&Path>,
    registry: &str,
) -> Result<Kept, KeepError> {
    let mut logins = Logins::open(path(environment, file)?)?;
    let key = key(registry, &logins.path);
    let mut kept = Kept::Nowhere;
    if let Some(helper) = logins.helper(registry, &key) {
        match ask(environment, &logins.path, &helper, "erase", key.as_bytes()) {
            Ok(()) => kept = Kept::Helper(helper),
            Err(KeepError::Helper { reason, .. }) if reason.contains("not found") => {}
            Err(error) => return Err(error),
        }
    }
    let names = [key, registry.to_owned(), format!("https://{registry}"), format!("https://{registry}/v1/")];
    let auths = logins.auths()?;
    let before = auths.len();
    auths.retain(|name, _| !names.contains(name));
    if auths.len() < before {
        logins.save()?;
        if kept == Kept::Nowhere {
            kept = Kept::File(logins.path);
        }
    }
    Ok(kept)
}

/// The file, read, with its folder locked: two logins at once shall not lose each other's.
struct Logins {
    path: PathBuf,
    value: Map<String, Value>,
    _lock: File,
}

impl Logins {
    fn open(path: PathBuf) -> Result<Self, KeepError> {
        // A symlink's target is replaced, not the symlink.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let io = |action, at: &Path| {
            let path = at.to_owned();
            move |source| KeepError::Io { action, path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io("create", folder))?;
        let lock = File::open(folder).map_err(io("open", folder))?;
        lock.lock().map_err(io("lock", folder))?;
        let value = match fs::read(&path) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Map::new(),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(Value::Object(map)) => map,
                Ok(_) => return Err(malformed(&path, "it is no object")),
                // The error's text could repeat what is in the file.
                Err(e) => return Err(malformed(&path, &format!("line {} does not parse", e.line()))),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(e) => return Err(io("read", &path)(e)),
        };
        Ok(Self { path, value, _lock: lock })
    }

    fn auths(&mut self) -> Result<&mut Map<String, Value>, KeepError> {
        let auths = self.value.entry("auths").or_insert_with(|| json!({}));
        auths.as_object_mut().ok_or_else(|| malformed(&self.path, "`auths` is no object"))
    }

    /// The program that keeps the login, if the file names one.
    fn helper(&self, registry: &str, key: &str) -> Option<String> {
        let helpers = self.value.get("credHelpers").and_then(Value::as_object);
        let own = helpers.and_then(|helpers| helpers.get(key).or_else(|| helpers.get(registry)));
        let name = own.or_else(|| self.value.get("credsStore")).and_then(Value::as_str);
        name.filter(|name| !name.is_empty()).map(|name| format!("docker-credential-{name}"))
    }

    /// Readers see the old file or the new one, and nobody but its owner sees either.
    fn save(&self) -> Result<(), KeepError> {
        let temporary = self.path.with_extension(format!("{}.new", std::process::id()));
        let text = format!("{:#}\n", Value::Object(self.value.clone()));
        let write = || -> std::io::Result<()> {
            let _ = fs::remove_file(&temporary);
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)
        };
        write().map_err(|source| {
            let _ = fs::remove_file(&temporary);
            KeepError::Io { action: "write", path: self.path.clone(), source }
        })
    }
}

fn malformed(path: &Path, reason: &str) -> KeepError {
    KeepError::Malformed { path: path.to_owned(), reason: reason.to_owned() }
}

/// Runs a helper (docker-credential-helpers' protocol: the request on standard input, an error on standard output).
fn ask(
    environment: &Environment,
    path: &Path,
    helper: &str,
    action: &str,
    request: &[u8],
) -> Result<(), KeepError> {
    let failed =
        |reason: String| KeepError::Helper { helper: helper.to_owned(), path: path.to_owned(), reason };
    let mut command = Command::new(helper);
    command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(home) = environment.get("HOME") {
        command.env("HOME", home);
    }
    let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read its input says so by its status.
        let _ = stdin.write_all(request);
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stdout);
            // A helper that repeats the request would repeat the password.
            let known = said.trim().lines().next().filter(|line| line.contains("not found"));
            Err(failed(known.map_or_else(|| output.status.to_string(), str::to_owned)))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_login_is_kept_and_forgotten_without_touching_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment::empty().with("DOCKER_CONFIG", dir.path().join("new"));
        let kept = keep_login(&environment, None, "docker.io", "u", "p").unwrap();
        let file = dir.path().join("new/config.json");
        assert_eq!(kept, Kept::File(file.clone()));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("https://index.docker.io/v1/") && text.contains("dTpw"), "{text}");
        fs::write(&file, r#"{"psFormat":"x","auths":{"a":{"auth":"dTpw"}},"z":1}"#).unwrap();
        keep_login(&environment, None, "localhost:5000", "u", "p").unwrap();
        forget_login(&environment, None, "a").unwrap();
        let value: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(value, json!({"psFormat": "x", "auths": {"localhost:5000": {"auth": "dTpw"}}, "z": 1}));
        assert_eq!(forget_login(&environment, None, "b").unwrap(), Kept::Nowhere);
        fs::write(&file, "hunter2").unwrap();
        let error = keep_login(&environment, None, "b", "u", "p").unwrap_err().to_string();
        assert!(error.contains("does not parse") && !error.contains("hunter2"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "hunter2");
    }
}
