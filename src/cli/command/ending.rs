//! What follows a build, however it ended: lines about what could be better, the summary that GitHub shows, the report, the trace.

use std::io::Write as _;
use std::path::PathBuf;

use crate::busy;
use crate::cli::Failure;
use crate::cli::args::ProgressMode;
use crate::cli::command::history::trace;
use crate::cli::command::report;
use crate::cli::options::build::BuildArgs;
use crate::cli::options::configuration::Configuration;
use crate::cli::options::docker::switch;
use crate::cli::options::request::variable;
use crate::cli::show::after;
use crate::cli::show::progress::defused;
use crate::record::Record;
use crate::report::{Diagnostic, Severity};
use crate::store::Store;
use crate::text::terminal::harmless;

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    store_root: PathBuf,
    advises: bool,
    is_for_people: bool,
    is_for_programs: bool,
    /// The file that GitHub shows.
    summary: Option<String>,
    report: Option<PathBuf>,
    trace: Option<PathBuf>,
}

/// Files that a command line asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    /// `--report`
    pub(crate) report: Option<PathBuf>,
    /// `--trace`
    pub(crate) trace: Option<PathBuf>,
}

/// What has no ending, as [`Files::refuse`] words it.
pub(crate) const LOOKS: &str = "what only looks at Dockerfiles: nothing is built";

impl Files {
    /// Those of a build.
    pub(crate) fn of(args: &BuildArgs) -> Self {
        Self { report: args.report.clone(), trace: args.trace.clone() }
    }

    /// An option that changes nothing would be believed to change something: refuses them, and `advice`, for what builds nothing.
    pub(crate) fn refuse(&self, advice: Option<bool>, what: &str) -> Result<(), Failure> {
        let given = [
            ("--report", self.report.is_some()),
            ("--trace", self.trace.is_some()),
            ("--advice", advice.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((name, _)) => {
                let error = Diagnostic::error(format!("`{name}` means nothing to {what}"));
                Err(Failure::usage(error.help(format!("leave `{name}` out, or build"))))
            }
        }
    }
}

impl Ending {
    /// Of a build that is about to begin. `advice` is what the command line says of it, `is_quiet` whether nobody reads what is said.
    pub(crate) fn new(
        store_root: PathBuf,
        (mode, is_quiet): (ProgressMode, bool),
        advice: Option<bool>,
        Files { report, trace }: Files,
    ) -> Result<Self, Failure> {
        let is_for_people =
            matches!(mode, ProgressMode::Auto | ProgressMode::Tty | ProgressMode::Plain) && !is_quiet;
        let is_for_programs = mode == ProgressMode::Json;
        let advises = advises(advice)?;
        if trace.is_some() {
            busy::note();
        }
        let summary = summary_file();
        Ok(Self { store_root, advises, is_for_people, is_for_programs, summary, report, trace })
    }

    /// Appends the summary of a build that went well; gives the lines that are to be printed behind its result.
    pub(crate) fn of_built(&self, record: Option<&Record>) -> String {
        record.map(|record| self.tell(record)).unwrap_or_default()
    }

    /// Writes the files that were asked for of a build that went well; last, for what was built is told even if these cannot be had.
    pub(crate) fn write(&self, record: Option<&Record>) -> Result<(), Failure> {
        record.map_or(Ok(()), |record| Failure::all(self.files(record)))
    }

    fn files(&self, record: &Record) -> [Result<(), Failure>; 2] {
        let trace = self.trace.as_ref().map(|path| trace::write(path, &[record], &busy::noted()));
        let report = self.report.as_ref().map(|path| report::write_of(path, &self.store_root, record));
        [trace, report].map(|written| written.unwrap_or(Ok(())))
    }

    /// Both of one that did not, whose error is told after this.
    pub(crate) fn of_failed(&self, record: Option<&Record>) {
        let Some(record) = record else { return };
        let lines = self.tell(record);
        let _ = std::io::stderr().write_all(lines.as_bytes());
        // Why the build failed is told in any case, and matters more.
        for failure in self.files(record).into_iter().filter_map(Result::err) {
            crate::cli::error::report(&failure.in_json(self.is_for_programs));
        }
    }

    /// Appends the summary; gives the lines for people.
    fn tell(&self, record: &Record) -> String {
        let is_told = self.advises && (self.is_for_people || self.summary.is_some());
        let open = || Store::open(&self.store_root).ok();
        let lines = if is_told { after::lines(open, record) } else { Vec::new() };
        if let Some(path) = &self.summary
            && let Err(error) = after::append(path, &after::markdown(record, &lines))
        {
            let text = format!("cannot write the summary for GitHub into `{path}`: {error}");
            let told = Diagnostic { severity: Severity::Warning, ..Diagnostic::error(text) };
            let told =
                told.help("$GITHUB_STEP_SUMMARY names the file; without that variable there is no summary");
            crate::cli::error::report(&Failure::build(vec![told]).in_json(self.is_for_programs));
        }
        let lines = lines.iter().filter(|_| self.is_for_people).map(|line| format!("  {}\n", harmless(line)));
        defused(lines.collect())
    }
}

/// The file that GitHub shows. Docker's actions write into it what `docker buildx history` tells them, and twice is too much.
fn summary_file() -> Option<String> {
    const THEIRS: [&str; 2] = ["docker/build-push-action", "docker/bake-action"];
    let is_theirs = variable("GITHUB_ACTION_REPOSITORY").is_some_and(|name| THEIRS.contains(&name.as_str()))
        && variable("DOCKER_BUILD_SUMMARY").as_deref() != Some("false");
    variable("GITHUB_STEP_SUMMARY").filter(|_| !is_theirs)
}

/// Whether something is said of what could be better: as the command line says, else the environment, else the configuration.
fn advises(option: Option<bool>) -> Result<bool, Failure> {
    const VARIABLE: &str = "RBUILD_ADVICE";
    match (option, variable(VARIABLE)) {
        (Some(is_on), _) => Ok(is_on),
        (None, Some(text)) => switch(&text).map_err(|_| {
            Failure::usage(Diagnostic::error(format!("`{VARIABLE}={text}`: it is `true` or `false`")))
        }),
        (None, None) => Ok(Configuration::load()?.own.defaults.advice.unwrap_or(true)),
    }
}
