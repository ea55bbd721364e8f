//! RUN: the command line, its here-documents, and everything that surrounds the process.

use std::sync::Arc;

use crate::dockerfile::syntax::{Command, Heredoc, Run, Word};
use crate::oci::ImageConfig;

use super::config::{self, Context};
use super::graph::{ExecOp, Mount, MountKind, Network, Op, Security};
use super::history;
use super::options::{Entitlement, Options};
use super::place::Fault;
use super::scope::Globals;
use super::state::{Effect, State};

/// Where the files of here-documents that are scripts appear.
const PIPES: &str = "/dev/pipes";

/// What holds for every RUN of the build.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    /// What the user asked for.
    pub(super) options: &'a Options,
    /// Build arguments.
    pub(super) globals: &'a Globals,
}

/// RUN, its mounts already lowered.
pub(super) fn run(
    state: &State,
    context: &Context<'_>,
    run: &Run,
    mounts: Vec<Mount>,
    Setting { options, globals }: Setting<'_>,
) -> Result<Effect, Fault> {
    if let Some(device) = run.devices.first() {
        return Err(context.place.fault(device.span, "RUN --device is not supported"));
    }
    let CommandLine { args, pipes } = command_line(state, run);
    let created_by = history::run(&args, &state.arguments, &state.env);
    let epoch = globals.epoch.filter(|_| options.epoch_in_run);
    let env = environment(state, &mounts, epoch);
    let op = ExecOp {
        args,
        env,
        arguments: Arc::clone(&state.argument_names),
        proxy_env: globals.proxies_for(&state.env),
        cwd: state.directory().to_owned(),
        user: state.image.config.user.clone(),
        mounts,
        pipes,
        network: network(context, run, options)?,
        security: security(context, run, options)?,
        hostname: hostname(options, globals),
        extra_hosts: options.extra_hosts.clone(),
        shm_size_bytes: options.shm_size_bytes,
        ulimits: options.ulimits.clone(),
        platform: state.platform.clone(),
    };
    Ok(Effect::Step(Box::new(Op::Exec { parent: state.tip, op: Box::new(op) }), created_by))
}

struct CommandLine {
    args: Vec<String>,
    pipes: Vec<(String, String)>,
}

fn command_line(state: &State, run: &Run) -> CommandLine {
    let mut pipes = Vec::new();
    let args = match &run.command {
        Command::Exec(args, _) => args.clone(),
        Command::Shell(line) => {
            let text = shell_text(&state.image, line, &run.heredocs, &mut pipes);
            config::with_shell(state, &text)
        }
    };
    CommandLine { args, pipes }
}

/// What the shell is given. A here-document that is the whole command is the script itself: run as a
/// file when it begins with `#!`, else as the shell's text, so that shells without here-documents can
/// have it, too. Any other is put back where it was, for the shell to read; it is never expanded here.
fn shell_text(
    image: &ImageConfig,
    line: &Word,
    heredocs: &[Heredoc],
    pipes: &mut Vec<(String, String)>,
) -> String {
    match heredocs {
        [only] if is_whole_command(line, only) => {
            if only.content.starts_with("#!") && image.os != "windows" {
                pipes.push((only.name.clone(), only.content.clone()));
                return format!("{PIPES}/{}", only.name);
            }
            only.content.clone()
        }
        several => several.iter().fold(line.text.clone(), |mut text, heredoc| {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
            text
        }),
    }
}

fn is_whole_command(line: &Word, heredoc: &Heredoc) -> bool {
    let marker = line.text.trim_start_matches(|c: char| c.is_ascii_digit());
    marker.starts_with("<<") && line.span == heredoc.span
}

/// ENV and ARG; `epoch`, unless one of them says it. With an SSH mount, its socket too, even when no agent is there.
fn environment(state: &State, mounts: &[Mount], epoch: Option<i64>) -> Arc<Vec<(String, String)>> {
    const SOCKET: &str = "SSH_AUTH_SOCK";
    let mut env = Arc::clone(state.env.variables());
    if let Some(epoch) = epoch.filter(|_| state.env.value(super::epoch::NAME).is_none()) {
        Arc::make_mut(&mut env).push((super::epoch::NAME.to_owned(), epoch.to_string()));
    }
    let agent = mounts.iter().find(|mount| matches!(mount.kind, MountKind::Ssh { .. }));
    if let Some(agent) = agent.filter(|_| state.env.value(SOCKET).is_none()) {
        Arc::make_mut(&mut env).push((SOCKET.to_owned(), agent.target.clone()));
    }
    env
}

/// `--network`, else the build's. Only the Dockerfile needs leave to ask for the host's: who gives
/// `--network=host` on the command line has given it.
fn network(context: &Context<'_>, run: &Run, options: &Options) -> Result<Network, Fault> {
    let Some(word) = &run.network else { return Ok(options.network) };
    match word.text.as_str() {
        "default" => Ok(options.network),
        "none" => Ok(Network::None),
        "host" if options.allows(Entitlement::NetworkHost) => Ok(Network::Host),
        "host" => Err(denied(context, word, "network.host")),
        other => Err(context.place.fault(word.span, format!("unsupported network mode `{other}`"))),
    }
}

fn security(context: &Context<'_>, run: &Run, options: &Options) -> Result<Security, Fault> {
    let Some(word) = &run.security else { return Ok(Security::Sandbox) };
    match word.text.as_str() {
        "sandbox" => Ok(Security::Sandbox),
        "insecure" if options.allows(Entitlement::SecurityInsecure) => Ok(Security::Insecure),
        "insecure" => Err(denied(context, word, "security.insecure")),
        other => Err(context.place.fault(word.span, format!("unsupported security mode `{other}`"))),
    }
}

fn denied(context: &Context<'_>, word: &Word, entitlement: &str) -> Fault {
    let mut fault = context.place.fault(word.span, format!("{entitlement} is not allowed"));
    fault.help.push(format!("allow it with `--allow {entitlement}`"));
    fault
}

fn hostname(options: &Options, globals: &Globals) -> String {
    let given = options.hostname.as_ref().or_else(|| globals.arguments.get("BUILDKIT_SANDBOX_HOSTNAME"));
    given.filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| "buildkitsandbox".to_owned())
}
