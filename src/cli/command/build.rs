//! `rbuild build`, the default command.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};

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
use crate::cli::options::budget::BudgetArgs;
use crate::cli::options::configuration::{Configuration, RegistryArgs};
use crate::cli::options::docker::{DockerArgs, switch};
use crate::cli::options::limits::LimitArgs;
use crate::cli::options::podman::{BuildOnlyArgs, Format, PodmanArgs};
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

/// The options of a build.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// What COPY and ADD read: a folder, a git URL (`https://…/x.git#REF:SUBDIR`), the URL of a tar or a
    /// Dockerfile, or `-` for either on standard input
    #[arg(
        value_name = "CONTEXT",
        required = false,
        required_unless_present_any = ["check", "call", "at"],
        default_value_ifs = [
            ("check", ArgPredicate::IsPresent, Some(".")),
            ("call", ArgPredicate::IsPresent, Some(".")),
            ("at", ArgPredicate::IsPresent, Some(".")),
        ]
    )]
    pub(crate) context: String,

    /// Name the image `NAME[:TAG]`; may be repeated
    #[arg(short, long, value_name = "NAME[:TAG]", help_heading = "Result")]
    pub(crate) tag: Vec<String>,

    /// Also write the image somewhere: `type=oci,dest=FILE`, `type=oci,dest=DIR,tar=false`,
    /// `type=docker,dest=FILE`, `type=tar,dest=FILE`, `type=local,dest=DIR` or just DIR for the plain
    /// files; `-` as FILE is standard output; may be repeated
    #[arg(short, long, value_name = "WHAT", help_heading = "Result")]
    pub(crate) output: Vec<String>,

    /// Push the image to the registries that its names begin with
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, help_heading = "Result")]
    pub(crate) push: bool,

    /// Put the image into an engine that runs it: `docker`, `podman`, `containerd` or `containerd:NAMESPACE`, several with
    /// commas; without a value, into the first of these that is there. What it has is not sent
    #[arg(long, value_name = "ENGINE", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Result")]
    pub(crate) load: Option<String>,

    /// Write the image's id to a file: its digest, or of what is written for docker the digest of its configuration
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(crate) iidfile: Option<PathBuf>,

    /// Add a label to the image; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Result")]
    pub(crate) label: Vec<String>,

    /// Add an annotation to the image's manifest, or to what LEVEL says: `manifest`, `index`, `manifest-descriptor`,
    /// `index-descriptor`, several with commas, and `[OS/ARCH]` behind one for that platform alone; may be repeated
    #[arg(long, value_name = "[LEVEL:]KEY=VALUE", help_heading = "Result")]
    pub(crate) annotation: Vec<String>,

    /// The Dockerfile; `-` reads it from standard input, a URL is fetched; in a context that is no folder,
    /// a path in the context [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE", help_heading = "Input")]
    pub(crate) file: Option<String>,

    /// Build this stage instead of the last one
    #[arg(long, value_name = "STAGE", help_heading = "Input")]
    pub(crate) target: Option<String>,

    /// Set a build argument; without a value it is taken from the environment; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Input")]
    pub(crate) build_arg: Vec<String>,

    /// Give a folder, a git or http URL, `docker-image://REF`, `oci-layout://DIR[:TAG|@DIGEST]` or `target:STAGE` a name for
    /// FROM, COPY --from and mounts; may be repeated
    #[arg(long, value_name = "NAME=WHERE", help_heading = "Input")]
    pub(crate) build_context: Vec<String>,

    /// Offer a secret to RUN --mount=type=secret: `id=ID,src=FILE` or `id=ID,env=NAME`; may be repeated
    #[arg(long, value_name = "SECRET", help_heading = "Input")]
    pub(crate) secret: Vec<String>,

    /// What becomes of a secret that is found in a layer or in the configuration: `stop` (usual), `warn` (usual behind docker),
    /// or `off`; `--secret …,tripwire=off` lets one go [env: RBUILD_TRIPWIRE]
    #[arg(long, value_name = "WHAT", help_heading = "Input")]
    pub(crate) tripwire: Option<String>,

    /// Offer an ssh agent to RUN --mount=type=ssh: `default` or `ID` for that of $SSH_AUTH_SOCK, `ID=SOCKET`, or
    /// `ID=KEY[,KEY]` for private keys without passphrase; may be repeated
    #[arg(long, value_name = "ID[=PATH[,PATH]]", help_heading = "Input")]
    pub(crate) ssh: Vec<String>,

    /// Build for this platform, such as linux/arm64; several make one image for all of them
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',', help_heading = "Input")]
    pub(crate) platform: Vec<String>,

    /// Ask registries for images: `always`, also for names that the local store has (so without a value); `missing`, only
    /// for what was never fetched; `never`. Without this option, whenever no name of the local store is meant
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always",
        help_heading = "Input"
    )]
    pub(crate) pull: Option<String>,

    /// Fetch nothing: only what is in the local store counts, and URLs are refused. RUN has its own `--network none`
    #[arg(long, conflicts_with_all = ["pull", "push"], help_heading = "Input")]
    pub(crate) offline: bool,
    /// Write what comes from elsewhere (base images, URLs, git references) into CONTEXT/rbuild.lock, as far as it is not
    /// there yet. A lock file that is there always holds
    #[arg(long, help_heading = "Input")]
    pub(crate) lock: bool,

    /// Fail when something that comes from elsewhere is not in CONTEXT/rbuild.lock
    #[arg(long, conflicts_with = "lock", help_heading = "Input")]
    pub(crate) locked: bool,

    #[command(flatten)]
    pub(crate) registries: RegistryArgs,

    /// Also take layers from a cache of other machines: `type=registry,ref=NAME` or just NAME (also an image that carries
    /// records), `type=local,src=DIR`, `type=http,url=URL`, `type=reapi,endpoint=URL`, `type=s3,bucket=NAME`, `type=gha`; may be
    /// repeated [env: RBUILD_CACHE_FROM]
    #[arg(long, value_name = "CACHE", help_heading = "Steps")]
    pub(crate) cache_from: Vec<String>,

    /// Leave layers in a cache for other machines: `type=registry,ref=NAME[,mode=min]`, `type=local,dest=DIR`,
    /// `type=http,url=URL`, `type=reapi,endpoint=URL`, `type=s3,bucket=NAME`, `type=gha`; or have the image carry records of its own layers:
    /// `type=inline`; may be repeated [env: RBUILD_CACHE_TO]
    #[arg(long, value_name = "CACHE", help_heading = "Steps")]
    pub(crate) cache_to: Vec<String>,

    /// Whether what is in cache mounts goes with those caches: `rw` (usual with `--cache-to`; said, also mounts that a step with
    /// secrets wrote to), `ro`, or `off` [env: RBUILD_CACHE_MOUNTS]
    #[arg(long, value_name = "WHAT", help_heading = "Steps")]
    pub(crate) cache_mounts: Option<String>,

    /// Have a build engine do it: `kubernetes://[CONTEXT/]NAMESPACE` with `,image=NAME`, `,template=NAME`, `,start=10m`, `,key=TEXT`;
    /// `reapi://HOST:PORT`, or `reapis://HOST[:PORT]` over TLS, with `,instance=NAME`, `,platform.NAME=VALUE`, and `ca`,
    /// `cert`, `key`, `token`, `header`, `header-env`, `header-file` as for caches. For both `,timeout=1h`, `,fallback=local`, `,grain=build`, `target` or
    /// `platform`
    #[arg(long, value_name = "ENGINE", help_heading = "Steps")]
    pub(crate) on: Option<String>,

    /// Run every step again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, help_heading = "Steps")]
    pub(crate) no_cache: bool,

    /// Make the same bytes of the same commit, wherever and whenever: newer times in new layers become SOURCE_DATE_EPOCH, which is the time
    /// of the context's commit if nobody says another; RUN has it in its environment [env: RBUILD_REPRODUCIBLE]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, help_heading = "Steps")]
    pub(crate) reproducible: Option<bool>,

    /// Run every step of this stage again; may be repeated
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = "Steps")]
    pub(crate) no_cache_filter: Vec<String>,

    /// What becomes of a step that fails: `keep` it for `rbuild shell`, enter it with a `shell` at once, or `remove` it
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        default_value = "keep",
        hide_possible_values = true,
        help_heading = "Steps"
    )]
    pub(crate) on_fail: OnFail,

    /// Where to open the shell: `N` before the N-th instruction, as `[N/7]` counts; `STAGE:N` as `[STAGE N/7]`; `STAGE` at
    /// its end; else an image
    #[arg(long, value_name = "PLACE", hide = true, help_heading = "Input")]
    pub(crate) at: Option<String>,

    /// Have at most so many steps under way at once; 0 is no limit [default: 16, or the number of
    /// processors when that is more]
    #[arg(long, value_name = "N", env = "RBUILD_JOBS", hide_env_values = true, help_heading = "Steps")]
    pub(crate) jobs: Option<Jobs>,

    /// Allow `network.host` or `security.insecure` to the Dockerfile; may be repeated
    #[arg(long, value_name = "ENTITLEMENT", help_heading = "Steps")]
    pub(crate) allow: Vec<String>,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,

    /// Check the Dockerfile and build nothing; short for --call=check
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, conflicts_with = "call", help_heading = "Look, don't build")]
    pub(crate) check: bool,

    /// Look at the Dockerfile and build nothing: `check` for faults and bad habits, `outline` for the
    /// arguments and secrets of a target, `targets` for its stages. `,format=json` makes any of them JSON,
    /// `check,format=sarif` a report that CI shows beside the lines, `check,error=true` lets findings fail
    #[arg(long, value_name = "WHAT", help_heading = "Look, don't build")]
    pub(crate) call: Option<String>,

    /// How to show progress [default: auto]
    #[arg(long, value_name = "MODE", value_enum, hide_possible_values = false, help_heading = "Output")]
    pub(crate) progress: Option<ProgressMode>,

    /// Print nothing but the image's id, see --iidfile
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Write what the build did when into a file, as trace events that Perfetto opens, also of a build that fails: steps, what they waited
    /// for, transfers, and which thread hashed and compressed
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) trace: Option<PathBuf>,

    /// Write a page into a file that shows where time and bytes went, and why, also of a build that fails; see `rbuild report`
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) report: Option<PathBuf>,

    /// Keep the values of build arguments in the record of the build, see `rbuild history`; without this, their names
    #[arg(long, help_heading = "Output")]
    pub(crate) record_build_args: bool,

    /// Say in the end, in three lines at most, what made the build slow or the image large [env: RBUILD_ADVICE] [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, help_heading = "Output")]
    pub(crate) advice: Option<bool>,

    #[command(flatten)]
    pub(crate) budget: BudgetArgs,

    #[command(flatten)]
    pub(crate) docker: DockerArgs,

    #[command(flatten)]
    pub(crate) podman: PodmanArgs,
}

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

/// `--on-fail`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFail {
    Keep,
    Shell,
    Remove,
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
        let files = Files { report: args.report.clone(), trace: args.trace.clone() };
        files.refuse(args.advice, LOOKS).map_err(in_form)?;
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
    let files = Files { report: args.report.clone(), trace: args.trace.clone() };
    let ending = Ending::new(request.store_root.clone(), (mode, args.quiet), args.advice, files)?;
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

/// So many steps at once, or as many as usual: an empty `$RBUILD_JOBS` says nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jobs(pub(crate) Option<usize>);

impl std::str::FromStr for Jobs {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(|jobs| Self(Some(jobs))) }
    }
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
