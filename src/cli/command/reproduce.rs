//! `rbuild reproduce`: builds again, and shows what comes out otherwise.

use clap::Args;

use super::build::{interruptibly, progress_mode};
use super::diff::{self, ShownArgs};
use crate::cli::Failure;
use crate::cli::args::{Global, ProgressMode};
use crate::cli::error::print;
use crate::cli::local;
use crate::cli::options::build::BuildArgs;
use crate::cli::options::configuration::Configuration;
use crate::cli::options::recorded::Recorded;
use crate::cli::options::request;
use crate::cli::show::moving::MovingArgs;
use crate::export::Target;
use crate::oci::Platform;
use crate::pipeline::{self, Built, ContextFrom, DockerfileFrom, Recording, Request};
use crate::registry::Which;
use crate::report::Diagnostic;
use crate::source::git;
use crate::store::Store;

/// Build again, and show what comes out otherwise
///
/// Builds once as `rbuild build` with these options would, from the cache where that has it, and once more without the cache, one step at a time, with
/// another umask, later, and from a fresh clone where the context is a clean checkout of git. With `--against` the second build is compared with an image,
/// and the first is left out. The name of an image in the place of CONTEXT does that with the image, as the record of its build says: with the same
/// Dockerfile, arguments, base images and commit. Nothing gets a name.
#[derive(Debug, Args)]
#[command(
    mut_args(|arg| request::hide(arg, &["on_fail", "jobs", "no_cache", "no_cache_filter", "tag", "push", "load", "output", "iidfile"])),
    after_help = "Exit codes: 0 the same bytes, 1 they differ, or a build failed, 2 wrong usage, 75 a registry or the network failed (try again).",
)]
pub(crate) struct ReproduceArgs {
    #[command(flatten)]
    build: BuildArgs,

    /// Compare with this image: a name in the store, or a place as in `rbuild diff`
    #[arg(long, value_name = "IMAGE")]
    against: Option<String>,
    /// Build from the folder as it is, with the times that its files have here
    #[arg(long)]
    same_context: bool,
    #[command(flatten)]
    shown: ShownArgs,
}

/// Files have times in seconds: what is made in the same one would look as if time did not matter.
const ONE_SECOND: std::time::Duration = std::time::Duration::from_secs(1);

const NOTE: &str = "nothing gets a name, and nothing is written or sent: `-t` and `--push` mean nothing here, and `-o` and `--load` say what form the image has";

/// Builds, and compares.
pub(crate) fn run(global: &Global, args: &ReproduceArgs) -> Result<(), Failure> {
    request::refuse_at(&args.build)?;
    request::refuse_on(&args.build, "`rbuild reproduce`")?;
    refuse_others(&args.build)?;
    let configuration = Configuration::load()?;
    let mode = progress_mode(&args.build, &configuration)?;
    let mut request = request::from_args(global, &configuration, &args.build)?;
    if matches!(request.context, ContextFrom::Stdin) {
        let error = Diagnostic::error("standard input can be read once, and this builds twice");
        return Err(Failure::usage(error.help("name a folder, an archive or a URL")));
    }
    if !request.tags.is_empty() || !request.outputs.is_empty() || request.push {
        request.notes.push(NOTE.to_owned());
    }
    let store = local::open_to_write(global, &configuration)?;
    let recorded = recorded(&store, args, &request)?;
    let (mut against, mut commit, mut _pins) = (args.against.clone(), None, None);
    if let Some((recorded, platform)) = recorded {
        let repeated = recorded.repeat(&store, request, &platform)?;
        against = Some(args.build.context.clone());
        (request, commit, _pins) = (repeated.request, repeated.commit, Some(repeated.pins));
    }
    let (name, first) = match &against {
        Some(place) => {
            let moving = MovingArgs::of(&args.build.registries, mode);
            let platform = request.platforms.first().cloned();
            let which = Which::One(platform.unwrap_or_else(Platform::host));
            let target = diff::brought(&store, place, which, (&configuration, &moving))?;
            (place.clone(), target)
        }
        None => ("first build".to_owned(), build(request.clone(), mode)?.descriptor),
    };
    let built = std::time::Instant::now();
    while against.is_none() && built.elapsed() < ONE_SECOND {
        std::thread::sleep(ONE_SECOND.saturating_sub(built.elapsed()));
    }
    let clone = match args.same_context {
        true => None,
        false => fresh_clone(&store, &request, commit.as_deref())?,
    };
    let mut again = request.clone();
    if let Some(commit) = &commit {
        let which =
            if clone.is_some() { "the recorded one is taken" } else { "its files are taken as they are" };
        again.notes.push(format!("the context was at commit {commit}, and is at another now: {which}"));
    }
    if let Some(clone) = &clone {
        again = clone.moved(again)?;
    }
    again.no_cache = true;
    // Where it ran is gone afterwards, and whoever asks for the image's record wants that of the build which named it.
    again.recording = Recording::Off;
    again.jobs = Some(1);
    let second = {
        let _umask = Umask::set(0o077);
        build(again, mode)?.descriptor
    };
    let wanted = request.platforms.first();
    let one = diff::platform_of(&store, &first, &name, wanted)?;
    let two = diff::platform_of(&store, &second, "second build", wanted)?;
    match diff::compared(&store, (&name, &one), ("second build", &two), args.shown)? {
        true => print(&how(clone.is_some(), first.digest == second.digest)),
        false => Err(Failure::told()),
    }
}

/// The build that made the image which stands in the place of the context, and for which platform it is.
fn recorded(
    store: &Store,
    args: &ReproduceArgs,
    request: &Request,
) -> Result<Option<(Recorded, Platform)>, Failure> {
    let word = args.build.context.as_str();
    let is_place =
        !matches!(&request.context, ContextFrom::Directory(path) if path.symlink_metadata().is_err());
    if is_place {
        return Ok(None);
    }
    let target = local::find_target(store, word).map_err(|_| {
        let error =
            Diagnostic::error(format!("`{word}` is neither a folder nor an image of the local store"));
        Failure::build(vec![error.help("`rbuild images` lists images")])
    })?;
    let recorded = Recorded::find(store, word, &target.digest)?;
    recorded.refuse_others(&args.build, args.against.is_some())?;
    let image = diff::platform_of(store, &target, word, request.platforms.first())?;
    let platform = image.platform().unwrap_or_else(Platform::host);
    Ok(Some((recorded, platform)))
}

/// Refuses what is instead of a build.
fn refuse_others(args: &BuildArgs) -> Result<(), Failure> {
    let others = [
        ("--check", args.check),
        ("--call", args.call.is_some() || args.docker.print.is_some()),
        ("--iidfile", args.iidfile.is_some()),
        ("--metadata-file", args.docker.metadata_file.is_some()),
        ("--sbom, --provenance or --attest", args.docker.wants_attestations()),
        ("--quiet", args.quiet),
        ("--report", args.report.is_some()),
        ("--trace", args.trace.is_some()),
        ("--advice", args.advice.is_some()),
        ("--cache-to", !args.cache_to.is_empty()),
        ("--lock", args.lock),
        (args.budget.given().unwrap_or_default(), args.budget.given().is_some()),
    ];
    match others.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => {
            let error = Diagnostic::error(format!("`{name}` means nothing to `rbuild reproduce`"));
            Err(Failure::usage(
                error.help("say what the image is made of; what becomes of it is `rbuild build`'s"),
            ))
        }
    }
}

/// How the second build was unlike the first.
fn how(was_cloned: bool, is_whole: bool) -> String {
    let clone = if was_cloned { ", from a fresh clone" } else { "" };
    let index = if is_whole { "" } else { " (the platform that was compared; the indexes differ)" };
    format!("built again without the cache, one step at a time, with umask 077{clone}{index}\n")
}

/// Builds, and gives the image to nobody: outputs only say what form it has.
fn build(mut request: Request, mode: ProgressMode) -> Result<Built, Failure> {
    request.tags.clear();
    request.push = false;
    request.list = None;
    for output in request.outputs.iter_mut().filter(|output| output.is_image()) {
        output.target = Target::Image { push: false, by_digest: false };
    }
    request.outputs.retain(|output| matches!(output.target, Target::Image { .. }));
    interruptibly(mode, move |events, stop| {
        pipeline::run(&request, events, stop).map_err(|failed| Failure::build(failed.diagnostics))
    })
}

/// The process's umask until this goes.
struct Umask(rustix::fs::Mode);

impl Umask {
    fn set(mask: u32) -> Self {
        Self(rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)))
    }
}

impl Drop for Umask {
    fn drop(&mut self) {
        rustix::process::umask(self.0);
    }
}

/// A clone of the context's repository.
struct Clone {
    folder: crate::store::ScratchDir,
    /// The repository's folder, and what of it is the context.
    top: std::path::PathBuf,
}

/// Clones the repository that the context is in; nothing where there is none, or where files are not as the commit has them.
/// `commit` is another one than is checked out, and then it does not matter how files are.
fn fresh_clone(store: &Store, request: &Request, commit: Option<&str>) -> Result<Option<Clone>, Failure> {
    let ContextFrom::Directory(context) = &request.context else { return Ok(None) };
    let top = if commit.is_some() { git::top(context) } else { git::clean_top(context) };
    let Some(top) = top else { return Ok(None) };
    let folder = store.scratch_dir()?;
    git::clone(&top, commit, &folder.path().join("clone"))
        .map_err(|error| Failure::message(format!("cannot clone `{}`: {error}", top.display())))?;
    Ok(Some(Clone { folder, top }))
}

impl Clone {
    /// The request with the clone's folders in the place of the repository's.
    fn moved(&self, request: Request) -> Result<Request, Failure> {
        let into = self.folder.path().join("clone");
        let moved = |path: &std::path::Path| -> Result<std::path::PathBuf, Failure> {
            let whole = std::fs::canonicalize(path)
                .map_err(|error| Failure::message(format!("cannot read `{}`: {error}", path.display())))?;
            Ok(whole.strip_prefix(&self.top).map_or(whole.clone(), |inside| into.join(inside)))
        };
        let context = match &request.context {
            ContextFrom::Directory(folder) => ContextFrom::Directory(moved(folder)?),
            other => other.clone(),
        };
        let dockerfile = match &request.dockerfile {
            DockerfileFrom::Path(path) if path.exists() => DockerfileFrom::Path(moved(path)?),
            other => other.clone(),
        };
        Ok(Request { context, dockerfile, ..request })
    }
}
