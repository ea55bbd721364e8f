//! Asks a worker what RUN would find there: what it is to do is `rbuild doctor`.

use super::action::{self, LINKED, SAID};
use super::sending::{self, Package};
use super::{Engine, Fault, On, pod};
use crate::exec::Stop;
use crate::reapi::{Error, Executed, Going};
use crate::report::{Diagnostic, Event, Events};
use crate::shared_cache::spec::ReapiAt;
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

/// Runs `rbuild doctor` on a worker, with `--format json` if that is wanted. Nothing of this machine is sent but, to servers of the Remote Execution API, rbuild's program.
///
/// # Errors
/// When it cannot be run there, in words.
pub fn probe(on: &On, is_json: bool, (events, stop): (&Events, &Stop)) -> Result<Probed, Vec<Diagnostic>> {
    probed(on, is_json, (events, stop)).map_err(|fault| match fault {
        Fault::Build(diagnostics) => diagnostics,
        Fault::Engine { why, is_transient } => {
            let told = Diagnostic::error(format!("nothing can be tried on {}: {why}", on.shown));
            vec![told.transient(is_transient)]
        }
    })
}

fn probed(on: &On, is_json: bool, (events, stop): (&Events, &Stop)) -> Result<Probed, Fault> {
    // Engines need not give what they run a home.
    let mut words = vec!["--root", "store", "doctor"];
    words.extend(if is_json { &["--format", "json"][..] } else { &[] });
    match &on.engine {
        Engine::Reapi { at, properties } => as_action((at, properties), &words, on, (events, stop)),
        Engine::Kubernetes(cluster) => {
            let (place, printed, told, code) = pod::run_there(cluster, &words, on, (events, stop))?;
            probed_of(&printed, &told, format!("{place} of {}", on.shown), code)
        }
    }
}

fn probed_of(printed: &[u8], told: &[u8], worker: String, code: i32) -> Result<Probed, Fault> {
    let text = |bytes: &[u8]| harmless(&String::from_utf8_lossy(bytes)).into_owned();
    if printed.is_empty() {
        let why = text(told);
        return Err(Fault::engine(format!("it printed nothing, and then `{}`", why.trim())));
    }
    Ok(Probed { worker, printed: text(printed), code })
}

fn as_action(
    (at, properties): (&ReapiAt, &[(String, String)]),
    words: &[&str],
    on: &On,
    (events, stop): (&Events, &Stop),
) -> Result<Probed, Fault> {
    let client = action::client(at, on)?;
    let mut package = Package::default();
    let words = [&["./rbuild"], words].concat();
    let action = package.as_action((&words, &[]), properties, on.timeout)?;
    let missing = client.missing(&package.names())?;
    package.send(&client, &missing, stop)?;
    if !sending::is_static() {
        events.send(Event::Note(LINKED.to_owned()));
    }
    let mut watch = |_| if stop.is_wanted() { Going::Cancel } else { Going::On };
    match client.execute(action, &mut watch)? {
        Executed::Done(result) => {
            let printed = client.said(&result.stdout, SAID);
            let told = client.said(&result.stderr, SAID);
            let name = match &*result.worker {
                "" => "a worker".to_owned(),
                name => format!("worker `{}`", harmless(name)),
            };
            probed_of(&printed, &told, format!("{name} of {}", on.shown), result.exit_code)
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
