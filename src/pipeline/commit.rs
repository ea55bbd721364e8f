//! Makes an image of a kept session.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::diagnose_store;
use super::shell::Shell;
use crate::clock;
use crate::dockerfile::syntax::{Dockerfile, InstructionKind};
use crate::image::PlatformImage;
use crate::oci::image::{self, Assembled, Dialect};
use crate::oci::{self, Digest, History, ImageConfig, Reference};
use crate::plan::graph::BaseOp;
use crate::plan::{self, DEFAULT_PATH, Lowered, Options};
use crate::report::{Diagnostic, Source};
use crate::solve::session::{Kind, Session};
use crate::store::Store;

/// What stands for the session's image in the Dockerfile of changes.
const BASE: &str = "localhost/session:latest";

/// What to make of a session.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Names of the image, each with a tag.
    pub names: Vec<Reference>,
    /// Told in the history.
    pub message: Option<String>,
    /// Told in the history and in the configuration.
    pub author: Option<String>,
    /// Instructions that change the configuration.
    pub changes: Vec<String>,
}

/// Makes the image: the layers of the session, what was changed in it as one more, and the configuration with the changes
/// that are wanted. The session stays. `opened` is a container in it.
pub fn commit(store: &Store, opened: &Shell, commit: &Commit) -> Result<Digest, Vec<Diagnostic>> {
    let session = opened.session();
    let mut config = changed(&session.config, &commit.changes)?;
    let mut layers = session.layers.clone();
    let layer = opened.changes()?;
    let created = clock::now();
    let mut history = std::mem::take(&mut config.history);
    history.push(History {
        created: Some(oci::rfc3339(created)),
        created_by: Some(created_by(session)),
        author: commit.author.clone(),
        comment: commit.message.clone(),
        empty_layer: layer.is_none(),
    });
    layers.extend(layer);
    if commit.author.is_some() {
        config.author.clone_from(&commit.author);
    }
    let Assembled { config_bytes, manifest_bytes, manifest_descriptor, .. } =
        image::assemble(config, history, &layers, created, (&BTreeMap::new(), Dialect::Oci));
    let fail = |e| vec![diagnose_store(&e)];
    for bytes in [&config_bytes, &manifest_bytes] {
        store.put_blob(bytes).map_err(fail)?;
    }
    for name in &commit.names {
        store.set_tag(name, &manifest_descriptor).map_err(fail)?;
    }
    Ok(manifest_descriptor.digest)
}

/// What ran in it. Which program a shell was tells nobody anything.
fn created_by(session: &Session) -> String {
    match session.kind {
        Kind::Failed | Kind::Shell => format!("rbuild shell # {}", session.what),
        Kind::Run => session.command.join(" "),
    }
}

/// The configuration after `changes`, which are lowered together, as a Dockerfile's instructions are: so an ENTRYPOINT
/// spares a CMD that stands beside it.
fn changed(config: &ImageConfig, changes: &[String]) -> Result<ImageConfig, Vec<Diagnostic>> {
    if changes.is_empty() {
        return Ok(config.clone());
    }
    for change in changes {
        only_instruction(change).map_err(|reason| vec![bad_change(change, &reason)])?;
    }
    let text = changes.join("\n");
    apply(config, &text).map_err(|reason| vec![bad_change(&text, &reason)])
}

fn bad_change(change: &str, reason: &str) -> Diagnostic {
    Diagnostic::error(format!("bad value `{change}` for --change: {reason}")).help(
        "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, USER, VOLUME and WORKDIR can be changed, written as in a \
         Dockerfile",
    )
}

fn told(faults: Vec<Diagnostic>) -> String {
    faults.into_iter().next().map_or_else(String::new, |fault| fault.message)
}

fn parse(changes: &str) -> Result<Dockerfile, String> {
    let source = Source { name: "--change".to_owned(), text: format!("FROM {BASE}\n{changes}\n") };
    crate::dockerfile::parse(&std::sync::Arc::new(source)).map_err(told)
}

/// An error unless it is one instruction, and one that may be used.
fn only_instruction(change: &str) -> Result<(), String> {
    let file = parse(change)?;
    match file.stages.as_slice() {
        [stage] => match stage.instructions.as_slice() {
            [only] if may_change(&only.kind) => Ok(()),
            [_] => Err("this instruction cannot be used here".to_owned()),
            _ => Err("it is not one instruction".to_owned()),
        },
        _ => Err("this instruction cannot be used here".to_owned()),
    }
}

fn apply(config: &ImageConfig, changes: &str) -> Result<ImageConfig, String> {
    let file = parse(changes)?;
    // Its triggers are for images that are built on it.
    let mut plain = config.clone();
    plain.config.on_build.clear();
    let options = Options { platform: config.platform(), ..Options::default() };
    let image = Arc::new(PlatformImage::of_config(plain));
    let bases = plan::bases(&file, &options).map_err(told)?;
    let bases: Vec<BaseOp> =
        bases.into_iter().map(|request| BaseOp { request, image: Arc::clone(&image) }).collect();
    let Lowered::Plan(plan) = plan::lower(&file, &options, &bases).map_err(told)? else {
        return Err("it needs another image".to_owned());
    };
    let mut result = config.clone();
    result.config = plan.goal.image.config.config;
    result.config.on_build.splice(..0, config.config.on_build.iter().cloned());
    // A Dockerfile gives every image a PATH; nobody has asked for one here.
    let path = format!("PATH={DEFAULT_PATH}");
    if !config.config.env.iter().any(|pair| pair.starts_with("PATH=")) {
        result.config.env.retain(|pair| *pair != path);
    }
    Ok(result)
}

/// What docker commit allows.
fn may_change(kind: &InstructionKind) -> bool {
    matches!(
        kind,
        InstructionKind::Cmd(_)
            | InstructionKind::Entrypoint(_)
            | InstructionKind::Env(_)
            | InstructionKind::Expose(_)
            | InstructionKind::Label(_)
            | InstructionKind::Onbuild(_)
            | InstructionKind::User(_)
            | InstructionKind::Volume(_)
            | InstructionKind::Workdir(_)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn after(changes: &[&str]) -> Result<ImageConfig, Vec<Diagnostic>> {
        let mut config = ImageConfig {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            ..ImageConfig::default()
        };
        config.config.env = vec!["A=1".to_owned()];
        config.config.on_build = vec!["RUN one".to_owned()];
        changed(&config, &changes.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn instructions_change_the_configuration() {
        let config = after(&[
            "ENV B=${A}2",
            "CMD [\"serve\", \"-v\"]",
            "ENTRYPOINT [\"/entry\"]",
            "expose 80",
            "LABEL a=b",
            "ONBUILD RUN two",
            "USER app",
            "VOLUME /data",
            "WORKDIR /srv",
            "WORKDIR www",
        ]);
        let config = config.unwrap().config;
        assert_eq!(config.env, ["A=1", "B=12"]);
        assert_eq!(config.cmd.unwrap(), ["serve", "-v"]);
        assert_eq!(config.entrypoint.unwrap(), ["/entry"]);
        assert!(config.exposed_ports.contains_key("80/tcp") && config.volumes.contains_key("/data"));
        assert_eq!(config.labels["a"], "b");
        assert_eq!(config.on_build, ["RUN one", "RUN two"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("app", "/srv/www"));
    }

    #[test]
    fn other_instructions_are_refused() {
        for change in ["RUN x", "COPY a b", "FROM x", "", "NONSENSE", "CMD x\nCMD y", "ARG x", "ENV"] {
            let told = after(&[change]).unwrap_err();
            assert!(told[0].message.starts_with("bad value `"), "{change}: {told:?}");
        }
    }
}
