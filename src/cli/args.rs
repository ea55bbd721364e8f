//! What may be typed. The doc comment of a field is its help text.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use super::command::{
    attest::AttestArgs,
    bake::BakeArgs,
    build::BuildLine,
    cache::CacheArgs,
    check_image::CheckImageArgs,
    commit::CommitArgs,
    completions::{CompleteArgs, CompletionsArgs},
    config::ConfigArgs,
    context::ContextArgs,
    copy::CopyArgs,
    diff::DiffArgs,
    doctor::DoctorArgs,
    du::DuArgs,
    explain::ExplainArgs,
    history::HistoryArgs,
    images::ImagesArgs,
    index::IndexArgs,
    inspect::InspectArgs,
    load::LoadArgs,
    lock::LockArgs,
    login::{LoginArgs, LogoutArgs},
    logs::LogsArgs,
    man::ManArgs,
    on_pod::OnPodArgs,
    on_worker::OnWorkerArgs,
    own::SelfArgs,
    plan::PlanArgs,
    prune::PruneArgs,
    pull::PullArgs,
    push::PushArgs,
    report::ReportArgs,
    reproduce::ReproduceArgs,
    rmi::RmiArgs,
    run::RunArgs,
    save::SaveArgs,
    sbom::SbomArgs,
    sessions::SessionsArgs,
    shell::ShellArgs,
    sign::{SignArgs, VerifySignatureArgs},
    tag::TagArgs,
    verify::VerifyArgs,
    version::{LONG, VersionArgs},
};

use super::face::Face;
use crate::text::{boolean, closest};

/// Builds OCI images from Dockerfiles: no daemon, no root, no network unless something remote is named.
#[derive(Debug, Parser)]
#[command(
    name = "rbuild",
    version = LONG,
    disable_help_subcommand = true,
    // The last of several counts, as with docker and podman.
    args_override_self = true,
    override_usage = "rbuild [OPTIONS] CONTEXT\n       rbuild COMMAND …",
    after_help = AFTER_HELP,
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  rbuild -t ubuntu-with-vi .      build ./Dockerfile, and keep the image in the local store
  rbuild -t app:1 -o type=oci,dest=app.tar .
                                  also write it to a file that other tools read
  rbuild --no-cache --target test .
                                  run every step again, and stop at the stage `test`
  rbuild --check .                look for faults and bad habits, and build nothing
  rbuild plan .                   show what would run, and why
  rbuild images                   list what was built
  rbuild run --rm -it app:1       try it out
  rbuild shell --at 4 .           look around before the fourth instruction

`rbuild [OPTIONS] CONTEXT` is short for `rbuild build [OPTIONS] CONTEXT`; `rbuild build --help`
lists the options. A folder that is named like a command is written with a path: `rbuild ./images`.";

/// Options that every command understands, and that may stand before the command.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Global {
    /// Where images and the cache are kept [default: /var/lib/rbuild for root, else
    /// $XDG_DATA_HOME/rbuild]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "RBUILD_ROOT",
        hide_env_values = true,
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    pub(super) root: Option<PathBuf>,

    /// As whom rbuild was called.
    #[arg(skip)]
    pub(super) face: Face,
}

impl Global {
    /// What is said where there are no such options.
    pub(super) fn from_environment() -> Self {
        Self { root: std::env::var_os("RBUILD_ROOT").map(PathBuf::from), face: Face::Own }
    }

    /// The folder of the local store.
    pub(super) fn store_root(&self) -> Option<PathBuf> {
        if let Some(root) = self.root.as_ref().filter(|r| !r.as_os_str().is_empty()) {
            return Some(root.clone());
        }
        if rustix::process::geteuid().is_root() {
            return Some(PathBuf::from("/var/lib/rbuild"));
        }
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let data = var("XDG_DATA_HOME").or_else(|| Some(var("HOME")?.join(".local/share")))?;
        Some(data.join("rbuild"))
    }
}

// clap learns the options of a command when that is called or shown: to describe those of all takes longer than a small build.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum Command {
    /// Build an image from a Dockerfile (the default command)
    Build(Box<BuildLine>),
    /// Build several targets of a bake file or compose file
    Bake(Box<BakeArgs>),
    /// Show what a build would do: stages, steps, and which of them are cached
    Plan(Box<PlanArgs>),
    /// Pin what a build takes from elsewhere in rbuild.lock
    Lock(Box<LockArgs>),
    /// List the images in the local store
    Images(ImagesArgs),
    /// Show how an image came to be, layer by layer
    History(HistoryArgs),
    /// Show a build, or an image, as one page: where time and bytes went, and why
    Report(ReportArgs),
    /// Show what differs in two images
    Diff(DiffArgs),
    /// Build again, and show what comes out otherwise
    Reproduce(Box<ReproduceArgs>),
    /// Hold an image to a size, to growth, to waste
    CheckImage(CheckImageArgs),
    /// Show an image's manifest and configuration as JSON
    Inspect(InspectArgs),
    /// List the packages of an image, and which step brought each
    Sbom(Box<SbomArgs>),
    /// Look at the documents that are kept beside an image
    Attest(Box<AttestArgs>),
    /// Fetch images from registries
    Pull(PullArgs),
    /// Send images to registries
    Push(PushArgs),
    /// Write images to an archive or a layout
    Save(SaveArgs),
    /// Take images from an archive or a layout
    Load(LoadArgs),
    /// Copy an image between the store, registries, layouts and archives
    Copy(CopyArgs),
    /// Make an image of several platforms of those that a registry has, and look at what it has
    Index(IndexArgs),
    /// Sign images in their registry with a key
    Sign(SignArgs),
    /// Check that images in a registry were signed with a key
    VerifySignature(VerifySignatureArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Forget the login for a registry
    Logout(LogoutArgs),
    /// Give an image further names
    Tag(TagArgs),
    /// Take names away from images, and remove images without a name
    Rmi(RmiArgs),
    /// Remove what is not needed: unnamed images, and on request the cache
    Prune(PruneArgs),
    /// Show what the local store takes up on disk
    Du(DuArgs),
    /// Read everything in the local store again, and repair what can be repaired
    Verify(VerifyArgs),
    /// Look after a cache that machines share
    Cache(Box<CacheArgs>),
    /// List what a build would see of a folder
    Context(ContextArgs),
    /// Look around with a shell in a failed step, at any step, in an image
    Shell(Box<ShellArgs>),
    /// Try an image out
    Run(Box<RunArgs>),
    /// Make an image of what was done in a shell or a run
    Commit(CommitArgs),
    /// List what is kept of failed steps, shells and runs
    Sessions(SessionsArgs),
    /// Show what the commands of a build printed
    Logs(LogsArgs),
    /// Check what this machine offers to RUN, and how to get more
    Doctor(DoctorArgs),
    /// Say why a step ran, where a file comes from, why an image is large
    Explain(ExplainArgs),
    /// Make rbuild a plugin of docker's, or take that back
    #[command(name = "self")]
    Own(SelfArgs),
    /// Show what is configured, and where
    Config(ConfigArgs),
    /// Print what makes a shell complete rbuild's words
    Completions(CompletionsArgs),
    /// Print a manual page, or write all of them
    Man(ManArgs),
    /// Show the version
    Version(VersionArgs),
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete(CompleteArgs),
    #[command(name = "__on-worker", hide = true)]
    OnWorker(OnWorkerArgs),
    #[command(name = "__pod", hide = true)]
    OnPod(OnPodArgs),
    #[command(name = "__pod-connect", hide = true)]
    PodConnect(OnPodArgs),
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressMode {
    /// `tty` in a terminal, else `plain`
    Auto,
    /// Live lines that redraw themselves
    Tty,
    /// One line per event, with step numbers and times
    Plain,
    /// Errors only
    Quiet,
    /// Errors only
    #[value(hide = true)]
    None,
    /// One JSON object per event
    Json,
    /// The lines of `docker buildx build --progress=rawjson`, for programs that read these
    #[value(name = "rawjson")]
    RawJson,
}

/// The names of all commands.
fn commands() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// Whether rbuild has a command of that name.
pub(super) fn has_command(name: &str) -> bool {
    Command::has_subcommand(name)
}

/// Words to arguments. `Err` is clap's own message: help, version, or what is wrong.
pub(super) fn parse(words: Vec<OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(with_values(with_command(words)))
}

/// `--sbom` and `--provenance` stand alone here, and have a value in the word behind them with buildx: that is joined to them where it can
/// be one.
fn with_values(words: Vec<OsString>) -> Vec<OsString> {
    const OPTIONS: [&str; 2] = ["--sbom", "--provenance"];
    const KEYS: [&str; 10] = [
        "generator=",
        "layout=",
        "mode=",
        "version=",
        "builder-id=",
        "reproducible=",
        "inline-only=",
        "filename=",
        "complete-materials=",
        "disabled=",
    ];
    let is_value = |word: &OsString| {
        let is_one = |word: &str| boolean(word).is_some() || KEYS.iter().any(|key| word.starts_with(key));
        word.to_str().is_some_and(is_one)
    };
    let mut joined: Vec<OsString> = Vec::with_capacity(words.len());
    for word in words {
        match joined.last_mut() {
            Some(last) if OPTIONS.iter().any(|option| last == option) && is_value(&word) => {
                last.push("=");
                last.push(word);
            }
            _ => joined.push(word),
        }
    }
    joined
}

/// The first word when it is no option, no command and no path.
pub(super) fn unknown_word(words: &[OsString]) -> Option<&str> {
    let word = words.get(first_own_word(words))?.to_str()?;
    let is_plain = !word.starts_with('-') && !word.contains(['/', ':']) && !Path::new(word).exists();
    (is_plain && !Command::has_subcommand(word)).then_some(word)
}

/// The first word when it is no option, no command and no path, but nearly a command; and that command.
pub(super) fn misspelt_command(words: &[OsString]) -> Option<(String, String)> {
    let word = unknown_word(words)?;
    let commands = commands();
    let near = closest(word, commands.iter().map(String::as_str))?;
    Some((word.to_owned(), near.to_owned()))
}

/// Puts `build` in front of the first word that is neither a global option nor a command.
///
/// Only that word can be a command, so `rbuild -t x images` builds the folder `images`.
fn with_command(mut words: Vec<OsString>) -> Vec<OsString> {
    let at = first_own_word(&words);
    let is_top_level = |word: &OsStr| {
        let word = word.to_string_lossy();
        Command::has_subcommand(&word) || matches!(word.as_ref(), "-h" | "--help" | "-V" | "--version")
    };
    match words.get(at) {
        Some(word) if is_top_level(word) => {}
        Some(_) => words.insert(at, "build".into()),
        None => words.push("--help".into()),
    }
    words
}

/// The place of the first word that is no global option.
pub(super) fn first_own_word(words: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        if word == "--root" {
            at += 2;
        } else if word.as_encoded_bytes().starts_with(b"--root=") {
            at += 1;
        } else {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn completed(line: &str) -> String {
        let words = line.split_whitespace().map(OsString::from).collect();
        let words: Vec<_> = with_command(words).iter().map(|w| w.to_string_lossy().into_owned()).collect();
        words.join(" ")
    }

    #[test]
    fn the_grammar_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn build_is_the_default_command() {
        assert_eq!(completed("rbuild ."), "rbuild build .");
        assert_eq!(completed("rbuild -t x images"), "rbuild build -t x images");
        assert_eq!(completed("rbuild ./images"), "rbuild build ./images");
        assert_eq!(completed("rbuild --root /r images"), "rbuild --root /r images");
        assert_eq!(completed("rbuild --root=/r -t x ."), "rbuild --root=/r build -t x .");
        assert_eq!(completed("rbuild --version"), "rbuild --version");
        assert_eq!(completed("rbuild"), "rbuild --help");
    }

    #[test]
    fn values_with_hyphens_and_equal_signs_are_kept() {
        let cli = parse(
            "rbuild --build-arg A=b=c --build-arg HTTP_PROXY -t a -t b:1 ."
                .split(' ')
                .map(OsString::from)
                .collect(),
        );
        let Command::Build(build) = cli.unwrap().command else { panic!("not a build") };
        assert_eq!(build.build.build_arg, ["A=b=c", "HTTP_PROXY"]);
        assert_eq!(build.build.tag, ["a", "b:1"]);
    }
}
