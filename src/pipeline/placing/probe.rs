//! Asks a worker what RUN would find there: an action that is `rbuild doctor`.

use std::collections::BTreeMap;

use super::sending::{self, Package};
use super::{Fault, On, SAID};
use crate::exec::Stop;
use crate::reapi::{Error, Executed, Folder, Going};
use crate::report::{Diagnostic, Event, Events};
use crate::shared_cache::backend;
use crate::text::terminal::harmless;

/// What a worker said.
#[derive(Debug)]
pub struct Probed {
    /// Who it is, for people.
    pub worker: String,
    /// What `rbuild doctor` printed there.
    pub printed: String,
    /// Its exit code.
    pub code: i32,
}

/// Runs `rbuild doctor` on a worker, with `--format json` if that is wanted. Nothing of this machine is sent but rbuild's program.
///
/// # Errors
/// When it cannot be run there, in words.
pub fn probe(on: &On, is_json: bool, (events, stop): (&Events, &Stop)) -> Result<Probed, Vec<Diagnostic>> {
    probed(on, is_json, (events, stop)).map_err(|fault| match fault {
        Fault::Build(diagnostics) => diagnostics,
        Fault::Engine(why) => {
            vec![Diagnostic::error(format!("nothing can be tried on {}: {why}", on.shown))]
        }
    })
}

fn probed(on: &On, is_json: bool, (events, stop): (&Events, &Stop)) -> Result<Probed, Fault> {
    let client = backend::client(&on.engine).map_err(Fault::Engine)?;
    if !client.runs_actions()? {
        return Err(Fault::Engine("it keeps results, and runs no actions".to_owned()));
    }
    // Engines need not give an action a home.
    let mut words = vec!["./rbuild", "--root", "store", "doctor"];
    words.extend(if is_json { &["--format", "json"][..] } else { &[] });
    let package = Package::assemble((Folder::default(), BTreeMap::new()), (&words, &[]), on)?;
    let missing = client.missing(&package.names())?;
    package.send(&client, &missing, stop)?;
    if !sending::is_static() {
        events.send(Event::Note(super::LINKED.to_owned()));
    }
    let mut watch = |_| if stop.is_wanted() { Going::Cancel } else { Going::On };
    match client.execute(package.action(), &mut watch)? {
        Executed::Done(result) => {
            let printed = client.said(&result.stdout, SAID);
            let told = client.said(&result.stderr, SAID);
            let text = |bytes: Vec<u8>| harmless(&String::from_utf8_lossy(&bytes)).into_owned();
            if printed.is_empty() {
                let why = text(told);
                return Err(Fault::Engine(format!("it printed nothing, and then `{}`", why.trim())));
            }
            let name = if result.worker.is_empty() {
                "a worker".to_owned()
            } else {
                format!("worker `{}`", harmless(&result.worker))
            };
            let worker = format!("{name} of {}", on.shown);
            Ok(Probed { worker, printed: text(printed), code: result.exit_code })
        }
        Executed::Cancelled => Err(Error::Unable("it was cancelled".to_owned()).into()),
        Executed::InputsGone(why) => {
            let is_there = client.missing(&package.names())?.is_empty();
            let told = if is_there { "it did not begin" } else { "it drops what was sent before it is used" };
            Err(Error::Unable(format!("{told}: {why}")).into())
        }
        Executed::Failed { code, message, .. } => {
            Err(Error::Unable(format!("it answers {code} ({})", harmless(message.trim()))).into())
        }
    }
}
