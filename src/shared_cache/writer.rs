//! Who wrote a record: what the pipeline is called, as far as it says. Names of machines and users stay where they are.

/// A name that is longer is cut.
const LIMIT: usize = 200;

/// Variables with the project, and with its branch or tag, of one service each.
const SERVICES: [(&str, &str); 2] =
    [("GITHUB_REPOSITORY", "GITHUB_REF_NAME"), ("CI_PROJECT_PATH", "CI_COMMIT_REF_NAME")];

/// `PROJECT@BRANCH` of the pipeline that this process runs in; empty elsewhere.
pub(super) fn writer() -> String {
    named(|name| std::env::var(name).ok())
}

fn named(variable: impl Fn(&str) -> Option<String>) -> String {
    let said = |name| variable(name).filter(|value| !value.is_empty());
    let name = SERVICES.iter().find_map(|(project, branch)| {
        let project = said(project)?;
        Some(said(branch).map_or(project.clone(), |branch| format!("{project}@{branch}")))
    });
    name.unwrap_or_default().chars().filter(|c| !c.is_control()).take(LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_have_names_and_machines_have_none() {
        let of = |set: &[(&str, &str)]| {
            named(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(of(&[("GITHUB_REPOSITORY", "a/b"), ("GITHUB_REF_NAME", "main")]), "a/b@main");
        assert_eq!(of(&[("CI_PROJECT_PATH", "g/p"), ("CI_COMMIT_REF_NAME", "x\n")]), "g/p@x");
        assert_eq!(of(&[("GITHUB_REPOSITORY", "a/b")]), "a/b");
        assert_eq!(of(&[("HOSTNAME", "h"), ("USER", "u")]), "");
    }
}
