//! What people call a build, as `docker buildx history` does: by the folder or repository, and the stage.

use super::format::{Context, ContextKind, Record, Target};

impl Record {
    /// What the build is called in lists: of one target as buildx has it, of several their names.
    pub fn title(&self) -> String {
        match self.targets.as_slice() {
            [only] => only.title(),
            several => several.iter().map(|target| target.name.as_str()).collect::<Vec<_>>().join(", "),
        }
    }

    /// The repository that it was built of.
    pub fn repository(&self) -> &str {
        let of = |target: &Target| target.context.repository().map(str::to_owned);
        match self.targets.iter().find(|target| of(target).is_some()) {
            Some(target) => target.context.repository().unwrap_or_default(),
            None => "",
        }
    }
}

impl Context {
    /// The repository that it is, or lies in.
    pub fn repository(&self) -> Option<&str> {
        match self.kind {
            ContextKind::Git => Some(self.at.split('#').next().unwrap_or(&self.at)),
            ContextKind::Folder | ContextKind::Archive => self.repository.as_ref()?.remote.as_deref(),
            ContextKind::Stdin | ContextKind::Url => None,
        }
    }

    /// The commit that it is, or that is checked out where it lies.
    pub fn revision(&self) -> Option<&str> {
        self.commit.as_deref().or(self.repository.as_ref().and_then(|found| found.commit.as_deref()))
    }
}

impl Target {
    fn title(&self) -> String {
        let named = self.arguments.iter().find(|argument| argument.name == "BUILDKIT_BUILD_NAME");
        if let Some(name) = named.and_then(|argument| argument.value.clone()).filter(|name| !name.is_empty())
        {
            return name;
        }
        let base = self.place();
        match (&self.stage, base.is_empty()) {
            (None, _) => base,
            (Some(stage), true) => stage.clone(),
            (Some(stage), false) => format!("{base} ({stage})"),
        }
    }

    fn place(&self) -> String {
        let Context { kind, at, repository, .. } = &self.context;
        match kind {
            ContextKind::Stdin => return String::new(),
            ContextKind::Git | ContextKind::Url => return at.clone(),
            ContextKind::Folder | ContextKind::Archive => {}
        }
        // In a repository, the folder's place there says more.
        if let Some(path) = repository.as_ref().map(|found| &found.path).filter(|path| !path.is_empty()) {
            return path.clone();
        }
        let file = self.dockerfile.path.as_deref().unwrap_or(at);
        let (folder, is_usual) = match file.strip_suffix("/Dockerfile") {
            Some(folder) => (folder, true),
            None => (file, self.dockerfile.path.is_none()),
        };
        if let Some(rest) = folder.strip_prefix(at.as_str()).filter(|rest| rest.starts_with('/')) {
            return format!("{}{rest}", last(at));
        }
        match (is_usual, folder.rsplit_once('/')) {
            (true, _) | (false, None) => last(folder).to_owned(),
            (false, Some((parent, name))) => format!("{}/{name}", last(parent)),
        }
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::super::format::{Argument, Dockerfile, Repository};
    use super::*;

    #[test]
    fn builds_are_called_as_buildx_calls_them() {
        let of = |kind, at: &str, path: Option<&str>, stage: Option<&str>, inside: Option<&str>| {
            let repository = inside.map(|path| Repository { path: path.to_owned(), ..Repository::default() });
            let context = Context { kind, at: at.to_owned(), commit: None, repository };
            let dockerfile = Dockerfile { path: path.map(str::to_owned), ..Dockerfile::default() };
            let target = Target { context, dockerfile, stage: stage.map(str::to_owned), ..Target::default() };
            Record { targets: vec![target], ..Record::default() }
        };
        use ContextKind::{Folder, Git, Stdin};
        for (record, expected) in [
            (of(Folder, "/src/app", Some("/src/app/Dockerfile"), None, None), "app"),
            (of(Folder, "/src/app", Some("/src/app/Dockerfile"), Some("test"), None), "app (test)"),
            (
                of(Folder, "/src/app", Some("/src/app/docker/prod.Dockerfile"), None, None),
                "app/docker/prod.Dockerfile",
            ),
            (of(Folder, "/src/app", Some("/src/app/docker/Dockerfile"), None, None), "app/docker"),
            (of(Folder, "/src/app", Some("/else/where/x"), None, None), "where/x"),
            (of(Folder, "/src/app", Some("/src/app/Dockerfile"), None, Some("services/app")), "services/app"),
            (of(Folder, "/src/app", None, None, Some("")), "app"),
            (of(Git, "https://h/x.git#v1", None, Some("a"), None), "https://h/x.git#v1 (a)"),
            (of(Stdin, "", None, Some("a"), None), "a"),
            (of(Stdin, "", None, None, None), ""),
        ] {
            assert_eq!(record.title(), expected);
        }
        let mut named = of(Stdin, "", None, None, None);
        let value = Some("x".to_owned());
        named.targets[0].arguments = vec![Argument { name: "BUILDKIT_BUILD_NAME".to_owned(), value }];
        assert_eq!(named.title(), "x");
    }
}
