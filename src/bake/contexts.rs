//! Where contexts and Dockerfiles of targets are, told as builds take them.

use super::fault::{Result, fault};
use super::resolve::Resolved;
use super::target::Target;
use super::{clean_path, is_remote};

/// What stands for the folder in which the command runs where the definition comes from elsewhere.
const HERE: &str = "cwd://";

impl Resolved {
    /// Tells all paths from the current folder. `remote` is where the definition comes from, if that is another machine: then
    /// contexts are there, but for those that say `cwd://`.
    ///
    /// # Errors
    /// What would have to be read from standard input.
    pub fn settle(&mut self, remote: Option<&str>) -> Result<()> {
        self.targets.values_mut().try_for_each(|target| settle(target, remote))
    }
}

fn settle(target: &mut Target, remote: Option<&str>) -> Result<()> {
    let context =
        target.context.clone().filter(|context| !context.is_empty()).unwrap_or_else(|| ".".to_owned());
    let dockerfile = target.dockerfile.clone().unwrap_or_else(|| "Dockerfile".to_owned());
    for (field, value) in [("context", &context), ("dockerfile", &dockerfile)] {
        if value == "-" {
            let fault = fault(format!("`{field}` of the target `{}` is `-`", target.name));
            return Err(Box::new(fault.help("standard input cannot be read for a single target of several")));
        }
    }
    target.context = Some(located(&context, remote));
    for context in target.contexts.values_mut() {
        let is_folder = !context.starts_with("target:")
            && !context.starts_with("docker-image:")
            && !context.starts_with("oci-layout:")
            && !is_remote(context);
        match (context.strip_prefix(HERE), remote) {
            (Some(here), _) => *context = clean_path(here),
            (None, Some(_)) if is_folder => *context = located(context, remote),
            (None, _) => {}
        }
    }
    Ok(())
}

/// A context as builds take it.
fn located(context: &str, remote: Option<&str>) -> String {
    match (context.strip_prefix(HERE), remote) {
        (Some(here), _) => clean_path(here),
        (None, _) if is_remote(context) => context.to_owned(),
        (None, None) => clean_path(context),
        (None, Some(url)) => with_folder(url, &clean_path(context)),
    }
}

/// A folder of a git repository that a URL names: `URL#REF:FOLDER`.
pub(super) fn with_folder(url: &str, folder: &str) -> String {
    if folder == "." {
        return url.to_owned();
    }
    let (repository, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (reference, within) = fragment.split_once(':').unwrap_or((fragment, ""));
    let folder = match within {
        "" => folder.to_owned(),
        within => clean_path(&format!("{within}/{folder}")),
    };
    format!("{repository}#{reference}:{folder}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_repositories() {
        for (url, folder, whole) in [
            ("https://h/x.git", ".", "https://h/x.git"),
            ("https://h/x.git", "a/b", "https://h/x.git#:a/b"),
            ("https://h/x.git#main", "a", "https://h/x.git#main:a"),
            ("https://h/x.git#main:sub", "../a", "https://h/x.git#main:a"),
        ] {
            assert_eq!(with_folder(url, folder), whole);
        }
    }
}
