//! `rbuild bake`

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use crate::bake::{self, Allowed, Definition, Resolved};
use crate::cli::Failure;
use crate::cli::args::{Global, ProgressMode};
use crate::cli::call::{self, Call, Method, Told};
use crate::cli::command::build;
use crate::cli::command::ending::{Ending, Files, LOOKS};
use crate::cli::error::{color_of, print};
use crate::cli::options::bake::{Common, check_stdout, request};
use crate::cli::options::build::Jobs;
use crate::cli::options::configuration::{Configuration, RegistryArgs};
use crate::cli::options::definition::{self, Given, Words};
use crate::cli::options::docker::switch;
use crate::cli::options::request::{bad, variable};
use crate::cli::options::sandbox;
use crate::cli::show::bake::{self as shown, Form};
use crate::cli::show::progress::json;
use crate::cli::show::{diagnostic, metadata};
use crate::pipeline::{self, Built, Recording, Request, Target};
use crate::report::Diagnostic;
use crate::text::{boolean, csv, duration::seconds};

/// Build several targets of a bake file or compose file
///
/// Reads docker-bake.hcl, docker-bake.json and compose.yaml as `docker buildx bake` does. All targets are built as one graph: what they
/// share is done once. See docs/bake.md.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 built, 1 the build failed, 2 wrong usage, 130 interrupted.")]
pub(crate) struct BakeArgs {
    /// Targets and groups, also as patterns; before them, the URL of a definition in a git repository [default: default]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,

    /// A file of the definition, `-` for standard input; may be repeated: what comes later goes before [default: compose.yaml,
    /// docker-bake.json, docker-bake.hcl and their like] [env: BUILDX_BAKE_FILE]
    #[arg(short, long, value_name = "FILE", help_heading = "Definition")]
    file: Vec<String>,

    /// Change a field: `TARGET.KEY=VALUE`, `TARGET.KEY+=VALUE` to add to a list; TARGET may be a pattern; may be repeated
    #[arg(long, value_name = "CHANGE", help_heading = "Definition")]
    set: Vec<String>,

    /// Give a variable a value; may be repeated
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Definition")]
    var: Vec<String>,

    /// Print what would be built, as a definition in JSON
    #[arg(long, help_heading = "Look, don't build")]
    print: bool,

    /// List `targets` or `variables`; `type=targets,format=json` for programs
    #[arg(long, value_name = "WHAT", conflicts_with = "print", help_heading = "Look, don't build")]
    list: Option<String>,

    #[arg(long, hide = true)]
    list_targets: bool,

    #[arg(long, hide = true)]
    list_variables: bool,

    /// Look at the targets' Dockerfiles and build nothing: `check`, `outline`, `targets`, as in `rbuild build`
    #[arg(long, value_name = "WHAT", help_heading = "Look, don't build")]
    call: Option<String>,

    /// Check the Dockerfiles; short for --call=check
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, conflicts_with = "call", help_heading = "Look, don't build")]
    check: bool,

    /// Give the images to docker; short for `--set=*.output=type=docker`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, help_heading = "Result")]
    load: bool,

    /// Push the images; short for `--set=*.output=type=registry`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, value_parser = switch, help_heading = "Result")]
    push: bool,

    /// Write what each target gave to a file, as JSON with buildx's keys
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    metadata_file: Option<PathBuf>,

    /// Whether registries are asked for images again, whatever the targets say
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, help_heading = "Steps")]
    pull: Option<bool>,

    /// Whether every step runs again, whatever the targets say
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, help_heading = "Steps")]
    no_cache: Option<bool>,

    /// Fetch nothing: only what is in the local store counts
    #[arg(long, conflicts_with_all = ["pull", "push"], help_heading = "Steps")]
    offline: bool,

    /// Have a build engine do the targets: as for `rbuild build`
    #[arg(long, value_name = "ENGINE", help_heading = "Steps")]
    on: Option<String>,

    /// Have at most so many steps of all targets under way at once; 0 is no limit [default: 16, or the number of processors
    /// when that is more]
    #[arg(long, value_name = "N", env = "RBUILD_JOBS", hide_env_values = true, help_heading = "Steps")]
    jobs: Option<Jobs>,

    /// Allow what the definition asks for: `fs.read=PATH`, `fs.write=PATH`, `fs=PATH` (`*` is everything), `ssh`,
    /// `network.host`, `security.insecure`; may be repeated
    #[arg(long, value_name = "RIGHT", help_heading = "Steps")]
    allow: Vec<String>,

    #[arg(long, hide = true, value_name = "VALUE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,

    #[arg(long, hide = true, value_name = "VALUE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,

    #[arg(long, hide = true, value_name = "POLICY")]
    policy: Vec<String>,

    #[arg(long, hide = true, value_name = "NAME")]
    builder: Option<String>,

    #[arg(short = 'D', long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    debug: Option<bool>,

    /// How to show progress [default: auto]
    #[arg(long, value_name = "MODE", value_enum, hide_possible_values = false, help_heading = "Output")]
    progress: Option<ProgressMode>,

    /// Write what the build did when into a file, as for `rbuild build`
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    trace: Option<PathBuf>,

    /// Write a page into a file that shows where time and bytes of all targets went, as for `rbuild build`
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,

    /// Say in the end, in three lines at most, what made the build slow or images large [env: RBUILD_ADVICE] [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, help_heading = "Output")]
    advice: Option<bool>,

    #[command(flatten)]
    registries: RegistryArgs,
}

/// Builds, shows progress meanwhile, and prints the result.
pub(crate) fn run(global: &Global, args: &BakeArgs) -> Result<(), Failure> {
    let configuration = Configuration::load()?;
    let mode = build::progress_of(args.progress, &configuration)?;
    let in_form = |failure: Failure| failure.in_json(mode == ProgressMode::Json);
    bake(global, &configuration, args, mode).map_err(in_form)
}

fn bake(
    global: &Global,
    configuration: &Configuration,
    args: &BakeArgs,
    mode: ProgressMode,
) -> Result<(), Failure> {
    let started = Instant::now();
    let line = Words::of(&args.targets);
    let call = args.call()?;
    let files_of_build = Files { report: args.report.clone(), trace: args.trace.clone() };
    if args.print || args.list().is_some() {
        files_of_build.refuse(args.advice, "what only looks at a definition: nothing is built")?;
    }
    let allowed = Allowed::parse(&args.allow).map_err(usage)?;
    let given = Given { files: &args.file, variables: &args.var, offline: args.offline };
    let options = definition::read_options(&given, &line)?;
    let (files, base) = definition::files(global, &given, &line)?;
    let definition = bake::read(&files, &options).map_err(failed)?;
    warn(&definition, mode);
    if let Some(list) = args.list() {
        return print(&listed(&definition, list)?);
    }
    let mut resolved = bake::resolve(&definition, &line.targets, &args.changes(call)?).map_err(failed)?;
    resolved.settle(base.as_deref()).map_err(failed)?;
    date(&mut resolved);
    args.disable_policies(&mut resolved)?;
    if args.print {
        return print(&format!("{}\n", resolved.printed()));
    }
    definition::check_rights(allowed, &resolved, &options, mode, line.url.is_some())?;
    let common =
        Common { registries: &args.registries, jobs: args.jobs, offline: args.offline, on: args.on.clone() };
    let mut requests = Vec::new();
    for (name, target) in &resolved.targets {
        requests.push((name.clone(), request(global, configuration, target, &common)?));
    }
    check_stdout(&requests)?;
    let (called, mut built): (Vec<_>, Vec<_>) = requests.into_iter().partition(|(name, _)| {
        call_of(&resolved, name, call).is_some_and(|call| call.method != Method::Build)
    });
    if built.is_empty() && !called.is_empty() {
        files_of_build.refuse(args.advice, LOOKS)?;
    }
    if args.report.is_some() || args.trace.is_some() {
        // These are made of the record.
        let off = built.iter_mut().filter(|(_, request)| request.recording == Recording::Off);
        off.for_each(|(_, request)| request.recording = Recording::WithoutValues);
    }
    let ending = Ending::new(sandbox::store_root(global)?, (mode, false), args.advice, files_of_build)?;
    let made = match built.is_empty() {
        true => Vec::new(),
        false => build_all(built, (mode, &ending))?,
    };
    // What was built is told, whatever cannot be looked at or written.
    let (looked, blind) = match look(&called, &resolved, call) {
        Ok(looked) => (looked, Ok(())),
        Err(failure) => (Vec::new(), Err(failure)),
    };
    let record = made.first().and_then(|(_, built)| built.record.as_deref());
    let lines = ending.of_built(record);
    let metadata = finish((&made, &looked), args.metadata_file.as_deref(), (mode, &lines), started);
    Failure::all([blind, metadata, ending.write(record), show(&looked, &resolved, call)])
}

/// A target that was looked at and not built, how, and what there is to say of it.
type Looked<'c> = (&'c str, Call, Told);

#[allow(clippy::boxed_local, reason = "definitions fail so")]
fn usage(fault: Box<Diagnostic>) -> Failure {
    Failure::usage(*fault)
}

#[allow(clippy::boxed_local, reason = "definitions fail so")]
fn failed(fault: Box<Diagnostic>) -> Failure {
    Failure::build(vec![*fault])
}

impl BakeArgs {
    fn call(&self) -> Result<Option<Call>, Failure> {
        match (&self.call, self.check) {
            (_, true) => call::read("check").map(Some),
            (Some(text), _) if !text.is_empty() => call::read(text).map(Some),
            _ => Ok(None),
        }
    }

    fn list(&self) -> Option<&str> {
        let old = [(self.list_targets, "targets"), (self.list_variables, "variables")];
        self.list.as_deref().or_else(|| old.into_iter().find(|(given, _)| *given).map(|(_, what)| what))
    }

    /// All changes: `--set`, then the options that are short for some.
    fn changes(&self, call: Option<Call>) -> Result<Vec<String>, Failure> {
        let mut all = self.set.clone();
        if self.push {
            all.push("*.push=true".to_owned());
        }
        if self.load {
            all.push("*.load=true".to_owned());
        }
        if let Some(call) = call {
            all.push(format!("*.call={}", call.method.docker_name()));
        }
        all.extend(self.no_cache.map(|value| format!("*.no-cache={value}")));
        all.extend(self.pull.map(|value| format!("*.pull={value}")));
        for (kind, given) in [("sbom", &self.sbom), ("provenance", &self.provenance)] {
            let Some(text) = given.as_ref().filter(|text| !text.is_empty()) else { continue };
            all.push(match boolean(text) {
                Some(wanted) => format!("*.attest=type={kind},disabled={}", !wanted),
                None => format!("*.attest=type={kind},{text}"),
            });
        }
        let policies = self.policy.iter().filter(|text| !text.is_empty() && !is_off(text));
        all.extend(policies.map(|policy| format!("*.policy+={policy}")));
        Ok(all)
    }

    fn disable_policies(&self, resolved: &mut Resolved) -> Result<(), Failure> {
        if let Some(text) =
            self.policy.iter().find(|text| text.contains("filename=") || text.contains("reset="))
        {
            return Err(bad("--policy", text, "files and `reset` of policies are for the definition"));
        }
        if self.policy.iter().any(|text| is_off(text)) {
            let off = bake::Policy { disabled: true, ..bake::Policy::default() };
            resolved.targets.values_mut().for_each(|target| target.policy = vec![off.clone()]);
        }
        Ok(())
    }
}

fn is_off(policy: &str) -> bool {
    let fields = csv::fields(policy).unwrap_or_default();
    fields.iter().any(|field| field.strip_prefix("disabled=").and_then(boolean) == Some(true))
}

/// Says what is odd in the definition; programs that read progress are not told.
fn warn(definition: &Definition, mode: ProgressMode) {
    if matches!(mode, ProgressMode::RawJson | ProgressMode::Quiet | ProgressMode::None | ProgressMode::Json) {
        return;
    }
    let color = color_of(&std::io::stderr());
    for warning in &definition.warnings {
        let plain = Diagnostic { code: None, ..warning.clone() };
        let text = diagnostic::render_for(&std::io::stderr(), &plain, color);
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

fn listed(definition: &Definition, list: &str) -> Result<String, Failure> {
    let wrong = |reason: &str| bad("--list", list, reason);
    let (mut what, mut form) = (None, Form::Table);
    for field in csv::fields(list).map_err(|fault| wrong(&fault.to_string()))? {
        match field.split_once('=').unwrap_or(("type", &field)) {
            ("type", kind @ ("targets" | "variables")) => what = Some(kind.to_owned()),
            ("format", "table") => form = Form::Table,
            ("format", "json") => form = Form::Json,
            _ => return Err(wrong("it is `targets` or `variables`, also as `type=targets,format=json`")),
        }
    }
    match what.as_deref() {
        Some("targets") => Ok(shown::targets(definition, form)),
        Some(_) => Ok(shown::variables(definition, form)),
        None => Err(wrong("it is `targets` or `variables`")),
    }
}

/// `SOURCE_DATE_EPOCH` of the environment is an argument of every target that has none.
fn date(resolved: &mut Resolved) {
    const EPOCH: &str = "SOURCE_DATE_EPOCH";
    let Some(epoch) = variable(EPOCH) else { return };
    for target in resolved.targets.values_mut() {
        target.args.entry(EPOCH.to_owned()).or_insert_with(|| epoch.clone());
    }
}

/// What is to be done with a target instead of building it.
fn call_of(resolved: &Resolved, name: &str, given: Option<Call>) -> Option<Call> {
    let own = resolved.targets.get(name).and_then(|target| target.call.as_deref());
    let own = own.filter(|text| !text.is_empty()).and_then(|text| call::read(text).ok());
    // `--call` has set the method of all; format and the rest are its own.
    match (own, given) {
        (Some(own), Some(given)) => Some(Call { method: own.method, ..given }),
        (own, given) => own.or(given),
    }
}

fn build_all(
    requests: Vec<(String, Request)>,
    (mode, ending): (ProgressMode, &Ending),
) -> Result<Vec<(String, Built)>, Failure> {
    let targets = requests.into_iter().map(|(name, request)| Target { name, request }).collect::<Vec<_>>();
    let ending = ending.clone();
    build::interruptibly_then(
        mode,
        move |events, stop| pipeline::run_several(&targets, events, stop),
        move |failed: pipeline::Failed, _| {
            ending.of_failed(failed.record.as_deref());
            Failure::build(failed.diagnostics)
        },
    )
}

/// Writes the file of metadata, and says what was built.
fn finish(
    (made, looked): (&[(String, Built)], &[Looked<'_>]),
    metadata_file: Option<&std::path::Path>,
    (mode, lines): (ProgressMode, &str),
    started: Instant,
) -> Result<(), Failure> {
    let metadata = metadata_file.map_or(Ok(()), |path| {
        let with_warnings =
            variable("BUILDX_METADATA_WARNINGS").is_some_and(|text| boolean(&text) == Some(true));
        let mut object = metadata::of_targets(made, with_warnings, metadata::Provenance::wanted());
        // With these names buildx has what a frontend says, and compose looks for every target.
        for (name, _, told) in looked {
            let status = if told.has_failed { "1" } else { "0" };
            let result = serde_json::json!({"result.statuscode": status, "result.txt": told.text});
            object.insert((*name).to_owned(), result);
        }
        metadata::write(path, &object)
    });
    let mut text = String::new();
    for (name, built) in made {
        match mode {
            ProgressMode::Quiet | ProgressMode::None | ProgressMode::RawJson => {}
            ProgressMode::Json => {
                let mut object = json::built(built, started.elapsed());
                object["target"] = name.as_str().into();
                text.push_str(&format!("{object}\n"));
            }
            ProgressMode::Auto | ProgressMode::Tty | ProgressMode::Plain => {
                let ran = match (built.ran, built.cached) {
                    (0, _) => "nothing to do, all from the cache".to_owned(),
                    (1, cached) => format!("1 step ran, {cached} cached"),
                    (ran, cached) => format!("{ran} steps ran, {cached} cached"),
                };
                text.push_str(&format!("built {} {name}: {ran}\n", built.digest));
            }
        }
    }
    if !text.is_empty() && !matches!(mode, ProgressMode::Json) {
        text.push_str(&format!("  in {}\n", seconds(started.elapsed())));
        text.push_str(lines);
    }
    // The images are there even if nobody reads this.
    let _ = std::io::stderr().write_all(text.as_bytes());
    metadata
}

/// Checks, outlines and the like, of each target that asks for it.
fn look<'c>(
    called: &'c [(String, Request)],
    resolved: &Resolved,
    given: Option<Call>,
) -> Result<Vec<Looked<'c>>, Failure> {
    let mut looked = Vec::with_capacity(called.len());
    for (name, request) in called {
        if let Some(call) = call_of(resolved, name, given) {
            looked.push((name.as_str(), call, call.told(request)?));
        }
    }
    Ok(looked)
}

/// Prints what was found so.
fn show(looked: &[Looked<'_>], resolved: &Resolved, given: Option<Call>) -> Result<(), Failure> {
    let is_json = given.is_some_and(|call| call.format == call::Format::Json);
    let mut results = serde_json::Map::new();
    for (at, (name, call, told)) in looked.iter().enumerate() {
        if is_json {
            let result = serde_json::from_str(&told.text).unwrap_or(serde_json::Value::Null);
            results.insert((*name).to_owned(), serde_json::json!({ call.method.docker_name(): result }));
            continue;
        }
        let target = resolved.targets.get(*name);
        let description = target.map(|target| target.description.clone()).filter(|text| !text.is_empty());
        let description = description.map(|text| format!("{text}\n")).unwrap_or_default();
        let gap = if at > 0 { "\n" } else { "" };
        print(&format!("{gap}{name}\n{description}\n{}", told.text))?;
    }
    if is_json {
        print(&format!("{}\n", resolved.printed_with(&results)))?;
    }
    match looked.iter().any(|(_, _, told)| told.has_failed) {
        true => Err(Failure::told()),
        false => Ok(()),
    }
}
