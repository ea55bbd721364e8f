//! The instructions that make files without a command: COPY, ADD and WORKDIR.

use crate::dockerfile::checks::{self, message};
use crate::dockerfile::syntax::{CopyInstruction, Heredoc, Word};
use crate::text::url::without_password;

use super::chmod;
use super::config::Context;
use super::graph::{Chmod, CopyKind, CopyOp, CopySource, Op, StepId, WorkdirOp};
use super::paths;
use super::place::Fault;
use super::remote::{self, Kind};
use super::state::{Effect, State};

/// WORKDIR. The root directory exists always, so `WORKDIR /` makes no step.
pub(super) fn workdir(state: &mut State, context: &mut Context<'_>, word: &Word) -> Result<Effect, Fault> {
    let path = context.word(state, word)?;
    if !state.workdir_set && !path.starts_with('/') && context.is_left_to_plan(word) {
        let message = message::workdir_relative_path(&path);
        context.warnings.push(context.place.warning(&checks::WORKDIR_RELATIVE_PATH, word.span, message));
    }
    state.workdir_set = true;
    let path = paths::join(&state.image.config.working_dir, &path);
    state.image.config.working_dir.clone_from(&path);
    let created_by = format!("WORKDIR {path}");
    if path == "/" {
        return Ok(Effect::Entry(created_by));
    }
    let user = state.image.config.user.clone();
    let op = WorkdirOp { path, user, epoch: context.epoch };
    Ok(Effect::Step(Box::new(Op::Workdir { parent: state.tip, op }), created_by))
}

/// COPY and ADD: the op, and its text in the history. `from` gives the step whose files plain paths
/// name; it is asked only when there is such a path.
pub(super) fn transfer(
    state: &State,
    context: &mut Context<'_>,
    kind: CopyKind,
    transfer: &CopyInstruction,
    from: &mut dyn FnMut() -> Result<StepId, Fault>,
) -> Result<Effect, Fault> {
    let flags = expand_flags(state, context, transfer)?;
    let mut sources = Vec::new();
    for word in &transfer.sources {
        sources.push(source(state, context, kind, word, from)?);
    }
    check_checksum(context, transfer, &flags, &sources)?;
    for heredoc in &transfer.heredocs {
        sources.push(inline(state, context, heredoc)?);
    }
    let destination = context.word(state, &transfer.destination)?;
    let created_by = created_by(kind, transfer, &flags, &sources, &destination);
    let is_set = |flag: Option<crate::dockerfile::syntax::Flag>| flag.is_some_and(|flag| flag.value);
    let op = CopyOp {
        kind,
        sources,
        destination: paths::destination(state.directory(), &destination),
        chown: flags.chown,
        link: is_set(transfer.flags.link) && flags.chmod.is_none(),
        chmod: flags.chmod.map(|(_, chmod)| chmod),
        parents: is_set(transfer.flags.parents),
        excludes: transfer.flags.excludes.iter().map(|pattern| pattern.text.clone()).collect(),
        unpack: transfer.flags.unpack.map(|flag| flag.value),
        checksum: flags.checksum,
        keep_git_dir: is_set(transfer.flags.keep_git_dir),
        epoch: context.epoch,
    };
    Ok(Effect::Step(Box::new(Op::Copy { parent: state.tip, op }), created_by))
}

/// Flags whose values may hold variables; empty ones count as absent.
struct Flags {
    chown: Option<String>,
    chmod: Option<(String, Chmod)>,
    checksum: Option<String>,
}

fn expand_flags(
    state: &State,
    context: &mut Context<'_>,
    transfer: &CopyInstruction,
) -> Result<Flags, Fault> {
    let flags = &transfer.flags;
    let place = context.place;
    let mut expander = state.expander(place, context.warnings);
    let chown = expander.optional(flags.chown.as_ref())?;
    let checksum = expander.optional(flags.checksum.as_ref())?;
    let chmod = match (&flags.chmod, expander.optional(flags.chmod.as_ref())?) {
        (Some(word), Some(text)) => {
            let mode = chmod::parse(&text).map_err(|why| place.fault(word.span, why))?;
            Some((text, mode))
        }
        (None | Some(_), _) => None,
    };
    Ok(Flags { chown, chmod, checksum })
}

fn source(
    state: &State,
    context: &mut Context<'_>,
    kind: CopyKind,
    word: &Word,
    from: &mut dyn FnMut() -> Result<StepId, Fault>,
) -> Result<CopySource, Fault> {
    let text = context.word(state, word)?;
    let span = Some(context.place.step_span(word.span));
    let what = remote::kind(&text);
    if kind == CopyKind::Copy && what != Kind::Path {
        let what = if what == Kind::Git { "git ref" } else { "URL" };
        let mut fault = context.place.fault(word.span, format!("source can't be a {what} for COPY"));
        fault.help.push("ADD takes it".to_owned());
        return Err(fault);
    }
    Ok(match what {
        Kind::Path => CopySource::Path { from: from()?, pattern: text, span },
        Kind::Url => CopySource::Url { url: text, span },
        Kind::Git => CopySource::Git { url: text, span },
    })
}

/// A checksum needs one source, and one that is fetched.
fn check_checksum(
    context: &Context<'_>,
    transfer: &CopyInstruction,
    flags: &Flags,
    sources: &[CopySource],
) -> Result<(), Fault> {
    let (Some(word), Some(checksum)) = (&transfer.flags.checksum, &flags.checksum) else { return Ok(()) };
    let fail = |message: String| Err(context.place.fault(word.span, message));
    match sources {
        [CopySource::Git { .. }] if remote::is_commit_start(checksum) => Ok(()),
        [CopySource::Git { .. }] => {
            fail(format!("invalid checksum `{checksum}`: it must be a commit in hex digits"))
        }
        [CopySource::Url { .. }] if remote::is_digest(checksum) => Ok(()),
        [CopySource::Url { .. }] => {
            fail(format!("invalid checksum `{checksum}`: it must be a digest such as sha256:<64 hex digits>"))
        }
        [CopySource::Path { .. } | CopySource::Inline { .. }] => {
            fail("checksum requires HTTP(S) or Git sources".to_owned())
        }
        [] | [_, _, ..] => fail("checksum can't be specified for multiple sources".to_owned()),
    }
}

fn inline(state: &State, context: &mut Context<'_>, heredoc: &Heredoc) -> Result<CopySource, Fault> {
    let content = if heredoc.expand {
        state.expander(context.place, context.warnings).heredoc(&heredoc.content, heredoc.span)?
    } else {
        heredoc.content.clone()
    };
    Ok(CopySource::Inline { name: heredoc.name.clone(), content })
}

/// `COPY --parents --chown=… --chmod=… a b <<NAME /dest # buildkit`; other flags are absent, and so
/// are passwords of URLs.
fn created_by(
    kind: CopyKind,
    transfer: &CopyInstruction,
    flags: &Flags,
    sources: &[CopySource],
    destination: &str,
) -> String {
    let mut text = match kind {
        CopyKind::Copy => "COPY",
        CopyKind::Add => "ADD",
    }
    .to_owned();
    if transfer.flags.parents.is_some_and(|flag| flag.value) {
        text.push_str(" --parents");
    }
    if let Some(chown) = &flags.chown {
        text.push_str(&format!(" --chown={chown}"));
    }
    if let Some((chmod, _)) = &flags.chmod {
        text.push_str(&format!(" --chmod={chmod}"));
    }
    for source in sources {
        text.push(' ');
        match source {
            CopySource::Path { pattern, .. } => text.push_str(pattern),
            CopySource::Inline { name, .. } => text.push_str(&format!("<<{name}")),
            CopySource::Url { url, .. } | CopySource::Git { url, .. } => {
                text.push_str(&without_password(url));
            }
        }
    }
    text.push(' ');
    text.push_str(destination);
    text.push_str(" # buildkit");
    text
}
