//! `RUN --mount`: from options to [`Mount`]s.

use crate::dockerfile::mount::{self, MountType};
use crate::dockerfile::syntax::Word;

use crate::report::Span;

use super::config::Context;
use super::graph::{CacheOwner, Mount, MountKind, Sharing, StepId};
use super::paths;
use super::place::{Fault, Place};
use super::state::State;

/// The directory of a stage's secrets.
const SECRETS: &str = "/run/secrets";

/// What `from=` of a mount names; the parser has made sure that it holds no variable.
pub(super) fn from(word: &Word, place: &Place) -> Result<Option<String>, Fault> {
    let fields = mount::fields(&word.text).map_err(|error| fault(place, word, &error))?;
    let last = fields.iter().rev().find_map(|field| {
        field.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case("from")).map(|(_, value)| value)
    });
    Ok(last.filter(|name| !name.is_empty()).map(str::to_owned))
}

/// Expands and reads the options of one mount. Each value is expanded on its own.
pub(super) fn parse(state: &State, context: &mut Context<'_>, word: &Word) -> Result<mount::Mount, Fault> {
    let place = context.place;
    let mut fields = mount::fields(&word.text).map_err(|error| fault(place, word, &error))?;
    for field in &mut fields {
        if let Some((key, value)) = field.split_once('=') {
            let value = Word { text: value.to_owned(), span: word.span };
            *field = format!("{key}={}", context.word(state, &value)?);
        }
    }
    mount::Mount::parse(&fields).map_err(|error| fault(place, word, &error))
}

fn fault(place: &Place, word: &Word, error: &mount::Error) -> Fault {
    let mut fault = place.fault(word.span, error.to_string());
    fault.help.extend(error.help());
    fault
}

/// What a mount's meaning depends on beside its options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    /// Where the instruction stands.
    pub(super) place: &'a Place,
    /// Where `--mount` stands.
    pub(super) span: Span,
    /// WORKDIR.
    pub(super) directory: &'a str,
    /// How many SSH mounts of the same RUN come before it.
    pub(super) agents: usize,
    /// BUILDKIT_CACHE_MOUNT_NS: keeps the caches of different users apart; may be empty.
    pub(super) namespace: &'a str,
}

/// The mount with everything defaulted. `from` gives the step whose files it shows; it is asked only
/// for mounts that show any.
pub(super) fn lower(
    options: &mount::Mount,
    site: Site<'_>,
    from: &mut dyn FnMut() -> Result<StepId, Fault>,
) -> Result<Mount, Fault> {
    let Site { place, span, .. } = site;
    let kind = match options.kind {
        MountType::Bind => {
            MountKind::Bind { from: from()?, source: source(options), writable: !options.read_only }
        }
        MountType::Cache => cache(options, site.namespace, from)?,
        MountType::Tmpfs => {
            MountKind::Tmpfs { size_bytes: u64::try_from(options.size_bytes).unwrap_or_default() }
        }
        MountType::Secret => secret(options),
        MountType::Ssh if options.source.is_some() => {
            return Err(place.fault(span, "ssh does not support source"));
        }
        MountType::Ssh => ssh(options),
    };
    let target = target(options, &kind, site);
    if target == "/" {
        let mut fault = place.fault(span, "invalid mount target \"/\"");
        fault.help.push("say where to mount it: `target=/PATH`".to_owned());
        return Err(fault);
    }
    Ok(Mount { target, kind, span: Some(place.step_span(span)) })
}

fn source(options: &mount::Mount) -> String {
    paths::clean(options.source.as_deref().unwrap_or_default())
}

/// The id of a cache is its target as written, before WORKDIR counts.
fn cache(
    options: &mount::Mount,
    namespace: &str,
    from: &mut dyn FnMut() -> Result<StepId, Fault>,
) -> Result<MountKind, Fault> {
    let content = match options.from {
        Some(_) => Some((from()?, source(options))),
        None => None,
    };
    let (content, owner) = start(content, owner(options));
    let target = options.target.as_deref().unwrap_or_default();
    let id = options.id.clone().unwrap_or_else(|| clean_as_written(target));
    Ok(MountKind::Cache {
        id: if namespace.is_empty() { id } else { format!("{namespace}/{id}") },
        sharing: match options.sharing {
            None | Some(mount::Sharing::Shared) => Sharing::Shared,
            Some(mount::Sharing::Private) => Sharing::Private,
            Some(mount::Sharing::Locked) => Sharing::Locked,
        },
        from: content,
        readonly: options.read_only,
        owner,
    })
}

/// The directory that the options ask for, if any of them does.
fn owner(options: &mount::Mount) -> Option<CacheOwner> {
    let mount::Mount { mode, uid, gid, .. } = options;
    let CacheOwner { mode: usual, .. } = CacheOwner::default();
    (mode.is_some() || uid.is_some() || gid.is_some()).then(|| CacheOwner {
        mode: mode.unwrap_or(usual),
        uid: uid.unwrap_or(0),
        gid: gid.unwrap_or(0),
    })
}

/// What a cache starts as. BuildKit makes a directory `/cache` of that owner in what `from` names, and shows that; a
/// `source` is shown as it is there, and the options count for nothing (`dispatchRunMounts`, `setCacheUIDGID`).
fn start(
    from: Option<(StepId, String)>,
    owner: Option<CacheOwner>,
) -> (Option<(StepId, String)>, Option<CacheOwner>) {
    match (from, owner) {
        (Some((step, source)), Some(owner)) if source == "/" => {
            (Some((step, "/cache".to_owned())), Some(owner))
        }
        (Some(from), _) => (Some(from), None),
        (None, owner) => (None, owner),
    }
}

/// Go's `path.Clean`: a relative path stays relative.
fn clean_as_written(path: &str) -> String {
    if path.starts_with('/') {
        return paths::clean(path);
    }
    let rooted = paths::clean(&format!("/{path}"));
    match rooted.trim_start_matches('/') {
        "" => ".".to_owned(),
        relative => relative.to_owned(),
    }
}

/// A secret is a file, unless only a variable is asked for.
fn secret(options: &mount::Mount) -> MountKind {
    let id = secret_id(options);
    let env = options.env.as_ref().map(|name| if name.is_empty() { id.clone() } else { name.clone() });
    MountKind::Secret {
        file: env.is_none() || options.target.is_some(),
        id,
        env,
        required: options.required,
        mode: options.mode.unwrap_or(0o400),
        uid: options.uid.unwrap_or(0),
        gid: options.gid.unwrap_or(0),
    }
}

fn secret_id(options: &mount::Mount) -> String {
    let named = options.source.clone().or_else(|| options.id.clone());
    named.unwrap_or_else(|| paths::base(options.target.as_deref().unwrap_or_default()).to_owned())
}

fn ssh(options: &mount::Mount) -> MountKind {
    MountKind::Ssh {
        id: options.id.clone().unwrap_or_else(|| "default".to_owned()),
        required: options.required,
        mode: options.mode.unwrap_or(0o600),
        uid: options.uid.unwrap_or(0),
        gid: options.gid.unwrap_or(0),
    }
}

fn target(options: &mount::Mount, kind: &MountKind, site: Site<'_>) -> String {
    let target = match (&options.target, kind) {
        (Some(target), _) => target.clone(),
        (None, MountKind::Secret { id, .. }) => format!("{SECRETS}/{}", paths::base(id)),
        (None, MountKind::Ssh { .. }) => format!("/run/buildkit/ssh_agent.{}", site.agents),
        (None, MountKind::Bind { .. } | MountKind::Cache { .. } | MountKind::Tmpfs { .. }) => String::new(),
    };
    paths::clean(&paths::join(site.directory, &target))
}
