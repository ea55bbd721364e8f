//! SOURCE_DATE_EPOCH: the time of everything that a build makes, as a number or by the name of what has it.

use crate::dockerfile::syntax::{CopyInstruction, Dockerfile, Instruction, InstructionKind, Stage};
use crate::dockerfile::words;

use super::options::{ContextSource, Options};
use super::origin;
use super::remote::{self, Kind};
use super::scope::Environment;

/// The argument's name.
pub(super) const NAME: &str = "SOURCE_DATE_EPOCH";

/// What the time is taken from when SOURCE_DATE_EPOCH is no number, as in BuildKit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EpochSource {
    /// The main context: the time of its commit, of its file on the server, or of the newest file of the archive.
    Context,
    /// A named context.
    Named(ContextSource),
    /// What a stage adds that holds nothing else.
    Remote {
        /// The one source of its ADD.
        url: String,
        /// `--checksum`, if given.
        checksum: Option<String>,
    },
}

/// What `text`, which is no number, names. The error says what is wrong with it.
pub(super) fn source(
    text: &str,
    file: &Dockerfile,
    options: &Options,
    globals: &Environment,
) -> Result<EpochSource, String> {
    if text == "context" {
        return Ok(EpochSource::Context);
    }
    if let Some((_, source)) = origin::context(text, &options.platform, options) {
        return Ok(EpochSource::Named(source.clone()));
    }
    let is_named =
        |stage: &&Stage| stage.from.name.as_ref().is_some_and(|name| name.text.eq_ignore_ascii_case(text));
    match file.stages.iter().find(is_named) {
        Some(stage) => of_stage(stage, file.directives.escape, options, globals),
        None => Err("it must be seconds since 1970, `context`, or the name of a context or stage".to_owned()),
    }
}

/// A stage that gives the time holds `FROM scratch`, one ADD of one file or repository from elsewhere, and ARGs.
fn of_stage(
    stage: &Stage,
    escape: char,
    options: &Options,
    globals: &Environment,
) -> Result<EpochSource, String> {
    let mut env = globals.clone();
    env.unset(NAME);
    let expand = |text: &str, env: &Environment| {
        words::expand(text, escape, env).map(|expanded| expanded.text).map_err(|error| error.to_string())
    };
    if expand(&stage.from.image.text, &env)? != "scratch" {
        return Err("a stage that gives the time is built FROM scratch".to_owned());
    }
    let arguments = options.arguments();
    let mut found = None;
    for instruction in &stage.instructions {
        match &instruction.kind {
            InstructionKind::Arg(declarations) => {
                for declaration in declarations {
                    let name = &declaration.name.text;
                    let value = match (arguments.get(name), &declaration.default) {
                        (Some(given), _) => given.clone(),
                        (None, Some(default)) => expand(&default.text, &env)?,
                        (None, None) => continue,
                    };
                    env.set(name, &value);
                }
            }
            InstructionKind::Add(add) if found.is_none() => {
                found = Some(of_add(add, |text| expand(text, &env))?);
            }
            InstructionKind::Add(_) => return Err(ONE.to_owned()),
            _ => return Err(foreign(instruction)),
        }
    }
    found.ok_or_else(|| ONE.to_owned())
}

const ONE: &str = "a stage that gives the time has exactly one ADD, of one URL or git repository";

fn foreign(instruction: &Instruction) -> String {
    format!("a stage that gives the time has no {}, only ADD and ARG", instruction.keyword.text)
}

fn of_add(
    add: &CopyInstruction,
    expand: impl Fn(&str) -> Result<String, String>,
) -> Result<EpochSource, String> {
    let [source] = add.sources.as_slice() else { return Err(ONE.to_owned()) };
    let url = expand(&source.text)?;
    if !add.heredocs.is_empty() || remote::kind(&url) == Kind::Path {
        return Err(ONE.to_owned());
    }
    let checksum = add.flags.checksum.as_ref().map(|word| expand(&word.text)).transpose()?;
    Ok(EpochSource::Remote { url, checksum })
}
