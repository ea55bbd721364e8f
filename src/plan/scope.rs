//! Which variables an instruction sees: build arguments, the global ARGs, and a stage's environment.
//!
//! BuildKit keeps one list for ARG and ENV in which the last writer wins. So an ARG after an ENV of
//! the same name wins in RUN, although the reference manual says otherwise; the image keeps the ENV.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::dockerfile::MAX_WARNINGS;
use crate::dockerfile::checks::{self, message};
use crate::dockerfile::syntax::{ArgDeclaration, Dockerfile, Instruction, InstructionKind, Word};
use crate::dockerfile::words::{self, Expanded, Lookup};
use crate::oci::Platform;
use crate::report::{Diagnostic, Span};
use crate::text::closest;

use super::epoch::{self, EpochSource, NAME};
use super::options::Options;
use super::place::{Fault, Place};

/// Names that steer the builder and never reach the environment of a command.
pub(super) const NEVER_IN_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// The proxy variables, lower case; every spelling of them counts, and needs no ARG.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// So many warnings say what may have been meant.
pub(super) const SUGGESTIONS: usize = 100;

/// As much work as all words of a file may cost together (a unit is what [`Lookup::afford`] counts, or a variable
/// looked at): a second or two.
const MAX_WORK: usize = 1_000_000_000;

/// Variables in the order in which they were last set. A clone costs nothing until one of the two changes.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    variables: Arc<Variables>,
    /// What the words that were expanded cost; the environments of a file share it.
    work: Arc<AtomicUsize>,
}

/// What [`Environment`] holds. Setting and finding one costs the same however many there are: a base image may bring
/// hundreds of thousands.
#[derive(Debug, Clone, Default)]
struct Variables {
    /// In order; `None` where one was that was set again later.
    slots: Vec<Option<(String, String)>>,
    /// Where each is in `slots`.
    places: HashMap<String, usize>,
    /// All of them, made when somebody asks.
    list: OnceLock<Arc<Vec<(String, String)>>>,
}

impl Variables {
    fn set(&mut self, name: &str, value: &str) {
        self.list = OnceLock::new();
        if self.slots.len() > 2 * self.places.len() + 16 {
            self.slots.retain(Option::is_some);
            let names = self.slots.iter().flatten().map(|(name, _)| name.clone());
            self.places = names.enumerate().map(|(at, name)| (name, at)).collect();
        }
        let at = self.slots.len();
        self.slots.push(Some((name.to_owned(), value.to_owned())));
        match self.places.get_mut(name) {
            Some(place) => self.slots[std::mem::replace(place, at)] = None,
            None => drop(self.places.insert(name.to_owned(), at)),
        }
    }
}

impl Variables {
    fn unset(&mut self, name: &str) {
        self.list = OnceLock::new();
        if let Some(place) = self.places.remove(name) {
            self.slots[place] = None;
        }
    }
}

impl Environment {
    /// Without variables, for the same file.
    pub(super) fn emptied(&self) -> Self {
        Self { variables: Arc::default(), work: Arc::clone(&self.work) }
    }

    /// The value of `name`.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let place = self.variables.places.get(name)?;
        self.variables.slots[*place].as_ref().map(|(_, value)| value.as_str())
    }

    /// Sets a variable and makes it the last one.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        Arc::make_mut(&mut self.variables).set(name, value);
    }

    /// Takes a variable away.
    pub(super) fn unset(&mut self, name: &str) {
        if self.value(name).is_some() {
            Arc::make_mut(&mut self.variables).unset(name);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.variables.places.len()
    }

    /// All of them, in order.
    pub(super) fn variables(&self) -> &Arc<Vec<(String, String)>> {
        let Variables { slots, list, .. } = &*self.variables;
        list.get_or_init(|| Arc::new(slots.iter().flatten().cloned().collect()))
    }
}

impl Lookup for Environment {
    fn get(&self, name: &str) -> Option<String> {
        self.work.fetch_add(1, Ordering::Relaxed);
        self.value(name).map(str::to_owned)
    }

    fn names(&self) -> Vec<String> {
        self.variables.slots.iter().flatten().map(|(key, _)| key.clone()).collect()
    }

    fn afford(&self, work: usize) -> bool {
        self.work.fetch_add(work, Ordering::Relaxed) + work <= MAX_WORK
    }
}

/// What holds for the whole file.
#[derive(Debug, Clone)]
pub(super) struct Globals {
    /// The platform arguments and the ARGs before the first FROM, evaluated.
    pub(super) env: Environment,
    /// What `env` would be had no build argument been given for those ARGs; `None` when that is impossible.
    pub(super) defaults: Option<Environment>,
    /// Names of the ARGs before the first FROM, also those without a value.
    pub(super) declared: Vec<String>,
    /// Build arguments by name.
    pub(super) arguments: BTreeMap<String, String>,
    /// SOURCE_DATE_EPOCH.
    pub(super) epoch: Option<i64>,
    /// What it is taken from, if it is no number.
    pub(super) epoch_source: Option<EpochSource>,
}

impl Globals {
    /// Evaluates the global ARGs.
    pub(super) fn new(file: &Dockerfile, place: &Place, options: &Options) -> Result<Self, Vec<Diagnostic>> {
        let arguments = options.arguments();
        let predefined = predefined(file, options, &arguments);
        let env = evaluate(&file.global_args, place, predefined.clone(), &arguments)
            .map_err(|fault| vec![*fault])?;
        let defaults = evaluate(&file.global_args, place, predefined, &BTreeMap::new()).ok();
        let declared = declarations(&file.global_args).map(|arg| arg.name.text.clone()).collect();
        let mut globals = Self { env, defaults, declared, arguments, epoch: None, epoch_source: None };
        globals.find_epoch(file, place, options).map_err(|fault| vec![*fault])?;
        Ok(globals)
    }

    /// A build argument SOURCE_DATE_EPOCH goes before a global ARG with a value. An empty one switches
    /// it off. The name of something that has a time stands for that time, which is looked up elsewhere.
    fn find_epoch(&mut self, file: &Dockerfile, place: &Place, options: &Options) -> Result<(), Fault> {
        let given = self.arguments.get(NAME).map(String::as_str);
        let text = match given.or_else(|| self.env.value(NAME).filter(|value| !value.is_empty())) {
            None => {
                self.epoch = options.fallback_epoch;
                return Ok(());
            }
            Some("") => return Ok(()),
            Some(text) => text,
        };
        if let Ok(seconds) = text.parse::<i64>() {
            self.epoch = Some(seconds);
            return Ok(());
        }
        let source = epoch::source(text, file, options, &self.env).map_err(|problem| {
            let message = format!("invalid SOURCE_DATE_EPOCH `{text}`: {problem}");
            let declared = declarations(&file.global_args).find(|arg| arg.name.text == NAME);
            match declared {
                Some(arg) if given.is_none() => place.fault(arg.name.span, message),
                Some(_) | None => Box::new(Diagnostic::error(message)),
            }
        })?;
        self.epoch_source = Some(source);
        self.set_epoch(options.epoch_of_source);
        Ok(())
    }

    /// What was given under a name has this value from now on, or none.
    fn set_epoch(&mut self, seconds: Option<i64>) {
        self.epoch = seconds;
        let is_given = self.arguments.remove(NAME).is_some();
        let is_global = self.env.value(NAME).is_some();
        self.env.unset(NAME);
        let Some(text) = seconds.map(|seconds| seconds.to_string()) else { return };
        if is_global {
            self.env.set(NAME, &text);
        }
        if is_given {
            self.arguments.insert(NAME.to_owned(), text);
        }
    }

    /// The proxy variables that a command gets without asking, in both cases of letters; those that it
    /// has anyway are left out.
    pub(super) fn proxies_for(&self, env: &Environment) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for proxy in PROXIES {
            let given = self.arguments.iter().rfind(|(name, _)| name.eq_ignore_ascii_case(proxy));
            let Some((_, value)) = given.filter(|(_, value)| !value.is_empty()) else { continue };
            for name in [proxy.to_ascii_uppercase(), proxy.to_owned()] {
                if env.value(&name).is_none() {
                    found.push((name, value.clone()));
                }
            }
        }
        found
    }
}

/// Whether a build argument counts without any ARG.
pub(super) fn needs_no_declaration(name: &str) -> bool {
    PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
        || name.starts_with("BUILDKIT_")
        || name == NAME
}

/// All names that some ARG instructions declare.
pub(super) fn declarations(instructions: &[Instruction]) -> impl Iterator<Item = &ArgDeclaration> {
    instructions
        .iter()
        .filter_map(|instruction| match &instruction.kind {
            InstructionKind::Arg(declarations) => Some(declarations),
            _ => None,
        })
        .flatten()
}

/// The platform arguments, each of which a build argument can replace.
fn predefined(file: &Dockerfile, options: &Options, arguments: &BTreeMap<String, String>) -> Environment {
    let (build, target) = (&options.build_platform, &options.platform);
    let last = file.stages.last().and_then(|stage| stage.from.name.as_ref());
    let stage = options.target.clone().or_else(|| last.map(|name| name.text.to_ascii_lowercase()));
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let values: [(&str, String); 11] = [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", text(&build.os_version)),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", text(&build.variant)),
        ("TARGETPLATFORM", full_name(target)),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", text(&target.os_version)),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", text(&target.variant)),
        ("TARGETSTAGE", stage.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned())),
    ];
    let mut env = Environment::default();
    for (name, value) in values {
        env.set(name, arguments.get(name).unwrap_or(&value));
    }
    env
}

/// `os/architecture/variant`, the version of the system after the first, as containerd writes it.
fn full_name(platform: &Platform) -> String {
    match &platform.os_version {
        Some(version) if !version.is_empty() => {
            platform.to_string().replacen('/', &format!("({version})/"), 1)
        }
        _ => platform.to_string(),
    }
}

fn evaluate(
    instructions: &[Instruction],
    place: &Place,
    mut env: Environment,
    arguments: &BTreeMap<String, String>,
) -> Result<Environment, Fault> {
    for declaration in declarations(instructions) {
        let name = &declaration.name.text;
        if let Some(value) = arguments.get(name) {
            env.set(name, value);
        } else if let Some(default) = &declaration.default {
            let value = words::expand(&default.text, place.escape, &env)
                .map_err(|error| place.unexpandable(default.span, &error))?;
            env.set(name, &value.text);
        }
    }
    Ok(env)
}

/// An ARG of a stage: its value is what it had when it was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Argument {
    /// Its name.
    pub(super) name: String,
    /// Its value; `None` when nobody gave one.
    pub(super) value: Option<String>,
}

/// Expands the words of one instruction and notes undefined variables.
pub(super) struct Expander<'a> {
    /// What the instruction sees.
    pub(super) env: &'a Environment,
    /// Names of the ARGs so far; one without a value is not undefined.
    pub(super) declared: &'a BTreeSet<String>,
    /// Where the instruction stands.
    pub(super) place: &'a Place,
    /// Where findings go.
    pub(super) warnings: &'a mut Vec<Diagnostic>,
}

impl Expander<'_> {
    /// A word, quotes and escapes removed.
    pub(super) fn word(&mut self, word: &Word) -> Result<String, Fault> {
        let expanded = words::expand(&word.text, self.place.escape, self.env)
            .map_err(|error| self.place.unexpandable(word.span, &error))?;
        self.report(word.span, &expanded.unset);
        Ok(expanded.text)
    }

    /// A word that may be absent.
    pub(super) fn optional(&mut self, word: Option<&Word>) -> Result<Option<String>, Fault> {
        word.map(|word| self.word(word)).transpose().map(|text| text.filter(|text| !text.is_empty()))
    }

    /// The body of a here-document.
    pub(super) fn heredoc(&mut self, body: &str, span: Span) -> Result<String, Fault> {
        let expanded: Expanded =
            words::expand_heredoc(body, self.env).map_err(|error| self.place.unexpandable(span, &error))?;
        self.report(span, &expanded.unset);
        Ok(expanded.text)
    }

    /// Warns of variables that nobody defines.
    pub(super) fn report(&mut self, span: Span, unset: &[String]) {
        for name in unset {
            if self.warnings.len() >= MAX_WARNINGS {
                return;
            }
            if self.declared.contains(name) || NEVER_IN_ENVIRONMENT.contains(&name.as_str()) {
                continue;
            }
            // A look at every variable for each warning: what comes after the first hundred nobody reads.
            let names = self.env.variables().iter().map(|(name, _)| name.as_str());
            let near = (self.warnings.len() < SUGGESTIONS).then(|| closest(name, names)).flatten();
            let message = message::undefined_var(name, near);
            self.warnings.push(self.place.warning(&checks::UNDEFINED_VAR, span, message));
        }
    }
}
