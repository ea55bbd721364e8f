//! The protocol between docker and its plugins (docker/cli, `cli-plugins`): who we are, docker's global options, and the end of
//! a socket that means Ctrl-C.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::json;

use super::builders::BUILDX_VERSION;
use crate::cli::Failure;
use crate::cli::error::print;
use crate::report::Diagnostic;
use crate::text::boolean;

/// What docker wants to know of a plugin before it lists or starts it.
pub(super) fn tell_metadata(name: &str) -> Result<(), Failure> {
    let own = concat!("v", env!("CARGO_PKG_VERSION"));
    let (version, description) = match name {
        "buildx" => (BUILDX_VERSION, "Docker Buildx, by rbuild"),
        _ => (own, "Builds images without a daemon"),
    };
    let metadata = json!({
        "SchemaVersion": "0.1.0", "Vendor": "rbuild", "Version": version, "ShortDescription": description,
    });
    print(&format!("{metadata}\n"))
}

/// Docker's global options that say something here, as the variables that say the same.
pub(super) type Globals = Vec<(&'static str, OsString)>;

/// Options with a value, as they are written, and the variable that stands for each.
const VALUED: [(&str, &str, Option<&str>); 8] = [
    ("-c", "--context", Some("DOCKER_CONTEXT")),
    ("-H", "--host", Some("DOCKER_HOST")),
    ("-l", "--log-level", None),
    ("", "--config", Some("DOCKER_CONFIG")),
    ("", "--tlscacert", None),
    ("", "--tlscert", None),
    ("", "--tlskey", None),
    ("", "--tlsverify", None),
];

/// Takes docker's global options, and the plugin's name behind them, from the front.
pub(super) fn globals<'w>(
    mut words: &'w [OsString],
    name: &str,
) -> Result<(Globals, &'w [OsString]), Failure> {
    let mut globals = Globals::new();
    while let Some((word, rest)) = words.split_first() {
        let text = word.to_string_lossy();
        let (option, attached) = match text.split_once('=') {
            Some((option, value)) if text.starts_with("--") => (option, Some(OsString::from(value))),
            _ => (text.as_ref(), None),
        };
        words = match option {
            "-D" | "--debug" | "--tls" => rest,
            "--tlsverify" => {
                let is_on = attached.is_none_or(|value| value.to_str().and_then(boolean) != Some(false));
                globals.extend(is_on.then(|| ("DOCKER_TLS_VERIFY", OsString::from("1"))));
                rest
            }
            _ => {
                let known = VALUED
                    .iter()
                    .find(|(short, long, _)| option == *long || option == *short && !short.is_empty());
                let Some((_, long, variable)) = known else { break };
                let (value, rest) = match attached {
                    Some(value) => (value, rest),
                    None => {
                        let missing = || Failure::usage(Diagnostic::error(format!("`{long}` needs a value")));
                        let (value, rest) = rest.split_first().ok_or_else(missing)?;
                        (value.clone(), rest)
                    }
                };
                globals.extend(variable.map(|variable| (variable, value)));
                // A context that is asked for goes before a host of the environment.
                globals.extend((*long == "--context").then(|| ("DOCKER_HOST", OsString::new())));
                rest
            }
        };
    }
    match words.split_first() {
        Some((first, rest)) if first == OsStr::new(name) => Ok((globals, rest)),
        _ => Ok((globals, words)),
    }
}

/// Starts the program again with these variables, if they are not what the environment says: what reads logins and looks for a
/// daemon reads variables.
pub(super) fn start_with(globals: &Globals) -> Result<(), Failure> {
    if globals.iter().all(|(variable, value)| std::env::var_os(variable).as_ref() == Some(value)) {
        return Ok(());
    }
    let mut words = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    command.arg0(words.next().unwrap_or_default()).args(words);
    command.envs(globals.iter().map(|(variable, value)| (variable, value)));
    Err(Failure::message(format!("cannot start again with docker's options: {}", command.exec())))
}

/// Calls `told` when docker hangs up, which is how it passes Ctrl-C on to a plugin that has no terminal of its own.
pub(in crate::cli) fn hangup(told: impl FnOnce() + Send + 'static) {
    let Some(address) = std::env::var_os("DOCKER_CLI_PLUGIN_SOCKET").filter(|address| !address.is_empty())
    else {
        return;
    };
    let connected = match address.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => {
            SocketAddr::from_abstract_name(name).and_then(|address| UnixStream::connect_addr(&address))
        }
        None => UnixStream::connect(&address),
    };
    // Without it the build goes on, and Ctrl-C comes through the terminal.
    let Ok(mut socket) = connected else { return };
    let wait = move || {
        let mut byte = [0];
        // Nothing is ever said.
        while !matches!(socket.read(&mut byte), Ok(0) | Err(_)) {}
        told();
    };
    let _ = std::thread::Builder::new().name("docker".to_owned()).spawn(wait);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn split(line: &str) -> (String, String) {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let (globals, rest) = globals(&words, "buildx").unwrap();
        let globals: Vec<String> =
            globals.iter().map(|(name, value)| format!("{name}={}", value.to_string_lossy())).collect();
        let rest: Vec<_> = rest.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        (globals.join(" "), rest.join(" "))
    }

    #[test]
    fn dockers_options_come_first() {
        for (line, globals, rest) in [
            ("buildx build -t x .", "", "build -t x ."),
            ("bake --file -", "", "bake --file -"),
            ("--context c buildx build .", "DOCKER_CONTEXT=c DOCKER_HOST=", "build ."),
            (
                "-D -l debug --config=/d -H unix:///s --tlsverify buildx version",
                "DOCKER_CONFIG=/d DOCKER_HOST=unix:///s DOCKER_TLS_VERIFY=1",
                "version",
            ),
            ("--tlscacert /c --tls buildx buildx", "", "buildx"),
            ("--builder b build .", "", "--builder b build ."),
            ("", "", ""),
        ] {
            assert_eq!(split(line), (globals.to_owned(), rest.to_owned()), "{line}");
        }
        assert!(super::globals(&["--context".into()], "buildx").is_err());
    }
}
