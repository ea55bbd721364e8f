//! The time that SOURCE_DATE_EPOCH names: of a repository's commit, of a file on a server, of the newest file of an archive.

use std::fs::File;
use std::path::Path;

use super::{Request, context, policy};
use crate::layer::archive::{Kind, Limits, Names, Reader, decompress};
use crate::oci::Seconds;
use crate::plan::{self, ContextSource, EpochSource, SourceKind};
use crate::report::{Diagnostic, Source};
use crate::solve::Services;
use crate::source::git::{self, GitSource};
use crate::source::http;
use crate::store::Folder;
use crate::text;

/// The time of what `source` names; `None` when it has none, as a folder of this machine. `main` is the main context's.
pub(super) fn look_up(
    source: &EpochSource,
    main: Option<Seconds>,
    request: &Request,
    services: &Services,
) -> Result<Option<Seconds>, Vec<Diagnostic>> {
    if let EpochSource::Remote { url, checksum } = source {
        policy::check_url(request, url, checksum.is_some() || services.pins.is_pinned_url(url))?;
    }
    match source {
        EpochSource::Context => Ok(main),
        EpochSource::Named(ContextSource::Git(url)) => of_repository(url, None, request, services),
        EpochSource::Named(ContextSource::Url(url)) => of_file(url, None, request, services),
        EpochSource::Named(
            ContextSource::Dir(_)
            | ContextSource::Image(_)
            | ContextSource::Layout { .. }
            | ContextSource::Engine(_)
            | ContextSource::Target(_)
            | ContextSource::Linked(_),
        ) => Ok(None),
        EpochSource::Remote { url, checksum } => match plan::source_kind(url) {
            SourceKind::Git => of_repository(url, checksum.as_deref(), request, services),
            SourceKind::Url | SourceKind::Path => of_file(url, checksum.as_deref(), request, services),
        },
    }
}

/// Whether somebody may ask for the main context's time: reading a whole archive for it costs something.
pub(super) fn may_be_asked(request: &Request, dockerfile: &Source) -> bool {
    const CONTEXT: &str = "context";
    let options = &request.options;
    let given = options.build_args.iter().any(|(_, value)| value.as_deref() == Some(CONTEXT));
    given
        || request.reproducible
        || options.epoch.as_deref() == Some(CONTEXT)
        || dockerfile.text.contains("SOURCE_DATE_EPOCH")
}

fn of_repository(
    url: &str,
    checksum: Option<&str>,
    request: &Request,
    services: &Services,
) -> Result<Option<Seconds>, Vec<Diagnostic>> {
    context::refuse_offline(request, url)?;
    let time = GitSource::new(url, checksum, false)
        .and_then(|source| source.log_in(&request.secrets()))
        .and_then(|source| git::commit_time(&source, &services.store.private(Folder::Git)));
    time.map(Some).map_err(|error| no_time(url, &error, error.help()))
}

fn of_file(
    url: &str,
    checksum: Option<&str>,
    request: &Request,
    services: &Services,
) -> Result<Option<Seconds>, Vec<Diagnostic>> {
    context::refuse_offline(request, url)?;
    // What `--locked` refuses is refused where it is taken.
    let pinned = services.pins.url(url).ok().flatten().map(|digest| digest.to_string());
    let checksum = checksum.or(pinned.as_deref());
    let hops = policy::hops(request, checksum.is_some());
    let scratch = context::scratch(services)?;
    let file = scratch.path().join("file");
    let fetched = http::fetch_checked(url, checksum, (&request.secrets(), &hops), &file);
    let fetched = fetched.map_err(|error| no_time(url, &error, error.help()))?;
    Ok(fetched.modified.or_else(|| of_archive(&file)))
}

fn no_time(url: &str, error: &dyn std::error::Error, help: Option<&str>) -> Vec<Diagnostic> {
    let name = text::url::without_password(url);
    let diagnostic = Diagnostic::error(format!("no SOURCE_DATE_EPOCH from `{name}`: {error}"));
    vec![help.into_iter().fold(diagnostic, Diagnostic::help)]
}

/// The time of the newest plain file in an archive; `None` of what is no archive or holds none.
pub(super) fn of_archive(file: &Path) -> Option<Seconds> {
    let decoder = decompress(File::open(file).ok()?).ok()?;
    let mut reader = Reader::new(decoder, Names::Literal, Limits::default());
    let mut newest = None;
    while let Some(member) = reader.next_member().ok()? {
        if matches!(member.kind, Kind::File { .. }) {
            newest = newest.max(Some(member.mtime));
        }
    }
    newest
}
