//! How `git` is started: which of the machine's settings count, and which transports it may use.
//!
//! Where a server is asked, the user's configuration counts: credential helpers, proxies, certificates, `insteadOf`.
//! What only moves objects on this machine sees none of it, so filters, hooks, templates and conversions that the machine
//! knows change no byte of a checkout.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a command of git may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Folders that rbuild made; no configuration but theirs.
    Inside,
    /// Servers, with the user's configuration.
    Servers,
    /// Servers and repositories of this machine.
    ServersAndFiles,
}

/// What commands that ask servers are told beside the user's configuration.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told<'t> {
    pub(super) login: Option<Login<'t>>,
    /// A file of certificate authorities.
    pub(super) authorities: Option<&'t OsStr>,
    /// Filters that are switched off by name.
    pub(super) filters: &'t [OsString],
}

/// A header for one server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Login<'l> {
    /// `https://HOST[:PORT]`
    pub(super) server: &'l str,
    /// The value of `Authorization`.
    pub(super) value: &'l str,
}

/// What a command of git did.
pub(super) struct Said {
    pub(super) is_done: bool,
    pub(super) output: Vec<u8>,
    /// Without blanks around it.
    pub(super) errors: String,
}

/// No hook, no conversion, no program beside git, and nothing that depends on what a user prefers.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.eol=lf",
    "core.safecrlf=false",
    "core.symlinks=true",
    "core.fileMode=true",
    "core.ignoreCase=false",
    "core.sparseCheckout=false",
    // A reflog would name the user.
    "core.logAllRefUpdates=false",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "log.showSignature=false",
    "safe.bareRepository=all",
    // Git runs in folders of the store alone, whoever made it.
    "safe.directory=*",
    "gc.auto=0",
    "maintenance.auto=false",
];

/// Variables that say how to reach servers, or where the configuration is.
const KEPT: &[&str] = &[
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_ASKPASS",
    "GIT_PROXY_COMMAND",
    "GIT_EXEC_PATH",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_COUNT",
];
const KEPT_PREFIXES: &[&str] =
    &["GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_", "GIT_SSL_", "GIT_HTTP_", "GIT_TRACE"];

const SERVER_PROTOCOLS: &[&str] = &["git", "http", "https", "ssh"];

/// Whether a variable of rbuild's environment is for its git. Others, as hooks of git have them, name another repository.
fn is_kept(name: &str) -> bool {
    !name.starts_with("GIT_")
        || KEPT.contains(&name)
        || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The value of `GIT_ALLOW_PROTOCOL`, which goes before all configuration: no helper program is a transport. What the
/// user allows may be less.
fn protocols(reach: Reach, users: Option<&str>) -> String {
    if reach == Reach::Inside {
        return "file".to_owned();
    }
    let file = (reach == Reach::ServersAndFiles).then_some("file");
    let is_allowed = |name: &&str| users.is_none_or(|users| users.split(':').any(|user| user == *name));
    let allowed = file.into_iter().chain(SERVER_PROTOCOLS.iter().copied()).filter(is_allowed);
    allowed.collect::<Vec<_>>().join(":")
}

/// Runs git in `folder`, which is the repository or the one where it is made.
pub(super) fn run<'a>(
    folder: &Path,
    reach: Reach,
    told: Told<'_>,
    arguments: impl Iterator<Item = &'a OsStr>,
) -> io::Result<Said> {
    let mut command = Command::new("git");
    command.current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| !is_kept(name)) {
            command.env_remove(name);
        }
    }
    let users = std::env::var("GIT_ALLOW_PROTOCOL").ok();
    command.env("GIT_ALLOW_PROTOCOL", protocols(reach, users.as_deref()));
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_TEMPLATE_DIR", "").env("GIT_ATTR_NOSYSTEM", "1");
    command.env("GIT_NO_REPLACE_OBJECTS", "1").env("GIT_LFS_SKIP_SMUDGE", "1");
    // What it says is looked at, so it speaks one language.
    command.env("LC_ALL", "C").env_remove("LANGUAGE");
    // A repository that is damaged is not looked for further up.
    if let Some(parent) = folder.parent() {
        command.env("GIT_CEILING_DIRECTORIES", parent);
    }
    match reach {
        Reach::Inside => {
            // Git before 2.32 knows but the home.
            command.env("HOME", "/dev/null").env("XDG_CONFIG_HOME", "/dev/null");
            command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
            command.env_remove("GIT_CONFIG_COUNT");
        }
        Reach::Servers | Reach::ServersAndFiles => configure(&mut command, told),
    }
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    let output = command.args(arguments).output()?;
    Ok(Said { is_done: output.status.success(), output: output.stdout, errors: said(&output.stderr) })
}

/// What git says; ssh ends its lines as a terminal wants them.
fn said(errors: &[u8]) -> String {
    String::from_utf8_lossy(errors).replace("\r\n", "\n").trim().to_owned()
}

/// Adds to what the environment configures. Not as arguments, which every process of the machine could read.
fn configure(command: &mut Command, told: Told<'_>) {
    let Told { login, authorities, filters } = told;
    if let Some(file) = authorities {
        command.env("GIT_SSL_CAINFO", file);
    }
    let number = std::env::var("GIT_CONFIG_COUNT").ok().and_then(|count| count.parse().ok());
    let mut number: u32 = number.unwrap_or(0);
    let mut set = |key: &OsStr, value: &str| {
        command.env(format!("GIT_CONFIG_KEY_{number}"), key);
        command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        number += 1;
    };
    if let Some(Login { server, value }) = login {
        set(OsStr::new(&format!("http.{server}/.extraheader")), &format!("Authorization: {value}"));
    }
    for filter in filters {
        for (name, value) in [("smudge", ""), ("process", ""), ("required", "false")] {
            let mut key = OsString::from("filter.");
            key.push(filter);
            key.push(".");
            key.push(name);
            set(&key, value);
        }
    }
    command.env("GIT_CONFIG_COUNT", number.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_another_repository_do_not_count() {
        for name in ["GIT_SSH_COMMAND", "GIT_CONFIG_KEY_0", "GIT_SSL_CAINFO", "PATH", "SSH_AUTH_SOCK"] {
            assert!(is_kept(name), "{name}");
        }
        let others = "DIR WORK_TREE INDEX_FILE OBJECT_DIRECTORY ALTERNATE_OBJECT_DIRECTORIES COMMON_DIR NAMESPACE \
                      ALLOW_PROTOCOL PROTOCOL_FROM_USER TEMPLATE_DIR ATTR_SOURCE DEFAULT_HASH SHALLOW_FILE \
                      LITERAL_PATHSPECS EXTERNAL_DIFF CONFIG_PARAMETERS";
        for name in others.split_whitespace() {
            assert!(!is_kept(&format!("GIT_{name}")), "{name}");
        }
    }

    #[test]
    fn files_are_a_transport_only_where_they_may_be() {
        for (reach, users, expected) in [
            (Reach::Inside, None, "file"),
            (Reach::Servers, None, "git:http:https:ssh"),
            (Reach::ServersAndFiles, None, "file:git:http:https:ssh"),
            (Reach::Servers, Some("https:ssh:ext:file"), "https:ssh"),
            (Reach::ServersAndFiles, Some("file"), "file"),
            (Reach::Servers, Some(""), ""),
        ] {
            assert_eq!(protocols(reach, users), expected);
        }
    }

    #[test]
    fn lines_of_ssh_end_like_others() {
        let errors = b"ssh: connect to host h port 22: Connection refused\r\nfatal: Could not read\n";
        assert_eq!(said(errors), "ssh: connect to host h port 22: Connection refused\nfatal: Could not read");
    }
}
