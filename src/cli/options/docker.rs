//! Options of docker's, buildx's and BuildKit's that are about a daemon, or about what rbuild says in other words. Each has its
//! meaning, changes nothing and says so, or is refused with the way to go on; `docs/docker.md` has the table.

use std::path::{Path, PathBuf};

use clap::Args;

use super::attestations;
use super::request::{bad, variable};
use crate::attest::Wanted;
use crate::cli::Failure;
use crate::cli::face::Face;
use crate::config::policy::Policy as Rules;
use crate::plan::{SourceKind, source_kind};
use crate::report::Diagnostic;
use crate::text::{boolean, csv};

/// Reads a switch that may have a value, as Go's flags do: `--rm`, `--rm=false`.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    boolean(text).ok_or_else(|| "it is true or false".to_owned())
}

/// All of them.
#[derive(Debug, Args)]
pub(crate) struct DockerArgs {
    /// Write what the build gave to a file, as JSON with buildx's keys
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(crate) metadata_file: Option<PathBuf>,

    #[arg(long, value_name = "WHAT", hide = true, conflicts_with_all = ["call", "check"])]
    pub(crate) print: Option<String>,

    #[arg(long, value_name = "NAME", hide = true)]
    builder: Option<String>,

    #[arg(short = 'D', long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    debug: Option<bool>,

    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    rm: Option<bool>,

    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    force_rm: Option<bool>,

    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    compress: Option<bool>,

    #[arg(long, value_name = "TYPE", hide = true)]
    isolation: Option<String>,

    #[arg(long, value_name = "OPTION", hide = true)]
    security_opt: Vec<String>,

    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    disable_content_trust: Option<bool>,

    #[arg(long, value_name = "GROUP", hide = true)]
    cgroup_parent: Option<String>,

    /// What may be taken from elsewhere: a file of rules for images and URLs (docs/policy.md); may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    policy: Vec<String>,

    /// Attest the image: `type=sbom` or `type=provenance`, with keys of those; may be repeated
    #[arg(long, value_name = "ATTESTATION", help_heading = "Result")]
    attest: Vec<String>,

    /// Say beside the image how it was made, and push that with it: `mode=max` says more, with the values of build arguments;
    /// `version=v0.2`, `builder-id=URL`, `layout=buildkit` (docs/attestations.md)
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Result")]
    provenance: Option<String>,

    /// Keep an SBOM beside the image, and push it with it; `layout=buildkit` puts it into the image's index
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Result")]
    sbom: Option<String>,
}

impl DockerArgs {
    /// What is to be said of those that were given. `context` and `file` are where the Dockerfile is.
    ///
    /// # Errors
    /// What would not be heeded, though somebody relies on it.
    pub(crate) fn notes(&self, context: &str, file: Option<&str>) -> Result<Vec<String>, Failure> {
        self.refuse_policies(context, file)?;
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let nothing = |option: &str, why: &str| format!("`{option}` changes nothing: {why}");
        let all = [
            (given(&self.builder), "--builder", "rbuild itself is the builder"),
            (self.debug == Some(true), "--debug", "messages are always whole"),
            (given(&self.isolation), "--isolation", "each RUN has namespaces of its own"),
            (
                !self.security_opt.is_empty(),
                "--security-opt",
                "a RUN has what docker's default container has, and more with `RUN --security=insecure`",
            ),
            (
                self.disable_content_trust == Some(false),
                "--disable-content-trust=false",
                "signatures of docker's content trust are not looked at; rbuild.lock pins images",
            ),
            (given(&self.cgroup_parent), "--cgroup-parent", "control groups of steps are in rbuild's own"),
        ];
        let notes: Vec<String> = all
            .iter()
            .filter(|(is_given, ..)| *is_given)
            .map(|(_, option, why)| nothing(option, why))
            .collect();
        Ok(notes)
    }

    /// What the image is attested with, and what is to be said of that.
    ///
    /// # Errors
    /// A value that means nothing.
    pub(crate) fn attestations(&self, face: Face) -> Result<(Wanted, Vec<String>), Failure> {
        attestations::wanted(&self.attest, self.provenance.as_deref(), self.sbom.as_deref(), face)
    }

    /// Whether an attestation was asked for, and not as false.
    pub(crate) fn wants_attestations(&self) -> bool {
        let is_on =
            |value: &Option<String>| value.as_deref().is_some_and(|value| boolean(value) != Some(false));
        is_on(&self.sbom) || is_on(&self.provenance) || !self.attest.is_empty()
    }

    /// The files of rules that were given, unless they are switched off.
    ///
    /// # Errors
    /// One that cannot be used.
    pub(crate) fn policies(&self) -> Result<Vec<Rules>, Failure> {
        let mut rules = Vec::new();
        for text in self.policy.iter().filter(|text| !text.is_empty()) {
            match policy(text).map_err(|reason| bad("--policy", text, &reason))? {
                Policy::Off => return Ok(Vec::new()),
                Policy::File(name) if is_rules(&name) => {
                    rules.push(Rules::load(Path::new(&name)).map_err(|e| Failure::usage(e.diagnose()))?);
                }
                Policy::File(_) | Policy::Nothing => {}
            }
        }
        Ok(rules)
    }

    /// Policies forbid; a build that does not heed one would do what is forbidden.
    fn refuse_policies(&self, context: &str, file: Option<&str>) -> Result<(), Failure> {
        let mut is_off = false;
        for text in self.policy.iter().filter(|text| !text.is_empty()) {
            match policy(text).map_err(|reason| bad("--policy", text, &reason))? {
                Policy::Off => is_off = true,
                Policy::File(name) if is_rules(&name) => {}
                Policy::File(name) => return Err(policy_refused(&name)),
                Policy::Nothing => {}
            }
        }
        if let Some(name) = variable("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY") {
            let error = Diagnostic::error(format!("the source policy `{name}` would not be heeded"));
            let help = "`rbuild lock` pins images, URLs and repositories, and `--locked` refuses what is not pinned; unset \
                        $EXPERIMENTAL_BUILDKIT_SOURCE_POLICY to build without it";
            return Err(Failure::usage(error.help(help)));
        }
        match usual_policy(context, file).filter(|path| !is_off && path.is_file()) {
            Some(path) => Err(policy_refused(&path.display().to_string())),
            None => Ok(()),
        }
    }
}

/// Rego has another ending.
fn is_rules(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending == "toml")
}

fn policy_refused(name: &str) -> Failure {
    let error =
        Diagnostic::error(format!("the policy `{name}` would not be heeded: rbuild evaluates no Rego"));
    Failure::usage(error.help(
        "`--policy FILE.toml` has rules for images, URLs and signatures (docs/policy.md); `--policy disabled=true` builds without it; `rbuild lock` and `--locked` hold a build to what was pinned",
    ))
}

/// Where buildx looks for a policy by itself.
fn usual_policy(context: &str, file: Option<&str>) -> Option<PathBuf> {
    match file {
        Some("-") => None,
        Some(url) if source_kind(url) == SourceKind::Url => None,
        Some(path) => Some(PathBuf::from(format!("{path}.rego"))),
        None => Some(Path::new(context).join("Dockerfile.rego")),
    }
}

enum Policy {
    Off,
    File(String),
    Nothing,
}

/// `filename=PATH`, `disabled=true`, `reset=true`, `strict=true`, `log-level=LEVEL`
fn policy(text: &str) -> Result<Policy, String> {
    let mut found = Policy::Nothing;
    if is_rules(text) && !text.contains('=') {
        return Ok(Policy::File(text.to_owned()));
    }
    for field in csv::fields(text).map_err(|fault| fault.to_string())? {
        let (key, value) = field.split_once('=').ok_or(format!("`{field}` is not of the form key=value"))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "filename" => found = Policy::File(value.to_owned()),
            "disabled" if switch(value)? => return Ok(Policy::Off),
            "disabled" | "reset" | "strict" => drop(switch(value)?),
            "log-level" => {}
            _ => {
                return Err(format!(
                    "unknown key `{key}`; there are filename, reset, disabled, strict and log-level"
                ));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(args_override_self = true)]
    struct Line {
        #[command(flatten)]
        args: DockerArgs,
        #[arg(long)]
        call: Option<String>,
        #[arg(long)]
        check: bool,
    }

    fn notes(line: &str) -> Result<String, String> {
        let line = Line::try_parse_from(std::iter::once("x").chain(line.split_whitespace()));
        let notes = line.map_err(|error| error.to_string())?.args.notes("/nowhere", None);
        notes.map(|notes| notes.join("; ")).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn policies_are_refused_and_may_be_switched_off() {
        assert_eq!(notes("--policy disabled=true").unwrap(), "");
        assert_eq!(notes("--policy reset=true").unwrap(), "");
        assert!(notes("--policy filename=p.rego,strict=true").unwrap_err().contains("the policy `p.rego`"));
        assert!(notes("--policy strict=maybe").unwrap_err().contains("true or false"));
    }
}
