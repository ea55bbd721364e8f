//! Instructions as people see them: one line, variables expanded, secrets masked.

use crate::dockerfile::mount;
use crate::dockerfile::syntax::{Command, InstructionKind, Run};
use crate::dockerfile::words;
use crate::text::terminal::harmless;
use crate::text::url::without_passwords;

use super::scope::Environment;
use super::stage::{Item, Stage};
use super::state::State;

/// The title of an instruction that sees `env`.
pub(super) fn of(item: &Item, env: &Environment) -> String {
    let instruction = &item.instruction;
    let expanded = words::expand_display(&instruction.text, item.place.escape, env);
    let text = expanded.map_or_else(|_| instruction.text.clone(), |expanded| expanded.text);
    let mut text = one_line(&text);
    match &instruction.kind {
        InstructionKind::Run(run) => text.push_str(&script_summary(run)),
        InstructionKind::Add(_)
        | InstructionKind::Arg(_)
        | InstructionKind::Cmd(_)
        | InstructionKind::Copy(_)
        | InstructionKind::Entrypoint(_)
        | InstructionKind::Env(_)
        | InstructionKind::Expose(_)
        | InstructionKind::Healthcheck(_)
        | InstructionKind::Label(_)
        | InstructionKind::Maintainer(_)
        | InstructionKind::Onbuild(_)
        | InstructionKind::Shell(_)
        | InstructionKind::Stopsignal(_)
        | InstructionKind::User(_)
        | InstructionKind::Volume(_)
        | InstructionKind::Workdir(_) => {}
    }
    let text = shown(&text);
    if item.triggered { format!("ONBUILD {text}") } else { text }
}

/// The title of FROM.
pub(super) fn from(stage: &Stage) -> String {
    let platform = stage.from.platform.as_ref().and(stage.platform.as_ref());
    let platform = platform.map(|platform| format!("--platform={platform} ")).unwrap_or_default();
    let name = stage.from.name.as_ref().map(|name| format!(" AS {}", name.text)).unwrap_or_default();
    shown(&format!("FROM {platform}{}{name}", stage.base_name))
}

/// What the title of an instruction may show: the environment, with variables that hold secrets masked.
pub(super) fn environment(item: &Item, state: &State) -> Environment {
    let mut env = state.env.clone();
    if let InstructionKind::Run(run) = &item.instruction.kind {
        for name in secret_variables(run) {
            env.set(&name, "****");
        }
    }
    env
}

fn secret_variables(run: &Run) -> Vec<String> {
    let fields = run.mounts.iter().filter_map(|mount| mount::fields(&mount.text).ok()).flatten();
    fields
        .filter_map(|field| {
            let (key, value) = field.split_once('=')?;
            key.eq_ignore_ascii_case("env").then(|| value.to_owned())
        })
        .collect()
}

fn one_line(text: &str) -> String {
    let mut words = text.split_whitespace();
    let keyword = words.next().unwrap_or_default().to_uppercase();
    words.fold(keyword, |line, word| line + " " + word)
}

/// The first line of a script in a here-document.
fn script_summary(run: &Run) -> String {
    let (Command::Shell(_), [only]) = (&run.command, run.heredocs.as_slice()) else { return String::new() };
    let mut lines = only.content.trim().lines();
    let first = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() { "..." } else { "" };
    format!(" ({first}{more})")
}

/// A title goes into displays, plans, logs and sessions, so what must not be seen there goes at once.
fn shown(text: &str) -> String {
    harmless(&without_passwords(text)).into_owned()
}
