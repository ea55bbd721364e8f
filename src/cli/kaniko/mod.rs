//! rbuild under the name `executor`: kaniko's command line, with rbuild behind it.
//!
//! What an option becomes stands in `flags`; `docs/from-kaniko.md` tells it to people.

mod context;
mod files;
mod flags;
mod help;
mod meaning;
mod push;
mod registries;
#[cfg(test)]
mod tests;
mod words;

use std::ffi::OsString;

use super::Failure;
use super::args::{self, Command, Global};
use super::command::build;
use super::error::{self, print};
use super::options::build::BuildArgs;
use super::options::configuration::Configuration;
use super::options::request;
use super::show::dry_run::text;
use super::show::progress;
use crate::pipeline::{self, ContextFrom, Request};
use crate::registry::Settings;
use crate::report::{Diagnostic, Events};
use meaning::Job;
use words::Typed;

/// Does what kaniko's executor would do with these words, the first of which is its name.
pub(super) fn run(words: Vec<OsString>) -> Result<(), Failure> {
    let mut words = words.into_iter().skip(1).peekable();
    match words.peek().and_then(|word| word.to_str()) {
        Some("login") => return login(words.collect()),
        Some("push") => {
            words.next();
            return push::run(&Typed::read(words)?);
        }
        Some("version") => return print(concat!("rbuild ", env!("CARGO_PKG_VERSION"), "\n")),
        Some("help" | "--help" | "-h") => return print(&help::text()),
        _ => {}
    }
    let words: Vec<OsString> = words.collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return print(&help::text());
    }
    build(&Job::of(&Typed::read(words)?)?)
}

/// kaniko's `login` is docker's, and so is rbuild's.
fn login(words: Vec<OsString>) -> Result<(), Failure> {
    let words = std::iter::once("rbuild".into()).chain(words).collect();
    match args::parse(words) {
        Ok(cli) => match cli.command {
            Command::Login(login) => super::command::login::login(&login),
            _ => Ok(()),
        },
        Err(shown) => error::usage(&shown),
    }
}

fn build(job: &Job) -> Result<(), Failure> {
    let words = ["rbuild", "build"].into_iter().map(str::to_owned).chain(job.words.clone());
    // The context is told apart from names of files below.
    let words = words.chain(["--".to_owned(), ".".to_owned()]).map(OsString::from).collect();
    let cli = match args::parse(words) {
        Ok(cli) => cli,
        Err(shown) => return error::usage(&shown),
    };
    let Command::Build(line) = cli.command else { return Ok(()) };
    let args = &line.build;
    let configuration = Configuration::load()?;
    let request = request_of(&cli.global, &configuration, args, job)?;
    if job.is_dry {
        let plan = pipeline::dry_run(&request, &Events::silent()).map_err(Failure::build)?;
        return error::print_painted(&text::render(
            &plan,
            error::color_of(&std::io::stdout()),
            progress::width_of_stdout(),
        ));
    }
    let mode = build::progress_mode(args, &configuration)?;
    for target in &job.before {
        build::build_shown(&cli.global, args, stage_of(&request, target), mode)?;
    }
    let built = build::build_shown(&cli.global, args, request, mode)?;
    job.files.write(&job.names, &built.digest)
}

/// A stage that nobody gets.
fn stage_of(request: &Request, target: &str) -> Request {
    let mut request = request.clone();
    request.options.target = Some(target.to_owned());
    (request.tags, request.outputs, request.push) = (Vec::new(), Vec::new(), false);
    request
}

fn request_of(
    global: &Global,
    configuration: &Configuration,
    args: &BuildArgs,
    job: &Job,
) -> Result<Request, Failure> {
    let mut request = request::from_args(global, configuration, args)?;
    request.registries = settings(configuration, job.flags.clone(), job.logins)?;
    request.context = job.context.clone();
    request.lock = match &job.context {
        ContextFrom::Directory(folder) => {
            Some(pipeline::Lock { file: folder.join("rbuild.lock"), missing: pipeline::Missing::Take })
        }
        ContextFrom::Stdin | ContextFrom::Archive(_) | ContextFrom::Git(_) | ContextFrom::Url(_) => None,
    };
    request.secrets.extend(job.secrets.iter().cloned());
    request.notes.splice(0..0, job.notes.iter().cloned());
    if job.is_timeless {
        request.options.epoch = Some("0".to_owned());
    }
    Ok(request)
}

/// How to talk to registries, with the logins that kaniko finds.
fn settings(
    configuration: &Configuration,
    flags: crate::config::Flags,
    variable_logins: crate::registry::VariableLogins,
) -> Result<Settings, Failure> {
    let mut settings = Settings { variable_logins, ..configuration.flagged(flags)? };
    if let Some(folder) = registries::config_folder() {
        settings.http.environment = settings.http.environment.with("DOCKER_CONFIG", folder);
    }
    Ok(settings)
}

/// What a subcommand needs, and was not given.
fn missing(what: &str, help: &str) -> Failure {
    Failure::usage(Diagnostic::error(what.to_owned()).help(help))
}
