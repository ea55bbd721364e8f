//! `rbuild shell`

use clap::Args;

use super::build::progress_mode;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::local;
use crate::cli::options::build::BuildArgs;
use crate::cli::options::configuration::Configuration;
use crate::cli::options::request;
use crate::cli::options::sandbox::{self, ShellEnded, ShellOptionArgs};
use crate::cli::options::secrets;
use crate::oci::Reference;
use crate::pipeline::shell::{ImageName, ImageRequest, Shell};
use crate::pipeline::{self, ContextFrom, DockerfileFrom, PullPolicy, Request};
use crate::plan;
use crate::report::{Diagnostic, Events};
use crate::solve::session::{Kind, Session, Sessions};
use crate::text::closest;

/// Look around with a shell: in a step that failed, before any step, at the end of a stage, in an image
///
/// `rbuild shell ID` enters what was kept: a failed step as it was left, with its files, mounts, environment, user and
/// directory; or a shell or run of before. `rbuild shell --at PLACE CONTEXT` takes the options of a build, builds up to
/// PLACE, and opens a shell there. `rbuild sessions` lists what is kept.
///
/// Options about a build's result are refused here; with an ID, so are others about what is built.
///
/// What was changed is kept when the shell ends, for coming back, or for `rbuild commit`. Secrets are not: give them again
/// with `--secret`.
#[derive(Debug, Args)]
#[command(
    override_usage = "rbuild shell [OPTIONS] ID\n       rbuild shell [OPTIONS] --at PLACE [CONTEXT]",
    mut_arg("context", |a| a
        .value_name("ID|CONTEXT")
        .help("What was kept, by its id or name; with --at the context of a build [default: .]")),
    mut_arg("at", |a| a.hide(false)),
    mut_args(|arg| request::hide(arg, &["on_fail"])),
    after_help = "\
Examples:
  rbuild shell 4f2a1b             the step that has just failed, as it was left
  rbuild shell --at 4 .           before the fourth instruction, as `[4/7]` counts it
  rbuild shell --at build:3 .     before `[build 3/5]`, with its mounts
  rbuild shell --at build .       at the end of the stage `build`
  rbuild shell --at debian:12     an image; so does `rbuild run -it debian:12 sh`
  echo 'ls -l /out' | rbuild shell --at build .
                                  without a terminal, what it reads is run

Exit codes: that of the shell; 1 when there is none, 2 wrong usage.",
)]
pub(crate) struct ShellArgs {
    /// The program to start, with its arguments [default: bash, else /bin/sh]
    #[arg(long, value_name = "PROGRAM", help_heading = "Inside")]
    shell: Option<String>,

    #[command(flatten)]
    inside: ShellOptionArgs,

    #[command(flatten)]
    build: BuildArgs,
}

/// Opens the shell.
pub(crate) fn run(global: &Global, mut args: ShellArgs) -> Result<(), Failure> {
    let mut options = args.inside.options()?;
    let configuration = Configuration::load()?;
    refuse_meaningless(&args.build)?;
    request::refuse_on(&args.build, "`rbuild shell`")?;
    args.build.limits.apply(&mut options, &configuration)?;
    let mode = progress_mode(&args.build, &configuration)?;
    let (program, own) = (args.shell.take(), global.clone());
    let inside = move |opened: Shell| visit(opened, program.as_deref(), &own);
    let visited = match args.build.at.take() {
        None => {
            let (store, sessions) =
                pipeline::shell::sessions(&sandbox::store_root(global)?).map_err(Failure::build)?;
            let session = find(&sessions, &args.build.context)?;
            options.secrets = secrets::parse(&args.build.secret)?;
            let open = move |_: &_, stop: &_| Shell::kept(&store, session, &options, stop);
            sandbox::visit(mode, open, inside)?
        }
        Some(at) => match place(&at, request::from_args(global, &configuration, &args.build)?)? {
            At::Step(request) => {
                let own = global.clone();
                let open = move |events: &_, stop: &_| {
                    Shell::step(&request, &options, events, stop)
                        .map_err(|failed| sandbox::with_way_in(failed, &own))
                };
                sandbox::visit(mode, open, inside)?
            }
            At::Image(request, near) => {
                let (store, name) = image(global, &at, request.pull)?;
                let Request { options: plan::Options { platform, .. }, registries, pull, .. } = *request;
                let image = ImageRequest { name, called: at.clone(), platform, registries, pull };
                let open = move |events: &_, stop: &_| {
                    Shell::image(&store, &image, Kind::Shell, &options, (events, stop))
                        .map_err(|told| no_image(told, &at, near))
                };
                sandbox::visit(mode, open, inside)?
            }
        },
    };
    match visited.code {
        0 => Ok(()),
        code => Err(Failure::status(code)),
    }
}

/// An option that changes nothing would be believed to change something.
fn refuse_meaningless(args: &BuildArgs) -> Result<(), Failure> {
    let help = "`rbuild commit` makes an image of what was done in a shell";
    request::refuse_results(args, &[], "shell", help)?;
    let of_builds = [
        ("--file", args.file.is_some()),
        ("--target", args.target.is_some()),
        ("--build-arg", !args.build_arg.is_empty()),
        ("--build-context", !args.build_context.is_empty()),
        ("--ssh", !args.ssh.is_empty()),
        ("--platform", !args.platform.is_empty()),
        ("--pull", args.pull.is_some()),
        ("--offline", args.offline),
        ("--lock", args.lock),
        ("--locked", args.locked),
        ("--no-cache", args.no_cache),
        ("--no-cache-filter", !args.no_cache_filter.is_empty()),
        ("--allow", !args.allow.is_empty()),
    ];
    let given = of_builds.into_iter().find(|(_, given)| *given).filter(|_| args.at.is_none());
    match given {
        Some((name, _)) => {
            let error =
                Diagnostic::error(format!("`{name}` means nothing in what is kept, where nothing is built"));
            Err(Failure::usage(error.help("`--at PLACE` builds, and opens a shell at that place")))
        }
        None => Ok(()),
    }
}

fn visit(mut opened: Shell, program: Option<&str>, global: &Global) -> Result<ShellEnded, Failure> {
    let visited = sandbox::shell(&mut opened, program, global)?;
    let is_new = opened.session().id.is_empty();
    let keep = opened.is_changed().then_some(None);
    // Who comes back to a session knows how to.
    if let Some(session) = opened.leave(keep).map_err(Failure::build)?.filter(|_| is_new) {
        sandbox::tell_kept(&session, global);
    }
    Ok(visited)
}

/// The session that is meant.
pub(super) fn find(sessions: &Sessions, wanted: &str) -> Result<Session, Failure> {
    if let Some(session) = sessions.find(wanted) {
        return Ok(session);
    }
    let known: Vec<String> = sessions.list().iter().map(|session| session.title().to_owned()).collect();
    let error = Diagnostic::error(format!("no session `{wanted}` is kept"));
    let near = closest(wanted, known.iter().map(String::as_str));
    let error = match near {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help(
            "`rbuild sessions` lists what there is; `--at` opens a shell at a step, a stage or an image",
        ),
    };
    Err(Failure::build(vec![error]))
}

/// The image that is meant, in the store or in a registry.
pub(super) fn image(
    global: &Global,
    name: &str,
    pull: PullPolicy,
) -> Result<(crate::store::Store, ImageName), Failure> {
    let store = local::open_store(global)?;
    if pull != PullPolicy::Always
        && let Ok(target) = local::find_target(&store, name)
    {
        return Ok((store, ImageName::Stored(target)));
    }
    let reference = name
        .parse::<Reference>()
        .map_err(|e| Failure::message(format!("`{name}` is no name of an image: {}", e.reason)))?;
    Ok((store, ImageName::Reference(reference)))
}

/// Says that it could have been a stage.
fn no_image(mut told: Vec<Diagnostic>, at: &str, near: Option<String>) -> Vec<Diagnostic> {
    if let Some(first) = told.first_mut() {
        first.notes.push(format!("no stage is named `{at}`, so it was taken for an image"));
        first.help.extend(near.map(|near| format!("did you mean the stage `{near}`?")));
    }
    told
}

enum At {
    /// A place in the request's Dockerfile.
    Step(Box<Request>),
    /// An image, with what the request says of registries; and the stage of nearly that name.
    Image(Box<Request>, Option<String>),
}

/// What `--at` means: a number, a stage, a stage and a number, else an image.
fn place(at: &str, mut request: Request) -> Result<At, Failure> {
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| *n > 0);
    let (stage, stop) = match (number(at), at.rsplit_once(':')) {
        (Some(stop), _) => (None, Some(stop)),
        (None, Some((stage, text))) => match number(text) {
            Some(stop) => (Some(stage), Some(stop)),
            None => (Some(at), None),
        },
        (None, None) => (Some(at), None),
    };
    if let Some(stage) = stage {
        let stages = stages(&request)?;
        match stages.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(stage)) {
            Some((name, number)) => {
                request.options.target = Some(name.clone());
                request.options.target_number = Some(*number);
            }
            None => {
                let near = closest(stage, stages.iter().map(|(name, _)| name.as_str()));
                let near = near.map(str::to_owned);
                return Ok(At::Image(Box::new(request), near));
            }
        }
    }
    if stop == Some(1) {
        let error = Diagnostic::error(format!("bad value `{at}` for --at: nothing is there before FROM"));
        return Err(Failure::usage(error.help("2 is the first instruction after it")));
    }
    request.options.stop = stop;
    Ok(At::Step(Box::new(request)))
}

/// The names and numbers of the stages; those without a name are called as the progress shows them. Where there is no
/// Dockerfile, there are none.
fn stages(request: &Request) -> Result<Vec<(String, usize)>, Failure> {
    if let (DockerfileFrom::Context, ContextFrom::Directory(folder)) = (&request.dockerfile, &request.context)
        && !pipeline::usual_dockerfile(folder).exists()
    {
        return Ok(Vec::new());
    }
    let dockerfile = pipeline::stages(request, &Events::silent()).map_err(Failure::build)?;
    let stages = dockerfile.stages.iter().enumerate().map(|(number, stage)| {
        let name = stage.from.name.as_ref();
        (name.map_or_else(|| format!("stage-{number}"), |name| name.text.clone()), number)
    });
    Ok(stages.collect())
}
