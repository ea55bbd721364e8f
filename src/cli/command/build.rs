//! `rbuild build`, the default command.

use std::io::{IsTerminal as _, Write as _};

use clap::{Args, ValueEnum as _};

use crate::cache::Saved;
use crate::cli::Failure;
use crate::cli::args::{Global, ProgressMode};
use crate::cli::call::{self, Method};
use crate::cli::command::check_image;
use crate::cli::command::ending::{Ending, Files, LOOKS};
use crate::cli::error::print;
use crate::cli::face::Face;
use crate::cli::interrupt::{self, Ended};
use crate::cli::local;
use crate::cli::options::build::{BuildArgs, OnFail};
use crate::cli::options::configuration::Configuration;
use crate::cli::options::podman::{BuildOnlyArgs, Format};
use crate::cli::options::request::{self, variable};
use crate::cli::options::sandbox::{self, Shown};
use crate::cli::show::moving::MovingArgs;
use crate::cli::show::{metadata, progress::defused, progress::json};
use crate::exec::{Signals, Stop, restore_terminal};
use crate::pipeline::shell::{Shell, ShellOptions};
use crate::pipeline::{self, Built, Failed, Request};
use crate::report::{Diagnostic, Events};
use crate::solve::session::Session;
use crate::text::{boolean, duration::seconds, size::bytes};

/// Build an image from a Dockerfile
///
/// Each instruction that changes files becomes a layer; a layer whose inputs are those of an earlier build is
/// taken from the cache. The image is kept in the local store, which is an OCI image layout.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 built, 1 the build failed, 2 wrong usage, 3 over budget, 75 a registry or the network failed (try again), 130 interrupted."
)]
pub(crate) struct BuildLine {
    #[command(flatten)]
    pub(crate) build: BuildArgs,

    #[command(flatten)]
    only: BuildOnlyArgs,
}

/// Builds, or does what was asked for instead.
pub(crate) fn run(global: &Global, line: &BuildLine) -> Result<(), Failure> {
    let BuildLine { build: args, only } = line;
    let configuration = Configuration::load()?;
    let mode = progress_mode(args, &configuration)?;
    let in_form = |failure: Failure| failure.in_json(mode == ProgressMode::Json);
    request::refuse_at(args)?;
    let mut request = request::from_args(global, &configuration, args).map_err(in_form)?;
    request.volumes = request::all(&only.volume, "--volume", sandbox::volume).map_err(in_form)?;
    request.dockers_types = only.format == Format::Docker;
    if let Some(place) = &args.budget.growth_against {
        let store = local::open_to_write(global, &configuration)?;
        let moving = MovingArgs::of(&args.registries, mode);
        request.budgets.against =
            Some(check_image::size_of(&store, place, (&configuration, &moving)).map_err(in_form)?);
    }
    if args.podman.all_platforms {
        request.platforms =
            pipeline::platforms_of_bases(&request).map_err(|told| in_form(Failure::build(told)))?;
        request.options.explicit_platform = true;
    }
    let call = call::from_args(args).map_err(in_form)?;
    if call.method != Method::Build {
        request::refuse_on(args, "what only looks at a Dockerfile")?;
        Files::of(args).refuse(args.advice, LOOKS).map_err(in_form)?;
        return call.run(&request);
    }
    forget_id(&request)?;
    build_shown(global, args, request, mode).map_err(in_form).map(drop)
}

/// Builds, shows progress meanwhile, and prints the result.
pub(crate) fn build_shown(
    global: &Global,
    args: &BuildArgs,
    request: Request,
    mode: ProgressMode,
) -> Result<Built, Failure> {
    let started = std::time::Instant::now();
    let ending = Ending::new(request.store_root.clone(), (mode, args.quiet), args.advice, Files::of(args))?;
    let built = build_interruptibly(global, args, request, (mode, &ending))?;
    let lines = ending.of_built(built.record.as_deref());
    let metadata = args.docker.metadata_file.as_ref().map_or(Ok(()), |path| {
        let with_warnings =
            variable("BUILDX_METADATA_WARNINGS").is_some_and(|text| boolean(&text) == Some(true));
        metadata::write(path, &metadata::object(&built, with_warnings, metadata::Provenance::wanted()))
    });
    // The image is there, and may have been pushed: that is said whatever cannot be written.
    let told = tell(global, args, (&built, &lines), (mode, started));
    Failure::all([metadata, told, ending.write(built.record.as_deref())]).map(|()| built)
}

/// Says what was built.
fn tell(
    global: &Global,
    args: &BuildArgs,
    (built, lines): (&Built, &str),
    (mode, started): (ProgressMode, std::time::Instant),
) -> Result<(), Failure> {
    // As in buildx, which prints nothing with `none`.
    let is_quiet = global.face == Face::Docker && mode == ProgressMode::Quiet;
    if args.quiet || is_quiet {
        return print(&format!("{}\n", built.id));
    }
    let text = match mode {
        ProgressMode::Quiet | ProgressMode::None | ProgressMode::RawJson => return Ok(()),
        ProgressMode::Json => format!("{}\n", json::built(built, started.elapsed())),
        ProgressMode::Auto | ProgressMode::Tty | ProgressMode::Plain => {
            let summary = summary(built, started.elapsed(), mode.resolved() == ProgressMode::Tty);
            defused(summary) + lines
        }
    };
    // The image is there even if nobody reads this.
    let _ = std::io::stderr().write_all(text.as_bytes());
    Ok(())
}

/// What an earlier build left in the file of the id is not taken for the id of one that failed.
fn forget_id(request: &Request) -> Result<(), Failure> {
    let Some(path) = request.iidfile.as_ref().filter(|path| path.is_file()) else { return Ok(()) };
    std::fs::remove_file(path)
        .map_err(|e| Failure::message(format!("cannot write `{}`: {e}", path.display())))
}

/// How to show progress: as the command line says, else docker's variable, else the configuration.
pub(crate) fn progress_mode(
    args: &BuildArgs,
    configuration: &Configuration,
) -> Result<ProgressMode, Failure> {
    match args.quiet {
        true => Ok(ProgressMode::Quiet),
        false => progress_of(args.progress, configuration),
    }
}

/// As [`progress_mode`], where nobody can ask for quiet.
pub(super) fn progress_of(
    option: Option<ProgressMode>,
    configuration: &Configuration,
) -> Result<ProgressMode, Failure> {
    let given = |text: &str, place: &str| {
        ProgressMode::from_str(text, false).map_err(|_| {
            let message = format!("bad value `{text}` for {place}");
            Failure::usage(Diagnostic::error(message).help("it is auto, tty, plain, quiet, json or rawjson"))
        })
    };
    match (&option, variable("BUILDKIT_PROGRESS"), &configuration.own.defaults.progress) {
        (Some(mode), ..) => Ok(*mode),
        (None, Some(text), _) => given(&text, "$BUILDKIT_PROGRESS"),
        (None, None, Some(text)) => given(text, "`progress` in the configuration"),
        (None, None, None) => Ok(ProgressMode::Auto),
    }
}

/// Builds until it is done or somebody presses Ctrl-C.
fn build_interruptibly(
    global: &Global,
    args: &BuildArgs,
    request: Request,
    (mode, ending): (ProgressMode, &Ending),
) -> Result<Built, Failure> {
    let (on_fail, ending) = (args.on_fail, ending.clone());
    let (global, after) = (global.clone(), std::sync::Arc::new(request));
    let request = std::sync::Arc::clone(&after);
    interruptibly_then(
        mode,
        move |events, stop| pipeline::run(&request, events, stop),
        move |failed, stop| {
            ending.of_failed(failed.record.as_deref());
            after_failure(failed, &global, on_fail, &after, stop)
        },
    )
}

/// Works, and shows how far it is, until it is done or somebody presses Ctrl-C.
pub(crate) fn interruptibly<T: Send + 'static>(
    mode: ProgressMode,
    work: impl FnOnce(&Events, &Stop) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    interruptibly_then(mode, work, |failure, _| failure)
}

/// As [`interruptibly`]; what went wrong is looked at once nothing is shown any more.
pub(crate) fn interruptibly_then<T: Send + 'static, E: Send + 'static>(
    mode: ProgressMode,
    work: impl FnOnce(&Events, &Stop) -> Result<T, E> + Send + 'static,
    after: impl FnOnce(E, &Stop) -> Failure + Send + 'static,
) -> Result<T, Failure> {
    let no_thread = |e: std::io::Error| Failure::message(format!("cannot start to build: {e}"));
    let signals = Signals::hold().map_err(no_thread)?;
    let (shown, events) = Shown::start(mode);
    let stop = Stop::default();
    let work = {
        let (stop, shown) = (stop.clone(), shown.clone());
        move || {
            let outcome = work(&events, &stop);
            drop(events);
            shown.finish();
            outcome.map_err(|error| after(error, &stop))
        }
    };
    match interrupt::guard(signals, &stop, Result::is_ok, work).map_err(no_thread)? {
        Ended::Done(outcome) => outcome,
        Ended::Interrupted(signal) => Err(Failure::interrupted(signal)),
        Ended::Abandoned(signal) => {
            restore_terminal();
            shown.abandon();
            Err(Failure::interrupted(signal))
        }
    }
}

/// Enters the step that failed, if that is wanted and there is a terminal; else says how to.
fn after_failure(
    failed: Failed,
    global: &Global,
    on_fail: OnFail,
    request: &Request,
    stop: &Stop,
) -> Failure {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let (Some(session), true) = (failed.kept.clone(), on_fail == OnFail::Shell && is_terminal) else {
        return Failure::build(sandbox::with_way_in(failed, global));
    };
    let failure = Failure::build(failed.diagnostics);
    // What the user is to look into is told before, and the exit code is that of the step's failure in any case.
    crate::cli::error::report(&failure);
    let entered = enter_failed(*session, global, request, stop);
    entered.err().unwrap_or_else(Failure::told)
}

fn enter_failed(session: Session, global: &Global, request: &Request, stop: &Stop) -> Result<(), Failure> {
    let (store, _) = pipeline::shell::sessions(&request.store_root).map_err(Failure::build)?;
    stop.resume();
    let options = ShellOptions { secrets: request.secrets.clone(), ..ShellOptions::default() };
    let mut opened = Shell::kept(&store, session, &options, stop).map_err(Failure::build)?;
    sandbox::shell(&mut opened, None, global)?;
    if let Some(session) = opened.leave(None).map_err(Failure::build)? {
        sandbox::tell_kept(&session, global);
    }
    Ok(())
}

/// For people, at a terminal with the names that they gave; the digest has a line of its own, of 77 columns:
///
/// ```text
/// built sha256:…
///   as ubuntu-with-vi:latest
///   in 2.1s: 48.2 MB in 3 layers; 1 step ran
///   2 steps cached (1 remote; 0 B fetched, 41.0 kB indexes), saved 3m12s
/// ```
fn summary(built: &Built, took: std::time::Duration, shows_names: bool) -> String {
    let mut text = format!("built {}\n", built.digest);
    if shows_names {
        built.names.iter().for_each(|name| text.push_str(&format!("  as {name}\n")));
    }
    text.push_str(&format!("  in {}: ", seconds(took)));
    match built.layers {
        0 => text.push_str("no layers"),
        layers => text.push_str(&format!("{} in {}", bytes(built.size_bytes), count(layers, "layer"))),
    }
    let Saved { steps, fetched_bytes, index_bytes, remade, took } = built.saved;
    let is_shared = steps > 0;
    match (built.ran, built.cached) {
        (0, 0) => {}
        (0, _) => text.push_str("; nothing to do, all from the cache"),
        (ran, cached) if is_shared || cached == 0 => text.push_str(&format!("; {} ran", count(ran, "step"))),
        (ran, cached) => text.push_str(&format!("; {} ran, {cached} cached", count(ran, "step"))),
    }
    text.push('\n');
    if is_shared {
        let (cached, remote) = (count(built.cached, "step"), steps.min(built.cached));
        let fetched = bytes(fetched_bytes);
        text.push_str(&format!("  {cached} cached ({remote} remote; {fetched} fetched"));
        if index_bytes > 0 {
            text.push_str(&format!(", {} indexes", bytes(index_bytes)));
        }
        if remade > 0 {
            text.push_str(&format!(", {remade} made here"));
        }
        text.push_str(&format!("), saved {}\n", seconds(took)));
    }
    text
}

fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
