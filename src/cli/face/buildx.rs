//! The commands of `docker buildx`: those that build go to rbuild's own, those that look after a daemon say what there is instead.

use std::ffi::{OsStr, OsString};

use clap::{Args, Parser, Subcommand};

use super::builders::{self, CreateArgs, InspectArgs, LsArgs, NamesArgs};
use crate::cli::Failure;
use crate::cli::args::has_command;
use crate::cli::error::usage;
use crate::report::Diagnostic;

/// Docker's builds, by rbuild: no daemon, no root
#[derive(Debug, Parser)]
#[command(name = "docker buildx", args_override_self = true, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Buildx {
    /// The name of a builder; there is one, whatever it is called
    #[arg(long, global = true, value_name = "NAME")]
    builder: Option<String>,
    #[arg(short = 'D', long, global = true, hide = true)]
    debug: bool,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str =
    "`docker buildx build --help` lists the options of a build. rbuild's own commands: `rbuild --help`.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a build
    #[command(visible_alias = "b", disable_help_flag = true)]
    Build(Rest),
    /// Build from a file
    #[command(visible_alias = "f", disable_help_flag = true)]
    Bake(Rest),
    /// Work on images in a registry: `create` and `inspect`
    #[command(disable_help_flag = true)]
    Imagetools(Rest),
    /// Look back at builds
    #[command(disable_help_flag = true)]
    History(Rest),
    /// Show the builder
    Inspect(InspectArgs),
    /// List builders
    Ls(LsArgs),
    /// Take note of a name
    Create(CreateArgs),
    /// Choose a builder, of which there is one
    Use(NamesArgs),
    /// Remove a builder, of which nothing is kept
    Rm(NamesArgs),
    /// Stop a builder, of which nothing runs
    Stop(NamesArgs),
    /// Remove what the cache does not need
    Prune(PruneArgs),
    /// Show what the local store takes up on disk
    Du(DuArgs),
    /// Show the version
    Version,
}

/// Words that another command understands.
#[derive(Debug, Args)]
struct Rest {
    #[arg(value_name = "…", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// `buildx prune`; docker's `builder prune` has the same.
#[derive(Debug, Args)]
struct PruneArgs {
    /// Also what no image has
    #[arg(short, long)]
    all: bool,
    /// Nothing is asked anyway
    #[arg(short, long, hide = true)]
    force: bool,
    /// `until=DURATION` or `unused-for=DURATION`
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Keep so much
    #[arg(long, visible_aliases = ["reserved-space", "keep-storage"], value_name = "SIZE")]
    max_used_space: Option<String>,
    #[arg(long, value_name = "SIZE", hide = true)]
    min_free_space: Option<String>,
    #[arg(long, hide = true)]
    verbose: bool,
    #[arg(long, value_name = "DURATION", hide = true)]
    timeout: Option<String>,
}

impl PruneArgs {
    /// The same in rbuild's words.
    fn own(&self) -> Result<Vec<OsString>, Failure> {
        let mut words: Vec<OsString> = ["prune", "--force"].map(OsString::from).into();
        if self.all {
            words.push("--all".into());
        }
        for filter in &self.filter {
            match filter.split_once('=') {
                Some(("until" | "unused-for", age)) => words.push(format!("--filter=until={age}").into()),
                _ => {
                    let error = Diagnostic::error(format!("`{filter}` is no filter here"));
                    return Err(Failure::usage(error.help("there are `until=…` and `unused-for=…`")));
                }
            }
        }
        if let Some(size) = &self.max_used_space {
            words.extend(["--keep-storage".into(), size.into()]);
        }
        match &self.min_free_space {
            None => Ok(words),
            Some(_) => {
                let error = Diagnostic::error("`--min-free-space` is not possible here");
                Err(Failure::usage(error.help("`--max-used-space` says how much may stay")))
            }
        }
    }
}

/// `buildx du`
#[derive(Debug, Args)]
struct DuArgs {
    /// `table`, `json`, or a template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    #[arg(long, hide = true)]
    verbose: bool,
    #[arg(long, value_name = "DURATION", hide = true)]
    timeout: Option<String>,
}

/// Commands that are about a daemon, or an editor, and what there is instead.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (&["dial-stdio"], "there is no BuildKit daemon behind rbuild to talk to"),
    (
        &["install", "uninstall"],
        "`rbuild self install-docker-plugin --alias` makes `docker build` rbuild's, and `rbuild self uninstall-docker-plugin` docker's again",
    ),
    (
        &["dap", "debug"],
        "`rbuild shell --at PLACE` looks around before any step, and `--on-fail=shell` in one that failed",
    ),
    (&["policy"], "rbuild evaluates no Rego; `rbuild lock` pins what a build takes from elsewhere"),
];

/// Does what was asked for; `own` runs a command line of rbuild's.
pub(super) fn run(
    name: &str,
    words: &[OsString],
    own: impl FnOnce(Vec<OsString>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let words = match words.is_empty() {
        true => &[OsString::from("--help")],
        false => words,
    };
    // `docker rbuild images` is rbuild's own.
    let first = words[0].to_string_lossy();
    if name == "rbuild" && has_command(&first) && !matches!(first.as_ref(), "build" | "prune" | "du") {
        return own(own_line(words.iter().cloned()));
    }
    if let Some((_, help)) = ELSEWHERE.iter().find(|(known, _)| known.contains(&first.as_ref())) {
        return Err(Failure::dockers_command(&first, help));
    }
    let parsed = match Buildx::try_parse_from(
        std::iter::once(OsString::from("docker buildx")).chain(words.iter().cloned()),
    ) {
        Ok(parsed) => parsed,
        Err(shown) => return usage(&shown),
    };
    let builder = parsed.builder.as_deref();
    let own_words =
        |command: &str, words: Vec<OsString>| own_line(std::iter::once(command.into()).chain(words));
    match parsed.command {
        Command::Build(rest) => {
            let builder = builder.map(|name| format!("--builder={name}").into());
            own(own_words("build", builder.into_iter().chain(rest.words).collect()))
        }
        Command::Bake(rest) if has_command("bake") => own(own_words("bake", rest.words)),
        Command::Bake(_) => Err(Failure::dockers_command(
            "bake",
            "build each target by itself with `docker buildx build --target`",
        )),
        Command::Imagetools(rest) => own(own_words("index", rest.words)),
        Command::History(rest) => own(own_words("history", history(&rest.words)?)),
        Command::Inspect(inspect) => builders::inspect(&inspect, builder),
        Command::Ls(ls) => builders::ls(&ls, builder),
        Command::Create(create) => builders::create(&create),
        Command::Use(names) => builders::no_builders("use", &names),
        Command::Rm(names) => builders::no_builders("rm", &names),
        Command::Stop(names) => builders::no_builders("stop", &names),
        Command::Prune(prune) => own(own_line(prune.own()?)),
        Command::Du(du) => {
            let format = du.format.map(|format| format!("--format={format}").into());
            own(own_words("du", format.into_iter().collect()))
        }
        Command::Version => builders::version(),
    }
}

/// The commands of `docker buildx history`; behind this name there is none about images.
fn history(words: &[OsString]) -> Result<Vec<OsString>, Failure> {
    const COMMANDS: [&str; 8] = ["ls", "inspect", "logs", "rm", "export", "import", "open", "trace"];
    // Options for a builder come before the command, too.
    let mut rest = words;
    while let Some((first, others)) = rest.split_first() {
        let text = first.to_string_lossy();
        rest = match text.as_ref() {
            "--builder" => others.get(1..).unwrap_or_default(),
            "-D" | "--debug" => others,
            _ if text.starts_with("--builder=") || text.starts_with("--debug=") => others,
            _ => break,
        };
    }
    match rest.first().map(|first| first.to_string_lossy().into_owned()) {
        None => Ok(vec!["--help".into()]),
        Some(word) if word.starts_with('-') || COMMANDS.contains(&word.as_str()) => Ok(rest.to_vec()),
        Some(word) => {
            let error = Diagnostic::error(format!("`history` has no command `{word}`"));
            let help =
                format!("there are {}; `docker history` shows how an image came to be", COMMANDS.join(", "));
            Err(Failure::usage(error.help(help)))
        }
    }
}

fn own_line(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    std::iter::once(OsStr::new("rbuild").to_owned()).chain(words).collect()
}
