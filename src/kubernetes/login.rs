//! As whom the API server is asked: tokens, and programs that give them.

use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock;
use crate::text::terminal::harmless;

/// What a program prints is shorter.
const PRINTED: u64 = 4 << 20;
/// A token that has so many seconds left is not used any more.
const MARGIN: i64 = 10;
/// What was read of a file is believed for so many seconds, as by kubectl.
const FRESH: i64 = 60;

/// As whom. Never shows what is secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// As nobody, or as whom a certificate names.
    None,
    Token(String),
    /// Read anew every minute, and when the server does not take what was read: who keeps it there changes it.
    TokenFile(PathBuf),
    Basic(String, String),
    Plugin(Box<Plugin>),
}

/// A program that gives tokens or certificates (`client.authentication.k8s.io`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plugin {
    pub(crate) version: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
    /// How it is installed, for people.
    pub(crate) hint: Option<String>,
    /// What it is told of the cluster, if that is wanted.
    pub(crate) cluster: Option<Value>,
}

/// What a server is shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credential {
    /// The Authorization header.
    pub(crate) authorization: Option<String>,
    /// A certificate and its key.
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
    /// It holds until then, in seconds.
    pub(crate) until: Option<i64>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "None"),
            Self::Token(_) => write!(f, "Token(…)"),
            Self::TokenFile(path) => write!(f, "TokenFile({path:?})"),
            Self::Basic(..) => write!(f, "Basic(…)"),
            Self::Plugin(plugin) => write!(f, "Plugin({:?})", plugin.program),
        }
    }
}

impl Credential {
    fn bearing(token: &str) -> Result<Self, String> {
        let token = token.trim();
        if token.is_empty() || token.chars().any(|c| c.is_ascii_control() || !c.is_ascii()) {
            return Err("the token is none that can be sent".to_owned());
        }
        Ok(Self { authorization: Some(format!("Bearer {token}")), ..Self::default() })
    }

    /// Whether it is not to be used any more at a time in seconds.
    pub(crate) fn is_over(&self, now: i64) -> bool {
        self.until.is_some_and(|until| now.saturating_add(MARGIN) >= until)
    }
}

impl Login {
    /// Whether it may be asked for another one when the server does not take this one.
    pub(crate) fn changes(&self) -> bool {
        matches!(self, Self::TokenFile(_) | Self::Plugin(_))
    }

    /// What is shown to the server.
    ///
    /// # Errors
    /// In words, without what is secret.
    pub(crate) fn credential(&self) -> Result<Credential, String> {
        match self {
            Self::None => Ok(Credential::default()),
            Self::Token(token) => Credential::bearing(token),
            Self::TokenFile(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|e| format!("the token in `{}`: {e}", path.display()))?;
                let until = Some(clock::now().saturating_add(FRESH + MARGIN));
                Ok(Credential { until, ..Credential::bearing(&text)? })
            }
            Self::Basic(name, password) => {
                let pair = super::encoded(format!("{name}:{password}").as_bytes());
                Ok(Credential { authorization: Some(format!("Basic {pair}")), ..Credential::default() })
            }
            Self::Plugin(plugin) => plugin.ask(),
        }
    }
}

impl Plugin {
    /// Runs the program. It has no input, and what it says to people is shown to them.
    fn ask(&self) -> Result<Credential, String> {
        let program = self.program.display();
        let mut spec = serde_json::Map::new();
        spec.insert("interactive".to_owned(), false.into());
        spec.extend(self.cluster.clone().map(|cluster| ("cluster".to_owned(), cluster)));
        let told = json!({"apiVersion": self.version, "kind": "ExecCredential", "spec": spec});
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("KUBERNETES_EXEC_INFO", told.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| {
            let hint = self.hint.as_ref().map(|hint| format!("\n{}", harmless(hint.trim())));
            format!(
                "the kubeconfig asks `{program}` for a login, which cannot be run: {e}{}",
                hint.unwrap_or_default()
            )
        })?;
        let mut printed = Vec::new();
        let read = match child.stdout.take() {
            Some(stdout) => stdout.take(PRINTED).read_to_end(&mut printed).map(drop),
            None => Ok(()),
        };
        let status = child.wait().and_then(|status| read.map(|()| status));
        let status =
            status.map_err(|e| format!("`{program}`, which the kubeconfig asks for a login: {e}"))?;
        if !status.success() {
            return Err(format!("`{program}`, which the kubeconfig asks for a login, failed ({status})"));
        }
        self.read(&printed)
            .map_err(|why| format!("`{program}`, which the kubeconfig asks for a login, gives none: {why}"))
    }

    fn read(&self, printed: &[u8]) -> Result<Credential, String> {
        // What it printed may be secret, and is not repeated.
        let value: Value = serde_json::from_slice(printed).map_err(|_| "it prints no JSON".to_owned())?;
        if value["kind"] != "ExecCredential" || value["apiVersion"] != self.version.as_str() {
            return Err(format!("it prints no ExecCredential of version `{}`", self.version));
        }
        let status = &value["status"];
        let text = |name: &str| status[name].as_str().filter(|text| !text.is_empty());
        let mut credential = match text("token") {
            Some(token) => Credential::bearing(token)?,
            None => Credential::default(),
        };
        credential.client = match (text("clientCertificateData"), text("clientKeyData")) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => {
                return Err(
                    "it gives a certificate without its key, or a key without its certificate".to_owned()
                );
            }
        };
        if credential == Credential::default() {
            return Err("it gives neither a token nor a certificate".to_owned());
        }
        if let Some(time) = text("expirationTimestamp") {
            let until: Timestamp = time.parse().map_err(|_| "its time is none".to_owned())?;
            credential.until = Some(until.as_second());
        }
        Ok(credential)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Tokens of service accounts are written anew by the node, and the old ones hold no longer than theirs.
    #[test]
    fn a_file_is_read_again_when_a_minute_has_passed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let login = Login::TokenFile(path.clone());
        assert!(login.credential().is_err_and(|why| why.contains("token")));
        std::fs::write(&path, "first\n").unwrap();
        let before = clock::now();
        let first = login.credential().unwrap();
        assert_eq!(first.authorization.as_deref(), Some("Bearer first"));
        assert!(!first.is_over(before + FRESH - 1) && first.is_over(clock::now() + FRESH));
        std::fs::write(&path, "second").unwrap();
        assert_eq!(login.credential().unwrap().authorization.as_deref(), Some("Bearer second"));
        // One that is said is said for good.
        assert!(!Login::Token("a".to_owned()).credential().unwrap().is_over(before + 10 * FRESH));
    }
}
