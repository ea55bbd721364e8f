//! A parsed file as lines to read, one per instruction, and as a Dockerfile again.

use std::fmt::Write;

use crate::dockerfile::syntax::{
    ArgDeclaration, Command, Dockerfile, Healthcheck, Heredoc, Instruction, InstructionKind, Pair, Transfer,
    Word,
};

/// Everything that the instructions say, spans and spelling left out.
pub(super) fn list(file: &Dockerfile) -> Vec<String> {
    let mut lines: Vec<String> = file.global_args.iter().map(instruction).collect();
    for stage in &file.stages {
        let from = &stage.from;
        let name = from.name.iter().map(|name| format!(" as {:?}", name.text)).collect::<String>();
        lines.push(format!("from {:?}{}{name}", from.image.text, option("platform", from.platform.as_ref())));
        lines.extend(stage.instructions.iter().map(instruction));
    }
    lines
}

pub(super) fn instruction(instruction: &Instruction) -> String {
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
    format!(" {}<<{:?}{quoted} {:?}", heredoc.file_descriptor, heredoc.name, heredoc.content)
}

fn transfer(transfer: &Transfer) -> String {
    let heredocs: String = transfer.heredocs.iter().map(heredoc).collect();
    let (flags, sources) = (flags(transfer, &|word| format!("{word:?}")), texts(&transfer.sources));
    format!("{flags} {sources}{heredocs} -> {:?}", transfer.destination.text)
}

/// The flags of COPY and ADD, their values written by `value`.
fn flags(transfer: &Transfer, value: &dyn Fn(&str) -> String) -> String {
    let flags = &transfer.flags;
    let texts = [
        ("from", &flags.from),
        ("chown", &flags.chown),
        ("chmod", &flags.chmod),
        ("checksum", &flags.checksum),
    ];
    let texts = texts.into_iter().filter_map(|(name, word)| Some((name, word.as_ref()?)));
    let excludes = flags.excludes.iter().map(|word| ("exclude", word));
    let texts = texts.chain(excludes).map(|(name, word)| format!(" --{name}={}", value(&word.text)));
    let booleans = [
        ("link", flags.link),
        ("parents", flags.parents),
        ("keep-git-dir", flags.keep_git_dir),
        ("unpack", flags.unpack),
    ];
    let booleans = booleans.into_iter().filter_map(|(name, flag)| Some(format!(" --{name}={}", flag?.value)));
    texts.chain(booleans).collect()
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

/// Writes a file that means the same, with the default escape.
pub(super) fn print(file: &Dockerfile) -> String {
    let mut text: String = file.global_args.iter().map(print_instruction).collect();
    for stage in &file.stages {
        let from = &stage.from;
        let platform = from.platform.iter().map(|word| format!(" --platform={}", escaped(&word.text)));
        let name = from.name.iter().map(|name| format!(" AS {}", name.text)).collect::<String>();
        writeln!(text, "FROM{} {}{name}", platform.collect::<String>(), from.image.text).unwrap();
        text.extend(stage.instructions.iter().map(print_instruction));
    }
    text
}

fn print_instruction(instruction: &Instruction) -> String {
    let keyword = &instruction.keyword.text;
    let (line, heredocs): (String, &[Heredoc]) = match &instruction.kind {
        InstructionKind::Add(transfer) | InstructionKind::Copy(transfer) => {
            (print_transfer(transfer), &transfer.heredocs)
        }
        InstructionKind::Run(run) => {
            let mut line = String::new();
            let singles = [("network", &run.network), ("security", &run.security)];
            let singles = singles.into_iter().filter_map(|(name, word)| Some((name, word.as_ref()?)));
            let mounts = run.mounts.iter().map(|word| ("mount", word));
            let devices = run.devices.iter().map(|word| ("device", word));
            for (name, word) in mounts.chain(devices).chain(singles) {
                write!(line, " --{name}={}", escaped(&word.text)).unwrap();
            }
            (line + &print_command(&run.command), &run.heredocs)
        }
        InstructionKind::Onbuild(onbuild) => (format!(" {}", onbuild.expression), &[]),
        InstructionKind::Healthcheck(check) => (print_healthcheck(check), &[]),
        InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => (print_command(command), &[]),
        InstructionKind::Arg(arguments) => (arguments.iter().map(print_argument).collect(), &[]),
        InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
            (pairs.iter().map(print_pair).collect(), &[])
        }
        InstructionKind::Expose(words) => (words.iter().map(|word| format!(" {}", word.text)).collect(), &[]),
        InstructionKind::Volume(words) => (json(words.iter().map(|word| word.text.as_str())), &[]),
        InstructionKind::Shell(words) => (json(words.iter().map(String::as_str)), &[]),
        InstructionKind::Maintainer(word)
        | InstructionKind::Stopsignal(word)
        | InstructionKind::User(word)
        | InstructionKind::Workdir(word) => (format!(" {}", word.text), &[]),
    };
    let bodies = heredocs.iter().map(|heredoc| format!("{}{}\n", heredoc.content, heredoc.name));
    format!("{keyword}{line}\n{}", bodies.collect::<String>())
}

fn print_argument(argument: &ArgDeclaration) -> String {
    let default = argument.default.iter().map(|default| format!("={}", default.text)).collect::<String>();
    format!(" {}{default}", argument.name.text)
}

fn print_pair(pair: &Pair) -> String {
    format!(" {}{}{}", pair.key.text, if pair.legacy { " " } else { "=" }, pair.value.text)
}

fn print_command(command: &Command) -> String {
    match command {
        Command::Shell(word) => format!(" {}", word.text),
        Command::Exec(words, _) => json(words.iter().map(String::as_str)),
    }
}

fn json<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!(" {}", serde_json::to_string(&words.collect::<Vec<_>>()).unwrap())
}

/// A flag's value, with an escape before whatever would end it or vanish from it.
fn escaped(value: &str) -> String {
    let escape = |c: char| c.is_whitespace() || "'\"\\".contains(c);
    value.chars().flat_map(|c| escape(c).then_some('\\').into_iter().chain([c])).collect()
}

fn print_transfer(transfer: &Transfer) -> String {
    let mut line = flags(transfer, &escaped);
    let words = transfer.sources.iter().chain([&transfer.destination]).map(|word| word.text.as_str());
    if transfer.heredocs.is_empty() {
        return line + &json(words);
    }
    for heredoc in &transfer.heredocs {
        let quote = if heredoc.expand { "" } else { "'" };
        write!(line, " {}<<{quote}{}{quote}", heredoc.file_descriptor, heredoc.name).unwrap();
    }
    words.for_each(|word| write!(line, " {word}").unwrap());
    line
}

fn print_healthcheck(check: &Healthcheck) -> String {
    let Healthcheck::Cmd { command, interval, timeout, start_period, start_interval, retries } = check else {
        return " NONE".to_owned();
    };
    let times = [
        ("interval", interval),
        ("timeout", timeout),
        ("start-period", start_period),
        ("start-interval", start_interval),
    ];
    let mut line = String::new();
    for (name, time) in times {
        line.extend(time.map(|time| format!(" --{name}={time}ns")));
    }
    line.extend(retries.map(|retries| format!(" --retries={retries}")));
    line + " CMD" + &print_command(command)
}
