//! A parsed file as lines to read: what was understood of it.

use super::syntax::{
    ArgDeclaration, Command, CopyInstruction, Dockerfile, From, Given, Healthcheck, Heredoc, Instruction,
    InstructionKind, Pair, Word,
};

/// Everything that the instructions say, one text each, spans and spelling left out. The bodies of
/// here-documents follow on lines of their own.
pub fn list(file: &Dockerfile) -> Vec<String> {
    let mut lines: Vec<String> = file.global_args.iter().map(instruction).collect();
    for stage in &file.stages {
        lines.push(from(&stage.from));
        lines.extend(stage.instructions.iter().map(instruction));
    }
    lines
}

/// As [`list`], of one FROM.
pub fn from(from: &From) -> String {
    let name = from.name.iter().map(|name| format!(" as {:?}", name.text)).collect::<String>();
    format!("from {:?}{}{name}", from.image.text, option("platform", from.platform.as_ref()))
}

/// As [`list`], of any other instruction.
pub fn instruction(instruction: &Instruction) -> String {
    match &instruction.kind {
        InstructionKind::Add(transfer) => format!("add{}", self::transfer(transfer)),
        InstructionKind::Arg(arguments) => {
            format!("arg{}", arguments.iter().map(argument).collect::<String>())
        }
        InstructionKind::Cmd(command) => format!("cmd {}", self::command(command)),
        InstructionKind::Copy(transfer) => format!("copy{}", self::transfer(transfer)),
        InstructionKind::Entrypoint(command) => format!("entrypoint {}", self::command(command)),
        InstructionKind::Env(pairs) => format!("env{}", pairs.iter().map(pair).collect::<String>()),
        InstructionKind::Expose(words) => format!("expose {}", texts(words)),
        InstructionKind::Healthcheck(check) => format!("healthcheck {}", healthcheck(check)),
        InstructionKind::Label(pairs) => format!("label{}", pairs.iter().map(pair).collect::<String>()),
        InstructionKind::Maintainer(word) => format!("maintainer {:?}", word.text),
        InstructionKind::Onbuild(onbuild) => {
            format!("onbuild {:?} = {}", onbuild.expression, self::instruction(&onbuild.instruction))
        }
        InstructionKind::Run(run) => {
            let flags: String =
                [&run.mounts, &run.devices].into_iter().flatten().map(|f| format!(" {:?}", f.text)).collect();
            let modes = option("network", run.network.as_ref()) + &option("security", run.security.as_ref());
            let heredocs: String = run.heredocs.iter().map(heredoc).collect();
            format!("run{flags}{modes} {}{heredocs}", command(&run.command))
        }
        InstructionKind::Shell(words) => format!("shell {words:?}"),
        InstructionKind::Stopsignal(word) => format!("stopsignal {:?}", word.text),
        InstructionKind::User(word) => format!("user {:?}", word.text),
        InstructionKind::Volume(words) => format!("volume {}", texts(words)),
        InstructionKind::Workdir(word) => format!("workdir {:?}", word.text),
    }
}

fn texts(words: &[Word]) -> String {
    format!("{:?}", words.iter().map(|word| &word.text).collect::<Vec<_>>())
}

fn option(name: &str, word: Option<&Word>) -> String {
    word.map(|word| format!(" {name}={:?}", word.text)).unwrap_or_default()
}

fn argument(argument: &ArgDeclaration) -> String {
    let default = argument.default.iter().map(|default| format!("={:?}", default.text)).collect::<String>();
    format!(" {:?}{default}", argument.name.text)
}

fn pair(pair: &Pair) -> String {
    format!(" {:?}{}{:?}", pair.key.text, if pair.legacy { " " } else { "=" }, pair.value.text)
}

fn command(command: &Command) -> String {
    match command {
        Command::Shell(word) => format!("{:?}", word.text),
        Command::Exec(words, _) => format!("{words:?}"),
    }
}

fn heredoc(heredoc: &Heredoc) -> String {
    let quoted = if heredoc.expand { "" } else { " quoted" };
    let body = heredoc.content.split_terminator('\n').map(|line| format!("\n  | {}", visible(line)));
    format!("\n  {}<<{:?}{quoted}{}", heredoc.file_descriptor, heredoc.name, body.collect::<String>())
}

/// A line with its control characters escaped.
fn visible(line: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    line.chars().map(escaped).collect()
}

fn transfer(transfer: &CopyInstruction) -> String {
    let heredocs: String = transfer.heredocs.iter().map(heredoc).collect();
    let (flags, sources) = (flags(transfer), texts(&transfer.sources));
    format!("{flags} {sources} -> {:?}{heredocs}", transfer.destination.text)
}

fn flags(transfer: &CopyInstruction) -> String {
    let flags = transfer.flags.given().map(|(name, given)| match given {
        Given::Text(word) => format!(" --{name}={:?}", word.text),
        Given::Switch(flag) => format!(" --{name}={}", flag.value),
    });
    flags.collect()
}

fn healthcheck(check: &Healthcheck) -> String {
    match check {
        Healthcheck::None => "none".to_owned(),
        Healthcheck::Cmd { command, interval, timeout, start_period, start_interval, retries } => {
            let times = [*interval, *timeout, *start_period, *start_interval, *retries];
            let times = times.map(|time| time.map_or_else(|| "-".to_owned(), |time| time.to_string()));
            format!("{} {}", self::command(command), times.join(" "))
        }
    }
}
