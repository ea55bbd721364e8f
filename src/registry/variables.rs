//! Logins in variables of the environment, as kaniko's helpers `env` and `gitlab` find them.

use super::credentials::Credential;
use crate::http::{Environment, split_port};

/// Which variables are looked into when no file has a login.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VariableLogins {
    /// `KANIKO_<HOST>_USER` and `KANIKO_<HOST>_PASSWORD`.
    pub kaniko: bool,
    /// Those that GitLab gives each job: for `$CI_REGISTRY`.
    pub gitlab: bool,
}

/// The login for a registry (`host[:port]`).
pub(super) fn find(environment: &Environment, which: VariableLogins, registry: &str) -> Option<Credential> {
    let kaniko = || which.kaniko.then(|| of_kaniko(environment, registry)).flatten();
    let gitlab = || which.gitlab.then(|| of_gitlab(environment, registry)).flatten();
    let (user, password) = kaniko().or_else(gitlab)?;
    Some(Credential::Basic { user, password })
}

/// For `my-registry.example.com` those of `MY_REGISTRY_EXAMPLE_COM`, `EXAMPLE_COM` and `COM`, the longest first.
fn of_kaniko(environment: &Environment, registry: &str) -> Option<(String, String)> {
    let host = registry.to_ascii_uppercase().replace('-', "_");
    let labels: Vec<&str> = host.split('.').collect();
    (0..labels.len()).find_map(|from| {
        let name = labels.get(from..)?.join("_");
        pair(environment, &format!("KANIKO_{name}_USER"), &format!("KANIKO_{name}_PASSWORD"))
    })
}

fn of_gitlab(environment: &Environment, registry: &str) -> Option<(String, String)> {
    let own = environment.text(&["CI_REGISTRY"])?;
    let own = own.strip_prefix("https://").unwrap_or(own);
    let is_own = split_port(own).0.eq_ignore_ascii_case(split_port(registry).0);
    is_own.then(|| pair(environment, "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD")).flatten()
}

fn pair(environment: &Environment, user: &str, password: &str) -> Option<(String, String)> {
    Some((environment.text(&[user])?.to_owned(), environment.text(&[password])?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_belong_to_hosts() {
        let environment = Environment::empty()
            .with("KANIKO_MY_HOST_EXAMPLE_COM_USER", "a")
            .with("KANIKO_MY_HOST_EXAMPLE_COM_PASSWORD", "1")
            .with("KANIKO_EXAMPLE_COM_USER", "b")
            .with("KANIKO_EXAMPLE_COM_PASSWORD", "2")
            .with("KANIKO_HALF_USER", "c")
            .with("CI_REGISTRY", "registry.gitlab.example:5050")
            .with("CI_REGISTRY_USER", "gitlab-ci-token")
            .with("CI_REGISTRY_PASSWORD", "3");
        let all = VariableLogins { kaniko: true, gitlab: true };
        let login = |which, registry| match find(&environment, which, registry) {
            Some(Credential::Basic { user, password }) => format!("{user}:{password}"),
            Some(Credential::Identity(_)) => "identity".to_owned(),
            None => "none".to_owned(),
        };
        for (registry, expected) in [
            ("my-host.example.com", "a:1"),
            ("other.example.com", "b:2"),
            ("half", "none"),
            ("registry.gitlab.example:5050", "gitlab-ci-token:3"),
            ("registry.gitlab.example", "gitlab-ci-token:3"),
            ("evil-registry.gitlab.example", "none"),
        ] {
            assert_eq!(login(all, registry), expected, "{registry}");
        }
        let none = VariableLogins::default();
        assert_eq!(login(none, "my-host.example.com"), "none");
        assert_eq!(login(none, "registry.gitlab.example"), "none");
        assert_eq!(login(VariableLogins { gitlab: true, ..none }, "my-host.example.com"), "none");
    }
}
