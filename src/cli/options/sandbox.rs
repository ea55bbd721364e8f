//! What `rbuild shell`, `rbuild run` and `--on-fail=shell` have in common: options, and being in a container.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Args;

use super::request::{all, bad};
use crate::cli::Failure;
use crate::cli::args::{Global, ProgressMode};
use crate::cli::interrupt::{self, Ended};
use crate::cli::show::progress::{Progress, width_of_stdout};
use crate::exec::{Attach, MountSource, MountSpec, Signals, Stop, restore_terminal};
use crate::pipeline::Failed;
use crate::pipeline::shell::{EnterError, Shell, ShellOptions};
use crate::report::{Diagnostic, Events};
use crate::solve::session::Session;
use crate::sync::lock;
use crate::text::terminal::cut;

/// What a command finds, beside what the image or the step has.
#[derive(Debug, Args)]
pub(crate) struct ShellOptionArgs {
    /// Set a variable; without a value it is taken from the environment; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Inside")]
    env: Vec<String>,

    /// The user, as in USER
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Inside")]
    user: Option<String>,

    /// The working directory
    #[arg(short, long, value_name = "DIR", help_heading = "Inside")]
    workdir: Option<String>,

    /// Mount a file or folder of this machine; may be repeated
    #[arg(short, long, value_name = "HERE:THERE[:ro]", help_heading = "Inside")]
    volume: Vec<String>,
}

impl ShellOptionArgs {
    /// Checks them.
    pub(crate) fn options(&self) -> Result<ShellOptions, Failure> {
        let variable = |text: &String| match text.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => std::env::var(text).ok().map(|value| (text.clone(), value)),
        };
        if let Some(dir) = self.workdir.as_deref().filter(|dir| !dir.starts_with('/')) {
            return Err(bad("--workdir", dir, "it must begin with `/`"));
        }
        if let Some(text) = self.env.iter().find(|text| text.starts_with('=') || text.is_empty()) {
            return Err(bad("--env", text, "the name is missing"));
        }
        Ok(ShellOptions {
            env: self.env.iter().filter_map(variable).collect(),
            cwd: self.workdir.clone(),
            user: self.user.clone(),
            mounts: all(&self.volume, "--volume", volume)?,
            ..ShellOptions::default()
        })
    }
}

/// `HERE:THERE[:ro|rw]`, as docker writes a bind mount; labels of SELinux (`z`, `Z`) are no question here.
pub(crate) fn volume(text: &str) -> Result<MountSpec, String> {
    let mut parts = text.split(':');
    let (here, there) = match (parts.next(), parts.next()) {
        (Some(here), Some(there)) if !here.is_empty() && there.starts_with('/') => (here, there),
        _ => return Err("write it as HERE:THERE, THERE beginning with `/`".to_owned()),
    };
    let (options, rest) = (parts.next().unwrap_or("rw"), parts.next());
    let is_known = |option: &str| matches!(option, "ro" | "rw" | "z" | "Z");
    if rest.is_some() || !options.split(',').all(is_known) {
        return Err("only `ro`, `rw` and `z` may follow".to_owned());
    }
    let readonly = options.split(',').any(|option| option == "ro");
    if !here.contains('/') && here != "." && here != ".." {
        return Err(format!("there are no named volumes; for the folder `{here}` write `./{here}`"));
    }
    let source = std::fs::canonicalize(here).map_err(|e| format!("`{here}`: {e}"))?;
    if source.to_str().is_none() {
        return Err("its path is no UTF-8".to_owned());
    }
    Ok(MountSpec { target: there.to_owned(), readonly, kind: MountSource::Bind { source } })
}

/// How a visit ended: what rbuild's own exit code is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShellEnded {
    pub(crate) code: i32,
}

/// Progress that somebody takes down before a terminal is needed, or else at the end.
#[derive(Clone)]
pub(crate) struct Shown(Arc<Mutex<Option<Progress>>>);

impl Shown {
    pub(crate) fn start(mode: ProgressMode) -> (Self, Events) {
        let progress = Progress::start(mode);
        let events = progress.events();
        (Self(Arc::new(Mutex::new(Some(progress)))), events)
    }

    fn take(&self) -> Option<Progress> {
        lock(&self.0).take()
    }

    /// Shows what there is, and no more. Other clones of the channel must be gone.
    pub(crate) fn finish(&self) {
        if let Some(progress) = self.take() {
            progress.finish();
        }
    }

    pub(crate) fn abandon(&self) {
        if let Some(progress) = self.take() {
            progress.abandon();
        }
    }
}

/// Opens a container and does something in it, interruptibly.
pub(crate) fn visit<T: Send + 'static>(
    mode: ProgressMode,
    open: impl FnOnce(&Events, &Stop) -> Result<Shell, Vec<Diagnostic>> + Send + 'static,
    inside: impl FnOnce(Shell) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let no_thread = |e: std::io::Error| Failure::message(format!("cannot start: {e}"));
    let signals = Signals::hold().map_err(no_thread)?;
    let stop = Stop::default();
    let (shown, events) = Shown::start(mode);
    let work = {
        let (stop, shown) = (stop.clone(), shown.clone());
        move || {
            let opened = open(&events, &stop);
            drop(events);
            shown.finish();
            inside(opened.map_err(Failure::build)?)
        }
    };
    match interrupt::guard(signals, &stop, Result::is_ok, work).map_err(no_thread)? {
        Ended::Done(outcome) => outcome,
        Ended::Interrupted(signal) => Err(Failure::stopped(signal)),
        Ended::Abandoned(signal) => {
            restore_terminal();
            shown.abandon();
            Err(Failure::stopped(signal))
        }
    }
}

/// Which program a shell is.
pub(crate) fn shell_command(wanted: Option<&str>, session: &Session) -> Vec<String> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if let Some(wanted) = wanted.map(words).filter(|words| !words.is_empty()) {
        return wanted;
    }
    if let Some(chosen) = session.config.config.shell.first() {
        return vec![chosen.clone()];
    }
    // Whoever has bash likes its line editor better.
    let best = "b=$(command -v bash) && exec \"$b\"; exec /bin/sh";
    ["/bin/sh", "-c", best].map(str::to_owned).to_vec()
}

/// Lets somebody into a container with a shell. At a terminal it is told where this is.
pub(crate) fn shell(
    opened: &mut Shell,
    wanted: Option<&str>,
    global: &Global,
) -> Result<ShellEnded, Failure> {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    tell_notes(&opened.notes);
    if is_terminal {
        tell(&banner(opened));
    }
    let args = shell_command(wanted, opened.session());
    let outcome = opened.run(&args, Attach { terminal: is_terminal, input: true });
    match outcome {
        Ok(report) => Ok(ShellEnded { code: report.status.code() }),
        Err(EnterError::NotFound(_) | EnterError::NotExecutable(_)) => {
            Err(no_shell(&args, opened.session(), global))
        }
        Err(error) => Err(failure_of(error)),
    }
}

/// What a container cannot do.
pub(crate) fn failure_of(error: EnterError) -> Failure {
    match error {
        EnterError::NotFound(text) | EnterError::NotExecutable(text) => Failure::message(text),
        EnterError::Stopped => Failure::stopped(libc::SIGINT),
        EnterError::Failed(diagnostics) => Failure::build(diagnostics),
    }
}

fn no_shell(args: &[String], session: &Session, global: &Global) -> Failure {
    let program = args.first().map_or("", String::as_str);
    let error = Diagnostic::error(format!("there is no `{program}` in {}", session.what));
    let host = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let bring = match host {
        Some(path) => format!("bring one along: `-v {path}:/busybox:ro --shell '/busybox sh'`"),
        None => "bring a static one along, such as busybox: `-v /path/to/busybox:/busybox:ro --shell '/busybox sh'`"
            .to_owned(),
    };
    let error = match session.id.as_str() {
        "" => error,
        id => error.note(format!("the session is {}", command(global, &format!("shell {id}")))),
    };
    Failure::build(vec![error.help("name a program that is there with `--shell PROGRAM`").help(bring)])
}

fn banner(opened: &Shell) -> String {
    let session = opened.session();
    let mut lines = Vec::new();
    match &opened.next {
        Some((next, args)) => {
            lines.push(format!("before {next}"));
            if !args.is_empty() {
                lines.push(format!("it would run: {}", one_line(&shown(args))));
            }
        }
        None => {
            lines.push(session.what.clone());
            if !session.ended.is_empty() {
                lines.push(format!("{}: {}", session.ended, one_line(&shown(&session.command))));
            }
        }
    }
    lines.push("`exit` or Ctrl-D comes back".to_owned());
    let columns = width_of_stdout().unwrap_or(80);
    lines.into_iter().map(|line| format!("{}\n", cut(&line, columns))).collect()
}

/// A command as one would type it.
fn shown(args: &[String]) -> String {
    match args {
        [shell, flag, line] if flag == "-c" && shell.ends_with("sh") => line.clone(),
        args => args.join(" "),
    }
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// What went wrong in a build, and how to enter the step that failed.
pub(crate) fn with_way_in(failed: Failed, global: &Global) -> Vec<Diagnostic> {
    let Failed { mut diagnostics, kept, .. } = failed;
    if let (Some(first), Some(session)) = (diagnostics.first_mut(), kept) {
        let words = format!("shell {}", session.id);
        first.help.push(format!("{} enters the step as it was left", command(global, &words)));
    }
    diagnostics
}

/// Says how to come back to a session that was kept.
pub(crate) fn tell_kept(session: &Session, global: &Global) {
    let title = session.title();
    let plain = |words: String| command(global, &words).trim_matches('`').to_owned();
    let (again, image) = (plain(format!("shell {title}")), plain(format!("commit {title} NAME")));
    let width = again.len().max(image.len());
    tell(&format!(
        "kept as {title}\n  {again:width$}  enters it again\n  {image:width$}  makes an image of it\n"
    ));
}

/// A command of rbuild's in backticks, for the same store.
pub(crate) fn command(global: &Global, words: &str) -> String {
    let is_usual = std::env::var_os("RBUILD_ROOT").is_some_and(|root| !root.is_empty());
    match global.root.as_ref().filter(|root| !is_usual && !root.as_os_str().is_empty()) {
        Some(root) => format!("`rbuild --root {} {words}`", root.display()),
        None => format!("`rbuild {words}`"),
    }
}

/// Says something to the user; nobody may be listening.
pub(crate) fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

pub(crate) fn tell_notes(notes: &[String]) {
    for note in notes {
        tell(&format!("note: {note}\n"));
    }
}

/// The folder of the store, or why there is none.
pub(crate) fn store_root(global: &Global) -> Result<PathBuf, Failure> {
    global.store_root().ok_or_else(Failure::no_store_root)
}
