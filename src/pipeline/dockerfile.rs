//! Reads the Dockerfile, from wherever the request says.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::{DockerfileFrom, Request, policy};
use crate::cache::Lookup;
use crate::context::ignore;
use crate::dockerfile::check_options;
use crate::dockerfile::syntax::{CheckDirective, Dockerfile};
use crate::layer::contents;
use crate::plan::Options;
use crate::report::{Diagnostic, Source};
use crate::rootfs::{Root, Symlinks};
use crate::solve::{LayerIndexes, RootState};
use crate::source::http;
use crate::store::Store;

/// A Dockerfile of more bytes is no Dockerfile.
pub(super) const LIMIT: u64 = 16 << 20;

/// Where docker looks when nobody says where; the second name only if the first is not there.
const USUAL_NAMES: [&str; 2] = ["Dockerfile", "dockerfile"];

/// Gives a file of the context; `None` if there is none of that name.
pub(super) type ReadContext<'c> = dyn Fn(&Path) -> io::Result<Option<Vec<u8>>> + 'c;

/// Parses the Dockerfile. A build argument can say which checks count, as in BuildKit, in the place of what the file says.
pub(super) fn parse(source: &Arc<Source>, options: &Options) -> Result<Dockerfile, Vec<Diagnostic>> {
    let check = check_argument(options)?;
    let mut file = crate::dockerfile::parse(source)?;
    if check.is_some() {
        file.directives.check = check;
    }
    Ok(file)
}

/// What `--build-arg BUILDKIT_DOCKERFILE_CHECK=…` says of checks.
fn check_argument(options: &Options) -> Result<Option<CheckDirective>, Vec<Diagnostic>> {
    let given = options.build_args.iter().rev().find(|(name, _)| name == "BUILDKIT_DOCKERFILE_CHECK");
    let Some((name, Some(value))) = given else { return Ok(None) };
    check_options(value).map(Some).map_err(|problem| {
        let error = Diagnostic::error(format!("bad value of the build argument `{name}`: {problem}"));
        vec![error.help("write it as in `# check=`, such as `skip=StageNameCasing;error=true`")]
    })
}

/// The Dockerfile with a context that is no folder of the host: paths are paths in the context, as with docker.
pub(super) fn read_remote(
    store: &Store,
    request: &Request,
    read: &ReadContext<'_>,
) -> Result<Arc<Source>, Vec<Diagnostic>> {
    let names: Vec<PathBuf> = match &request.dockerfile {
        DockerfileFrom::Stdin | DockerfileFrom::Url(_) => return read_elsewhere(store, request),
        DockerfileFrom::Inline { name, text } => return source(name, text.clone().into_bytes()),
        DockerfileFrom::Path(path) => vec![path.clone()],
        DockerfileFrom::Context => USUAL_NAMES.map(PathBuf::from).to_vec(),
    };
    for name in &names {
        let shown = name.display().to_string();
        match read(name) {
            Ok(Some(bytes)) => return source(&shown, bytes),
            Ok(None) => {}
            Err(error) => return Err(vec![unreadable(&shown, &error)]),
        }
    }
    let name = names[0].display();
    let diagnostic = Diagnostic::error(format!("the context has no Dockerfile `{name}`"));
    Err(vec![
        diagnostic
            .help("name another file of the context with `-f FILE`, or pipe a Dockerfile in with `-f -`"),
    ])
}

/// The Dockerfile with a folder as context, and its path on the host if it has one.
pub(super) fn read_local(
    store: &Store,
    request: &Request,
    context: &Path,
) -> Result<(Arc<Source>, Option<PathBuf>), Vec<Diagnostic>> {
    match read_host(&request.dockerfile, context)? {
        Some(read) => Ok(read),
        None => Ok((read_elsewhere(store, request)?, None)),
    }
}

/// A Dockerfile with the path where it was read.
type Located = (Arc<Source>, Option<PathBuf>);

/// Reads a Dockerfile of this machine; `None` of one that must be fetched.
pub(super) fn read_host(from: &DockerfileFrom, context: &Path) -> Result<Option<Located>, Vec<Diagnostic>> {
    let path = match from {
        DockerfileFrom::Url(_) => return Ok(None),
        DockerfileFrom::Stdin => return Ok(Some((read_stdin()?, None))),
        DockerfileFrom::Inline { name, text } => {
            return Ok(Some((source(name, text.clone().into_bytes())?, None)));
        }
        DockerfileFrom::Path(path) => path.clone(),
        DockerfileFrom::Context => usual_path(context),
    };
    let name = match from {
        DockerfileFrom::Context => short_name(&path),
        _ => path.display().to_string(),
    };
    let opened = match (from, path.file_name()) {
        (DockerfileFrom::Context, Some(name)) => ignore::open_inside(context, name),
        _ => File::open(&path),
    };
    match opened.and_then(read_limited) {
        Ok(bytes) => Ok(Some((source(&name, bytes)?, Some(path)))),
        Err(error) => Err(vec![match path.read_link() {
            Ok(target) if error.kind() == io::ErrorKind::NotFound => explain_link(&name, &path, &target),
            _ => explain_missing(context, &name, &error),
        }]),
    }
}

/// Where the Dockerfile of a folder is, if nobody says.
pub fn usual_path(context: &Path) -> PathBuf {
    let usual = USUAL_NAMES.map(|name| context.join(name));
    usual.iter().find(|path| path.symlink_metadata().is_ok()).unwrap_or(&usual[0]).clone()
}

/// From standard input or a URL.
fn read_elsewhere(store: &Store, request: &Request) -> Result<Arc<Source>, Vec<Diagnostic>> {
    let DockerfileFrom::Url(url) = &request.dockerfile else { return read_stdin() };
    let scratch = store.scratch_dir().map_err(|e| vec![super::diagnose_store(&e)])?;
    let file = scratch.path().join("Dockerfile");
    http::fetch_to(url, (&request.secrets(), &policy::hops(request, false)), &file).map_err(|error| {
        let diagnostic = Diagnostic::error(format!("no Dockerfile: {error}"));
        vec![error.help().into_iter().fold(diagnostic.transient(error.is_transient()), Diagnostic::help)]
    })?;
    let name = crate::text::url::without_password(url);
    let bytes = File::open(&file).and_then(read_limited).map_err(|e| vec![unreadable(&name, &e)])?;
    source(&name, bytes)
}

/// What is on standard input, which can be read once.
pub(super) fn read_stdin() -> Result<Arc<Source>, Vec<Diagnostic>> {
    let bytes = read_limited(io::stdin().lock()).map_err(|e| vec![unreadable("<stdin>", &e)])?;
    source("<stdin>", bytes)
}

/// A file of a context that lies in a folder; symlinks are followed inside it.
pub(super) fn in_folder(root: &Root, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    match root.open_at(path, flags, 0, Symlinks::FollowInside) {
        Ok(file) => read_limited(File::from(file)).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file of a context that was unpacked into a layer; symlinks are followed inside it.
pub(super) fn in_layers(store: &Store, root: &RootState, path: &Path) -> io::Result<Option<Vec<u8>>> {
    use std::os::unix::ffi::OsStrExt as _;
    let view = LayerIndexes::new(store.clone(), &Arc::new(Lookup::new(store, Vec::new())))
        .view(&root.layers)
        .map_err(io::Error::other)?;
    let open = |layer: usize| {
        let blob = store.open_blob(&root.layers[layer].descriptor.digest);
        blob.map(|file| Box::new(file) as _).map_err(io::Error::other)
    };
    let path = crate::context::path::below_root(path.as_os_str().as_bytes());
    contents::read_small_file(&view, &path, LIMIT, &open).map_err(io::Error::other)
}

/// At most as many bytes as a Dockerfile may have.
pub(super) fn read_limited(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::other(format!("it is larger than {} MiB", LIMIT >> 20)));
    }
    Ok(bytes)
}

/// The text of the Dockerfile that messages call `name`.
pub(super) fn source(name: &str, bytes: Vec<u8>) -> Result<Arc<Source>, Vec<Diagnostic>> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|b| **b == b'\n').count() + 1;
        vec![Diagnostic::error(format!("`{name}` is no UTF-8 text: line {line} has other bytes"))]
    })?;
    Ok(Arc::new(Source { name: name.to_owned(), text }))
}

/// The path as messages show it: `./Dockerfile` is `Dockerfile`.
fn short_name(path: &Path) -> String {
    path.strip_prefix("./").or(path.strip_prefix(".")).unwrap_or(path).display().to_string()
}

fn unreadable(name: &str, error: &io::Error) -> Diagnostic {
    Diagnostic::error(format!("cannot read the Dockerfile `{name}`: {error}"))
}

/// The Dockerfile is a link to nothing, or out of the context, which is not followed.
fn explain_link(name: &str, path: &Path, target: &Path) -> Diagnostic {
    let target = target.display();
    match path.exists() {
        true => Diagnostic::error(format!("`{name}` is a link that leads out of the context, to `{target}`"))
            .help(format!(
                "copy the file, or name it yourself with `-f {name}`, which follows links anywhere"
            )),
        false => Diagnostic::error(format!("`{name}` is a link to `{target}`, which is not there"))
            .help("mend the link, or name another file with `-f FILE`"),
    }
}

fn explain_missing(context: &Path, name: &str, error: &io::Error) -> Diagnostic {
    let diagnostic = unreadable(name, error);
    if error.kind() == io::ErrorKind::IsADirectory {
        return diagnostic.help(format!("`{name}` is a folder; name the file in it: `-f {name}/Dockerfile`"));
    }
    if context.is_file() {
        let (file, folder) = (context.display(), context.parent().filter(|path| *path != Path::new("")));
        let folder = folder.unwrap_or(Path::new(".")).display();
        return diagnostic.help(format!(
            "the context `{file}` is a file; a Dockerfile is named with `-f`, and the context is its folder: `rbuild -f {file} {folder}`"
        ));
    }
    if error.kind() != io::ErrorKind::NotFound {
        return diagnostic;
    }
    if !context.exists() {
        return diagnostic.help(format!("the context `{}` does not exist", context.display()));
    }
    let candidates = ["dockerfile", "Dockerfile", "Containerfile", "docker/Dockerfile", "build/Dockerfile"];
    match candidates.iter().map(|c| context.join(c)).find(|path| path.is_file()) {
        Some(found) => diagnostic.help(format!("there is `{0}`; name it with `-f {0}`", short_name(&found))),
        None => diagnostic
            .help("name the Dockerfile with `-f FILE`; relative paths count from the current folder"),
    }
}
