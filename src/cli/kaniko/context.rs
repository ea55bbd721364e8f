//! `--context` in kaniko's words.

use std::path::{Path, PathBuf};

use base64::Engine as _;

use super::flags::Id;
use super::words::{Typed, truth};
use crate::cli::Failure;
use crate::cli::options::request::{bad, variable};
use crate::pipeline::{ContextFrom, Secret, SecretFrom};
use crate::report::Diagnostic;

/// Where kaniko looks when nothing is said.
const WORKSPACE: &str = "/workspace/";

/// What opens a context, and what it needs.
pub(super) struct Context {
    /// Where the files are.
    pub(super) from: ContextFrom,
    /// Logins to fetch them.
    pub(super) secrets: Vec<Secret>,
    /// What is to be said.
    pub(super) notes: Vec<String>,
}

/// Reads `--context`, `--context-sub-path` and `--git`.
pub(super) fn of(typed: &Typed) -> Result<Context, Failure> {
    let text = typed.last(Id::Context).unwrap_or(WORKSPACE);
    let below = typed.last(Id::SubPath);
    let git = Git::read(typed)?;
    let plain = |from| Context { from, secrets: Vec::new(), notes: Vec::new() };
    let folder = |path: &str| {
        plain(ContextFrom::Directory(below.map_or_else(|| path.into(), |b| Path::new(path).join(b))))
    };
    let whole = |from: ContextFrom| match below {
        None => Ok(plain(from)),
        Some(below) => {
            let reason = format!("the context `{text}` is an archive");
            let help = "unpack it, and name the folder in it as `--context`";
            Err(Failure::usage(
                Diagnostic::error(format!("bad value `{below}` for --context-sub-path: {reason}")).help(help),
            ))
        }
    };
    match text.split_once("://") {
        None => Ok(folder(text)),
        Some(("dir", path)) => Ok(folder(path)),
        Some(("tar", "stdin")) => whole(ContextFrom::Stdin),
        Some(("tar", path)) => whole(ContextFrom::Archive(PathBuf::from(path))),
        Some(("git", rest)) => Ok(git.context(rest, below)),
        Some(("https", rest)) if is_azure(rest) => Err(elsewhere(
            text,
            "Azure's storage",
            "`az storage blob download … --file /dev/stdout | executor --context=tar://stdin …`, or give a URL with a \
             signature (`?sv=…`)",
        )),
        Some(("https", _)) => whole(ContextFrom::Url(text.to_owned())),
        Some(("s3", _)) => Err(elsewhere(
            text,
            "a bucket",
            &format!("`aws s3 cp {text} - | executor --context=tar://stdin …`"),
        )),
        Some(("gs", _)) => Err(elsewhere(
            text,
            "a bucket",
            &format!("`gsutil cat {text} | executor --context=tar://stdin …`"),
        )),
        Some((scheme, _)) => {
            let reason = format!("there is no `{scheme}://`; there are dir://, tar://, git:// and https://");
            Err(bad("--context", text, &reason))
        }
    }
}

fn elsewhere(text: &str, what: &str, help: &str) -> Failure {
    let error = format!("`--context={text}`: rbuild reads nothing from {what} by itself");
    Failure::usage(Diagnostic::error(error).help(format!("pipe the archive in: {help}")))
}

/// Storage that wants a key, which a URL with a signature does not.
fn is_azure(rest: &str) -> bool {
    const CLOUDS: [&str; 4] = [
        ".blob.core.windows.net",
        ".blob.core.chinacloudapi.cn",
        ".blob.core.cloudapi.de",
        ".blob.core.usgovcloudapi.net",
    ];
    let host = rest.split('/').next().unwrap_or_default();
    !rest.contains('?') && CLOUDS.iter().any(|cloud| host.ends_with(cloud))
}

/// `--git`
#[derive(Default)]
struct Git {
    branch: Option<String>,
    submodules: bool,
    notes: Vec<String>,
}

impl Git {
    fn read(typed: &Typed) -> Result<Self, Failure> {
        let mut git = Self::default();
        // One key each; kaniko's help shows them with commas between.
        for pair in typed.all(Id::Git).flat_map(|value| value.split(',')).filter(|pair| !pair.is_empty()) {
            let wrong = |reason: &str| bad("--git", pair, reason);
            let (key, value) = pair.split_once('=').ok_or_else(|| wrong("write it as KEY=VALUE"))?;
            let switch = || truth(value).ok_or_else(|| wrong("it is true or false"));
            match key {
                "branch" => git.branch = Some(value.to_owned()).filter(|branch| !branch.is_empty()),
                "recurse-submodules" => git.submodules = switch()?,
                "single-branch" | "depth" => {
                    git.notes.push(format!(
                        "`--git={pair}` changes nothing: no more is fetched than what is built"
                    ));
                }
                "insecure-skip-tls" => {
                    if switch()? {
                        let help = "name the server's authority: `git config --global http.sslCAInfo FILE`";
                        return Err(Failure::usage(
                            Diagnostic::error(
                                "`--git=insecure-skip-tls=true` is refused: a login would go to anybody",
                            )
                            .help(help),
                        ));
                    }
                }
                _ => {
                    return Err(wrong(
                        "there are branch, single-branch, depth, recurse-submodules and insecure-skip-tls",
                    ));
                }
            }
        }
        Ok(git)
    }

    /// `HOST/PATH[#REF[#COMMIT]]`
    fn context(self, rest: &str, below: Option<&str>) -> Context {
        let mut parts = rest.split('#');
        let repository = parts.next().unwrap_or_default();
        let (reference, commit) = (parts.next(), parts.next());
        let scheme = match variable("GIT_PULL_METHOD").as_deref() {
            Some("http") => "http",
            _ => "https",
        };
        let submodules = if self.submodules { "" } else { "?submodules=false" };
        let wanted = commit.or(self.branch.as_deref()).or(reference).unwrap_or_default();
        let below = below.map(|below| format!(":{}", below.trim_matches('/'))).unwrap_or_default();
        let fragment = format!("{wanted}{below}");
        let hash = if fragment.is_empty() { "" } else { "#" };
        Context {
            from: ContextFrom::Git(format!("{scheme}://{repository}{submodules}{hash}{fragment}")),
            secrets: login().into_iter().collect(),
            notes: self.notes,
        }
    }
}

/// The login that kaniko finds for git.
fn login() -> Option<Secret> {
    if variable("GIT_TOKEN").is_some() {
        return Some(Secret {
            id: "GIT_AUTH_TOKEN".to_owned(),
            from: SecretFrom::Env("GIT_TOKEN".to_owned()),
            is_exempt: false,
        });
    }
    let (user, password) = (variable("GIT_USERNAME"), variable("GIT_PASSWORD"));
    if user.is_none() && password.is_none() {
        return None;
    }
    let pair = format!("{}:{}", user.unwrap_or_default(), password.unwrap_or_default());
    let header = format!("basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    Some(Secret {
        id: "GIT_AUTH_HEADER".to_owned(),
        from: SecretFrom::Value(header.into()),
        is_exempt: false,
    })
}
