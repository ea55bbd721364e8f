//! Typed instructions from logical lines.

mod command;
mod copy;
mod healthcheck;
mod metadata;
mod onbuild;
mod stage;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::flags::{Flags, Kind};
use super::heredoc::Marker;
use super::lines::{Line, Part};
use super::split::{self, Header, RawWord};
use super::syntax::{
    Command, From, Heredoc, Instruction, InstructionKind, SyntaxWarning, SyntaxWarningKind, Word,
};
use super::{excerpt, json};
use crate::report::{Diagnostic, Source, Span};
use crate::text::closest;

/// The keywords that begin an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
}

impl Keyword {
    const ALL: [(&'static str, Keyword); 18] = [
        ("ADD", Keyword::Add),
        ("ARG", Keyword::Arg),
        ("CMD", Keyword::Cmd),
        ("COPY", Keyword::Copy),
        ("ENTRYPOINT", Keyword::Entrypoint),
        ("ENV", Keyword::Env),
        ("EXPOSE", Keyword::Expose),
        ("FROM", Keyword::From),
        ("HEALTHCHECK", Keyword::Healthcheck),
        ("LABEL", Keyword::Label),
        ("MAINTAINER", Keyword::Maintainer),
        ("ONBUILD", Keyword::Onbuild),
        ("RUN", Keyword::Run),
        ("SHELL", Keyword::Shell),
        ("STOPSIGNAL", Keyword::Stopsignal),
        ("USER", Keyword::User),
        ("VOLUME", Keyword::Volume),
        ("WORKDIR", Keyword::Workdir),
    ];

    pub(super) fn parse(text: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, keyword)| *keyword)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, keyword)| *keyword == self).map_or("", |(name, _)| name)
    }

    /// The keyword that a misspelt one may stand for.
    pub(super) fn nearest(text: &str) -> Option<(&'static str, Self)> {
        let name = closest(text, Self::ALL.iter().map(|(name, _)| *name))?;
        Some((name, Self::parse(name)?))
    }

    /// Whether here-documents may follow (JSON form aside).
    pub(super) fn takes_heredocs(self) -> bool {
        matches!(self, Keyword::Add | Keyword::Copy | Keyword::Run)
    }
}

/// An error about one instruction; boxed, because it is large and rare.
#[derive(Debug)]
pub(super) struct Fault(Box<Diagnostic>);

impl Fault {
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.push(help.into());
        self
    }

    pub(super) fn into_diagnostic(self) -> Diagnostic {
        *self.0
    }
}

pub(super) type Fallible<T> = Result<T, Fault>;

/// A here-document that was read: its marker, where that stands, and the body as written.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub(super) marker: Marker,
    pub(super) range: Range<usize>,
    pub(super) text: &'a str,
}

impl Body<'_> {
    fn heredoc(&self, cx: &Context<'_>) -> Heredoc {
        heredoc(&self.marker, self.text, cx.line.span_of(self.range.clone()))
    }
}

fn heredoc(marker: &Marker, body: &str, span: Span) -> Heredoc {
    Heredoc {
        name: marker.name.clone(),
        content: if marker.chomp { super::heredoc::without_tabs(body) } else { body.to_owned() },
        expand: marker.expand,
        file_descriptor: marker.file_descriptor,
        span,
    }
}

/// What every parser of an instruction needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) source: &'a Arc<Source>,
    pub(super) line: &'a Line<'a>,
    pub(super) escape: char,
    pub(super) bodies: &'a [Body<'a>],
    /// The whole instruction with its here-documents.
    pub(super) span: Span,
}

impl<'a> Context<'a> {
    /// An error about a range of the line.
    pub(super) fn error(&self, range: Range<usize>, message: impl Into<String>, label: &str) -> Fault {
        self.error_at(self.line.span_of(range), message, label)
    }

    /// An error about a word that is no longer a range.
    fn error_at(&self, span: Span, message: impl Into<String>, label: &str) -> Fault {
        Fault(Box::new(Diagnostic::error(message).at(self.source, span, label)))
    }

    fn word(&self, raw: RawWord<'_>) -> Word {
        self.line.word(raw.text, raw.range)
    }

    fn part(&self, part: Part<'_>) -> Word {
        self.line.word(part.text, part.range())
    }

    /// The strings of the JSON form; `None` when it is the shell form.
    fn json(&self, arguments: Part<'_>) -> Fallible<Option<Vec<RawWord<'static>>>> {
        match json::strings(arguments.text) {
            Ok(strings) => {
                let raw = |(text, range): (String, Range<usize>)| RawWord {
                    text: Cow::Owned(text),
                    range: arguments.at + range.start..arguments.at + range.end,
                };
                Ok(Some(strings.into_iter().map(raw).collect()))
            }
            Err(json::NoList::NotJson) => Ok(None),
            Err(json::NoList::NotStrings) => {
                let message = "when using JSON array syntax, arrays must be comprised of strings only";
                Err(self.error(arguments.range(), message, "something else than strings"))
            }
        }
    }

    /// The words of COPY, ADD and VOLUME: the JSON form, else parted by blanks.
    fn list<'l>(&self, arguments: Part<'l>) -> Fallible<Vec<RawWord<'l>>> {
        Ok(self.json(arguments)?.unwrap_or_else(|| split::blank_words(arguments)))
    }

    fn at_least_one(&self, header: &Header<'_>, name: &str) -> Fault {
        let message = format!("{name} requires at least one argument");
        let fault = self.error(header.keyword.range(), message, "nothing follows");
        match name {
            "ARG" => fault.help("write `ARG NAME` or `ARG NAME=DEFAULT`"),
            "EXPOSE" => fault.help("write `EXPOSE PORT`, such as `EXPOSE 80`"),
            "VOLUME" => fault.help("write `VOLUME /PATH`"),
            _ => fault,
        }
    }
}

/// FROM, or anything else.
#[derive(Debug)]
pub(super) enum Parsed {
    From(From),
    Instruction(Instruction),
}

impl Parsed {
    /// Whether it is a command in the JSON form.
    fn is_list(&self) -> bool {
        let Parsed::Instruction(instruction) = self else { return false };
        match &instruction.kind {
            InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => {
                matches!(command, Command::Exec(..))
            }
            InstructionKind::Run(run) => matches!(run.command, Command::Exec(..)),
            _ => false,
        }
    }
}

/// Whether here-documents belong to this line, and to which part of it: for ONBUILD, the trigger.
pub(super) fn may_hold_heredocs(header: &Header<'_>, keyword: Option<Keyword>, escape: char) -> bool {
    // The search for one byte is much cheaper, and settles nearly every line.
    if !header.arguments.text.contains('<') || !header.arguments.text.contains("<<") {
        return false;
    }
    match keyword.or_else(|| Keyword::nearest(header.keyword.text).map(|(_, keyword)| keyword)) {
        Some(Keyword::Onbuild) => {
            let trigger = split::header(header.arguments, escape);
            Keyword::parse(trigger.keyword.text).is_some_and(Keyword::takes_heredocs)
                && json::strings(trigger.arguments.text).is_err()
        }
        Some(keyword) => keyword.takes_heredocs() && json::strings(header.arguments.text).is_err(),
        None => false,
    }
}

/// Makes an instruction of a line's header.
pub(super) fn parse(cx: &Context<'_>, header: &Header<'_>, keyword: Option<Keyword>) -> Fallible<Parsed> {
    match keyword {
        None => Err(unknown(cx, header)),
        Some(Keyword::From) => stage::from(cx, header).map(Parsed::From),
        Some(keyword) => {
            let kind = kind(cx, header, keyword)?;
            Ok(Parsed::Instruction(Instruction {
                span: cx.span,
                keyword: cx.part(header.keyword),
                text: cx.line.text.trim().to_owned(),
                comment: cx.line.comment.clone(),
                kind,
            }))
        }
    }
}

fn unknown(cx: &Context<'_>, header: &Header<'_>) -> Fault {
    let keyword = header.keyword;
    let fault = cx.error(
        keyword.range(),
        format!("unknown instruction: {}", excerpt(keyword.text)),
        "unknown instruction",
    );
    match Keyword::nearest(keyword.text) {
        Some((near, _)) => fault.help(format!("did you mean `{near}`?")),
        None => fault,
    }
}

fn kind(cx: &Context<'_>, header: &Header<'_>, keyword: Keyword) -> Fallible<InstructionKind> {
    let no_flags = || Flags::parse(cx, &header.flags, &[] as &[(&'static str, Kind)]);
    match keyword {
        Keyword::Add => copy::add(cx, header).map(Box::new).map(InstructionKind::Add),
        // ARG and STOPSIGNAL ignore flags, as BuildKit does.
        Keyword::Arg => metadata::arg(cx, header).map(InstructionKind::Arg),
        Keyword::Stopsignal => metadata::one(cx, header, keyword).map(InstructionKind::Stopsignal),
        Keyword::Cmd => no_flags().and_then(|_| command::command(cx, header)).map(InstructionKind::Cmd),
        Keyword::Copy => copy::copy(cx, header).map(Box::new).map(InstructionKind::Copy),
        Keyword::Entrypoint => {
            no_flags().and_then(|_| command::command(cx, header)).map(InstructionKind::Entrypoint)
        }
        Keyword::Env => {
            no_flags().and_then(|_| metadata::pairs(cx, header, keyword)).map(InstructionKind::Env)
        }
        Keyword::Expose => no_flags().and_then(|_| metadata::expose(cx, header)).map(InstructionKind::Expose),
        Keyword::From => misplaced_from(cx, header),
        Keyword::Healthcheck => {
            healthcheck::healthcheck(cx, header).map(Box::new).map(InstructionKind::Healthcheck)
        }
        Keyword::Label => {
            no_flags().and_then(|_| metadata::pairs(cx, header, keyword)).map(InstructionKind::Label)
        }
        Keyword::Maintainer => {
            no_flags().and_then(|_| metadata::one(cx, header, keyword)).map(InstructionKind::Maintainer)
        }
        Keyword::Onbuild => {
            no_flags().and_then(|_| onbuild::onbuild(cx, header)).map(InstructionKind::Onbuild)
        }
        Keyword::Run => command::run(cx, header).map(Box::new).map(InstructionKind::Run),
        Keyword::Shell => no_flags().and_then(|_| command::shell(cx, header)).map(InstructionKind::Shell),
        Keyword::User => {
            no_flags().and_then(|_| metadata::one(cx, header, keyword)).map(InstructionKind::User)
        }
        Keyword::Volume => no_flags().and_then(|_| metadata::volume(cx, header)).map(InstructionKind::Volume),
        Keyword::Workdir => {
            no_flags().and_then(|_| metadata::one(cx, header, keyword)).map(InstructionKind::Workdir)
        }
    }
}

/// FROM begins a stage; inside of one, as a trigger, it cannot stand.
fn misplaced_from(cx: &Context<'_>, header: &Header<'_>) -> Fallible<InstructionKind> {
    Err(cx.error(header.keyword.range(), "FROM isn't allowed as an ONBUILD trigger", "not allowed here"))
}

/// A warning for text that looks like the JSON form and is none.
pub(super) fn json_warning(
    line: &Line<'_>,
    header: &Header<'_>,
    keyword: Option<Keyword>,
    parsed: &Parsed,
) -> Option<SyntaxWarning> {
    let keyword = keyword?;
    if parsed.is_list() {
        return None;
    }
    let takes_json = keyword.takes_heredocs()
        || matches!(keyword, Keyword::Cmd | Keyword::Entrypoint | Keyword::Volume | Keyword::Shell);
    let text = header.arguments.text;
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    // `RUN [ "$x" = y ]` is the shell's own bracket, which needs the blank.
    let quoted = inside.trim_start().starts_with(['"', '\'']);
    let shell_test = keyword == Keyword::Run && inside.starts_with(' ');
    let looks_like_json = takes_json && quoted && !shell_test && json::strings(text).is_err();
    let span = line.span_of(header.arguments.range());
    looks_like_json.then_some(SyntaxWarning { kind: SyntaxWarningKind::NotJson, span })
}
