//! A parsed file as a Dockerfile again.
//!
//! Comments, directives other than `escape`, line breaks and the spelling of flags and lists are not kept;
//! what every instruction means is.

use std::fmt::{self, Display, Write};

use super::syntax::{
    ArgDeclaration, Command, CopyInstruction, Dockerfile, From, Given, Healthcheck, Heredoc, Instruction,
    InstructionKind, Pair, Run, Word,
};

/// Writes a file that reads as the same instructions.
impl Display for Dockerfile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = self.directives.escape;
        if escape != '\\' {
            writeln!(out, "# escape={escape}")?;
        }
        let printer = Printer { escape };
        for argument in &self.global_args {
            printer.instruction(out, argument)?;
        }
        for stage in &self.stages {
            printer.from(out, &stage.from)?;
            for instruction in &stage.instructions {
                printer.instruction(out, instruction)?;
            }
        }
        Ok(())
    }
}

struct Printer {
    escape: char,
}

impl Printer {
    fn from(&self, out: &mut impl Write, from: &From) -> fmt::Result {
        let platform: String = from.platform.iter().map(|word| self.flag("platform", word)).collect();
        let name: String = from.name.iter().map(|name| format!(" AS {}", name.text)).collect();
        self.line(out, &from.keyword.text, &platform, &format!("{}{name}", from.image.text))
    }

    fn instruction(&self, out: &mut impl Write, instruction: &Instruction) -> fmt::Result {
        let keyword = &instruction.keyword.text;
        match &instruction.kind {
            InstructionKind::Add(transfer) | InstructionKind::Copy(transfer) => {
                self.transfer(out, keyword, transfer)
            }
            InstructionKind::Run(run) => self.run(out, keyword, run),
            InstructionKind::Onbuild(onbuild) => writeln!(out, "{keyword} {}", onbuild.expression),
            InstructionKind::Healthcheck(check) => match &**check {
                Healthcheck::None => writeln!(out, "{keyword} NONE"),
                Healthcheck::Cmd { command, .. } => {
                    let command = format!("CMD {}", self::command(command));
                    self.line(out, keyword, &healthcheck_flags(check), &command)
                }
            },
            InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => {
                self.line(out, keyword, "", &self::command(command))
            }
            InstructionKind::Arg(arguments) => self.line(out, keyword, "", &joined(arguments, argument)),
            InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
                self.line(out, keyword, "", &joined(pairs, pair))
            }
            InstructionKind::Expose(words) => {
                self.line(out, keyword, "", &joined(words, |word| word.text.clone()))
            }
            InstructionKind::Volume(words) => {
                self.line(out, keyword, "", &json(words.iter().map(|word| word.text.as_str())))
            }
            InstructionKind::Shell(words) => {
                self.line(out, keyword, "", &json(words.iter().map(String::as_str)))
            }
            InstructionKind::Maintainer(word)
            | InstructionKind::Stopsignal(word)
            | InstructionKind::User(word)
            | InstructionKind::Workdir(word) => self.line(out, keyword, "", &word.text),
        }
    }

    fn line(&self, out: &mut impl Write, keyword: &str, flags: &str, arguments: &str) -> fmt::Result {
        // What looks like a flag and is none.
        let end = if arguments.starts_with("--") { " --" } else { "" };
        // An escape that ends the line would continue it, unless another blank than these follows.
        let continues = arguments.trim_end_matches([' ', '\t']).ends_with(self.escape);
        let guard = if continues { "\u{c}" } else { "" };
        writeln!(out, "{keyword}{flags}{end} {arguments}{guard}")
    }

    fn flag(&self, name: &str, value: &Word) -> String {
        self.quoted_flag(name, value, '\'')
    }

    fn quoted_flag(&self, name: &str, value: &Word, quote: char) -> String {
        format!(" --{name}={}", self.flag_value(&value.text, quote))
    }

    /// A flag's value, in these quotes if it must be quoted. Escapes count inside all quotes here.
    fn flag_value(&self, value: &str, quote: char) -> String {
        let plain = |c: char| c.is_alphanumeric() || "/:=,._-@+%".contains(c);
        if value.chars().all(plain) {
            return value.to_owned();
        }
        let other = if quote == '"' { '\'' } else { '"' };
        let mut quoted = String::from(quote);
        let mut rest = value.chars();
        while let Some(c) = rest.next() {
            match c {
                // Side by side they would be a variable, and what follows them none.
                '$' if quote == '"' && rest.as_str().starts_with('$') => quoted.extend([c, quote, quote]),
                c if c == quote => quoted.extend([quote, other, c, other, quote]),
                c if c == self.escape => quoted.extend([c, c]),
                c => quoted.push(c),
            }
        }
        quoted.push(quote);
        quoted
    }

    fn run(&self, out: &mut impl Write, keyword: &str, run: &Run) -> fmt::Result {
        let singles = [("network", &run.network), ("security", &run.security)];
        let singles = singles.into_iter().filter_map(|(name, word)| Some((name, word.as_ref()?)));
        let mounts = run.mounts.iter().map(|word| ("mount", word));
        let devices = run.devices.iter().map(|word| ("device", word));
        // A line with a substitution that cannot be read has no markers, even where it has something like them.
        // Single quotes would make it readable.
        let quote = if run.heredocs.is_empty() { '"' } else { '\'' };
        let flags = mounts.chain(devices).chain(singles);
        let flags: String = flags.map(|(name, word)| self.quoted_flag(name, word, quote)).collect();
        let mut command = command(&run.command);
        // A name may end in a blank that is escaped in the line, whose own end was trimmed.
        let name_end = run.heredocs.last().and_then(|heredoc| heredoc.name.chars().last());
        command.extend(name_end.filter(|c| c.is_whitespace()));
        self.line(out, keyword, &flags, &command)?;
        bodies(out, &run.heredocs)
    }

    fn transfer(&self, out: &mut impl Write, keyword: &str, transfer: &CopyInstruction) -> fmt::Result {
        let flags = transfer.flags.given().map(|(name, given)| match given {
            Given::Text(word) => self.flag(name, word),
            Given::Switch(flag) => format!(" --{name}={}", flag.value),
        });
        let flags: String = flags.collect();
        let markers: Vec<String> = transfer.heredocs.iter().map(marker).collect();
        let words = transfer.sources.iter().chain([&transfer.destination]).map(|word| word.text.as_str());
        let words: Vec<&str> = markers.iter().map(String::as_str).chain(words).collect();
        // In a list, markers have no bodies, and words may hold blanks.
        if transfer.heredocs.iter().all(|heredoc| heredoc.content.is_empty()) {
            return self.line(out, keyword, &flags, &json(words.into_iter()));
        }
        self.line(out, keyword, &flags, &words.join(" "))?;
        bodies(out, &transfer.heredocs)
    }
}

fn bodies(out: &mut impl Write, heredocs: &[Heredoc]) -> fmt::Result {
    heredocs.iter().try_for_each(|heredoc| writeln!(out, "{}{}", heredoc.content, heredoc.name))
}

fn marker(heredoc: &Heredoc) -> String {
    let special = |c: char| c.is_whitespace() || "'\"\\$".contains(c);
    let name: String =
        heredoc.name.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect();
    // A dash right behind `<<` would be its own.
    let dash = if name.starts_with('-') { "\\" } else { "" };
    // Empty quotes suffice to keep the body as it is.
    let quotes = if heredoc.expand { "" } else { "''" };
    format!("{}<<{dash}{name}{quotes}", heredoc.file_descriptor)
}

fn joined<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(" ")
}

fn argument(argument: &ArgDeclaration) -> String {
    let default = argument.default.iter().map(|default| format!("={}", default.text)).collect::<String>();
    format!("{}{default}", argument.name.text)
}

fn pair(pair: &Pair) -> String {
    format!("{}{}{}", pair.key.text, if pair.legacy { " " } else { "=" }, pair.value.text)
}

fn command(command: &Command) -> String {
    match command {
        Command::Shell(word) => word.text.clone(),
        Command::Exec(words, _) => json(words.iter().map(String::as_str)),
    }
}

fn json<'a>(words: impl Iterator<Item = &'a str>) -> String {
    serde_json::json!(words.collect::<Vec<_>>()).to_string()
}

fn healthcheck_flags(check: &Healthcheck) -> String {
    let Healthcheck::Cmd { command: _, interval, timeout, start_period, start_interval, retries } = check
    else {
        return String::new();
    };
    let times = [
        ("interval", interval),
        ("timeout", timeout),
        ("start-period", start_period),
        ("start-interval", start_interval),
    ];
    let times = times.into_iter().filter_map(|(name, time)| Some(format!(" --{name}={}ns", (*time)?)));
    times.chain(retries.map(|retries| format!(" --retries={retries}"))).collect()
}
