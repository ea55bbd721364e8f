//! Fetches definitions of targets that are on another machine.

use std::path::{Path, PathBuf};

use super::{Request, diagnose_store, dockerfile};
use crate::http::Hops;
use crate::layer::archive;
use crate::plan::{self, SourceKind};
use crate::report::Diagnostic;
use crate::rootfs::Root;
use crate::source::git::{self, GitSource};
use crate::source::http;
use crate::store::{Folder, Store};
use crate::text;

/// A definition of more bytes is none, as in buildx.
const LIMIT: u64 = 2 << 20;

/// Files of a definition, and where contexts are that they name.
#[derive(Debug)]
pub struct Definition {
    /// Names and texts.
    pub files: Vec<(String, String)>,
    /// The repository that relative contexts are in; none if they are on this machine.
    pub base: Option<String>,
}

/// Fetches `names` from the git repository `url`, those of `usual` that are there if none is named; or the one file that a URL
/// stands for.
pub fn fetch_definition(
    store_root: &Path,
    url: &str,
    names: &[String],
    usual: &[&str],
) -> Result<Definition, Vec<Diagnostic>> {
    let store = Store::open(store_root).map_err(|e| vec![diagnose_store(&e)])?;
    let scratch = store.scratch_dir().map_err(|e| vec![diagnose_store(&e)])?;
    let request = Request::new(store_root.to_owned(), PathBuf::new());
    let url = if url.starts_with("github.com/") { format!("https://{url}") } else { url.to_owned() };
    let shown = text::url::without_password(&url);
    if plan::source_kind(&url) != SourceKind::Git {
        let file = scratch.path().join("definition");
        http::fetch_to(&url, (&request.secrets(), &Hops::default()), &file).map_err(|error| {
            let diagnostic = Diagnostic::error(format!("no definition: {error}"));
            vec![error.help().into_iter().fold(diagnostic.transient(error.is_transient()), Diagnostic::help)]
        })?;
        let fail = |e: std::io::Error| vec![Diagnostic::error(format!("cannot read `{shown}`: {e}"))];
        if archive::is_archive(std::fs::File::open(&file).map_err(fail)?) {
            let diagnostic =
                Diagnostic::error(format!("`{shown}` is an archive, and a definition is a file"));
            let help = "unpack it and run `rbuild bake` there; a definition with its contexts can be in a git repository";
            return Err(vec![diagnostic.help(help)]);
        }
        if file.metadata().map_err(fail)?.len() > LIMIT {
            return Err(vec![Diagnostic::error(format!("`{shown}` is larger than 2 MiB"))]);
        }
        let text = std::fs::read_to_string(&file).map_err(fail)?;
        return Ok(Definition { files: vec![(url, text)], base: None });
    }
    let fail = |error: git::GitError| {
        let diagnostic = Diagnostic::error(format!("no definition: {error}"));
        vec![error.help().into_iter().fold(diagnostic.transient(error.is_transient()), Diagnostic::help)]
    };
    let source = GitSource::new(&url, None, false);
    let source = source.and_then(|source| source.log_in(&request.secrets())).map_err(fail)?;
    let checkout = git::checkout(&source, &store.private(Folder::Git), scratch.path()).map_err(fail)?;
    let unreadable =
        |name: &str, why: &str| vec![Diagnostic::error(format!("cannot read `{name}` of `{shown}`: {why}"))];
    let root = Root::open(&checkout.root).map_err(|e| unreadable(".", &e.to_string()))?;
    let mut files = Vec::new();
    let wanted: Vec<&str> = match names {
        [] => usual.to_vec(),
        names => names.iter().map(String::as_str).collect(),
    };
    for name in wanted {
        let bytes =
            dockerfile::in_folder(&root, Path::new(name)).map_err(|e| unreadable(name, &e.to_string()))?;
        match bytes {
            Some(bytes) if bytes.len() as u64 > LIMIT => {
                return Err(unreadable(name, "it is larger than 2 MiB"));
            }
            Some(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| unreadable(name, "it is no text (UTF-8)"))?;
                files.push((name.to_owned(), text));
            }
            None if names.is_empty() => {}
            None => return Err(unreadable(name, "it is not there")),
        }
    }
    Ok(Definition { files, base: Some(url) })
}
