//! Sorts everything that can go wrong into messages and exit codes.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::docker_words;
use super::show::diagnostic;
use crate::cli::show::progress::{defused, json};
use crate::report::{Diagnostic, Fault};
use crate::text::terminal::{harmless, harmless_json};

/// The build, or whatever was asked for, failed.
const EXIT_FAILED: u8 = 1;
/// The command line was wrong.
const EXIT_USAGE: u8 = 2;
/// The image breaks a budget that was set for it.
const EXIT_BUDGET: u8 = 3;
/// A registry, a server or the network failed: the same may succeed a little later. `EX_TEMPFAIL` of sysexits.h.
const EXIT_TRY_AGAIN: u8 = 75;
/// rbuild itself is wrong.
const EXIT_BUG: u8 = 255;
/// Ended by Ctrl-C or SIGTERM, as shells count it: this and the signal's number.
const EXIT_SIGNAL: i32 = 128;

/// Why a command did not do what was asked: one message or several, and whose fault it is.
#[derive(Debug)]
pub struct Failure {
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) kind: FailureKind,
    /// Print it as JSON, for the reader of `--progress=json`.
    json: bool,
}

/// Decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    Failed,
    Usage,
    /// By this signal.
    Interrupted(i32),
    /// The exit code of a command that rbuild ran.
    Status(u8),
}

impl Failure {
    /// The build failed, and these say why.
    pub(super) fn build(diagnostics: Vec<Diagnostic>) -> Self {
        Self { diagnostics, kind: FailureKind::Failed, json: false }
    }

    /// It failed, and this one sentence says why.
    pub(super) fn message(text: impl Into<String>) -> Self {
        Self::build(vec![Diagnostic::error(text)])
    }

    /// It failed, and what was printed says why.
    pub(super) fn told() -> Self {
        Self::build(Vec::new())
    }

    /// A flag's value was wrong.
    pub(super) fn usage(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic], kind: FailureKind::Usage, json: false }
    }

    /// A word that is neither a folder nor a command, but nearly one: as it was written, and as it may have been meant.
    pub(super) fn no_such_command(meant: Option<(String, String)>) -> Self {
        let (word, near) = meant.unwrap_or_default();
        let diagnostic = Diagnostic::error(format!("there is neither a command nor a folder `{word}`"));
        Self::usage(diagnostic.help(format!("did you mean `rbuild {near}`?")))
    }

    /// A command that docker has, and rbuild has not.
    pub(super) fn dockers_command(word: &str, help: &str) -> Self {
        Self::usage(Diagnostic::error(format!("rbuild has no command `{word}`")).help(help))
    }

    /// What went wrong of several things that were all tried: the first decides the exit code.
    pub(super) fn all(outcomes: impl IntoIterator<Item = Result<(), Self>>) -> Result<(), Self> {
        let together = |first: Self, other: Self| Self {
            diagnostics: first.diagnostics.into_iter().chain(other.diagnostics).collect(),
            ..first
        };
        outcomes.into_iter().filter_map(Result::err).reduce(together).map_or(Ok(()), Err)
    }

    /// Also says this of each message.
    pub(super) fn noting(self, note: &str) -> Self {
        let diagnostics = self.diagnostics.into_iter().map(|diagnostic| diagnostic.note(note)).collect();
        Self { diagnostics, ..self }
    }

    /// A value that clap refused, where it was not typed as an option.
    pub(super) fn clap(error: &clap::Error) -> Self {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        Self::usage(Diagnostic::error(first.trim_start_matches("error: ").to_owned()))
    }

    /// Ctrl-C, or SIGTERM.
    pub(super) fn interrupted(signal: i32) -> Self {
        let diagnostic = Diagnostic::error("interrupted: all steps were stopped, and no image was made");
        Self { diagnostics: vec![diagnostic], kind: FailureKind::Interrupted(signal), json: false }
    }

    /// What rbuild ran for somebody was ended.
    pub(super) fn stopped(signal: i32) -> Self {
        let diagnostics = vec![Diagnostic::error("interrupted: what ran was stopped")];
        Self { diagnostics, kind: FailureKind::Interrupted(signal), json: false }
    }

    /// What rbuild ran for somebody ended with this code, and has said why itself.
    pub(super) fn status(code: i32) -> Self {
        // A code is a byte; signals come as 128 and their number.
        Self { diagnostics: Vec::new(), kind: FailureKind::Status(code as u8), json: false }
    }

    /// Gets this exit code, if it is a failure of rbuild's that has none of its own.
    pub(super) fn or_status(self, code: i32) -> Self {
        match self.kind {
            FailureKind::Failed => Self { kind: FailureKind::Status(code as u8), ..self },
            FailureKind::Usage | FailureKind::Interrupted(_) | FailureKind::Status(_) => self,
        }
    }

    /// What is at fault; where several things are, that has to be read.
    fn fault(&self) -> Fault {
        let first = self.diagnostics.first().map(|diagnostic| diagnostic.fault).unwrap_or_default();
        let is_same = self.diagnostics.iter().all(|diagnostic| diagnostic.fault == first);
        if is_same { first } else { Fault::Told }
    }

    /// Is printed as JSON if `wanted`.
    pub(super) fn in_json(self, wanted: bool) -> Self {
        Self { json: wanted, ..self }
    }

    pub(super) fn no_store_root() -> Self {
        let diagnostic = Diagnostic::error("there is no place for the local store: $HOME is not set");
        Self::usage(diagnostic.help("name a folder with `--root DIR` or in $RBUILD_ROOT"))
    }

    pub(super) fn no_such_image(name: &str, known: &[String]) -> Self {
        let diagnostic = Diagnostic::error(format!("no image `{name}` in the local store"));
        if let Some(there) = name.strip_prefix("docker://") {
            return Self::build(vec![diagnostic.help(format!(
                "this looks into the store only: `rbuild pull {there}`, then without `docker://`"
            ))]);
        }
        let tagged = format!("{name}:");
        let others: Vec<String> = known
            .iter()
            .filter(|known| known.starts_with(&tagged))
            .take(5)
            .map(|known| format!("`{known}`"))
            .collect();
        if !others.is_empty() {
            let help = format!("`{name}` means `{name}:latest`; there is {}", others.join(", "));
            return Self::build(vec![diagnostic.help(help)]);
        }
        let near = crate::text::closest(name, known.iter().map(String::as_str));
        Self::build(vec![match near {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic.help("`rbuild images` lists what there is"),
        }])
    }
}

impl From<crate::oci::TooDeep> for Failure {
    fn from(error: crate::oci::TooDeep) -> Self {
        Self::message(error.to_string())
    }
}

impl From<crate::store::Error> for Failure {
    fn from(error: crate::store::Error) -> Self {
        Self::build(vec![crate::pipeline::diagnose_store(&error)])
    }
}

/// Whether what goes there may have colours: a terminal, and NO_COLOR is not set (or empty, as no-color.org has it).
pub(super) fn color_of(stream: &impl std::io::IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stream.is_terminal() && !refused && !dumb
}

/// Prints the failure and gives its exit code.
pub(super) fn report(failure: &Failure) -> ExitCode {
    let color = color_of(&std::io::stderr());
    for diagnostic in &failure.diagnostics {
        let text = match failure.json {
            true => format!("{}\n", harmless_json(json::failure(diagnostic).to_string())),
            false => defused(diagnostic::render_for(&std::io::stderr(), diagnostic, color)),
        };
        // Nobody may be reading any more; the exit code still tells.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    ExitCode::from(match failure.kind {
        FailureKind::Failed => match failure.fault() {
            Fault::Told => EXIT_FAILED,
            Fault::Budget => EXIT_BUDGET,
            Fault::Transient => EXIT_TRY_AGAIN,
        },
        FailureKind::Usage => EXIT_USAGE,
        FailureKind::Interrupted(signal) => (EXIT_SIGNAL + signal) as u8,
        FailureKind::Status(code) => code,
    })
}

/// Shows help, the version, or what is wrong with the words, as clap worded it.
pub(super) fn usage(shown: &clap::Error) -> Result<(), Failure> {
    // Help goes to standard output and is no failure.
    let _ = shown.print();
    let unknown = shown.get(ContextKind::InvalidArg).filter(|_| shown.kind() == ErrorKind::UnknownArgument);
    if let Some(ContextValue::String(option)) = unknown
        && let Some(help) = docker_words::option(option)
    {
        let _ = std::io::stderr().write_all(format!("\nhelp: {help}\n").as_bytes());
    }
    let missing =
        shown.get(ContextKind::InvalidArg).filter(|_| shown.kind() == ErrorKind::MissingRequiredArgument);
    if let Some(ContextValue::Strings(missing)) = missing
        && missing.iter().any(|argument| argument == "<CONTEXT>")
    {
        let help = "\nhelp: the context is the folder whose files COPY reads; `.` is the current one\n";
        let _ = std::io::stderr().write_all(help.as_bytes());
    }
    if shown.use_stderr() {
        Err(Failure { diagnostics: Vec::new(), kind: FailureKind::Usage, json: false })
    } else {
        Ok(())
    }
}

/// Prints a command's result on standard output. A reader that went away (`rbuild images | head -1`) is no error. Strangers
/// wrote much of what is printed, so nothing in it acts on a terminal; files and pipes get every byte, whatever a template
/// asked for.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().is_terminal() {
        true => print_painted(&harmless(text)),
        false => print_painted(text),
    }
}

/// As [`print()`], for text with rbuild's own colours, in which what strangers wrote is harmless already.
pub(super) fn print_painted(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::message(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// What a panic prints: that it is our fault, where, and what to do.
pub(super) fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
    let text = panic.payload().downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.payload().downcast_ref::<String>().cloned()).unwrap_or_default();
    let message = format!(
        "rbuild: bug{place}: {text}\nThis is rbuild's own fault. Please report it together with the Dockerfile; the local store is not harmed.\n"
    );
    let _ = std::io::stderr().write_all(message.as_bytes());
    // From here, because the panic may be another thread's, and because a release build aborts.
    std::process::exit(EXIT_BUG.into());
}
