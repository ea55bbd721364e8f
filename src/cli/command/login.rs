//! `rbuild login` and `rbuild logout`

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;

use clap::Args;

use crate::cli::Failure;
use crate::cli::error::print;
use crate::cli::options::configuration::{Configuration, RegistryArgs};
use crate::cli::show::moving::explain;
use crate::http::Environment;
use crate::oci::Reference;
use crate::registry::{self, KeepError, Kept, LoginAnswer};
use crate::report::Diagnostic;

/// A password longer than this is something else.
const PASSWORD_LIMIT: u64 = 64 << 10;

/// Log in to a registry
///
/// The login is tried first, and then kept where docker and podman look for it: in `$REGISTRY_AUTH_FILE`, else in
/// `config.json` in `$DOCKER_CONFIG` or `~/.docker`, or with the credential helper that this file names.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The registry, as HOST or HOST:PORT
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
    /// Who logs in; asked for when standard input is a terminal
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// docker has it; refused
    #[arg(short, long, hide = true)]
    password: Option<String>,
    /// Keep the login in this file
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    #[command(flatten)]
    registries: RegistryArgs,
}

/// Forget the login for a registry
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The registry, as HOST or HOST:PORT
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
    /// The file with the login
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

/// Tries the login, and keeps it.
pub(crate) fn login(args: &LoginArgs) -> Result<(), Failure> {
    if args.password.is_some() {
        let error = Diagnostic::error(
            "a password is not taken from the command line, which all users of this machine see",
        );
        let help = "pipe it in: `rbuild login --username NAME --password-stdin REGISTRY < FILE`; without a pipe it is asked for";
        return Err(Failure::usage(error.help(help)));
    }
    let registry = host(&args.registry)?;
    let settings = Configuration::load()?.registries(&args.registries)?;
    let user = match &args.username {
        Some(user) => user.clone(),
        None => ask("Username: ", false)?,
    };
    if user.is_empty() || user.contains(':') {
        return Err(Failure::usage(Diagnostic::error("the user's name is empty, or has a `:` in it")));
    }
    let password = if args.password_stdin { from_stdin()? } else { ask("Password: ", true)? };
    if password.is_empty() {
        return Err(Failure::usage(Diagnostic::error("the password is empty")));
    }
    let answer = registry::check_login(settings, &registry, &user, &password);
    let answer = answer.map_err(|error| refused(registry.registry(), &error))?;
    let environment = Environment::from_process();
    let kept =
        registry::keep_login(&environment, args.authfile.as_deref(), registry.registry(), &user, &password)
            .map_err(|e| trouble(&e))?;
    let place = match kept {
        Kept::File(path) => format!("`{}`", path.display()),
        Kept::Helper(helper) => format!("`{helper}`"),
        Kept::Nowhere => "nowhere".to_owned(),
    };
    let tried = match answer {
        LoginAnswer::Welcome => "Login succeeded",
        LoginAnswer::NotAsked => "The registry asks nobody for a login, so this one was not tried",
    };
    print(&format!("{tried}; it is kept in {place}\n"))
}

/// Forgets it; that there was none is no error.
pub(crate) fn logout(args: &LogoutArgs) -> Result<(), Failure> {
    let registry = host(&args.registry)?;
    let name = registry.registry();
    let kept = registry::forget_login(&Environment::from_process(), args.authfile.as_deref(), name);
    print(&match kept.map_err(|e| trouble(&e))? {
        Kept::Nowhere => format!("Not logged in to {name}\n"),
        Kept::File(_) | Kept::Helper(_) => format!("Removed the login for {name}\n"),
    })
}

/// The registry as the beginning of a name; `https://HOST/v1/` is what docker's own configuration writes.
fn host(text: &str) -> Result<Reference, Failure> {
    let plain = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let host = plain.split('/').next().unwrap_or(plain);
    let bad = || {
        let diagnostic = Diagnostic::error(format!("`{text}` is no registry"));
        Failure::usage(diagnostic.help("write it as HOST or HOST:PORT"))
    };
    let parsed: Reference = format!("{host}/login").parse().map_err(|_| bad())?;
    // `user/login` would be a repository of the default registry.
    let is_registry = parsed.registry() == host || host == "index.docker.io";
    if is_registry { Ok(parsed) } else { Err(bad()) }
}

fn refused(registry: &str, error: &registry::Error) -> Failure {
    let diagnostic = match error {
        registry::Error::Unauthorized { detail, .. } => {
            let said = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            Diagnostic::error(format!("`{registry}` does not take this login{said}"))
                .help("check the name and the password; some registries want a token as password")
        }
        other => explain(other),
    };
    Failure::build(vec![diagnostic.note("nothing was kept")])
}

fn trouble(error: &KeepError) -> Failure {
    Failure::message(error.to_string())
}

/// What a pipe brings, without the line break at its end.
fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(PASSWORD_LIMIT).read_to_string(&mut text);
    read.map_err(|e| Failure::message(format!("cannot read the password from standard input: {e}")))?;
    Ok(text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t)).to_owned())
}

/// Asks at the terminal; a secret is not shown while it is typed.
fn ask(prompt: &str, is_secret: bool) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let diagnostic = Diagnostic::error("there is no terminal to ask for the login");
        return Err(Failure::usage(diagnostic.help("give `--username NAME --password-stdin`")));
    }
    let _ = std::io::stderr().write_all(prompt.as_bytes());
    let usual = rustix::termios::tcgetattr(&stdin).ok().filter(|_| is_secret);
    if let Some(usual) = &usual {
        let mut silent = usual.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        let _ = rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Flush, &silent);
    }
    let mut line = String::new();
    let read = stdin.lock().take(PASSWORD_LIMIT).read_line(&mut line);
    if let Some(usual) = &usual {
        let _ = rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Flush, usual);
        let _ = std::io::stderr().write_all(b"\n");
    }
    read.map_err(|e| Failure::message(format!("cannot read from the terminal: {e}")))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
