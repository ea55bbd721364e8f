//! `executor push`: an image of a file or a layout goes to registries.

use std::path::Path;

use super::flags::Id;
use super::words::Typed;
use super::{missing, registries, settings};
use crate::cli::Failure;
use crate::cli::args::{Global, ProgressMode};
use crate::cli::local::open_to_write;
use crate::cli::options::configuration::Configuration;
use crate::cli::options::request::{bad, tag};
use crate::cli::show::moving::{each, explain_copy};
use crate::http::Environment;
use crate::oci::Reference;
use crate::registry::{Client, Which};
use crate::transport::{self, Endpoint, Request};

/// Pushes it.
pub(super) fn run(typed: &Typed) -> Result<(), Failure> {
    let [path] = typed.words.as_slice() else {
        return Err(missing("`push` needs one file or folder", "`executor push FILE --destination=NAME`"));
    };
    let name = |text: &str| tag(text).map_err(|reason| bad("--destination", text, &reason));
    let names: Vec<Reference> = typed.all(Id::Destination).map(name).collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Err(missing("`push` needs a `--destination`", "`executor push FILE --destination=NAME`"));
    }
    let from = match Path::new(path).is_dir() {
        true => Endpoint::Layout { path: path.into(), label: String::new() },
        false => Endpoint::DockerArchive { path: path.into(), name: None },
    };
    let configuration = Configuration::load()?;
    let settings = settings(&configuration, registries::flags(typed)?, registries::logins(typed)?)?;
    let files = super::files::Files::of(typed, true)?;
    let store = open_to_write(&Global::from_environment(), &configuration)?;
    let titles: Vec<String> = names.iter().map(|name| format!("push {path} to {name}")).collect();
    let copied = each(ProgressMode::Auto, Client::new(settings), &titles, |client, at, bytes| {
        let to = Endpoint::Registry(names[at].clone());
        let request = Request {
            from: from.clone(),
            to,
            which: Which::All,
            environment: Environment::from_process(),
            with_attestations: false,
        };
        transport::run(&store, client, &request, &|_| None, bytes).map_err(|e| explain_copy(&e))
    })?;
    crate::pipeline::empty_trash(&store);
    match copied.first() {
        Some(target) => files.write(&names, &target.digest),
        None => Ok(()),
    }
}
