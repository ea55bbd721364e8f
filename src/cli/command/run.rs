//! `rbuild run`

use clap::Args;

use super::shell;
use crate::cli::Failure;
use crate::cli::args::{Global, ProgressMode};
use crate::cli::options::configuration::{Configuration, RegistryArgs};
use crate::cli::options::limits::LimitArgs;
use crate::cli::options::request::{self, all};
use crate::cli::options::sandbox::{self, ShellEnded, ShellOptionArgs};
use crate::exec::Attach;
use crate::oci::{Config, Platform};
use crate::pipeline::shell::{EnterError, ImageRequest, Shell};
use crate::report::Diagnostic;
use crate::solve::session::Kind;

/// What docker says when rbuild itself fails, and not the command.
const EXIT_FAILED: i32 = 125;
const EXIT_NOT_EXECUTABLE: i32 = 126;
const EXIT_NOT_FOUND: i32 = 127;

/// Try an image out: run its command, or another one, in a root of its own
///
/// The image is one of the local store, or of a registry, from where missing layers are fetched. Its entrypoint, command,
/// environment, user and working directory count. What the command changes is thrown away, unless --keep or --name says
/// otherwise. Nothing stays behind in the background: rbuild has no daemon, so there is no --detach and no port to publish;
/// the command is on this machine's network.
#[derive(Debug, Args)]
#[command(
    override_usage = "rbuild run [OPTIONS] IMAGE [COMMAND] [ARG…]",
    after_help = "\
Examples:
  rbuild run --rm -it debian:12 bash
  rbuild run app --version        arguments for the image's entrypoint
  rbuild run -e MODE=test -v ./data:/data:ro app
  rbuild run --name fixed -it app sh
                                  then: rbuild commit fixed app:fixed
  tar c . | rbuild run -i app tar t

Exit codes: that of the command (128 and the signal's number when one ended it);
125 when rbuild fails, 126 when the command cannot be executed, 127 when it is
not there, 2 wrong usage."
)]
pub(crate) struct RunArgs {
    /// The image: a name, or the beginning of its digest. Then the command with its arguments; with an entrypoint, its
    /// arguments. What follows the image is never an option of rbuild
    #[arg(value_name = "IMAGE", required = true, trailing_var_arg = true)]
    words: Vec<String>,

    /// What comes in on standard input is for the command
    #[arg(short, long, help_heading = "Input and output")]
    interactive: bool,

    /// Give the command a terminal
    #[arg(short, long, help_heading = "Input and output")]
    tty: bool,

    /// How to show what is fetched
    #[arg(long, value_name = "MODE", value_enum, default_value = "auto", help_heading = "Input and output")]
    progress: ProgressMode,

    /// Start this program instead of the image's entrypoint; without the image's command. Empty for none
    #[arg(long, value_name = "PROGRAM", help_heading = "Inside")]
    entrypoint: Option<String>,

    #[command(flatten)]
    inside: ShellOptionArgs,

    /// The host name
    #[arg(long, value_name = "NAME", help_heading = "Inside")]
    hostname: Option<String>,

    /// The platform, such as linux/arm64, of an image that has several
    #[arg(long, value_name = "OS/ARCH", help_heading = "Inside")]
    platform: Option<String>,

    /// Ask the registry first (`always`), only for what is missing, or `never`
    #[arg(long, value_name = "POLICY", help_heading = "Registries")]
    pull: Option<String>,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    registries: RegistryArgs,

    /// Throw away what was changed: the default, which may be written because one is used to it
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        conflicts_with_all = ["keep", "name"],
        help_heading = "Afterwards"
    )]
    rm: Option<bool>,

    /// Keep what was changed, for `rbuild commit` and `rbuild shell`; the same as --rm=false
    #[arg(long, help_heading = "Afterwards")]
    keep: bool,

    /// Keep it under this name
    #[arg(long, value_name = "NAME", help_heading = "Afterwards")]
    name: Option<String>,
}

impl RunArgs {
    fn image(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn command(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// Runs it and passes its exit code on.
pub(crate) fn run(global: &Global, args: RunArgs) -> Result<(), Failure> {
    let mut options = args.inside.options()?;
    options.hostname.clone_from(&args.hostname);
    let configuration = Configuration::load()?;
    args.limits.apply(&mut options, &configuration)?;
    options.network = Some(args.limits.network(&configuration)?);
    let platform = args.platform.as_slice();
    let platform =
        all(platform, "--platform", |text| text.parse::<Platform>().map_err(|e| e.to_string()))?.pop();
    let platform = platform.unwrap_or_else(Platform::host);
    let attach = attach(&args)?;
    let keep_as = args.name.clone().map(|name| new_name(global, name)).transpose()?;
    let pull = request::pull(args.pull.as_deref(), false)?;
    let registries = configuration.registries(&args.registries)?;
    let (store, name) = shell::image(global, args.image(), pull).map_err(failed)?;
    let image = ImageRequest { name, called: args.image().to_owned(), platform, registries, pull };
    let open = move |events: &_, stop: &_| Shell::image(&store, &image, Kind::Run, &options, (events, stop));
    let (progress, own) = (args.progress, global.clone());
    let inside = move |opened: Shell| inside(opened, &args, keep_as, attach, &own);
    let visited = sandbox::visit(progress, open, inside).map_err(failed)?;
    match visited.code {
        0 => Ok(()),
        code => Err(Failure::status(code)),
    }
}

/// rbuild's own failures, told from those of commands by the exit code.
fn failed(failure: Failure) -> Failure {
    failure.or_status(EXIT_FAILED)
}

/// Where the command's input and output are; docker has the same rule.
fn attach(args: &RunArgs) -> Result<Attach, Failure> {
    use std::io::IsTerminal as _;
    if args.tty && args.interactive && !std::io::stdin().is_terminal() {
        let error = Diagnostic::error("standard input is no terminal, which -i and -t together need");
        return Err(Failure::usage(error.help("leave out `-t`")));
    }
    Ok(Attach { terminal: args.tty, input: args.interactive })
}

/// A name that no session has, and that cannot be taken for an id.
fn new_name(global: &Global, name: String) -> Result<String, Failure> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.is_empty() || !name.chars().all(is_fine) || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Err(request::bad("--name", &name, "it has letters, digits, `_`, `.` and `-`"));
    }
    let (_, sessions) =
        crate::pipeline::shell::sessions(&sandbox::store_root(global)?).map_err(Failure::build)?;
    if sessions.find(&name).is_some() {
        let error = Diagnostic::error(format!("there is a session `{name}` already"));
        let remove = sandbox::command(global, &format!("sessions rm {name}"));
        return Err(failed(Failure::build(vec![error.help(format!("{remove} removes it"))])));
    }
    Ok(name)
}

fn inside(
    mut opened: Shell,
    args: &RunArgs,
    name: Option<String>,
    attach: Attach,
    global: &Global,
) -> Result<ShellEnded, Failure> {
    let command = command_of(&opened.session().config.config, args.entrypoint.as_deref(), args.command());
    if command.is_empty() {
        let error = Diagnostic::error(format!("`{}` has neither an entrypoint nor a command", args.image()));
        return Err(Failure::build(vec![error.help("write the command behind the image's name")]));
    }
    let outcome = opened.run(&command, attach);
    let keep = (args.keep || name.is_some() || args.rm == Some(false)).then_some(name);
    if let Some(session) = opened.leave(keep).map_err(Failure::build)? {
        sandbox::tell_kept(&session, global);
    }
    match outcome {
        Ok(report) => Ok(ShellEnded { code: report.status.code() }),
        Err(error) => {
            let code = match &error {
                EnterError::NotFound(_) => EXIT_NOT_FOUND,
                EnterError::NotExecutable(_) => EXIT_NOT_EXECUTABLE,
                EnterError::Stopped | EnterError::Failed(_) => EXIT_FAILED,
            };
            let misplaced = misplaced(args).filter(|_| code == EXIT_NOT_FOUND && command == args.command());
            Err(match (error, misplaced) {
                (EnterError::NotFound(text), Some(help)) => {
                    Failure::build(vec![Diagnostic::error(text).help(help)]).or_status(code)
                }
                (error, _) => sandbox::failure_of(error).or_status(code),
            })
        }
    }
}

/// What to say when the command is none, but looks like options that were meant for rbuild.
fn misplaced(args: &RunArgs) -> Option<String> {
    let options: Vec<&str> =
        args.command().iter().map(String::as_str).take_while(|word| word.starts_with('-')).collect();
    let way = format!("rbuild run {} {} …", options.join(" "), args.image());
    (!options.is_empty()).then(|| {
        format!("what follows the image is the command; options of rbuild go before the image: `{way}`")
    })
}

/// The entrypoint and what follows it, as docker puts them together.
fn command_of(config: &Config, entrypoint: Option<&str>, command: &[String]) -> Vec<String> {
    let mut words: Vec<String> = match entrypoint {
        Some("") => Vec::new(),
        Some(program) => vec![program.to_owned()],
        None => config.entrypoint.clone().unwrap_or_default(),
    };
    match (command, entrypoint) {
        ([], None) => words.extend(config.cmd.iter().flatten().cloned()),
        ([], Some(_)) => {}
        (command, _) => words.extend(command.iter().cloned()),
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entrypoint_and_command_go_together_as_with_docker() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let config =
            Config { entrypoint: Some(words("entry -e")), cmd: Some(words("cmd -c")), ..Config::default() };
        let of = |entrypoint, command| command_of(&config, entrypoint, &words(command)).join(" ");
        assert_eq!(of(None, ""), "entry -e cmd -c");
        assert_eq!(of(None, "x y"), "entry -e x y");
        assert_eq!(of(Some("sh"), ""), "sh");
        assert_eq!(of(Some("sh"), "-c ls"), "sh -c ls");
        assert_eq!(of(Some(""), "ls"), "ls");
    }
}
