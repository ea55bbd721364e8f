//! What each instruction that makes no files does to the image's configuration.

use std::sync::Arc;

use crate::dockerfile::checks::{self, message};
use crate::dockerfile::syntax::{ArgDeclaration, Command, Healthcheck, Onbuild, Pair, Word};
use crate::dockerfile::words::{self, Lookup as _};
use crate::oci::{self, Empty};
use crate::report::{Diagnostic, Span};

use super::history;
use super::place::{Fault, Place};
use super::ports;
use super::scope::{self, Argument, Globals};
use super::signal::is_signal;
use super::state::{Effect, State};

/// The place of an instruction, and where its warnings go.
pub(super) struct Context<'a> {
    /// Where it stands.
    pub(super) place: &'a Place,
    /// The whole instruction.
    pub(super) span: Span,
    /// Whether ONBUILD brought it in.
    pub(super) triggered: bool,
    /// SOURCE_DATE_EPOCH.
    pub(super) epoch: Option<i64>,
    /// Findings of checks.
    pub(super) warnings: &'a mut Vec<Diagnostic>,
}

impl Context<'_> {
    /// Whether no check of the syntax could judge this word: it holds variables, or stands in a trigger.
    pub(super) fn is_left_to_plan(&self, word: &Word) -> bool {
        self.triggered || word.text.contains('$')
    }

    /// Expands a word and warns of undefined variables.
    pub(super) fn word(&mut self, state: &State, word: &Word) -> Result<String, Fault> {
        state.expander(self.place, self.warnings).word(word)
    }

    /// Expands several words.
    pub(super) fn words(&mut self, state: &State, words: &[Word]) -> Result<Vec<String>, Fault> {
        words.iter().map(|word| self.word(state, word)).collect()
    }

    fn pairs(&mut self, state: &State, pairs: &[Pair]) -> Result<Vec<(String, String)>, Fault> {
        let mut expander = state.expander(self.place, self.warnings);
        pairs.iter().map(|pair| Ok((expander.word(&pair.key)?, expander.word(&pair.value)?))).collect()
    }
}

/// ARG.
pub(super) fn arg(
    state: &mut State,
    context: &mut Context<'_>,
    globals: &Globals,
    declarations: &[ArgDeclaration],
) -> Result<Effect, Fault> {
    let first = state.arguments.len();
    for declaration in declarations {
        declare(state, context, globals, declaration)?;
    }
    let shown: Vec<String> = state.arguments[first..]
        .iter()
        .map(|argument| match &argument.value {
            Some(value) => format!("{}={value}", argument.name),
            None => argument.name.clone(),
        })
        .collect();
    Ok(Effect::Entry(format!("ARG {}", shown.join(" "))))
}

/// One name of an ARG: a build argument goes before the default, and a global ARG counts when there is
/// neither.
fn declare(
    state: &mut State,
    context: &mut Context<'_>,
    globals: &Globals,
    declaration: &ArgDeclaration,
) -> Result<(), Fault> {
    let name = &declaration.name.text;
    let value = match (globals.arguments.get(name), &declaration.default) {
        (Some(given), _) => Some(given.clone()),
        (None, Some(default)) => Some(context.word(state, default)?),
        (None, None) => globals.env.value(name).map(str::to_owned),
    };
    if let Some(value) = value.as_ref().filter(|_| !scope::NEVER_IN_ENVIRONMENT.contains(&name.as_str())) {
        state.env.set(name, value);
    }
    state.arguments.push(Argument { name: name.clone(), value });
    if !state.argument_names.contains(name) {
        Arc::make_mut(&mut state.argument_names).insert(name.clone());
    }
    Ok(())
}

/// ENV. Every pair sees the environment as it was before the line.
pub(super) fn env(state: &mut State, context: &mut Context<'_>, pairs: &[Pair]) -> Result<Effect, Fault> {
    let pairs = context.pairs(state, pairs)?;
    for (key, value) in &pairs {
        state.env.set(key, value);
        let pair = format!("{key}={value}");
        let env = &mut state.image.config.env;
        match state.env_places.get(key) {
            Some(place) => env[*place] = pair,
            None => {
                state.env_places.insert(key.clone(), env.len());
                env.push(pair);
            }
        }
    }
    Ok(Effect::Entry(entry("ENV", &pairs)))
}

/// LABEL.
pub(super) fn label(state: &mut State, context: &mut Context<'_>, pairs: &[Pair]) -> Result<Effect, Fault> {
    let pairs = context.pairs(state, pairs)?;
    let text = entry("LABEL", &pairs);
    state.image.config.labels.extend(pairs);
    Ok(Effect::Entry(text))
}

fn entry(keyword: &str, pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{keyword} {}", pairs.join(" "))
}

/// CMD. `ArgsEscaped` is set for both forms, and stays.
pub(super) fn cmd(state: &mut State, context: &Context<'_>, command: &Command) -> Effect {
    let args = command_line(state, command);
    let text = format!("CMD {}", history::quoted(&args));
    state.image.config.cmd = some(args);
    state.image.config.args_escaped = true;
    state.cmd = Some(context.span);
    Effect::Entry(text)
}

/// ENTRYPOINT. It clears a CMD that this stage inherited.
pub(super) fn entrypoint(state: &mut State, command: &Command) -> Effect {
    let args = command_line(state, command);
    let text = format!("ENTRYPOINT {}", history::quoted(&args));
    state.image.config.entrypoint = some(args);
    if state.cmd.is_none() {
        state.image.config.cmd = None;
    }
    Effect::Entry(text)
}

/// An empty list leaves the field out, as it does in BuildKit's JSON.
fn some(args: Vec<String>) -> Option<Vec<String>> {
    Some(args).filter(|args| !args.is_empty())
}

fn command_line(state: &State, command: &Command) -> Vec<String> {
    match command {
        Command::Shell(line) => with_shell(state, &line.text),
        Command::Exec(args, _) => args.clone(),
    }
}

/// The stage's shell with a line to run.
pub(super) fn with_shell(state: &State, line: &str) -> Vec<String> {
    let default = if state.image.os == "windows" { vec!["cmd", "/S", "/C"] } else { vec!["/bin/sh", "-c"] };
    let mut args = match state.image.config.shell.as_slice() {
        [] => default.into_iter().map(str::to_owned).collect(),
        shell => shell.to_vec(),
    };
    args.push(line.to_owned());
    args
}

const TOO_MANY_PORTS: &str = "more ports than EXPOSE can list";
/// All ports of all protocols, which is as much as one EXPOSE can mean.
const ALL_PORTS: usize = 3 * 65_536;
/// What a port costs of the work that all words of a file may cost together: a range of eight letters stands for 65,535
/// ports, each of which is written into the history. So a file may list half a million.
const PORT_WORK: usize = 2_000;

/// EXPOSE. Words are sorted as written, before they are expanded.
pub(super) fn expose(state: &mut State, context: &mut Context<'_>, ports: &[Word]) -> Result<Effect, Fault> {
    let mut sorted: Vec<&Word> = ports.iter().collect();
    sorted.sort_by(|a, b| a.text.cmp(&b.text));
    let mut exposed = Vec::new();
    for word in sorted {
        let expanded = words::expand_words(&word.text, context.place.escape, &state.env)
            .map_err(|error| context.place.fault(word.span, error.to_string()))?;
        for text in &expanded.words {
            // Once it was too much, no further range is spelt out to find that out again.
            if !state.env.afford(0) {
                return Err(context.place.fault(word.span, TOO_MANY_PORTS));
            }
            let ports = expose_word(context, word, text)?;
            if !state.env.afford(ports.len() * PORT_WORK) || exposed.len() + ports.len() > ALL_PORTS {
                return Err(context.place.fault(word.span, TOO_MANY_PORTS));
            }
            exposed.extend(ports);
        }
    }
    let config = &mut state.image.config;
    config.exposed_ports.extend(exposed.iter().map(|port| (port.clone(), Empty {})));
    Ok(Effect::Entry(format!("EXPOSE {}", history::list(&exposed))))
}

fn expose_word(context: &mut Context<'_>, word: &Word, text: &str) -> Result<Vec<String>, Fault> {
    let exposed = ports::parse(text).map_err(|why| context.place.fault(word.span, why))?;
    if !context.is_left_to_plan(word) {
        return Ok(exposed.ports);
    }
    if exposed.odd_case {
        let message = message::expose_proto_casing(text);
        context.warnings.push(context.place.warning(&checks::EXPOSE_PROTO_CASING, word.span, message));
    }
    if exposed.has_host {
        let message = message::expose_invalid_format(text);
        context.warnings.push(context.place.warning(&checks::EXPOSE_INVALID_FORMAT, word.span, message));
    }
    Ok(exposed.ports)
}

/// HEALTHCHECK.
pub(super) fn healthcheck(state: &mut State, check: &Healthcheck) -> Effect {
    let check = match check {
        Healthcheck::None => oci::Healthcheck { test: vec!["NONE".to_owned()], ..Default::default() },
        Healthcheck::Cmd { command, interval, timeout, start_period, start_interval, retries } => {
            oci::Healthcheck {
                test: test(command),
                interval: interval.unwrap_or(0),
                timeout: timeout.unwrap_or(0),
                start_period: start_period.unwrap_or(0),
                start_interval: start_interval.unwrap_or(0),
                retries: retries.unwrap_or(0),
            }
        }
    };
    let text = history::healthcheck(&check);
    state.image.config.healthcheck = Some(check);
    Effect::Entry(text)
}

fn test(command: &Command) -> Vec<String> {
    match command {
        Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.text.clone()],
        Command::Exec(args, _) => std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect(),
    }
}

/// MAINTAINER. Not expanded.
pub(super) fn maintainer(state: &mut State, name: &Word) -> Effect {
    state.image.author = Some(name.text.clone()).filter(|name| !name.is_empty());
    Effect::Entry(format!("MAINTAINER {}", name.text))
}

/// ONBUILD: kept as written; no history.
pub(super) fn onbuild(state: &mut State, onbuild: &Onbuild) -> Effect {
    state.image.config.on_build.push(onbuild.expression.clone());
    Effect::Silent
}

/// SHELL.
pub(super) fn shell(state: &mut State, shell: &[String]) -> Effect {
    state.image.config.shell = shell.to_vec();
    Effect::Entry(format!("SHELL {}", history::list(shell)))
}

/// STOPSIGNAL.
pub(super) fn stopsignal(state: &mut State, context: &mut Context<'_>, word: &Word) -> Result<Effect, Fault> {
    let signal = context.word(state, word)?;
    if !is_signal(&signal) {
        return Err(context.place.fault(word.span, format!("invalid signal: `{signal}`")));
    }
    let text = format!("STOPSIGNAL {signal}");
    state.image.config.stop_signal = signal;
    Ok(Effect::Entry(text))
}

/// USER.
pub(super) fn user(state: &mut State, context: &mut Context<'_>, word: &Word) -> Result<Effect, Fault> {
    let user = context.word(state, word)?;
    let text = format!("USER {user}");
    state.image.config.user = user;
    Ok(Effect::Entry(text))
}

/// VOLUME.
pub(super) fn volume(
    state: &mut State,
    context: &mut Context<'_>,
    volumes: &[Word],
) -> Result<Effect, Fault> {
    let paths = context.words(state, volumes)?;
    if let Some(empty) = paths.iter().position(String::is_empty) {
        let message = "VOLUME specified can not be an empty string";
        return Err(context.place.fault(volumes[empty].span, message));
    }
    let text = format!("VOLUME {}", history::list(&paths));
    state.image.config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
    Ok(Effect::Entry(text))
}
