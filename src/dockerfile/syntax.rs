//! The syntax tree. Every piece of text that may hold variables is a [`Word`], unexpanded.

use std::sync::Arc;

use crate::report::{Source, Span};

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text that all spans point into.
    pub source: Arc<Source>,
    /// What the first comment lines ask for.
    pub directives: Directives,
    /// ARGs before the first FROM, in order.
    pub global_args: Vec<Instruction>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// What the parser itself found odd, such as blank lines inside a continuation or a JSON form
    /// that is none; see [`SyntaxWarning`].
    pub warnings: Vec<SyntaxWarning>,
}

/// Parser directives (Dockerfile reference, "Parser directives").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`, noted and never fetched.
    pub syntax: Option<Word>,
    /// `\` or a backtick.
    pub escape: char,
    /// `# check=`.
    pub check: Option<CheckDirective>,
}

/// `# check=skip=A,B;error=true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckDirective {
    /// Rules to leave out; `all` leaves out every rule.
    pub skip: Vec<String>,
    /// Findings fail the build.
    pub error: bool,
    /// Experimental rules to switch on; `all` for every one.
    pub experimental: Vec<String>,
    /// Where it stands; empty when it came from elsewhere than the file.
    pub span: Span,
}

/// Unexpanded text and where it stands. The text has continuations joined, so it may differ from what
/// the span covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// With quotes, escapes and variables as written.
    pub text: String,
    /// Where it stands in the file, quotes and continuations included.
    pub span: Span,
}

/// FROM and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// FROM itself.
    pub from: From,
    /// The instructions up to the next FROM.
    pub instructions: Vec<Instruction>,
}

/// `FROM [--platform=P] IMAGE [AS NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The whole instruction.
    pub span: Span,
    /// The keyword as written: `FROM`, `from`.
    pub keyword: Word,
    /// `--platform`.
    pub platform: Option<Word>,
    /// An image, a stage, or `scratch`.
    pub image: Word,
    /// The keyword `AS` as written, for the check of its case.
    pub as_keyword: Option<Word>,
    /// The stage's name as written; compare without case.
    pub name: Option<Word>,
    /// The comment lines directly above, joined, for `--call=outline`.
    pub comment: String,
    /// The instruction as written, continuations joined by single blanks.
    pub text: String,
}

/// One instruction inside a stage (or a global ARG).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The whole instruction with its flags and here-documents.
    pub span: Span,
    /// The keyword as written: `RUN`, `run`.
    pub keyword: Word,
    /// The logical line as written, continuations joined, without here-document bodies; for display.
    pub text: String,
    /// The comment lines directly above, joined.
    pub comment: String,
    /// What it is.
    pub kind: InstructionKind,
}

/// The instructions of a stage. The large ones are boxed: a file is a list of these, and lists move what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstructionKind {
    /// ADD
    Add(Box<CopyInstruction>),
    /// ARG, one or several names
    Arg(Vec<ArgDeclaration>),
    /// CMD
    Cmd(Command),
    /// COPY
    Copy(Box<CopyInstruction>),
    /// ENTRYPOINT
    Entrypoint(Command),
    /// ENV
    Env(Vec<Pair>),
    /// EXPOSE
    Expose(Vec<Word>),
    /// HEALTHCHECK
    Healthcheck(Box<Healthcheck>),
    /// LABEL
    Label(Vec<Pair>),
    /// MAINTAINER
    Maintainer(Word),
    /// ONBUILD
    Onbuild(Onbuild),
    /// RUN
    Run(Box<Run>),
    /// SHELL, never empty
    Shell(Vec<String>),
    /// STOPSIGNAL
    Stopsignal(Word),
    /// USER
    User(Word),
    /// VOLUME
    Volume(Vec<Word>),
    /// WORKDIR
    Workdir(Word),
}

/// `KEY=VALUE` of ENV or LABEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Left of `=`.
    pub key: Word,
    /// Right of it.
    pub value: Word,
    /// Whether it was written in the old form `ENV key value`.
    pub legacy: bool,
}

/// `NAME[=DEFAULT]` of ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name.
    pub name: Word,
    /// The default.
    pub default: Option<Word>,
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A line for the shell; empty for `CMD` alone.
    Shell(Word),
    /// A JSON list.
    Exec(Vec<String>, Span),
}

/// A here-document. Its body is kept as written; tabs are stripped for `<<-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word after `<<`, without quotes; also the name of the file that COPY makes of it.
    pub name: String,
    /// Body, each line with its newline (CRLF as written).
    pub content: String,
    /// Whether variables are expanded in it: its word was not quoted.
    pub expand: bool,
    /// The file descriptor before `<<`, 0 if none.
    pub file_descriptor: u32,
    /// Where `<<NAME` stands.
    pub span: Span,
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// `--mount=…`, one word each, still with variables; see [`super::mount`].
    pub mounts: Vec<Word>,
    /// `--network=…`
    pub network: Option<Word>,
    /// `--security=…`
    pub security: Option<Word>,
    /// `--device=…`
    pub devices: Vec<Word>,
    /// What to run. With here-documents: the line as written, markers included.
    pub command: Command,
    /// In order of their markers.
    pub heredocs: Vec<Heredoc>,
}

/// COPY and ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyInstruction {
    /// Flags as written.
    pub flags: CopyFlags,
    /// Everything but the last word, here-documents left out.
    pub sources: Vec<Word>,
    /// Here-documents among the sources: files with a content.
    pub heredocs: Vec<Heredoc>,
    /// The last word.
    pub destination: Word,
}

/// Flags of COPY and ADD; which of them an instruction allows was checked by the parser.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyFlags {
    /// COPY `--from=…`
    pub from: Option<Word>,
    /// `--chown=…`
    pub chown: Option<Word>,
    /// `--chmod=…`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: Option<Flag>,
    /// COPY `--parents`
    pub parents: Option<Flag>,
    /// `--exclude=…`, each
    pub excludes: Vec<Word>,
    /// ADD `--keep-git-dir`
    pub keep_git_dir: Option<Flag>,
    /// ADD `--checksum=…`
    pub checksum: Option<Word>,
    /// ADD `--unpack`
    pub unpack: Option<Flag>,
}

/// One flag as it was given.
pub(super) enum Given<'f> {
    /// With a value.
    Text(&'f Word),
    /// On or off.
    Switch(Flag),
}

impl CopyFlags {
    /// The flags that were given, by name: those with a value first.
    pub(super) fn given(&self) -> impl Iterator<Item = (&'static str, Given<'_>)> {
        // Named one by one, so that the compiler asks for a new one here.
        let Self { from, chown, chmod, link, parents, excludes, keep_git_dir, checksum, unpack } = self;
        let texts = [("from", from), ("chown", chown), ("chmod", chmod), ("checksum", checksum)];
        let texts = texts.into_iter().filter_map(|(name, word)| Some((name, word.as_ref()?)));
        let texts = texts.chain(excludes.iter().map(|word| ("exclude", word)));
        let switches =
            [("link", link), ("parents", parents), ("keep-git-dir", keep_git_dir), ("unpack", unpack)];
        let switches = switches.into_iter().filter_map(|(name, flag)| Some((name, Given::Switch((*flag)?))));
        texts.map(|(name, word)| (name, Given::Text(word))).chain(switches)
    }
}

/// A boolean flag that was given, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// `--x`, `--x=true` or `--x=false`.
    pub value: bool,
    /// The whole flag, with `--` and value.
    pub span: Span,
}

/// HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK [flags] CMD …`; durations in nanoseconds, as given.
    Cmd {
        /// What to run; `Shell` becomes `CMD-SHELL`.
        command: Command,
        /// `--interval`
        interval: Option<i64>,
        /// `--timeout`
        timeout: Option<i64>,
        /// `--start-period`
        start_period: Option<i64>,
        /// `--start-interval`
        start_interval: Option<i64>,
        /// `--retries`
        retries: Option<i64>,
    },
}

/// ONBUILD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The trigger as written, which is what the image records (BuildKit keeps here-documents in it).
    pub expression: String,
    /// The trigger, parsed to refuse a bad one now.
    pub instruction: Box<Instruction>,
}

/// Something legal but odd that only the parser can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxWarning {
    /// What is odd about it; its text is that of the kind.
    pub kind: SyntaxWarningKind,
    /// What to underline.
    pub span: Span,
}

/// The kinds of [`SyntaxWarning`]; each belongs to one of BuildKit's build checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyntaxWarningKind {
    /// NoEmptyContinuation: an empty line inside a continued instruction, which ends at the warning's span. Told once
    /// for each instruction.
    EmptyContinuation {
        /// The first empty line.
        empty: Span,
    },
    /// A text that looks like a JSON list but is none, taken as shell form.
    NotJson,
}
