//! What a name after FROM, in `--from=` or in `from=` means: a stage, a named context, an image.

use crate::oci::{Platform, Reference};
use crate::report::Span;

use super::graph::{BaseOrigin, BaseRequest, EngineImage, ImageOp};
use super::options::{ContextSource, Options};
use super::place::{Fault, Place};

/// Where files come from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// A stage of this file, by its number.
    Stage(usize),
    /// `FROM scratch`: no files and an empty configuration.
    Scratch,
    /// An image that must be resolved before planning: FROM needs its configuration, and an
    /// [`ImageOp`] cannot name a layout.
    Base(BaseRequest),
    /// An image of which only the files count.
    Image(ImageOp),
    /// A folder given as named context.
    Local(String),
    /// A repository or file given as named context.
    Remote(Remote),
}

/// A named context that has to be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Remote {
    /// The context's name.
    pub(super) name: String,
    /// Where it is.
    pub(super) url: String,
    /// How to get it.
    pub(super) kind: RemoteKind,
}

/// See [`Remote`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RemoteKind {
    /// A git repository.
    Git,
    /// A file.
    Url,
}

/// What the files are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// To build on: the configuration counts.
    Base,
    /// To copy from or to mount: only the files count.
    Files,
}

/// A name with all that decides what it means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    /// The name, expanded.
    pub(super) text: &'a str,
    /// Where it stands.
    pub(super) span: Span,
    /// For which platform an image is wanted.
    pub(super) platform: &'a Platform,
    /// What for.
    pub(super) usage: Usage,
}

/// What `name` means when no stage has it.
pub(super) fn outside(name: Name<'_>, options: &Options, place: &Place) -> Result<Origin, Fault> {
    if name.text == "scratch" {
        return Ok(Origin::Scratch);
    }
    if let Some(image) = EngineImage::parse(name.text) {
        return Ok(base(name, BaseOrigin::Engine(image)));
    }
    let reference: Reference = name.text.parse().map_err(|error: crate::oci::ReferenceError| {
        let message = format!("failed to parse image name `{}`: {}", name.text, error.reason);
        place.fault(name.span, message)
    })?;
    match context(name.text, name.platform, options) {
        Some((key, source)) => Ok(of_context(key, source, name, &reference)),
        None => Ok(image(name, reference)),
    }
}

fn image(name: Name<'_>, reference: Reference) -> Origin {
    let reference = reference.with_default_tag();
    match name.usage {
        Usage::Files => Origin::Image(ImageOp { reference, platform: name.platform.clone() }),
        Usage::Base => base(name, BaseOrigin::Image(reference)),
    }
}

fn base(name: Name<'_>, origin: BaseOrigin) -> Origin {
    Origin::Base(BaseRequest {
        name: name.text.to_owned(),
        origin,
        platform: name.platform.clone(),
        span: name.span,
    })
}

/// What the named context `key` stands for. A context that names a stage does so only for
/// [`stage_alias`]; where no stage has its name, the image of the original name is meant.
pub(super) fn of_context(key: &str, source: &ContextSource, name: Name<'_>, own: &Reference) -> Origin {
    let remote = |url: &str, kind| Origin::Remote(Remote { name: key.to_owned(), url: url.to_owned(), kind });
    match source {
        ContextSource::Dir(_) => Origin::Local(key.to_owned()),
        // As in BuildKit; with a tag it is an image like any other.
        ContextSource::Image(reference) if reference.to_string() == "scratch" => Origin::Scratch,
        ContextSource::Image(reference) => image(name, reference.clone()),
        ContextSource::Layout { path, selector } => {
            base(name, BaseOrigin::Layout { path: path.clone(), selector: selector.clone() })
        }
        ContextSource::Engine(image) => base(name, BaseOrigin::Engine(image.clone())),
        ContextSource::Git(url) => remote(url, RemoteKind::Git),
        ContextSource::Url(url) => remote(url, RemoteKind::Url),
        ContextSource::Target(_) => image(name, own.clone()),
        ContextSource::Linked(target) => {
            base(name, BaseOrigin::Linked { target: target.clone(), platform: name.platform.clone() })
        }
    }
}

/// The stage that a context of this name stands for (`--build-context name=target:stage`).
pub(super) fn stage_alias<'a>(name: &str, platform: &Platform, options: &'a Options) -> Option<&'a str> {
    match context(name, platform, options)? {
        (_, ContextSource::Target(stage)) => Some(stage),
        (
            _,
            ContextSource::Dir(_)
            | ContextSource::Image(_)
            | ContextSource::Layout { .. }
            | ContextSource::Engine(_)
            | ContextSource::Git(_)
            | ContextSource::Url(_)
            | ContextSource::Linked(_),
        ) => None,
    }
}

/// The named context for `name`, one for this very platform first. `scratch` and `context` cannot be
/// replaced. Names are compared as images are: `debian` is `docker.io/library/debian:latest`.
pub(super) fn context<'a>(
    name: &str,
    platform: &Platform,
    options: &'a Options,
) -> Option<(&'a str, &'a ContextSource)> {
    if ["scratch", "context"].iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return None;
    }
    let name = familiar(name)?;
    let wanted = platform.to_string();
    let with_name = || {
        options.contexts.iter().rev().filter_map(|(key, source)| {
            let (plain, platform) = key.split_once("::").map_or((key.as_str(), None), |(n, p)| (n, Some(p)));
            (familiar(plain)? == name).then_some((key.as_str(), platform, source))
        })
    };
    let found = with_name()
        .find(|(_, platform, _)| *platform == Some(wanted.as_str()))
        .or_else(|| with_name().find(|(_, platform, _)| platform.is_none()));
    found.map(|(key, _, source)| (key, source))
}

fn familiar(name: &str) -> Option<String> {
    let short = name.parse::<Reference>().ok()?.to_string();
    Some(short.strip_suffix(":latest").map_or(short.clone(), str::to_owned))
}
