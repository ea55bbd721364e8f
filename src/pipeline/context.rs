//! Opens contexts: folders, standard input, git repositories, and what is behind URLs.
//!
//! An archive becomes a layer, as ADD would make it alone on an empty root: so its owners and devices are kept, it
//! is checked as every archive is, an unchanged one is not unpacked twice, and nothing of it is written to the host
//! by name. A repository is a checkout, read as far as steps ask for it. Ignore files count in folders only, as with
//! BuildKit.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::inputs::Pool;
use super::{ContextFrom, DockerfileFrom, Request, dockerfile, epoch, policy};
use crate::context::{self, Context, statcache::StatCache};
use crate::layer::archive;
use crate::oci::Seconds;
use crate::plan;
use crate::report::{Diagnostic, Event, Source};
use crate::solve::{self, ContextFiles, Environment, Given, Policy, RootState, Services};
use crate::source::git::{self, Checkout, GitError, GitSource};
use crate::source::http;
use crate::store::{Folder, ScratchDir, Store};
use crate::text;

/// What an archive becomes a context by; `context` is its name in a folder of its own.
const UNPACK: &str = "FROM scratch\nADD context /\n";
/// Has git contexts keep their `.git`, as with BuildKit.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// The main context, and the Dockerfile, which may be in it.
pub(super) struct MainContext {
    /// What COPY and ADD see.
    pub(super) files: ContextFiles,
    /// The Dockerfile.
    pub(super) dockerfile: Arc<Source>,
    /// Where that is, if it is a file of this machine.
    pub(super) path: Option<PathBuf>,
    /// The commit of a repository.
    pub(super) commit: Option<String>,
    /// The time that it has by itself: of the commit, of the file on the server, of the newest file of the archive.
    pub(super) time: Option<Seconds>,
    /// What tells this build from others in the same store.
    pub(super) project: String,
    /// Where `files` are, if they are only there for this build.
    pub(super) scratch: Option<ScratchDir>,
}

/// Opens what the request names; of a folder nothing is read yet but the ignore file.
pub(super) fn open(
    request: &Request,
    services: &Services,
    pool: &Pool,
) -> Result<MainContext, Vec<Diagnostic>> {
    if let DockerfileFrom::Url(url) = &request.dockerfile {
        refuse_offline(request, url)?;
    }
    match &request.context {
        ContextFrom::Directory(path) => directory(request, services, pool, path),
        ContextFrom::Stdin => stdin(request, services),
        ContextFrom::Archive(path) => archive_file(request, services, path),
        ContextFrom::Git(url) => repository(request, services, url),
        ContextFrom::Url(url) => download(request, services, url),
    }
}

/// A folder of the host behind its ignore file.
pub(super) fn folder(
    store: &Store,
    path: &Path,
    dockerfile: Option<&Path>,
) -> Result<Arc<Context>, Vec<Diagnostic>> {
    let ignore = context::ignore::load(path, dockerfile).map_err(|e| vec![diagnose(&e)])?;
    let cache = StatCache::open(&store.private(Folder::StatCache), path, store.boot_id());
    Context::open(path, ignore, Some(cache)).map(Arc::new).map_err(|e| vec![diagnose(&e)])
}

/// Where rules may be that hold for this Dockerfile alone.
pub(super) fn ignore_beside(dockerfile: &Path) -> PathBuf {
    let mut name = dockerfile.as_os_str().to_owned();
    name.push(".dockerignore");
    PathBuf::from(name)
}

/// A folder of the host behind an ignore file that the user names.
pub(super) fn folder_ignoring(
    store: &Store,
    path: &Path,
    file: &Path,
) -> Result<Arc<Context>, Vec<Diagnostic>> {
    let name = file.display().to_string();
    let text =
        std::fs::read(file).map_err(|e| vec![Diagnostic::error(format!("cannot read `{name}`: {e}"))])?;
    let ignore = context::ignore::parse(&text, &name).map_err(|e| vec![diagnose(&e)])?;
    let cache = StatCache::open(&store.private(Folder::StatCache), path, store.boot_id());
    Context::open(path, Some(ignore), Some(cache)).map(Arc::new).map_err(|e| vec![diagnose(&e)])
}

/// An error unless the place of a named context is a folder.
pub(super) fn check_named(name: &str, path: &Path) -> Result<(), Diagnostic> {
    let why = match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => "it is a file, not a folder".to_owned(),
        Err(error) => error.to_string(),
    };
    let what = format!("cannot open `{}`, the build context `{name}`: {why}", path.display());
    Err(Diagnostic::error(what).help(plan::CONTEXTS))
}

fn directory(
    request: &Request,
    services: &Services,
    pool: &Pool,
    path: &Path,
) -> Result<MainContext, Vec<Diagnostic>> {
    let (dockerfile, at) = dockerfile::read_local(&services.store, request, path)?;
    let files = pool.folder(&services.store, path, at.as_deref(), request.ignore_file.as_deref())?;
    let files = ContextFiles::Folder(files);
    let project = at.as_deref().unwrap_or(path);
    let project = std::fs::canonicalize(project).unwrap_or_else(|_| project.to_owned());
    let project = project.display().to_string();
    Ok(MainContext { files, dockerfile, path: at, commit: None, time: None, project, scratch: None })
}

/// A tar, or a Dockerfile that needs no context.
fn stdin(request: &Request, services: &Services) -> Result<MainContext, Vec<Diagnostic>> {
    let mut stdin = io::stdin().lock();
    let fail = |e: io::Error| vec![Diagnostic::error(format!("cannot read standard input: {e}"))];
    // As much of it as a Dockerfile may have, which is enough to tell one from an archive.
    let mut start = Vec::new();
    stdin.by_ref().take(dockerfile::LIMIT + 1).read_to_end(&mut start).map_err(fail)?;
    if start.is_empty() {
        let diagnostic = Diagnostic::error("standard input is empty");
        return Err(vec![
            diagnostic.help("the context `-` wants a tar of the context, or a Dockerfile, on standard input"),
        ]);
    }
    let scratch = scratch(services)?;
    let project = "<stdin>".to_owned();
    if !archive::is_archive(&start[..]) {
        refuse_packed("standard input", &start)?;
        refuse_two_dockerfiles(&request.dockerfile)?;
        let bytes = dockerfile::read_limited(&start[..]).map_err(fail)?;
        let dockerfile = dockerfile::source("<stdin>", bytes)?;
        let files = ContextFiles::Folder(plain(scratch.path())?);
        let (path, commit, scratch) = (None, None, Some(scratch));
        return Ok(MainContext { files, dockerfile, path, commit, time: None, project, scratch });
    }
    let mut copy = || -> io::Result<()> {
        let mut file = File::create_new(scratch.path().join("context"))?;
        file.write_all(&start)?;
        io::copy(&mut stdin, &mut file).map(drop)
    };
    copy().map_err(fail)?;
    drop(start);
    archived(request, services, &scratch, "standard input", project, None)
}

/// A tar of this machine.
fn archive_file(request: &Request, services: &Services, path: &Path) -> Result<MainContext, Vec<Diagnostic>> {
    let name = format!("`{}`", path.display());
    let fail = |e: io::Error| vec![Diagnostic::error(format!("cannot read the context {name}: {e}"))];
    let mut file = File::open(path).map_err(fail)?;
    if !archive::is_archive(&file) {
        let help = "a context is a tar (plain, gzip, bzip2, xz or zstd) or a folder";
        return Err(vec![Diagnostic::error(format!("the context {name} is no tar archive")).help(help)]);
    }
    let scratch = scratch(services)?;
    let mut copy = || -> io::Result<()> {
        file.rewind()?;
        io::copy(&mut file, &mut File::create_new(scratch.path().join("context"))?).map(drop)
    };
    copy().map_err(fail)?;
    let project = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    archived(request, services, &scratch, &name, project, None)
}

/// `-f FILE -` with a Dockerfile on standard input.
fn refuse_two_dockerfiles(from: &DockerfileFrom) -> Result<(), Vec<Diagnostic>> {
    if *from == DockerfileFrom::Context {
        return Ok(());
    }
    let diagnostic =
        Diagnostic::error("there are two Dockerfiles: `-f` names one, and standard input is another");
    Err(vec![diagnostic.help("leave `-f` out, or give a tar of the context on standard input")])
}

/// An archive, or a Dockerfile; then the context holds nothing but that file, as `context`.
fn download(request: &Request, services: &Services, url: &str) -> Result<MainContext, Vec<Diagnostic>> {
    refuse_offline(request, url)?;
    let scratch = scratch(services)?;
    let file = scratch.path().join("context");
    let name = text::url::without_password(url);
    services.events.send(Event::Note(format!("fetching the context `{name}`")));
    let fetched =
        http::fetch_to(url, (&request.secrets(), &policy::hops(request, false)), &file).map_err(|error| {
            let diagnostic = Diagnostic::error(format!("no context: {error}"));
            vec![error.help().into_iter().fold(diagnostic.transient(error.is_transient()), Diagnostic::help)]
        })?;
    services.materials.saw_url(url, fetched.digest);
    let fail = |e: io::Error| vec![Diagnostic::error(format!("cannot read the context `{name}`: {e}"))];
    if archive::is_archive(File::open(&file).map_err(fail)?) {
        return archived(request, services, &scratch, &name, url.to_owned(), fetched.modified);
    }
    let files = ContextFiles::Folder(plain(scratch.path())?);
    let dockerfile = match request.dockerfile {
        DockerfileFrom::Stdin | DockerfileFrom::Url(_) | DockerfileFrom::Inline { .. } => {
            dockerfile::read_remote(&services.store, request, &|_| Ok(None))?
        }
        DockerfileFrom::Context | DockerfileFrom::Path(_) => {
            let bytes = File::open(&file).and_then(dockerfile::read_limited).map_err(fail)?;
            refuse_packed(&format!("`{name}`"), &bytes)?;
            dockerfile::source(&name, bytes)?
        }
    };
    let (project, time) = (url.to_owned(), fetched.modified);
    Ok(MainContext { files, dockerfile, path: None, commit: None, time, project, scratch: Some(scratch) })
}

/// What is compressed, but no tar, is no Dockerfile either.
fn refuse_packed(what: &str, start: &[u8]) -> Result<(), Vec<Diagnostic>> {
    match archive::detect(start) {
        None => Ok(()),
        Some(_) => {
            let message = format!("{what} is compressed, but there is no tar archive in it");
            let help = "a context is a tar (plain, gzip, bzip2, xz or zstd) or a Dockerfile as plain text";
            Err(vec![Diagnostic::error(message).help(help)])
        }
    }
}

/// The context in the archive `context` of a scratch folder.
fn archived(
    request: &Request,
    services: &Services,
    scratch: &ScratchDir,
    name: &str,
    project: String,
    modified: Option<Seconds>,
) -> Result<MainContext, Vec<Diagnostic>> {
    let root = unpack(services, scratch.path()).map_err(|diagnostics| {
        let plainly = |d: Diagnostic| Diagnostic { labels: Vec::new(), source: None, ..d };
        diagnostics.into_iter().map(|d| plainly(d).note(format!("the context is {name}"))).collect::<Vec<_>>()
    })?;
    let read = |path: &Path| dockerfile::in_layers(&services.store, &root, path);
    let dockerfile = dockerfile::read_remote(&services.store, request, &read)?;
    let newest = || epoch::of_archive(&scratch.path().join("context"));
    let time = modified.or_else(|| epoch::may_be_asked(request, &dockerfile).then(newest)?);
    let files = ContextFiles::Root(root);
    Ok(MainContext { files, dockerfile, path: None, commit: None, time, project, scratch: None })
}

/// Lets a Dockerfile of rbuild's own unpack the archive.
fn unpack(services: &Services, folder: &Path) -> Result<RootState, Vec<Diagnostic>> {
    let source = Arc::new(Source { name: "context".to_owned(), text: UNPACK.to_owned() });
    let file = crate::dockerfile::parse(&source)?;
    let mut plan = plan::lower_with(&file, &plan::Options::default(), &mut |_| Ok(Vec::new()))?;
    // The build has not begun.
    plan.graph.listing.clear();
    let contexts = BTreeMap::from([(String::new(), ContextFiles::Folder(plain(folder)?))]);
    let environment =
        Environment { services, policy: Policy::default(), given: Given::new(&contexts, &source) };
    let solved = solve::run(&plan.graph, plan.goals(), &environment, &|_, _| ())?;
    let root = solved.root(plan.goal.image.result).clone();
    services.lookup.bring(&root.layers).map_err(|error| vec![Diagnostic::error(error.to_string())])?;
    Ok(root)
}

/// A checkout; of its submodules, too.
fn repository(request: &Request, services: &Services, url: &str) -> Result<MainContext, Vec<Diagnostic>> {
    refuse_offline(request, url)?;
    let scratch = scratch(services)?;
    services.events.send(Event::Note(format!("fetching the context `{}`", text::url::without_password(url))));
    let fail = |error: GitError| {
        let diagnostic = Diagnostic::error(format!("no context: {error}"));
        vec![error.help().into_iter().fold(diagnostic.transient(error.is_transient()), Diagnostic::help)]
    };
    let source = GitSource::new(url, None, keeps_git_dir(&request.options));
    let source = source.and_then(|source| source.log_in(&request.secrets())).map_err(fail)?;
    let checkout = git::checkout(&source, &services.store.private(Folder::Git), scratch.path());
    let Checkout { root, time, commit } = checkout.map_err(fail)?;
    services.materials.saw_git(&source, &commit);
    let context = plain(&root)?;
    let read = |path: &Path| dockerfile::in_folder(context.root(), path);
    let dockerfile = dockerfile::read_remote(&services.store, request, &read)?;
    let (files, project) = (ContextFiles::Folder(context), url.to_owned());
    let (time, scratch) = (Some(time), Some(scratch));
    Ok(MainContext { files, dockerfile, path: None, commit: Some(commit), time, project, scratch })
}

/// Nothing may be fetched then, a context neither.
pub(super) fn refuse_offline(request: &Request, url: &str) -> Result<(), Vec<Diagnostic>> {
    if !request.offline {
        return Ok(());
    }
    let name = text::url::without_password(url);
    let diagnostic =
        Diagnostic::error(format!("`{name}` would have to be fetched, and `--offline` forbids that"));
    Err(vec![diagnostic.help("give a folder, or leave `--offline` out")])
}

fn keeps_git_dir(options: &plan::Options) -> bool {
    let given = options.build_args.iter().rev().find(|(name, _)| name == KEEP_GIT_DIR);
    given.is_some_and(|(_, value)| value.as_deref().and_then(text::boolean) == Some(true))
}

/// A folder of rbuild's own: no ignore file counts in it.
fn plain(path: &Path) -> Result<Arc<Context>, Vec<Diagnostic>> {
    Context::open(path, None, None).map(Arc::new).map_err(|e| vec![diagnose(&e)])
}

pub(super) fn scratch(services: &Services) -> Result<ScratchDir, Vec<Diagnostic>> {
    services.store.scratch_dir().map_err(|e| vec![super::diagnose_store(&e)])
}

/// A fault of a context in words.
pub(super) fn diagnose(error: &context::Error) -> Diagnostic {
    let diagnostic = Diagnostic::error(error.to_string());
    match error {
        context::Error::Open { source, .. } if source.kind() == io::ErrorKind::NotADirectory => diagnostic
            .help("the context is the folder that COPY reads from; name a Dockerfile with `-f FILE`"),
        context::Error::LeadsOut { .. } => {
            diagnostic.help("copy the file into the context, or let the link point to a file inside of it")
        }
        context::Error::Open { .. } => {
            diagnostic.help("the last argument is the folder that COPY reads from, such as `.`")
        }
        _ => diagnostic,
    }
}
