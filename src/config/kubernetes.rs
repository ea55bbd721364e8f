//! What jobs of Kubernetes are made of: `[kubernetes.NAME]`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

/// Claims that one list may come to.
const CLAIMS: usize = 1000;

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kubernetes {
    /// A file with a whole job, in YAML or JSON.
    pub job: Option<PathBuf>,
    /// The image, which has rbuild in it.
    pub image: Option<String>,
    /// As whom its pods are.
    pub service_account: Option<String>,
    /// Labels of nodes.
    pub node_selector: BTreeMap<String, String>,
    /// What a pod is sure to have, by resource.
    pub requests: BTreeMap<String, String>,
    /// What it has at most.
    pub limits: BTreeMap<String, String>,
    /// A Secret whose keys are ids of a build's secrets.
    pub secrets: Option<String>,
    /// A Secret with logins of registries.
    pub login: Option<String>,
    /// Claims of volumes that stay.
    pub claims: Vec<String>,
    /// Whether pods have user namespaces of their own.
    pub user_namespace: bool,
}

/// As it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct KubernetesTable {
    job: Option<PathBuf>,
    image: Option<String>,
    service_account: Option<String>,
    node_selector: BTreeMap<String, String>,
    requests: BTreeMap<String, String>,
    limits: BTreeMap<String, String>,
    secrets: Option<String>,
    login: Option<String>,
    claims: Vec<Spanned<String>>,
    user_namespace: bool,
}

impl KubernetesTable {
    /// Files are relative to `folder`. What is wrong comes with its place.
    pub(super) fn into_template(self, folder: &Path) -> Result<Kubernetes, (Range<usize>, String)> {
        let mut claims = Vec::new();
        for claim in self.claims {
            let (place, text) = (claim.span(), claim.into_inner());
            let several = expanded(&text).ok_or_else(|| {
                (place.clone(), "write the name of a claim, or several as `rbuild-{0..7}`".to_owned())
            })?;
            claims.extend(several);
            if claims.len() > CLAIMS {
                return Err((place, format!("these are more than {CLAIMS} claims")));
            }
        }
        Ok(Kubernetes {
            job: self.job.map(|file| folder.join(file)),
            image: self.image,
            service_account: self.service_account,
            node_selector: self.node_selector,
            requests: self.requests,
            limits: self.limits,
            secrets: self.secrets,
            login: self.login,
            claims,
            user_namespace: self.user_namespace,
        })
    }
}

/// `a-{0..2}` as `a-0`, `a-1` and `a-2`; any other name as it is.
fn expanded(text: &str) -> Option<Vec<String>> {
    let is_plain = |text: &str| {
        text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
    };
    let Some((before, rest)) = text.split_once('{') else {
        return (is_plain(text) && !text.is_empty()).then(|| vec![text.to_owned()]);
    };
    let (range, after) = rest.split_once('}')?;
    let (first, last) = range.split_once("..")?;
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    let is_good = is_plain(before) && is_plain(after) && first <= last && last - first < CLAIMS as u32;
    is_good.then(|| (first..=last).map(|number| format!("{before}{number}{after}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_named_one_by_one_or_counted() {
        let names = |text: &str| expanded(text).map(|names| names.join(" "));
        assert_eq!(names("a").as_deref(), Some("a"));
        assert_eq!(
            names("store-rbuild-{0..2}").as_deref(),
            Some("store-rbuild-0 store-rbuild-1 store-rbuild-2")
        );
        assert_eq!(names("a{9..10}-b").as_deref(), Some("a9-b a10-b"));
        for bad in ["", "A", "a/b", "a{2..1}", "a{1}", "a{1..2", "a{x..2}", "a{0..1000}"] {
            assert_eq!(names(bad), None, "{bad}");
        }
    }
}
