//! Files that tell other jobs what was built.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::flags::Id;
use super::words::Typed;
use crate::cli::Failure;
use crate::oci::{Digest, Reference};
use crate::report::Diagnostic;

/// What a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tells {
    /// The digest.
    Digest,
    /// A line `NAME@DIGEST` for each destination.
    Names,
    /// A line `NAME:TAG@DIGEST` for each.
    NamesAndTags,
    /// A JSON object for each.
    Objects,
}

/// The files that were asked for.
#[derive(Debug)]
pub(super) struct Files(Vec<(PathBuf, Tells)>);

impl Files {
    /// Those of the options, and of Google's pipelines; `is_pushed`: the image goes to its destinations.
    pub(super) fn of(typed: &Typed, is_pushed: bool) -> Result<Self, Failure> {
        let mut files = Vec::new();
        for (id, option, tells) in [
            (Id::DigestFile, "--digest-file", Tells::Digest),
            (Id::NameFile, "--image-name-with-digest-file", Tells::Names),
            (Id::NameTagFile, "--image-name-tag-with-digest-file", Tells::NamesAndTags),
        ] {
            let Some(path) = typed.last(id) else { continue };
            if path.contains("://") {
                let error = Diagnostic::error(format!("`{option}={path}`: rbuild writes to files only"));
                return Err(Failure::usage(error.help("write a file, and send it: `curl -T FILE URL`")));
            }
            if tells != Tells::Digest && typed.last(Id::Destination).is_none() {
                let error =
                    Diagnostic::error(format!("`{option}` tells the names of the image, and it has none"));
                return Err(Failure::usage(error.help("name it with `--destination`")));
            }
            files.push((PathBuf::from(path), tells));
        }
        let folder = std::env::var_os("BUILDER_OUTPUT").filter(|folder| is_pushed && !folder.is_empty());
        files.extend(folder.map(|folder| (Path::new(&folder).join("images"), Tells::Objects)));
        Ok(Self(files))
    }

    /// Writes them; folders that lead there are made.
    pub(super) fn write(&self, names: &[Reference], digest: &Digest) -> Result<(), Failure> {
        self.0.iter().try_for_each(|(path, tells)| {
            let text = tells.text(names, digest);
            write(path, &text)
                .map_err(|error| Failure::message(format!("cannot write `{}`: {error}", path.display())))
        })
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    std::fs::write(path, text)
}

impl Tells {
    fn text(self, names: &[Reference], digest: &Digest) -> String {
        let line = |name: &Reference| match self {
            Tells::Digest => String::new(),
            Tells::Names => format!("{}@{digest}\n", repository(name)),
            Tells::NamesAndTags => format!("{}@{digest}\n", tagged(name)),
            Tells::Objects => {
                let object = serde_json::json!({"name": tagged(name), "digest": digest.to_string()});
                format!("{object}\n")
            }
        };
        match self {
            Tells::Digest => digest.to_string(),
            Tells::Names | Tells::NamesAndTags | Tells::Objects => names.iter().map(line).collect(),
        }
    }
}

/// Docker Hub has the name that kaniko gives it.
fn repository(name: &Reference) -> String {
    let registry = if name.registry() == "docker.io" { "index.docker.io" } else { name.registry() };
    format!("{registry}/{}", name.repository())
}

fn tagged(name: &Reference) -> String {
    format!("{}:{}", repository(name), name.tag().unwrap_or("latest"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_told_as_kaniko_tells_them() {
        let names = ["localhost:5000/a/b:1", "app"].map(|name| name.parse::<Reference>().unwrap());
        let digest = Digest::of(b"");
        let told = |tells: Tells| tells.text(&names, &digest);
        assert_eq!(told(Tells::Digest), digest.to_string());
        assert_eq!(
            told(Tells::Names),
            format!("localhost:5000/a/b@{digest}\nindex.docker.io/library/app@{digest}\n")
        );
        assert_eq!(
            told(Tells::NamesAndTags),
            format!("localhost:5000/a/b:1@{digest}\nindex.docker.io/library/app:latest@{digest}\n")
        );
        let first = format!("{{\"name\":\"localhost:5000/a/b:1\",\"digest\":\"{digest}\"}}\n");
        assert!(told(Tells::Objects).starts_with(&first), "{}", told(Tells::Objects));
    }
}
