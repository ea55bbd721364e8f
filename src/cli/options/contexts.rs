//! What builds read: contexts, named ones too, and the Dockerfile, as they are called on the command line.

use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::oci::Reference;
use crate::pipeline::{ContextFrom, DockerfileFrom};
use crate::plan::graph::EngineImage;
use crate::plan::{self, ContextSource, SourceKind};
use crate::report::Diagnostic;

/// `--build-context`
/// `--build-context`
pub(super) fn named_contexts(given: &[String]) -> Result<Vec<(String, ContextSource)>, Failure> {
    let read = |text: &String| {
        named_context(text).map_err(|reason| {
            let error = Diagnostic::error(format!("bad value `{text}` for --build-context: {reason}"));
            Failure::usage(error.help(plan::CONTEXTS))
        })
    };
    given.iter().map(read).collect()
}

fn named_context(text: &str) -> Result<(String, ContextSource), String> {
    let (name, source) = text
        .split_once('=')
        .filter(|(n, s)| !n.is_empty() && !s.is_empty())
        .ok_or("it has no name, or no place")?;
    let source = if let Some(image) = source.strip_prefix("docker-image://") {
        ContextSource::Image(image.parse::<Reference>().map_err(|e| e.to_string())?)
    } else if let Some(layout) = source.strip_prefix("oci-layout://") {
        let (path, selector) = match layout.split_once('@') {
            Some((path, digest)) => (path, digest),
            None => match layout.rsplit_once(':') {
                Some((path, tag)) if !tag.contains('/') => (path, tag),
                _ => (layout, ""),
            },
        };
        ContextSource::Layout { path: path.to_owned(), selector: selector.to_owned() }
    } else if let Some(image) = EngineImage::parse(source) {
        ContextSource::Engine(image)
    } else if let Some(stage) = source.strip_prefix("target:") {
        ContextSource::Target(stage.to_owned())
    } else {
        match context(source) {
            ContextFrom::Stdin | ContextFrom::Archive(_) => {
                return Err("only the main context can be on standard input".to_owned());
            }
            ContextFrom::Directory(path) => ContextSource::Dir(path),
            ContextFrom::Git(url) => ContextSource::Git(url),
            ContextFrom::Url(url) => ContextSource::Url(url),
        }
    };
    Ok((name.to_owned(), source))
}

/// What a context is. A folder that is there goes before anything else that its name could mean, as with docker.
pub(crate) fn context(text: &str) -> ContextFrom {
    if text == "-" {
        return ContextFrom::Stdin;
    }
    if Path::new(text).is_dir() {
        return ContextFrom::Directory(PathBuf::from(text));
    }
    match plan::source_kind(text) {
        SourceKind::Git => ContextFrom::Git(text.to_owned()),
        SourceKind::Url => ContextFrom::Url(text.to_owned()),
        SourceKind::Path if text.starts_with("github.com/") => ContextFrom::Git(format!("https://{text}")),
        SourceKind::Path => ContextFrom::Directory(PathBuf::from(text)),
    }
}

/// What `-f` names, for `context`.
pub(crate) fn dockerfile(file: Option<&str>, context: &str) -> Result<DockerfileFrom, Failure> {
    match file {
        Some("-") if context == "-" => {
            let message = "standard input cannot be both the Dockerfile and the context";
            let help = "pipe in a tar that holds the Dockerfile, and name that with `-f FILE`";
            Err(Failure::usage(Diagnostic::error(message).help(help)))
        }
        Some("-") => Ok(DockerfileFrom::Stdin),
        Some(url) if plan::source_kind(url) == SourceKind::Url => Ok(DockerfileFrom::Url(url.to_owned())),
        Some(path) => Ok(DockerfileFrom::Path(PathBuf::from(path))),
        None => Ok(DockerfileFrom::Context),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn contexts_are_told_apart() {
        let shown = |text: &str| format!("{:?}", context(text));
        for (text, expected) in [
            ("-", "Stdin"),
            ("src", "Directory(\"src\")"),
            ("not/there", "Directory(\"not/there\")"),
            ("https://h/x.git#v1:sub", "Git(\"https://h/x.git#v1:sub\")"),
            ("git@h:x.git", "Git(\"git@h:x.git\")"),
            ("git://h/x", "Git(\"git://h/x\")"),
            ("github.com/a/b", "Git(\"https://github.com/a/b\")"),
            ("http://h/x.tar.gz", "Url(\"http://h/x.tar.gz\")"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert!(dockerfile(Some("-"), "-").is_err());
        assert_eq!(dockerfile(Some("-"), ".").unwrap(), DockerfileFrom::Stdin);
        assert_eq!(
            dockerfile(Some("http://h/D"), ".").unwrap(),
            DockerfileFrom::Url("http://h/D".to_owned())
        );
    }

    #[test]
    fn a_layout_has_a_tag_or_a_digest() {
        let parse = |text| match named_context(text).unwrap().1 {
            ContextSource::Layout { path, selector } => (path, selector),
            _ => panic!("not a layout"),
        };
        assert_eq!(parse("b=oci-layout:///x/y:1"), ("/x/y".to_owned(), "1".to_owned()));
        assert_eq!(parse("b=oci-layout://x/y"), ("x/y".to_owned(), String::new()));
    }
}
