//! The secrets that a build was given: read when something wants one, kept and shown nowhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;

/// As BuildKit has it.
const LIMIT_BYTES: u64 = 500 * 1024;

/// Where a secret's value comes from.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// A variable of rbuild's environment.
    Env(String),
    /// Itself.
    Value(Value),
}

/// A secret's value, which is shown nowhere.
#[derive(Clone)]
pub struct Value(String);

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Secrets by id.
#[derive(Debug, Clone, Default)]
pub struct Secrets(BTreeMap<String, Entry>);

#[derive(Debug, Clone)]
struct Entry {
    source: SecretSource,
    /// It is no secret in truth, so nobody searches for it.
    is_exempt: bool,
    /// What a pipe gave is gone from the pipe.
    read: Arc<OnceLock<Bytes>>,
}

/// A value, which is shown nowhere.
struct Bytes(Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Why a secret cannot be used. Its value is in no message.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the secret `{id}` from {from}: {problem}")]
pub struct SecretError {
    /// As in `--secret id=`.
    id: String,
    /// The file or the variable.
    from: String,
    /// What is wrong.
    problem: String,
}

impl FromIterator<(String, SecretSource)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, SecretSource)>>(secrets: I) -> Self {
        let entry = |source| Entry { source, is_exempt: false, read: Arc::default() };
        Self(secrets.into_iter().map(|(id, source)| (id, entry(source))).collect())
    }
}

impl Secrets {
    /// Lets nobody search for these, for everybody may know them.
    pub fn exempting<'i>(mut self, ids: impl IntoIterator<Item = &'i str>) -> Self {
        for id in ids {
            self.0.entry(id.to_owned()).and_modify(|entry| entry.is_exempt = true);
        }
        self
    }

    /// The value of a secret, read once; `None` if nobody gave it, or if its variable is not set.
    pub fn read(&self, id: &str) -> Result<Option<Vec<u8>>, SecretError> {
        let Some(entry) = self.0.get(id) else { return Ok(None) };
        if let Some(Bytes(read)) = entry.read.get() {
            return Ok(Some(read.clone()));
        }
        let read = self.read_anew(id)?;
        Ok(read.map(|read| entry.read.get_or_init(|| Bytes(read)).0.clone()))
    }

    /// The values that must be in no image, by their ids. A file that is a pipe is left to who needs it, and known from then on.
    /// What cannot be read is told to who needs it, too.
    pub fn searched(&self) -> Vec<(&str, Vec<u8>)> {
        let is_ready = |entry: &Entry| match &entry.source {
            _ if entry.read.get().is_some() => true,
            SecretSource::File(path) => std::fs::metadata(path).is_ok_and(|file| file.is_file()),
            SecretSource::Env(_) | SecretSource::Value(_) => true,
        };
        let searched = self.0.iter().filter(|(_, entry)| !entry.is_exempt && is_ready(entry));
        searched.filter_map(|(id, _)| Some((id.as_str(), self.read(id).ok()??))).collect()
    }

    fn read_anew(&self, id: &str) -> Result<Option<Vec<u8>>, SecretError> {
        match self.source(id) {
            None => Ok(None),
            Some(SecretSource::Value(Value(text))) => Ok(Some(text.clone().into_bytes())),
            Some(SecretSource::Env(name)) => {
                Ok(std::env::var_os(name).map(std::ffi::OsString::into_encoded_bytes))
            }
            Some(SecretSource::File(path)) => {
                let fail = |problem: String| self.problem(id, problem);
                let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
                if size > LIMIT_BYTES {
                    return Err(fail(format!("it has {size} bytes, more than {LIMIT_BYTES}")));
                }
                std::fs::read(path).map(Some).map_err(|error| fail(error.to_string()))
            }
        }
    }

    /// Whether somebody gave it, set or not.
    pub fn is_given(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Why the file that a secret is to come from is not there, if it is not. It is not opened, for it may be a pipe.
    pub fn missing_file(&self, id: &str) -> Option<SecretError> {
        let Some(SecretSource::File(path)) = self.source(id) else { return None };
        std::fs::metadata(path).err().map(|error| self.problem(id, error.to_string()))
    }

    /// The variable that a secret is to come from, if that is not set.
    pub fn unset_variable(&self, id: &str) -> Option<&str> {
        match self.source(id) {
            Some(SecretSource::Env(name)) => std::env::var_os(name).is_none().then_some(name),
            Some(SecretSource::File(_) | SecretSource::Value(_)) | None => None,
        }
    }

    /// The `Authorization` for a URL that ADD or a context fetches from `host`, without a port: the secret
    /// `HTTP_AUTH_TOKEN_host` as a bearer token, or `HTTP_AUTH_HEADER_host` as it stands.
    pub fn http_authorization(&self, host: &str) -> Result<Option<String>, SecretError> {
        if let Some(token) = self.header(&format!("HTTP_AUTH_TOKEN_{host}"))? {
            return Ok(Some(format!("Bearer {token}")));
        }
        self.header(&format!("HTTP_AUTH_HEADER_{host}"))
    }

    /// The `Authorization` for a git server `host`, with its port if the URL has one: the secret
    /// `GIT_AUTH_HEADER.host` as it stands, `GIT_AUTH_TOKEN.host` as a token, or the same without the host.
    pub fn git_authorization(&self, host: &str) -> Result<Option<String>, SecretError> {
        for suffix in [format!(".{host}"), String::new()] {
            if let Some(header) = self.header(&format!("GIT_AUTH_HEADER{suffix}"))? {
                return Ok(Some(header));
            }
            if let Some(token) = self.header(&format!("GIT_AUTH_TOKEN{suffix}"))? {
                let pair = format!("x-access-token:{token}");
                let pair = base64::engine::general_purpose::STANDARD.encode(pair);
                return Ok(Some(format!("basic {pair}")));
            }
        }
        Ok(None)
    }

    /// A secret that goes into a header: text of one line. The line end that editors leave does not count.
    fn header(&self, id: &str) -> Result<Option<String>, SecretError> {
        let Some(value) = self.read(id)? else { return Ok(None) };
        let problem = "it is no text of one line, so it cannot be in a header".to_owned();
        match std::str::from_utf8(&value).map(str::trim_end) {
            Ok(text) if !text.contains(char::is_control) => Ok(Some(text.to_owned())),
            Ok(_) | Err(_) => Err(self.problem(id, problem)),
        }
    }

    fn source(&self, id: &str) -> Option<&SecretSource> {
        self.0.get(id).map(|entry| &entry.source)
    }

    fn problem(&self, id: &str, problem: String) -> SecretError {
        let from = match self.source(id) {
            Some(SecretSource::File(path)) => format!("`{}`", path.display()),
            Some(SecretSource::Env(name)) => format!("the variable `{name}`"),
            Some(SecretSource::Value(_)) => "the command line".to_owned(),
            None => "nowhere".to_owned(),
        };
        SecretError { id: id.to_owned(), from, problem }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secrets(folder: &std::path::Path, given: &[(&str, &str)]) -> Secrets {
        let file = |(id, value): &(&str, &str)| {
            let path = folder.join(id);
            std::fs::write(&path, value).unwrap();
            ((*id).to_owned(), SecretSource::File(path))
        };
        given.iter().map(file).collect()
    }

    #[test]
    fn the_more_special_authorization_wins() {
        let folder = tempfile::tempdir().unwrap();
        let given = [
            ("HTTP_AUTH_HEADER_a.example", "Digest x\n"),
            ("HTTP_AUTH_TOKEN_b.example", "tok"),
            ("GIT_AUTH_TOKEN", "t"),
            ("GIT_AUTH_HEADER.git.example:8443", "Custom y"),
        ];
        let secrets = secrets(folder.path(), &given);
        let http = |host| secrets.http_authorization(host).unwrap();
        assert_eq!(http("a.example").as_deref(), Some("Digest x"));
        assert_eq!(http("b.example").as_deref(), Some("Bearer tok"));
        assert_eq!(http("c.example"), None);
        let git = |host| secrets.git_authorization(host).unwrap();
        assert_eq!(git("git.example:8443").as_deref(), Some("Custom y"));
        assert_eq!(git("other.example").as_deref(), Some("basic eC1hY2Nlc3MtdG9rZW46dA=="));
    }

    #[test]
    fn what_is_no_header_is_an_error_that_does_not_show_it() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = secrets(folder.path(), &[("GIT_AUTH_TOKEN", "top\r\nsecret: x")]);
        let error = secrets.git_authorization("h").unwrap_err().to_string();
        assert!(error.contains("GIT_AUTH_TOKEN") && !error.contains("top"), "{error}");
    }
}
