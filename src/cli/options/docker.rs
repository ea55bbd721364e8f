//! Options of docker's, buildx's and BuildKit's that are about a daemon, or about what rbuild says in other words. Each has its
//! meaning, changes nothing and says so, or is refused with the way to go on; `docs/docker.md` has the table.

use std::path::{Path, PathBuf};

use clap::Args;

use super::request::{bad, variable};
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

    #[arg(long, value_name = "ATTESTATION", hide = true)]
    attest: Vec<String>,

    #[arg(long, value_name = "VALUE", hide = true)]
    provenance: Option<String>,

    /// Keep an SBOM beside the image, and push it with it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Result")]
    sbom: Option<String>,
}

impl DockerArgs {
    /// What is to be said of those that were given. `context` and `file` are where the Dockerfile is.
    ///
    /// # Errors
    /// What would not be heeded, though somebody relies on it.
    pub(crate) fn notes(
        &self,
        context: &str,
        file: Option<&str>,
        face: Face,
    ) -> Result<(Vec<String>, bool), Failure> {
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
        let mut notes: Vec<String> = all
            .iter()
            .filter(|(is_given, ..)| *is_given)
            .map(|(_, option, why)| nothing(option, why))
            .collect();
        let mut attestations = self.attestations()?;
        // Docker's programs look for them in the index, which rbuild does not write.
        let is_own = face == Face::Own
            && attestations.iter().any(|(kind, has_generator)| kind == "sbom" && !has_generator);
        attestations.retain(|(kind, _)| !(is_own && kind == "sbom"));
        if !attestations.is_empty() {
            let names = attestations.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>().join(" and ");
            notes.push(match attestations.iter().any(|(_, has_generator)| *has_generator) && face == Face::Own {
                true => format!("the image has no attestations ({names}): rbuild runs no generators; `--sbom` has its own"),
                false if face == Face::Docker => {
                    format!("the image has no attestations ({names}): rbuild writes none into indexes; `rbuild build --sbom` keeps them beside the image")
                }
                false => format!("the image has no attestations ({names}): rbuild writes none yet"),
            });
        }
        Ok((notes, is_own))
    }

    /// Whether `--sbom` was given, and not as false.
    pub(crate) fn wants_sbom(&self) -> bool {
        self.sbom.as_deref().is_some_and(|value| boolean(value) != Some(false))
    }

    /// The types of attestations that were asked for, each once, and whether a generator shall make it.
    fn attestations(&self) -> Result<Vec<(String, bool)>, Failure> {
        let mut wanted: Vec<Attestation> = Vec::new();
        let mut add = |new: Attestation| match wanted.iter_mut().find(|known| known.kind == new.kind) {
            Some(known) => *known = new,
            None => wanted.push(new),
        };
        for text in self.attest.iter().filter(|text| !text.is_empty()) {
            add(attestation(text).map_err(|reason| bad("--attest", text, &reason))?);
        }
        for (kind, option, value) in
            [("provenance", "--provenance", &self.provenance), ("sbom", "--sbom", &self.sbom)]
        {
            let Some(value) = value.as_ref().filter(|value| !value.is_empty()) else { continue };
            let text = match boolean(value) {
                Some(is_on) => format!("type={kind},disabled={}", !is_on),
                None => format!("type={kind},{value}"),
            };
            add(attestation(&text).map_err(|reason| bad(option, value, &reason))?);
        }
        let is_on = wanted.into_iter().filter(|wanted| wanted.is_on);
        Ok(is_on.map(|wanted| (wanted.kind, wanted.has_generator)).collect())
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

/// What `type=sbom,generator=IMAGE` asks for.
struct Attestation {
    kind: String,
    is_on: bool,
    has_generator: bool,
}

/// Reads `type=sbom,generator=IMAGE`.
fn attestation(text: &str) -> Result<Attestation, String> {
    let (mut kind, mut is_on, mut has_generator) = (None, true, false);
    for field in csv::fields(text).map_err(|fault| fault.to_string())? {
        let (key, value) = field.split_once('=').ok_or(format!("`{field}` is not of the form key=value"))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "type" if matches!(value, "provenance" | "sbom") => kind = Some(value.to_owned()),
            "type" => {
                return Err(format!("there is no attestation `{value}`; there are provenance and sbom"));
            }
            "disabled" => is_on = !switch(value)?,
            "generator" => has_generator = !value.is_empty(),
            // What they would say; BuildKit's frontend takes any key.
            _ => {}
        }
    }
    let kind = kind.ok_or("the type is missing; there are provenance and sbom")?;
    Ok(Attestation { kind, is_on, has_generator })
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
        let notes = line.map_err(|error| error.to_string())?.args.notes("/nowhere", None, Face::Own);
        notes
            .map(|(notes, sbom)| {
                notes.into_iter().chain(sbom.then(|| "SBOM".to_owned())).collect::<Vec<_>>().join("; ")
            })
            .map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn attestations_are_told_of_once() {
        for (line, expected) in [
            ("--provenance=false --sbom=false", ""),
            ("--attest type=provenance,disabled=true", ""),
            ("--provenance=mode=max --provenance=false", ""),
            (
                "--attest type=provenance,mode=max,builder-id=https://h/1 --attest type=sbom --sbom=false",
                "(provenance)",
            ),
            ("--sbom=true --provenance=mode=min,inline-only=true", "(provenance)"),
            ("--sbom --attest type=provenance,disabled=true", "SBOM"),
            ("--attest type=sbom", "SBOM"),
            ("--sbom=generator=docker/scout-sbom-indexer:1", "runs no generators"),
        ] {
            let told = notes(line).unwrap();
            assert!(
                if expected.is_empty() { told.is_empty() } else { told.contains(expected) },
                "{line}: {told}"
            );
        }
        for (line, expected) in [
            ("--attest mode=max", "the type is missing"),
            ("--attest type=slsa", "there is no attestation `slsa`"),
            ("--sbom=type", "is not of the form key=value"),
        ] {
            let told = notes(line).unwrap_err();
            assert!(told.contains(expected), "{line}: {told}");
        }
    }

    #[test]
    fn policies_are_refused_and_may_be_switched_off() {
        assert_eq!(notes("--policy disabled=true").unwrap(), "");
        assert_eq!(notes("--policy reset=true").unwrap(), "");
        assert!(notes("--policy filename=p.rego,strict=true").unwrap_err().contains("the policy `p.rego`"));
        assert!(notes("--policy strict=maybe").unwrap_err().contains("true or false"));
    }
}
